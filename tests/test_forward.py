"""Forward auth: what a proxy asks, in each proxy's form, and what it is answered. The proxies themselves: `servers`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any
from urllib.parse import unquote

import pytest

from jwtguard import AsyncGuard
from jwtguard.forward import HEADERS, ForwardAuth
from jwtguard.testing import World

SETTINGS = {"public": "/, /static/*, GET /items/*", "rules": "/admin/*: admin, POST /items/*: write"}
Pairs = list[tuple[str, str]]


class Forward:
    """The app, asked as proxies ask."""

    def __init__(self, world: World, **settings: str) -> None:
        self.guard = AsyncGuard.from_env(**{**SETTINGS, **settings}, **world.arguments)
        self.app = ForwardAuth(self.guard)

    def token(self, subject: str = "alice", *scopes: str) -> str:
        return self.guard.sync.login(subject, scopes=scopes).access_token

    def bearer(self, subject: str = "alice", *scopes: str) -> tuple[str, str]:
        return ("Authorization", f"Bearer {self.token(subject, *scopes)}")

    def raw(self, method: str, target: str, headers: Pairs = [], **more: Any) -> Answer:  # noqa: B006
        """Any request."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            **more,
        }
        return asyncio.run(_call(self.app, {name: value for name, value in scope.items() if value is not None}))

    def asked(self, method: str, target: str, *headers: tuple[str, str]) -> Answer:
        """As Traefik asks, and nginx."""
        return self.raw("GET", "/verify", [("X-Forwarded-Method", method), ("X-Forwarded-Uri", target), *headers])

    def envoy(self, method: str, target: str, *headers: tuple[str, str]) -> Answer:
        """As Envoy asks."""
        return self.raw(method, f"/envoy{target}", list(headers))


class Answer:
    def __init__(self, sent: list[Any]) -> None:
        self.status = sent[0].get("status", sent[0]["type"])
        self.headers = {name.decode(): value.decode() for name, value in sent[0].get("headers", ())}
        self.body = sent[-1].get("body", b"")

    @property
    def code(self) -> str | None:
        return self.headers.get("x-auth-code")

    @property
    def identity(self) -> tuple[str | None, ...]:
        return tuple(self.headers.get(name.lower()) for name in HEADERS)


async def _call(app: Any, scope: Any) -> Answer:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(sent)


@pytest.fixture
def forward() -> Forward:
    return Forward(World())


WAYS = pytest.mark.parametrize("way", ["asked", "envoy"])


@WAYS
def test_who_may_pass(forward: Forward, way: str) -> None:
    ask = getattr(forward, way)
    for method, target in (("GET", "/me"), ("POST", "/items/7"), ("GET", "/?x=/static/y")):
        answer = ask(method, target)
        expected = (200, ("", "", "")) if target.startswith("/?") else (401, (None, None, None))
        assert (answer.status, answer.identity) == expected
    refused = ask("GET", "/me")
    assert (refused.headers["www-authenticate"], refused.code) == ('Bearer realm="jwtguard"', "token_missing")
    pair = forward.guard.sync.login("alice", scopes=["read", "write:items"])
    admitted = ask("GET", "/me", ("Authorization", f"Bearer {pair.access_token}"))
    assert (admitted.status, admitted.identity) == (200, ("alice", pair.session_id, "read write:items"))
    assert (admitted.headers["cache-control"], admitted.body) == ("no-store", b"")
    assert ask("POST", "/items/7", forward.bearer("bob", "read")).code == "scope_missing"
    assert ask("POST", "/items/7", forward.bearer("bob", "write")).status == 200
    assert ask("GET", "/static/a", ("Authorization", "Bearer nonsense")).identity == ("", "", "")
    assert ask("GET", "/me", ("Authorization", "Bearer nonsense")).code == "token_invalid"


@WAYS
def test_a_revoked_session(forward: Forward, way: str) -> None:
    ask, known = getattr(forward, way), forward.bearer("alice")
    assert ask("GET", "/me", known).status == 200
    forward.guard.sync.revoke_all("alice")
    assert (ask("GET", "/me", known).status, ask("GET", "/me", known).code) == (401, "session_revoked")
    assert ask("GET", "/", known).identity == ("", "", "")


