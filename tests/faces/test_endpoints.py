"""What the endpoints do, besides what they answer; through both faces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from drivers import Reply, Request, asgi_app, call_asgi, call_wsgi, environ_of, scope_of, send_asgi, send_wsgi, wsgi_app
from world import World

from jwtguard.context import current_device, current_identity, device_name, forbid_storing, set_identity
from jwtguard.endpoints import Endpoints
from jwtguard.errors import ConfigError, JWTGuardError, TokenMissing
from jwtguard.gate import Gate
from jwtguard.model import ANONYMOUS, Device

Send = Callable[[World, Request], list[Reply]]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

both = pytest.mark.parametrize("send", [send_wsgi, send_asgi], ids=["wsgi", "asgi"])


def ask(send: Send, world: World, method: str, target: str, token: str = "", body: bytes = b"", **headers: str) -> Reply:
    given = {"Authorization": f"Bearer {world.filled(token)}"} if token else {}
    given |= {"Content-Type": "application/json"} if body else {}
    found = (*given.items(), *((name.replace("_", "-"), value) for name, value in headers.items()))
    return send(world, Request(method, target, found, body).filled(world))[0]


@both
def test_refresh_gives_a_pair_that_works(send: Send) -> None:
    world = World()
    body = b'{"refresh_token": "<refresh>"}'
    pair = ask(send, world, "POST", "/auth/refresh", body=body, User_Agent=FIREFOX).json()
    assert pair.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "session_id"}
    assert pair["session_id"] == world.made("sid")
    assert ask(send, world, "GET", "/me", pair["access_token"]).seen[0].subject == "alice"
    (session,) = world.past.sessions("alice")
    assert session.device == Device("Firefox on Linux", None, "203.0.113.7")


@both
def test_c57_a_refresh_keeps_the_session_and_widens_no_scope(send: Send) -> None:
    world = World()
    body = b'{"refresh_token": "<refresh>", "scope": "admin", "client_id": "another", "sub": "bob"}'
    pair = ask(send, world, "POST", "/auth/refresh", body=body).json()
    before, after = (world.past.authenticate(token) for token in (world.made("good"), pair["access_token"]))
    assert (after.subject, after.session_id, after.scopes) == (before.subject, before.session_id, before.scopes)


@both
def test_c43_logout_ends_the_session_and_no_other(send: Send) -> None:
    world = World()
    world.made("second")
    assert ask(send, world, "POST", "/auth/logout", "<good>").status == 204
    assert ask(send, world, "GET", "/me", "<good>").json()["code"] == "session_revoked"
    assert ask(send, world, "GET", "/me", "<second>").status == 200


@both
def test_logout_with_both_tokens_ends_the_refresh_tokens_session(send: Send) -> None:
    world = World()
    body = b'{"refresh_token": "<refresh>"}'
    assert ask(send, world, "POST", "/auth/logout", "<second>", body=body).status == 204
    assert [session.id for session in world.past.sessions("alice")] == [world.made("second-sid")]


@both
def test_c66_no_logout_by_get(send: Send) -> None:
    world = World()
    ask(send, world, "GET", "/auth/logout", "<good>")
    ask(send, world, "HEAD", "/auth/logout", "<good>")
    assert len(world.past.sessions("alice")) == 1


@both
def test_a_refused_body_ends_nothing(send: Send) -> None:
    world = World()
    for body in (b"x", b"{" * 20_000, b'{"refresh_token": "x"}'):
        assert ask(send, world, "POST", "/auth/logout", "<good>", body=body).status in (400, 401, 413)
    assert len(world.past.sessions("alice")) == 1


@both
def test_c47_the_list(send: Send) -> None:
    world = World()
    world.made("bob")
    world.made("second")
    sessions = ask(send, world, "GET", "/auth/sessions", "<good>").json()
    assert [(session["id"], session["current"]) for session in sessions] == [
        (world.made("second-sid"), False),
        (world.made("sid"), True),
    ]
    assert sessions[0].keys() == {
        "id",
        "subject",
        "device",
        "scopes",
        "created_at",
        "last_seen_at",
        "expires_at",
        "current",
    }


@both
@pytest.mark.parametrize(
    ("target", "left"),
    [
        ("/auth/sessions?keep=current", ["sid"]),
        ("/auth/sessions?keep=none", []),
        ("/auth/sessions/<second-sid>", ["sid"]),
        ("/auth/sessions/<sid>", ["second-sid"]),
        ("/auth/sessions/<bob-sid>", ["second-sid", "sid"]),
        ("/auth/sessions", ["second-sid", "sid"]),
    ],
)
def test_c47_endings(send: Send, target: str, left: list[str]) -> None:
    world = World()
    world.made("second")
    world.made("bob")
    ask(send, world, "DELETE", target, "<good>")
    assert [session.id for session in world.past.sessions("alice")] == [world.made(name) for name in left]
    assert len(world.past.sessions("bob")) == 1


@both
def test_a_ticket_makes_room_once(send: Send) -> None:
    world = World({"on_limit": "choose"})
    assert ask(send, world, "DELETE", "/auth/sessions/<listed>", "<ticket>").status == 204
    assert world.past.sessions("alice") == []
    assert ask(send, world, "DELETE", "/auth/sessions/<listed>", "<ticket>").json()["code"] == "token_invalid"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/me", 200),
        ("HEAD", "/me", 200),
        ("POST", "/me", 503),
        ("DELETE", "/me", 503),
        ("GET", "/auth/sessions", 503),
    ],
)
def test_stale_if_down_serves_what_changes_nothing(method: str, target: str, status: int) -> None:
    """Once the lease is over and the store is down; through each face."""
    world = World({"stale_if_down": 60, "cache_ttl": 1})
    request = Request(method, target, (("Authorization", f"Bearer {world.made('good')}"),))
    guard, async_guard = world.guard(), world.async_guard()
    app, asgi = guard.wrap(wsgi_app(guard, "echo", [])), async_guard.wrap(asgi_app(async_guard, "echo", []))
    guard.authenticate(world.made("good"))
    asyncio.run(async_guard.authenticate(world.made("good")))
    world.clock.advance(2)
    world.store.down = True
    assert call_wsgi(app, environ_of(request)).status == status
    assert asyncio.run(call_asgi(asgi, scope_of(request))).status == status


@both
def test_on_error_shapes_the_body_and_nothing_else(send: Send) -> None:
    def on_error(error: Exception, problem: dict[str, Any]) -> dict[str, Any] | None:
        if isinstance(error, TokenMissing):
            return {"message": problem["detail"], "status": 200}
        problem["more"] = 1
        return None

    world = World(on_error=on_error)
    reply = ask(send, world, "GET", "/me")
    assert reply.json() == {"message": "This resource needs an access token.", "status": 200}
    assert (reply.status, reply.header("www-authenticate")) == (401, 'Bearer realm="jwtguard"')
    assert ask(send, world, "GET", "/me", "<expired>").json().items() >= {"more": 1, "code": "token_expired"}.items()
    assert ask(send, world, "POST", "/auth/refresh", body=b"x").json()["more"] == 1


@both
@pytest.mark.parametrize("answer", [ZeroDivisionError(), {"x": object()}, {"x": "\ud800"}])
def test_an_on_error_that_fails_changes_no_answer(send: Send, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    def on_error(error: Exception, problem: dict[str, Any]) -> dict[str, Any]:
        problem["code"] = "changed before it failed"
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found

    reply = ask(send, World(on_error=on_error), "GET", "/me", "<bad utf16>")
    assert (reply.status, reply.json()["code"]) == (401, "token_invalid")
    assert "on_error failed for token_invalid" in caplog.text


@both
def test_c74_each_refusal_is_logged_with_its_code(send: Send, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jwtguard")
    world = World()
    ask(send, world, "GET", "/me", "<expired>")
    ask(send, world, "POST", "/auth/refresh", body=b'{"refresh_token": "<reused>"}')
    assert [message for message in caplog.messages if "refuse" in message or "reused" in message] == [
        "refused: 401 token_expired",
        "refresh_reused: an older refresh token came back, which looks like theft; it is of 'alice'",
        "refused: 401 refresh_reused",
    ]


@both
def test_a_config_error_of_a_hook_is_no_answer(send: Send) -> None:
    def claims_loader(subject: str) -> dict[str, Any]:
        raise ConfigError("no database")

    world = World()
    world.made("refresh")
    world.hooks["claims_loader"] = claims_loader
    with pytest.raises(ConfigError, match="no database"):
        ask(send, world, "POST", "/auth/refresh", body=b'{"refresh_token": "<refresh>"}')


@both
def test_c76_other_errors_of_a_hook_fail_closed(send: Send) -> None:
    def claims_loader(subject: str) -> dict[str, Any]:
        raise ZeroDivisionError

    world = World()
    world.made("refresh")
    world.hooks["claims_loader"] = claims_loader
    with pytest.raises(ZeroDivisionError):
        ask(send, world, "POST", "/auth/refresh", body=b'{"refresh_token": "<refresh>"}')


def endpoints(prefix: str | None = "/auth") -> Endpoints:
    core = World({"endpoints": prefix}).guard().core
    return Endpoints(core, Gate(core))


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/auth/logout", {"POST"}),
        ("/auth/logout", None),
        ("/auth/sessions", {"GET", "HEAD", "OPTIONS"}),
        ("/auth/sessions/x", ["PUT", "DELETE"]),
    ],
)
def test_a_collision_names_the_route(path: str, methods: Any) -> None:
    with pytest.raises(ConfigError, match=f"the app's route '{path}' takes the place"):
        endpoints().check_collision(path, methods)
    endpoints("off").check_collision(path, methods)


def test_what_is_no_collision() -> None:
    for path, methods in (("/auth/logout", {"GET"}), ("/auth/login", None), ("/auth/x/y", None), ("/x", None)):
        endpoints().check_collision(path, methods)


def test_where_endpoints_are() -> None:
    assert [(endpoint.method, path) for endpoint, path in endpoints("/session/v1").routes()] == [
        ("POST", "/session/v1/refresh"),
        ("POST", "/session/v1/logout"),
        ("GET", "/session/v1/sessions"),
        ("DELETE", "/session/v1/sessions"),
        ("DELETE", "/session/v1/sessions/{id}"),
    ]
    assert endpoints("off").routes() == endpoints(None).routes() == []
    assert endpoints(None).find("POST", "/auth/logout") is None


# -- the current request ---------------------------------------------------------------------------------------------------


def test_outside_of_any_request() -> None:
    assert current_identity() is ANONYMOUS
    assert current_device() == Device()
    set_identity(ANONYMOUS)
    forbid_storing()


@both
def test_c28_the_device_of_a_login(send: Send) -> None:
    """Whatever a client sends as its user agent: at most 64 printable characters of it are kept."""
    world = World()
    for agent in ("evil\x1b[31m/1", "x" * 1000 + "/2", "caf\xe9 1.0", ""):
        send_login = send_wsgi if send is send_wsgi else send_asgi
        send_login(world, Request("POST", "/login", (("User-Agent", agent),)), "login")
    names = [session.device.name for session in world.past.sessions("alice")]
    assert names == ["", "caf\xe9", "x" * 64, "evil[31m"]


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537.36 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18) CriOS/140 Mobile Safari/604.1", "Chrome on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) SamsungBrowser/28 Chrome/130 Safari/537.36", "Samsung Internet on Android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", "A browser"),
        ("Mozilla/5.0 (unknown) Firefox/1", "Firefox"),
        ("curl/8.5.0", "curl"),
        ("python-httpx/0.28 extra", "python-httpx"),
        ("", ""),
        ("/", ""),
    ],
)
def test_device_names(agent: str, name: str) -> None:
    assert device_name(agent) == name


def test_every_error_class_has_an_answer_or_is_for_the_developer() -> None:
    def classes(base: type[JWTGuardError]) -> list[type[JWTGuardError]]:
        return [base, *(found for each in base.__subclasses__() for found in classes(each))]

    core = World().guard().core
    for kind in classes(JWTGuardError)[1:]:
        if kind is ConfigError:
            with pytest.raises(ConfigError):
                Endpoints(core, Gate(core)).refuse(kind())
        elif kind.__module__ == "jwtguard.errors":
            assert 400 <= Endpoints(core, Gate(core)).refuse(kind()).status < 600
