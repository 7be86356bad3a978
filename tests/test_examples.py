"""The examples: one set of tests for an app of each framework, all with the same routes; and what not all of them have."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from django_kit import unconfigured
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient, WebSocketDenialResponse
from werkzeug.test import Client as WSGIClient

EXAMPLES = Path(__file__).parent.parent / "examples"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Reply]


def example(name: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Any:
    """The module, configured by the environment alone."""
    monkeypatch.setenv("JWTGUARD_SECRET", "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi")
    monkeypatch.setenv("JWTGUARD_STORE", "memory://")
    for setting, value in settings.items():
        monkeypatch.setenv(f"JWTGUARD_{setting.upper()}", value)
    spec = spec_from_file_location(f"{name}_under_test", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def through_wsgi(app: Any) -> Ask:
    client = WSGIClient(app)

    def ask(method: str, path: str, token: str | None = None, body: Any = None, **headers: str) -> Reply:
        given = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        response = client.open(path, method=method, headers=given, json=body)
        return Reply(response.status_code, {name.lower(): value for name, value in response.headers}, response.data)

    return ask


def through_asgi(client: TestClient) -> Ask:
    def ask(method: str, path: str, token: str | None = None, body: Any = None, **headers: str) -> Reply:
        given = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        response = client.request(method, path, headers=given, json=body)
        return Reply(response.status_code, dict(response.headers), response.content)

    return ask


Apps = Callable[..., Ask]


WSGI_APPS = {"flask": ("flask_app", "app"), "django": ("django_app", "app")}
LIVE_APPS = {f"{name}": (f"{name}_app", "app") for name in ("fastapi", "starlette", "litestar", "quart")}
APPS = {**WSGI_APPS, **LIVE_APPS, "django, asgi": ("django_app", "asgi")}


@pytest.fixture(params=APPS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apps]:
    """Starts one of the apps, with these settings."""
    module, name = APPS[request.param]
    with ExitStack() as stack:
        if module == "django_app":
            stack.enter_context(unconfigured())

        def start_app(**settings: str) -> Ask:
            app = getattr(example(module, monkeypatch, **settings), name)
            if request.param in WSGI_APPS:
                return through_wsgi(app)
            client = TestClient(app)
            return through_asgi(client if request.param == "django, asgi" else stack.enter_context(client))

        yield start_app


def log_in(ask: Ask, username: str = "alice", password: str = "wonderland", **headers: str) -> Any:
    reply = ask("POST", "/login", body={"username": username, "password": password}, **headers)
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    return reply.json


def test_public_and_guarded(start: Apps) -> None:
    ask = start()
    assert (ask("GET", "/").status, ask("GET", "/").json) == (200, {"hello": "world"})
    for path in ("/me", "/admin", "/unknown", "/auth/sessions"):
        reply = ask("GET", path)
        assert (reply.status, reply.json["code"]) == (401, "token_missing")
        assert reply.headers["www-authenticate"] == 'Bearer realm="jwtguard"'
        assert reply.headers["content-type"] == "application/problem+json"


def test_login(start: Apps) -> None:
    ask = start()
    pair = log_in(ask)
    assert pair.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "session_id"}
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 1800)
    for username, password in (("alice", "builder"), ("alice", ""), ("", ""), ("mallory", ""), ("mallory", "wonderland")):
        assert ask("POST", "/login", body={"username": username, "password": password}).status == 401
    assert ask("POST", "/login", body={"username": "alice", "password": "p\u00e4ss"}).status == 401


def test_me_and_admin(start: Apps) -> None:
    ask = start()
    alice, bob = log_in(ask), log_in(ask, "bob", "builder")
    assert ask("GET", "/me", alice["access_token"]).json == {"sub": "alice", "sid": alice["session_id"], "scopes": []}
    assert ask("GET", "/me", bob["access_token"]).json == {"sub": "bob", "sid": bob["session_id"], "scopes": ["admin"]}
    assert ask("GET", "/admin", bob["access_token"]).status == 200
    refused = ask("GET", "/admin", alice["access_token"])
    assert (refused.status, refused.json["code"]) == (403, "scope_missing")
    assert refused.headers["www-authenticate"] == 'Bearer realm="jwtguard", error="insufficient_scope", scope="admin"'


def test_list_end_refresh_and_log_out(start: Apps) -> None:
    ask = start()
    first, second, third = log_in(ask, **{"User-Agent": FIREFOX}), log_in(ask), log_in(ask)
    token = first["access_token"]
    sessions = ask("GET", "/auth/sessions", token).json
    assert [session["id"] for session in sessions] == [pair["session_id"] for pair in (third, second, first)]
    assert sessions[-1]["device"]["name"] == "Firefox on Linux"
    assert ask("DELETE", f"/auth/sessions/{second['session_id']}", token).status == 204
    assert ask("GET", "/me", second["access_token"]).json["code"] == "session_revoked"
    refreshed = ask("POST", "/auth/refresh", body={"refresh_token": first["refresh_token"]}).json
    again = ask("POST", "/auth/refresh", body={"refresh_token": first["refresh_token"]}).json
    assert refreshed == again
    assert ask("GET", "/me", refreshed["access_token"]).status == 200
    assert ask("DELETE", "/auth/sessions?keep=current", refreshed["access_token"]).status == 204
    assert ask("GET", "/me", third["access_token"]).status == 401
    assert ask("POST", "/auth/logout", refreshed["access_token"]).status == 204
    for path in ("/me", "/admin", "/auth/sessions"):
        assert ask("GET", path, refreshed["access_token"]).json["code"] == "session_revoked"
    over = ask("POST", "/auth/refresh", body={"refresh_token": refreshed["refresh_token"]})
    assert (over.status, over.json["error"], over.json["code"]) == (401, "invalid_grant", "session_revoked")


def test_the_limit(start: Apps) -> None:
    ask = start(max_sessions="2", on_limit="choose")
    pairs = [log_in(ask), log_in(ask)]
    for pair in pairs:
        assert ask("GET", "/me", pair["access_token"]).status == 200
    full = ask("POST", "/login", body={"username": "alice", "password": "wonderland"})
    assert (full.status, full.json["code"], len(full.json["sessions"])) == (409, "limit_reached", 2)
    assert ask("DELETE", f"/auth/sessions/{pairs[0]['session_id']}", full.json["ticket"]).status == 204
    assert ask("GET", "/me", log_in(ask)["access_token"]).status == 200
    assert ask("GET", "/me", pairs[0]["access_token"]).json["code"] == "session_revoked"


def test_c35_what_is_forged_is_refused(start: Apps) -> None:
    ask = start()
    head, payload, signature = log_in(ask)["access_token"].split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    for token in (f"{unsigned}.{payload}.", f"{head}.{payload}.{signature}=", f"{head}.{payload}", "a" * 100_000, "x y"):
        reply = ask("GET", "/me", token)
        assert (reply.status, reply.json["code"]) == (401, "token_invalid")
        assert payload.encode() not in reply.body


@pytest.mark.parametrize("name", LIVE_APPS)
def test_a_websocket(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example(*LIVE_APPS[name][:1], monkeypatch).app) as client:
        token = log_in(through_asgi(client))["access_token"]
        ending = suppress(CancelledError) if name == "quart" else nullcontext()  # its way now and then, without a guard too
        with ending, client.websocket_connect("/ws", subprotocols=["jwtguard.bearer", token]) as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"
        with pytest.raises(WebSocketDenialResponse) as refused:
            client.websocket_connect("/ws").__enter__()
        assert refused.value.status_code == 401
        assert client.get("/stream").status_code == 401


def test_only_fastapi_has_an_openapi_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(example("fastapi_app", monkeypatch).app) as client:
        assert "/auth/refresh" in client.get("/openapi.json").json()["paths"]


def test_django_streams_from_its_asgi_app_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with unconfigured():
        ask = through_wsgi(example("django_app", monkeypatch).app)
        assert ask("GET", "/stream", log_in(ask)["access_token"]).status == 501


def test_only_fastapi_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first event; the client goes away before the second."""
    app = example("fastapi_app", monkeypatch).app
    with TestClient(app) as client:
        token = log_in(through_asgi(client))["access_token"]
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/stream", "query_string": b"", "headers": headers}
    scope |= {"asgi": {"spec_version": "2.4"}}
    sent: list[Any] = []

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            raise OSError  # as servers do from ASGI 2.4 on

    with pytest.raises(ClientDisconnect):
        asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b"data: 0\n\n"


def test_the_plain_wsgi_example(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = through_wsgi(example("plain_wsgi", monkeypatch).application)
    assert ask("GET", "/me").status == 401
    assert ask("GET", "/login/anyone").status == 401
    token = ask("POST", "/login/anyone").json["access_token"]
    assert ask("GET", "/me", token).json == {"sub": "anyone"}
    assert ask("POST", "/auth/logout", token).status == 204
    assert ask("GET", "/me", token).json["code"] == "session_revoked"


def test_a_preflight_does_nothing_in_the_plain_wsgi_example(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = through_wsgi(example("plain_wsgi", monkeypatch).application)
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for path in ("/login/anyone", "/me"):
        assert (ask("OPTIONS", path, **asked).status, ask("OPTIONS", path, **asked).json) == (404, {})