@WAYS
def test_the_store_is_down(way: str) -> None:
    world = World()
    forward = Forward(world)
    known = forward.bearer()
    with world.store_down():
        answer = getattr(forward, way)("GET", "/me", known)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "store_unavailable", "1")


AMBIGUOUS = [
    "//static/a",
    "/static/../me",
    "/static/%2e%2e/me",
    "/static/..%2fme",
    "/static%2Fa",
    "/static/a%00",
    "/static/a%0a",
    "/static/a;x",
    "/static/a%3fb",
    "/static/a#b",
    "/static/a%23b",
    "/static/a%25",
    "/static/%ff",
    "/static/\\a",
    "http://host/static/a",
    "static/a",
    "*",
    "",
]


@pytest.mark.parametrize("target", ["/ADMIN/users", "/Admin", "/%41dmin/users"])
def test_a_rule_counts_letters_in_any_case(forward: Forward, target: str) -> None:
    """The app behind may take them for the same path."""
    assert forward.asked("GET", target, forward.bearer("bob")).status == 403
    assert forward.asked("GET", target, forward.bearer("bob", "admin")).status == 200


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_an_ambiguous_path_is_not_public_and_needs_all_scopes(forward: Forward, target: str) -> None:
    assert forward.asked("GET", target).status == 401
    assert forward.asked("GET", target, forward.bearer("bob", "admin")).status == 403
    assert forward.asked("GET", target, forward.bearer("root", "admin", "write")).status == 200
    if target.startswith("/"):
        assert forward.envoy("GET", target).status == 401


def test_a_path_in_utf_8_is_public_if_its_pattern_is() -> None:
    forward = Forward(World(), public="/über/*")
    assert forward.asked("GET", "/%C3%BCber/x").status == 200
    assert forward.asked("GET", "/über/x".encode().decode("latin-1")).status == 200
    assert forward.asked("GET", "/%FCber/x").status == 401


def test_c38_only_the_proxy_says_which_request_it_is(forward: Forward) -> None:
    method, target = ("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/")
    known = forward.bearer()
    for headers in (
        [],
        [method],
        [target],
        [method, target, target],
        [method, method, target],
        [method, target, ("X-Forwarded-Uri", "/me")],
        [method, ("X-Original-URI", "/")],
        [method, ("X_Forwarded_Uri", "/")],
        [("X-Original-Method", "GET"), target],
    ):
        answer = forward.raw("GET", "/verify", [*headers, known])
        assert (answer.status, answer.code) == (400, "request_invalid"), headers
    assert forward.raw("GET", "/envoy/me", [method, target]).status == 401, "for Envoy it is the path, whatever headers say"
    assert forward.asked("GET", "/me", ("X_Forwarded_Uri", "/"), ("X-Original-URI", "/")).status == 401
    for name in ("X-HTTP-Method-Override", "x_http_method", "X-Method-Override"):
        answer = forward.asked("POST", "/items/7", (name, "GET"), known)
        assert (answer.status, answer.code) == (400, "request_invalid"), "many frameworks route by it"
    assert forward.asked("get", "/items/7").status == 401, "a method that isn't as it is written is not public"


@WAYS
@pytest.mark.parametrize("name", [*HEADERS, "x_auth_subject", "X-Auth_Subject", "x.auth.scopes", "X_Auth-Session"])
def test_c38_identity_headers_of_a_client_are_refused_in_any_spelling(forward: Forward, way: str, name: str) -> None:
    ask = getattr(forward, way)
    for target in ("/", "/me"):
        assert ask("GET", target, (name, "root"), forward.bearer()).status == 400
        assert ask("GET", target, (name, "")).status == 400


@WAYS
def test_c32_credentials_come_once(forward: Forward, way: str) -> None:
    known = forward.bearer()
    assert getattr(forward, way)("GET", "/me", known, known).code == "request_invalid"
    assert getattr(forward, way)("GET", "/", known, known).identity == ("", "", "")


