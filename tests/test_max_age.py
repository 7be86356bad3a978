"""How fresh a login must be for a path: `max_age=` in RULES, and the step-up challenge of RFC 9470."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from forging import NOW, TOKENS, a_guard, assert_refused, forge_access
from wires import SECRET

from jwtguard import AsyncGuard, Guard, Settings
from jwtguard.errors import AuthenticationTooOld, ConfigError, SessionRevoked, TokenInvalid
from jwtguard.gate import Gate
from jwtguard.model import Event
from jwtguard.patterns import MaxAge, Pattern, parse_rules
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

RULES = "/admin/*: admin max_age=5m, POST /transfer: max_age=60, /admin/keys: max_age=30"


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.settings = Settings(secret=SECRET, rules=RULES, **settings)
        self.events: list[Event] = []
        self.arguments: dict[str, Any] = {"store": self.store, "clock": self.clock, "on_event": self.events.append}
        self.guard = Guard(self.settings, **self.arguments)

    def wsgi(self, token: str, path: str, method: str = "GET") -> tuple[int, dict[str, str]]:
        answers: list[tuple[int, dict[str, str]]] = []
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
        environ |= {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            answers.append((int(status[:3]), dict(headers)))

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            return []

        list(self.guard.wrap(app)(environ, start_response))
        return answers[-1]

    def asgi(self, token: str, path: str, method: str = "GET") -> tuple[int, dict[str, str]]:
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def scene() -> None:
            guard = AsyncGuard(self.settings, **self.arguments)
            headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
            scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}

            async def receive() -> Any:
                return {"type": "http.request", "body": b""}

            async def send(message: Any) -> None:
                sent.append(message)

            await guard.wrap(app)(scope, receive, send)
            await guard.close()

        asyncio.run(scene())
        return sent[0]["status"], {name.decode().title(): value.decode() for name, value in sent[0]["headers"]}


Ask = Callable[..., tuple[int, dict[str, str]]]
both = pytest.mark.parametrize("face", ["wsgi", "asgi"])


@both
def test_C49_a_login_that_is_too_old_is_told_to_step_up(face: str) -> None:
    world = World()
    ask: Ask = getattr(world, face)
    pair = world.guard.login("alice", scopes=["admin"])
    world.clock.advance(300)
    assert ask(pair.access_token, "/admin/users")[0] == 200
    world.clock.advance(1)
    for _ in range(2):  # on the cold path, and on the warm one
        status, headers = ask(pair.access_token, "/admin/users")
        assert status == 401
        assert headers["Www-Authenticate" if face == "asgi" else "WWW-Authenticate"] == (
            'Bearer realm="jwtguard", error="insufficient_user_authentication", max_age="300"'
        )
    assert ask(pair.access_token, "/elsewhere")[0] == 200


@both
def test_C49_refreshing_makes_no_login_fresh_and_a_login_does(face: str) -> None:
    world = World()
    ask: Ask = getattr(world, face)
    pair = world.guard.login("alice")
    world.clock.advance(61)
    pair = world.guard.refresh(pair.refresh_token)
    assert ask(pair.access_token, "/transfer", "POST")[0] == 401
    assert ask(pair.access_token, "/transfer")[0] == 200
    fresh = world.guard.login("alice", replace=pair.session_id)
    assert ask(fresh.access_token, "/transfer", "POST")[0] == 200
    with pytest.raises(SessionRevoked):
        world.guard.authenticate(pair.access_token)


@both
def test_C49_of_several_rules_the_shortest_age_counts_and_a_scope_goes_first(face: str) -> None:
    world = World()
    ask: Ask = getattr(world, face)
    admin, user = (world.guard.login("alice", scopes=scopes).access_token for scopes in (["admin"], []))
    world.clock.advance(31)
    assert ask(admin, "/admin/keys")[0] == 401
    assert 'max_age="30"' in str(ask(admin, "/admin/keys/")[1])
    assert 'max_age="30"' in str(ask(admin, "/admin//keys")[1]), "what may be routed anywhere needs it all"
    assert ask(user, "/admin/keys")[0] == 403
    status, headers = ask("", "/transfer", "POST")
    assert (status, "max_age" in str(headers)) == (401, False), "nobody is there to have signed in"


@both
def test_C49_an_old_login_is_told_with_whose_it_is(face: str) -> None:
    world = World()
    ask: Ask = getattr(world, face)
    token = world.guard.login("alice", authenticated_at=world.clock.time() - 61).access_token
    for _ in range(2):  # on the cold path, and on the warm one
        world.events.clear()
        assert ask(token, "/transfer", "POST")[0] == 401
        (event,) = world.events
        assert (event.name, event.subject, event.code) == ("rejected", "alice", "authentication_too_old")


def test_C49_what_the_app_says_of_the_login_counts() -> None:
    world = World()
    pair = world.guard.login("alice", authenticated_at=world.clock.time() - 61)
    identity = world.guard.authenticate(pair.access_token)
    assert identity.authenticated_at == world.clock.time() - 61
    assert jwt.decode(pair.access_token, options={"verify_signature": False})["auth_time"] == identity.authenticated_at
    assert world.wsgi(pair.access_token, "/transfer", "POST")[0] == 401


def test_C49_a_token_that_does_not_say_is_too_old() -> None:
    """One from before this was in tokens."""
    world = World()
    identity = replace(world.guard.authenticate(world.guard.login("alice").access_token), claims={})
    assert identity.authenticated_at is None
    with pytest.raises(AuthenticationTooOld) as caught:
        Gate(world.guard.core).check_rules(identity, "POST", "/transfer")
    assert caught.value.max_age == 60
    assert TOKENS.read_access(forge_access()).subject == "alice"


@pytest.mark.parametrize("value", ["x", None, True, -1, 1e30, str(NOW)])
def test_C22_auth_time_is_a_date(value: object) -> None:
    assert a_guard().read_access(forge_access(auth_time=NOW)).claims["auth_time"] == NOW
    assert_refused(TOKENS.read_access, forge_access(auth_time=value), TokenInvalid)


def test_rules_are_read() -> None:
    assert parse_rules("/a: x max_age=90, /b: max_age=1d, /c: max_age") == (
        (Pattern("", "/a"), ("x", MaxAge(90))),
        (Pattern("", "/b"), (MaxAge(86_400),)),
        (Pattern("", "/c"), ("max_age",)),
    )


@pytest.mark.parametrize("text", ["max_age=", "max_age=0", "max_age=soon", "max_age=-5m", "max_age=11y"])
def test_an_age_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a duration from 1s to 3650d"):
        parse_rules(f"/a: {text}")
