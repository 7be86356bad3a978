"""The recipe "Behind nginx", in front of the examples: addresses, WebSockets and streams."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from test_readme import ROOT, blocks_of
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from servers.serving import PATIENCE, Server, Site, bearer, nginx_of, serving, serving_by

pytestmark = pytest.mark.servers

(CONFIGURATION,) = (block.text for block in blocks_of(ROOT / "docs" / "recipes.md") if block.language == "nginx")
ELSEWHERE = "127.0.0.2"
"""An address that a client can have on this machine, other than that of nginx."""


@pytest.fixture(scope="module", params=["127.0.0.1", "127.0.0.3"], ids=["a proxy that is believed", "one that is not"])
def believed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def proxy(believed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nginx")
    site = Site(folder)
    command = ("uvicorn", "examples.fastapi_app:app", "--port", "{port}", "--forwarded-allow-ips", believed)
    with ExitStack() as stack:
        app = stack.enter_context(serving(site, *command, "--no-access-log"))

        def nginx(port: int) -> tuple[str, ...]:
            moved = CONFIGURATION.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            return nginx_of(folder, moved.replace("127.0.0.1:8001", f"127.0.0.1:{app.port}"))

        yield stack.enter_context(serving_by(site, nginx))


def log_in_from_elsewhere(proxy: Server) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE, source_address=(ELSEWHERE, 0))
    body = json.dumps({"username": "alice", "password": "wonderland"})
    forged = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}
    connection.request("POST", "/login", body, {"Content-Type": "application/json", **forged})
    pair: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return pair


def test_a_session_has_the_clients_own_address_if_the_server_believes_the_proxy(proxy: Server, believed: str) -> None:
    pair = log_in_from_elsewhere(proxy)
    with proxy.client() as client:
        sessions = client.http.get("/auth/sessions", headers=bearer(pair)).json()
    (address,) = (session["device"]["ip"] for session in sessions if session["id"] == pair["session_id"])
    assert address == (ELSEWHERE if believed == "127.0.0.1" else "127.0.0.1")


def test_websockets_and_streams_pass_and_end_with_their_session(proxy: Server) -> None:
    with proxy.client() as client, proxy.client() as other:
        pair = client.login()
        url = proxy.url.replace("http", "ws") + "/ws"
        with connect(url, additional_headers=bearer(pair), proxy=None) as socket:
            socket.send("hello")
            assert socket.recv(PATIENCE) == "hello"
            with client.http.stream("GET", "/stream", headers=bearer(pair)) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "data: 0"  # and not once a buffer is full
                other.logout(pair)
                assert len(list(lines)) < PATIENCE  # its end comes through, too
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3000
        refused = client.http.get("/me", headers=bearer(pair))
        assert (refused.status_code, refused.json()["code"]) == (401, "session_revoked")
        assert refused.headers["www-authenticate"].startswith("Bearer realm=")