@pytest.mark.parametrize(
    "subject", ["Zoë", "a b", "a+b", "a%20b", "x,y", "alice@example.com", "auth0|7", "日本", "a\u2028b"]
)
def test_c28_a_subject_is_one_header_value_that_stands_for_it_alone(forward: Forward, subject: str) -> None:
    told = forward.asked("GET", "/me", forward.bearer(subject)).identity[0]
    assert told is not None
    assert told.isascii()
    assert unquote(told) == subject
    assert not set(told) & set(" +,\r\n\"'\\;")
    assert subject != "alice@example.com" or told == subject


def test_a_websocket_brings_its_token_in_the_subprotocol_pair(forward: Forward) -> None:
    token, key = forward.token(), ("Sec-WebSocket-Key", "x")
    pair = ("Sec-WebSocket-Protocol", f"chat, jwtguard.bearer,{token}")
    assert forward.asked("GET", "/ws", pair).identity[0] == "alice"
    assert forward.envoy("GET", "/ws", key, pair).identity[0] == "alice"
    assert forward.asked("GET", "/ws", key).code == "token_missing"
    assert forward.asked("GET", "/ws", ("Sec-WebSocket-Protocol", "jwtguard.bearer")).code == "token_missing"
    assert forward.asked("GET", "/ws", pair, ("Authorization", f"Bearer {token}")).code == "request_invalid"
    assert forward.asked("GET", "/ws", pair, pair).code == "request_invalid"


def test_a_websocket_is_not_opened_by_a_stale_answer() -> None:
    world = World()
    forward = Forward(world, stale_if_down="1h")
    known = forward.bearer()
    assert forward.asked("GET", "/me", known).status == 200
    world.clock.advance(10)
    with world.store_down():
        assert forward.asked("GET", "/me", known).status == 200
        assert forward.asked("POST", "/me", known).status == 503
        assert forward.asked("GET", "/me", known, ("Sec-WebSocket-Key", "x")).status == 503


@WAYS
def test_a_preflight_passes_as_nobody(forward: Forward, way: str) -> None:
    ask = getattr(forward, way)
    asked = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "POST")]
    assert (ask("OPTIONS", "/me", *asked).status, ask("OPTIONS", "/me", *asked).identity) == (200, ("", "", ""))
    assert ask("OPTIONS", "/me", asked[0]).status == 401
    assert ask("GET", "/me", *asked).status == 401


def test_the_endpoints_beside(forward: Forward) -> None:
    known = forward.bearer()
    assert b'"current":true' in forward.raw("GET", "/auth/sessions", [known]).body
    assert forward.raw("POST", "/auth/logout", [known]).status == 204
    assert forward.raw("GET", "/auth/sessions", [known]).status == 401
    assert forward.raw("GET", "/verify/", [forward.bearer()]).status == 404
    assert forward.raw("GET", "/envoy", [forward.bearer()]).status == 404
    assert forward.raw("GET", "/verify", [], type="websocket", subprotocols=[]).status == "websocket.close"


def test_a_server_that_does_not_tell_the_path_as_it_came(forward: Forward) -> None:
    """Then nothing is known of how it was written, so it is ambiguous."""
    assert forward.raw("GET", "/envoy/", raw_path=None).status == 401
    assert forward.raw("GET", "/%65nvoy/").status == 401
    assert forward.raw("GET", "/envoy/").status == 200


def test_it_lets_go_of_the_store_when_the_server_ends(forward: Forward) -> None:
    sent: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(forward.app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_app_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from jwtguard import ConfigError, forward

    for name in ("SECRET", "STORE"):
        monkeypatch.delenv(f"JWTGUARD_{name}", raising=False)
    with pytest.raises(ConfigError, match="JWTGUARD_SECRET"):
        _ = forward.app
    monkeypatch.setenv("JWTGUARD_SECRET", "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi")
    monkeypatch.setenv("JWTGUARD_STORE", "memory://")
    try:
        assert isinstance(forward.app, ForwardAuth)
        assert forward.app is forward.app
    finally:
        del forward.app
    with pytest.raises(AttributeError, match="no attribute 'application'"):
        _ = forward.application


def test_nothing_is_made_by_an_import() -> None:
    subprocess.run([sys.executable, "-c", "import jwtguard.forward"], env={}, check=True)
