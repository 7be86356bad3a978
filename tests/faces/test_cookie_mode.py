"""Cookie mode, seen by a browser that keeps what it is sent; through both faces. What is refused is in the table."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cookie_table import ACCESS, CLICK, KEPT, OWN, REFRESH
from drivers import Reply, Request, View, asgi_app, call_asgi, scope_of, send_asgi, send_wsgi
from world import World

from jwtguard import ConfigError
from jwtguard.context import REQUEST

Send = Callable[..., list[Reply]]

both = pytest.mark.parametrize("send", [send_wsgi, send_asgi], ids=["wsgi", "asgi"])
modes = pytest.mark.parametrize("mode", ["on", "silent"])


@dataclass
class Browser:
    """Keeps cookies by name and path, as RFC 6265 says, and sends what a browser sends with a request of its own page."""

    world: World
    send: Send
    jar: dict[tuple[str, str], str] = field(default_factory=dict)
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    mount: str = ""

    def ask(self, method: str, target: str, view: View = "echo", *headers: tuple[str, str], keep: bool = True) -> Reply:
        path = self.mount + target
        sent = "; ".join(f"{name}={value}" for (name, at), value in self.jar.items() if at == "/" or path == at)
        found = (*(headers or OWN), *((("Cookie", sent),) if sent else ()))
        reply = self.send(self.world, Request(method, target, found, mount=self.mount), view)[0]
        if keep:
            self.keep(reply)
        return reply

    def keep(self, reply: Reply) -> None:
        for value in [value for name, value in reply.headers if name == "set-cookie"]:
            pair, *parts = value.split("; ")
            name, _, token = pair.partition("=")
            attributes = {key: text for key, _, text in (part.partition("=") for part in parts)}
            self.attributes[name] = attributes
            if attributes["Max-Age"] == "0":
                self.jar.pop((name, attributes["Path"]), None)
            else:
                self.jar[name, attributes["Path"]] = token

    def token(self, name: str) -> str | None:
        return next((value for (other, _), value in self.jar.items() if other == name), None)

    @property
    def user(self) -> str:
        reply = self.ask("GET", "/me")
        return reply.seen[0].subject if reply.seen else str(reply.json()["code"])


def browser(send: Send, mode: str = "on", mount: str = "", **settings: Any) -> Browser:
    found = Browser(World({"cookie": mode, **settings}), send, mount=mount)
    found.ask("POST", "/login", "login")
    return found


@both
@modes
def test_c63_a_login_sets_both_cookies_with_all_their_guards(send: Send, mode: str) -> None:
    found = browser(send, mode, session_ttl="20d")
    name, path = (REFRESH, "/auth/refresh") if mode == "on" else (KEPT, "/")
    guards = {"Secure": "", "HttpOnly": "", "SameSite": "Lax"}
    assert found.attributes == {
        ACCESS: {"Max-Age": "1800", "Path": "/", **guards},
        name: {"Max-Age": str(20 * 86_400), "Path": path, **guards},
    }
    assert found.user == "alice"
    reply = found.ask("POST", "/login", "login")
    assert reply.header("cache-control") == "no-store"
    assert reply.json()["access_token"] == found.token(ACCESS)


@both
def test_c63_the_refresh_cookie_goes_to_the_endpoint_below_the_mount_point(send: Send) -> None:
    found = browser(send, mount="/api v1")
    assert found.attributes[REFRESH]["Path"] == "/api%20v1/auth/refresh"


@both
def test_c63_c36_a_refresh_by_cookie_sets_both_and_tells_no_script_a_token(send: Send) -> None:
    found = browser(send)
    before = found.token(ACCESS), found.token(REFRESH)
    reply = found.ask("POST", "/auth/refresh")
    assert reply.json().keys() == {"expires_in", "session_id"}
    assert reply.header("cache-control") == "no-store"
    after = found.token(ACCESS), found.token(REFRESH)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert found.user == "alice"


@both
def test_a_refresh_by_body_gives_the_pair_and_sets_no_cookie(send: Send) -> None:
    world = World({"cookie": "on"})
    body = b'{"refresh_token": "<refresh>"}'
    request = Request("POST", "/auth/refresh", (("Content-Type", "application/json"),), body)
    (reply,) = send(world, request.filled(world))
    assert reply.json()["access_token"]
    assert reply.header("set-cookie") is None


@both
@modes
@pytest.mark.parametrize("target", ["/auth/logout", "/auth/sessions?keep=none", "/auth/sessions/{sid}"])
def test_c63_an_ending_removes_both(send: Send, mode: str, target: str) -> None:
    found = browser(send, mode)
    (session,) = found.world.past.sessions("alice")
    method = "POST" if "logout" in target else "DELETE"
    reply = found.ask(method, target.replace("{sid}", session.id))
    assert reply.status == 204
    assert reply.header("cache-control") == "no-store"
    assert {each["Max-Age"] for each in found.attributes.values()} == {"0"}
    assert found.jar == {}
    assert found.world.past.sessions("alice") == []


@both
def test_the_end_of_another_session_removes_none(send: Send) -> None:
    found = browser(send)
    other = found.world.login()
    assert found.ask("DELETE", f"/auth/sessions/{other.session_id}").status == 204
    assert found.ask("DELETE", "/auth/sessions?keep=current").status == 204
    assert found.user == "alice"


@both
def test_logging_out_after_the_access_token_ran_out(send: Send) -> None:
    """With COOKIE=on no token that is good comes there: at least nobody else finds one in this browser."""
    on, silent = browser(send), browser(send, "silent")
    for found in (on, silent):
        found.world.clock.advance(1800)
    reply = on.ask("POST", "/auth/logout")
    assert (reply.status, reply.json()["code"], on.jar) == (401, "token_expired", {})
    for headers in (OWN, (("Origin", "http://x"), ("Host", "x"))):
        found = browser(send, "silent")
        found.world.clock.advance(1800)
        assert found.ask("POST", "/auth/logout", "echo", *headers).status == 204
        assert found.jar == {}
        assert found.world.past.sessions("alice") == []


@both
def test_a_logout_that_is_refused_or_fails_removes_none(send: Send) -> None:
    found = browser(send)
    assert found.ask("POST", "/auth/logout", "echo", ("Sec-Fetch-Site", "cross-site")).status == 403
    found.world.store.down = True
    assert found.ask("POST", "/auth/logout").status == 503
    found.world.store.down = False
    assert found.user == "alice"


@both
def test_c67_a_page_of_another_site_logs_nobody_in(send: Send) -> None:
    """Not with a bearer token of its own either."""
    found = browser(send)
    found.jar.clear()
    bearer = ("Authorization", f"Bearer {found.world.made('good')}")
    reply = found.ask("POST", "/me", "login", ("Sec-Fetch-Site", "cross-site"), bearer)
    assert (reply.status, reply.json()["code"], found.jar) == (403, "csrf", {})


# -- silent renewal --------------------------------------------------------------------------------------------------------


def expired(send: Send, **settings: Any) -> Browser:
    found = browser(send, "silent", **settings)
    assert found.user == "alice"
    found.world.clock.advance(1800)
    return found


@both
def test_an_expired_session_is_renewed_within_the_request(send: Send) -> None:
    found = expired(send)
    before = found.token(ACCESS)
    reply = found.ask("GET", "/me", "echo", *CLICK)
    assert [seen.subject for seen in reply.seen] == ["alice"]
    assert reply.header("cache-control") == "no-store"
    assert found.token(ACCESS) != before
    assert "set-cookie" not in dict(found.ask("GET", "/me").headers)


@both
def test_c55_however_many_requests_race_they_get_the_same_successor(send: Send) -> None:
    found = expired(send)
    tokens = {found.ask("GET", "/me", keep=False).header("cache-control") for _ in range(2)}
    assert tokens == {"no-store"}
    answers = [found.ask("GET", "/me", keep=False) for _ in range(8)]
    assert len({tuple(value for name, value in reply.headers if name == "set-cookie") for reply in answers}) == 1
    found.keep(answers[0])
    assert found.user == "alice"
    found.keep(answers[7])
    assert found.user == "alice"


@both
def test_an_aborted_navigation_loses_nothing(send: Send) -> None:
    """Its answer never came, and nobody has seen the new tokens in use: neither soon nor days later, by two tabs."""
    found = expired(send)
    assert found.ask("GET", "/me", keep=False).status == 200
    found.world.clock.advance(3 * 86_400)
    first, second = (found.ask("GET", "/me", keep=False) for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    found.world.clock.advance(60)
    found.keep(found.ask("GET", "/me", keep=False))
    assert found.user == "alice"


@both
def test_c52_a_stolen_cookie_that_comes_late_ends_the_session(send: Send) -> None:
    found = expired(send)
    stolen = dict(found.jar)
    assert found.user == "alice"
    assert found.user == "alice"
    found.world.clock.advance(60)
    thief = Browser(found.world, send, stolen)
    refused = thief.ask("GET", "/me")
    assert (refused.json()["code"], refused.header("set-cookie")) == ("token_expired", None)
    assert found.user == "session_revoked"


@both
def test_what_is_refused_after_a_renewal_carries_the_cookies(send: Send) -> None:
    found = expired(send)
    reply = found.ask("GET", "/admin/x")
    assert (reply.status, reply.json()["code"]) == (403, "scope_missing")
    assert found.user == "alice"
    assert reply.header("cache-control") == "no-store"


@both
def test_a_login_in_a_request_that_was_renewed_has_the_last_word(send: Send) -> None:
    found = expired(send)
    reply = found.ask("POST", "/login", "login")
    assert found.token(ACCESS) == reply.json()["access_token"]
    assert len(found.world.past.sessions("alice")) == 1
    assert found.user == "alice"


@both
def test_the_endpoints_renew_too(send: Send) -> None:
    found = expired(send)
    (session,) = found.ask("GET", "/auth/sessions", "echo", *CLICK).json()
    assert session["current"]
    assert found.user == "alice"


# -- the rest --------------------------------------------------------------------------------------------------------------


def test_http2_may_split_the_cookies() -> None:
    world = World({"cookie": "on"})
    seen: list[Any] = []
    app = world.async_guard().wrap(asgi_app(None, "echo", seen))
    scope = scope_of(Request(headers=(("Cookie", "a=1"), ("Cookie", f"{ACCESS}={world.made('good')}"), ("Cookie", "b=2"))))
    assert asyncio.run(call_asgi(app, scope)).status == 200
    assert seen[0].subject == "alice"


def test_the_cookies_need_the_endpoint_that_refreshes() -> None:
    for make in (World({"cookie": "on", "endpoints": None}).guard, World({"cookie": "on", "endpoints": "off"}).guard):
        with pytest.raises(ConfigError, match="JWTGUARD_ENDPOINTS to /auth, or JWTGUARD_COOKIE to silent"):
            make().wrap(lambda environ, start_response: [])
    World({"cookie": "silent", "endpoints": "off"}).guard().wrap(lambda environ, start_response: [])


@both
@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("localhost:8000", 1),
        ("app.localhost", 1),
        ("127.0.0.1:5000", 1),
        ("[::1]:80", 1),
        ("localhost.evil.example", 0),
        ("", 0),
    ],
)
def test_plain_http_on_this_machine_is_told_once(
    send: Send, host: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    """And sets the very same cookies: nothing that a client says weakens them."""
    world = World({"cookie": "on"})
    request = Request("POST", "/login", (("Host", host),))
    replies = send(world, request, "login", 2)
    assert [record.levelno for record in caplog.records if "plain http" in record.message] == [logging.WARNING] * told
    for reply in replies:
        values = [value for name, value in reply.headers if name == "set-cookie"]
        assert [value.split("=")[0] for value in values] == [ACCESS, REFRESH]
        assert all("; Secure; HttpOnly; SameSite=Lax" in value for value in values)


@both
def test_c64_what_a_cookie_could_not_hold_is_refused_at_issue(send: Send) -> None:
    guard = World({"cookie": "on"}).past
    with pytest.raises(ValueError, match="bytes long, and a cookie holds 4071: use fewer or shorter claims and scopes"):
        guard.login("alice", claims={"x": "y" * 3000})
    assert guard.sessions("alice") == []
    assert World().past.login("alice", claims={"x": "y" * 3000})
    pair = guard.login("alice", claims={"x": "y" * 2700})
    assert 3900 < len(pair.access_token) <= 4071
    world = World({"cookie": "on"})
    (reply,) = send(
        world, Request("GET", "/me", (("Cookie", f"{ACCESS}={world.login(claims={'x': 'y' * 2700}).access_token}"),))
    )
    assert reply.status == 200


def test_outside_of_a_request_nothing_is_set() -> None:
    assert REQUEST.get() is None
    world = World({"cookie": "silent"})
    pair = world.past.login("alice")
    world.past.logout(world.past.authenticate(pair.access_token))
    assert world.past.sessions("alice") == []
