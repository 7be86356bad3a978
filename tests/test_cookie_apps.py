"""Cookie mode inside of frameworks, in WebSockets and streams, and for forward auth."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import Flask
from flask import Response as FlaskResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from jwtguard import AsyncGuard, Guard, Settings
from jwtguard.flask import JWTGuard, current_identity
from jwtguard.forward import ForwardAuth
from jwtguard.starlette import install
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
URL = "https://testserver"
SOCKET = "wss://testserver/ws"
ACCESS, KEPT = "__Host-jwtguard", "__Host-jwtguard-refresh"
OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
TERMS: dict[str, Any] = {"secret": SECRET, "cookie": "silent", "public": "/login", "rules": "/admin: admin"}


# -- Starlette -------------------------------------------------------------------------------------------------------------


async def login(request: Request) -> Response:
    pair = await request.app.state.jwtguard.login("alice")
    return JSONResponse({"session_id": pair.session_id}, headers={"Cache-Control": "public", "Set-Cookie": "theme=dark"})


async def me(request: Request) -> Response:
    return PlainTextResponse(request.user.subject)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(headers=[(b"x-own", b"1")])
    await websocket.send_text(websocket.user.subject)
    await websocket.close()


class Site:
    """A Starlette app, its clock, and a client that keeps cookies."""

    def __init__(self, **terms: Any) -> None:
        self.clock = FakeClock()
        self.guard = AsyncGuard(Settings(**{**TERMS, **terms}), store=MemoryStore(self.clock), clock=self.clock)
        routes = [
            Route("/login", login, methods=["POST"]),
            Route("/me", me),
            Route("/admin", me),
            WebSocketRoute("/ws", echo),
        ]
        self.app = Starlette(routes=routes)
        install(self.app, self.guard)
        self.client = TestClient(self.app, base_url=URL)
        assert self.client.post("/login").status_code == 200

    def refusal(self, headers: dict[str, str]) -> WebSocketDenialResponse:
        with pytest.raises(WebSocketDenialResponse) as refused:
            self.client.websocket_connect(SOCKET, headers=headers).__enter__()
        return refused.value


def test_the_headers_of_a_view_and_of_the_guard_come_together() -> None:
    site = Site()
    answer = site.client.post("/login")
    assert answer.headers.get_list("cache-control") == ["no-store"]
    names = [value.split("=")[0] for value in answer.headers.get_list("set-cookie")]
    assert names == ["theme", ACCESS, KEPT]
    assert site.client.get("/me").text == "alice"


def test_an_expired_session_is_renewed_also_where_the_app_refuses() -> None:
    site = Site()
    site.clock.advance(1800)
    assert site.client.get("/me").json()["code"] == "token_expired"
    refused = site.client.get("/admin", headers=OWN)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert len(refused.headers.get_list("set-cookie")) == 2
    assert refused.headers.get_list("cache-control") == ["no-store"]
    assert site.client.get("/me").text == "alice"


def test_log_out_of_starlette() -> None:
    site = Site(cookie="on")
    assert site.client.post("/auth/refresh").json().keys() == {"expires_in", "session_id"}
    assert site.client.post("/auth/logout").status_code == 204
    assert dict(site.client.cookies) == {"theme": "dark"}
    assert site.client.get("/me").json()["code"] == "token_missing"


# -- WebSockets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://testserver.evil.example", "https://testserver:1"]
)
def test_c68_a_websocket_of_another_origin_is_refused_before_it_is_accepted(origin: str) -> None:
    for headers in ({"Origin": origin}, {"Origin": origin, "Sec-Fetch-Site": "cross-site"}):
        refused = Site().refusal(headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf")


@pytest.mark.parametrize("headers", [{"Origin": URL}, {"Origin": "https://other.example"}, OWN, {}], ids=str)
def test_c68_a_websocket_of_an_own_page_is_accepted(headers: dict[str, str]) -> None:
    with Site(trusted_origins="https://other.example").client.websocket_connect(SOCKET, headers=headers) as websocket:
        assert websocket.receive_text() == "alice"


def test_c68_a_token_of_the_pages_own_is_no_way_around_that() -> None:
    """Any page can offer one by a subprotocol, and where none is needed it may be anything."""
    site = Site(public="/login, /ws")
    pair = ["jwtguard.bearer", "x"]
    with site.client.websocket_connect(SOCKET, pair, headers={"Origin": URL}) as websocket:
        assert websocket.receive_text() == ""
    with pytest.raises(WebSocketDenialResponse) as refused:
        site.client.websocket_connect(SOCKET, pair, headers={"Origin": "https://evil.example"}).__enter__()
    assert refused.value.status_code == 403


def test_c68_a_websocket_over_wsgi_is_judged_too() -> None:
    guard = Guard(Settings(secret=SECRET, cookie="on", endpoints="/auth"), store=MemoryStore())
    token = guard.login("alice").access_token
    app = guard.wrap(lambda environ, start: start("200 OK", []) or [b""])
    origins = {"HTTP_ORIGIN": "https://evil.example", "HTTP_HOST": "app.example"}
    known = {"REQUEST_METHOD": "GET", "PATH_INFO": "/ws", "HTTP_COOKIE": f"__Host-jwtguard={token}", **origins}
    said: list[str] = []
    for environ in (known, known | {"HTTP_SEC_WEBSOCKET_KEY": "x"}):
        list(app(dict(environ), lambda status, *_: said.append(status)))
    assert said == ["200 OK", "403 FORBIDDEN"]


def test_c68_a_websocket_without_a_cookie_is_refused() -> None:
    site = Site()
    site.client.cookies.clear()
    assert site.refusal({"Origin": URL}).json()["code"] == "token_missing"


def test_a_websockets_handshake_renews_too() -> None:
    site = Site()
    site.clock.advance(1800)
    with site.client.websocket_connect(SOCKET, headers=OWN) as websocket:
        assert websocket.receive_text() == "alice"
        sent: list[tuple[bytes, bytes]] = list(websocket.extra_headers or ())
    assert sent[0] == (b"x-own", b"1")
    assert [value.split(b"=")[0].decode() for name, value in sent if name == b"set-cookie"] == [ACCESS, KEPT]


# -- Flask -----------------------------------------------------------------------------------------------------------------


def a_flask_app(clock: FakeClock, **terms: Any) -> Flask:
    app = Flask(__name__)
    guard = JWTGuard(**{**TERMS, **terms}, store=MemoryStore(clock), clock=clock)
    guard.init_app(app)

    @app.post("/login")
    def login() -> dict[str, str]:
        return {"session_id": guard.login("alice").session_id}

    @app.post("/quit")
    def quit_() -> str:
        guard.logout(current_identity())
        return "bye"

    @app.get("/me")
    def me() -> str:
        return current_identity().subject

    @app.get("/stream")
    def stream() -> FlaskResponse:
        return FlaskResponse(part for part in ("a", "b", "c"))

    return app


def test_a_view_of_flask_logs_in_and_out() -> None:
    client = a_flask_app(FakeClock()).test_client()
    answer = client.post("/login", base_url=URL)
    assert [value.split("=")[0] for value in answer.headers.getlist("Set-Cookie")] == [ACCESS, KEPT]
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    assert client.get("/me", base_url=URL).text == "alice"
    assert client.post("/quit", headers={"Sec-Fetch-Site": "cross-site"}, base_url=URL).status_code == 403
    assert client.post("/quit", base_url=URL).text == "bye"
    assert client.get_cookie(ACCESS, "testserver") is client.get_cookie(KEPT, "testserver") is None
    assert client.get("/me", base_url=URL).status_code == 401


def test_a_stream_that_renews_is_no_use_of_the_new_token() -> None:
    """Its client may have gone before the headers came: then the older token must still be good, long after."""
    clock = FakeClock()
    client = a_flask_app(clock).test_client()
    client.post("/login", base_url=URL)
    clock.advance(1800)
    kept = client.get_cookie(KEPT, "testserver")
    assert kept is not None
    old = {"Cookie": f"{KEPT}={kept.value}", **OWN}
    lost = client.application.test_client(use_cookies=False)
    assert lost.get("/stream", base_url=URL, headers=old).text == "abc"
    clock.advance(3600)
    assert lost.get("/me", base_url=URL, headers=old).text == "alice"


# -- forward auth ----------------------------------------------------------------------------------------------------------


def test_forward_auth_reads_cookies_and_renews_nothing() -> None:
    """Its answer goes to the proxy, which hands no cookie on."""
    clock = FakeClock()
    guard = AsyncGuard(Settings(**TERMS), store=MemoryStore(clock), clock=clock)
    pair = asyncio.run(guard.login("alice"))
    client = TestClient(ForwardAuth(guard))
    asked = {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/me", **OWN}
    cookies = {"Cookie": f"{ACCESS}={pair.access_token}; {KEPT}={pair.refresh_token}"}
    assert client.get("/verify", headers=asked | cookies).headers["x-auth-subject"] == "alice"
    hostile = asked | cookies | {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/verify", headers=hostile).headers["x-auth-code"] == "csrf"
    clock.advance(1800)
    refused = client.get("/verify", headers=asked | cookies)
    assert (refused.headers["x-auth-code"], refused.headers.get("set-cookie")) == ("token_expired", None)
    assert asyncio.run(guard.refresh(pair.refresh_token)).access_token
