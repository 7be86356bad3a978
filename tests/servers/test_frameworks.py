"""The example of each framework under a real server for it: the same requests, the same answers."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from servers.conftest import Start
from servers.serving import PATIENCE, Client, bearer, granian, gunicorn, hypercorn, uvicorn

pytestmark = pytest.mark.servers

BLOCKING = {
    "Flask, gunicorn": gunicorn("examples.flask_app:app"),
    "Django, gunicorn": gunicorn("examples.django_app:app"),
}
SOCKETS = {
    "FastAPI, uvicorn": uvicorn("examples.fastapi_app:app"),
    "Starlette, uvicorn": uvicorn("examples.starlette_app:app"),
    "Litestar, granian": granian("examples.litestar_app:app"),
    "Quart, hypercorn": hypercorn("examples.quart_app:app"),
}
STREAMS = {**SOCKETS, "Django, uvicorn": (*uvicorn("examples.django_app:asgi"), "--lifespan", "off")}
SERVED = {**BLOCKING, **STREAMS}


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def log_in(client: Client, username: str, password: str) -> dict[str, Any]:
    answer = client.try_to_log_in(username, password)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    pair: dict[str, Any] = answer.json()
    return pair


@pytest.mark.parametrize("name", SERVED)
def test_log_in_call_refresh_log_out(name: str, start: Start) -> None:
    with start(*SERVED[name]).client() as client:
        assert client.home().json() == {"hello": "world"}
        assert client.try_to_log_in("alice", "builder").status_code == 401
        missing = client.http.get("/me")
        assert code_of(missing) == (401, "token_missing")
        assert missing.headers["www-authenticate"] == 'Bearer realm="jwtguard"'
        alice, bob = log_in(client, "alice", "wonderland"), log_in(client, "bob", "builder")
        assert client.me(alice).json() == {"sub": "alice", "sid": alice["session_id"], "scopes": []}
        refused = client.http.get("/admin", headers=bearer(alice))
        assert code_of(refused) == (403, "scope_missing")
        assert refused.headers["www-authenticate"].endswith('error="insufficient_scope", scope="admin"')
        assert client.http.get("/admin", headers=bearer(bob)).json() == {"hello": "bob"}
        newer = client.refresh(alice).json()
        (session,) = client.http.get("/auth/sessions", headers=bearer(newer)).json()
        assert (session["id"], session["current"], session["device"]["ip"]) == (alice["session_id"], True, "127.0.0.1")
        client.logout(newer)
        assert code_of(client.me(newer)) == code_of(client.me(alice)) == (401, "session_revoked")
        assert client.me(bob).status_code == 200
        head = client.http.head("/me")
        assert (head.status_code, head.content) == (401, b"")
        assert client.me(bob).status_code == 200  # the connection is still in step


@pytest.mark.parametrize("name", STREAMS)
def test_an_open_stream_ends_with_its_session(name: str, start: Start) -> None:
    server = start(*STREAMS[name])
    with server.client() as client, server.client() as other:
        pair = client.login()
        assert code_of(client.http.get("/stream")) == (401, "token_missing")
        with client.http.stream("GET", "/stream", headers=bearer(pair)) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines) == "data: 0"
            other.logout(pair)
            assert len(list(lines)) < PATIENCE


@pytest.mark.parametrize("name", SOCKETS)
def test_an_open_websocket_ends_with_its_session(name: str, start: Start) -> None:
    server = start(*SOCKETS[name])
    with server.client() as client:
        pair = client.login()
        with connect(server.url.replace("http", "ws") + "/ws", additional_headers=bearer(pair), proxy=None) as socket:
            socket.send("hello")
            assert socket.recv(PATIENCE) == "hello"
            client.logout(pair)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "session_revoked")
