"""Real servers: what is open on one of them ends when its session is ended through another process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from servers.conftest import MakeSite, Start
from servers.serving import Client, Server, bearer, granian, hypercorn, serving, until, uvicorn, workers_of

pytestmark = pytest.mark.servers

APP = "examples.fastapi_app:app"
BOUND = 5.0
"""Seconds within which a client must see the end. It takes a twentieth of one, and more on a busy machine."""

TRIES = 50

SERVERS = {
    "uvicorn": uvicorn(APP, workers=1),
    "hypercorn": hypercorn(APP),
    "granian": granian(APP),
}


@contextmanager
def stream_of(server: Server, pair: dict[str, Any]) -> Iterator[Iterator[str]]:
    """The lines of an open stream, of which the first has come."""
    with server.client() as client, client.http.stream("GET", "/stream", headers=bearer(pair)) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 0"
        yield lines


def socket_of(server: Server, pair: dict[str, Any]) -> ClientConnection:
    url = server.url.replace("http", "ws") + "/ws"
    return connect(url, additional_headers=bearer(pair), proxy=None)


def echoes(socket: ClientConnection) -> None:
    socket.send("x")
    assert socket.recv(BOUND) == "x"


def closed(socket: ClientConnection) -> tuple[int, str]:
    """With what a server closes a WebSocket."""
    with pytest.raises(ConnectionClosed) as caught:
        socket.recv(BOUND)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def is_quiet(server: Server) -> bool:
    return not any(word in line for line in server.lines for word in ("Traceback", "ERROR", "Error", "Exception", "WARN"))


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_open_ends_when_another_process_ends_its_session(name: str, start: Start) -> None:
    ends_when_another_process_ends_its_session(start(*SERVERS[name]), start(*uvicorn(APP, workers=1)))


@pytest.mark.parametrize(
    ("name", "store"), [("uvicorn", "redis"), ("hypercorn", "redis"), ("uvicorn", "cluster"), ("granian", "postgresql")]
)
def test_what_is_open_ends_when_a_store_announces_it(name: str, store: str, site_on: MakeSite) -> None:
    """And only by that: the cache would hold for an hour."""
    site = site_on(store, cache_ttl="1h")
    with serving(site, *SERVERS[name]) as server, serving(site, *uvicorn(APP, workers=1)) as elsewhere:
        until("it listens", lambda: hears_of_an_ending(server, elsewhere))
        ends_when_another_process_ends_its_session(server, elsewhere)


def hears_of_an_ending(server: Server, elsewhere: Server) -> bool:
    """Whether a server refuses a session, sooner or later, that it let in before another one ended it."""
    with server.client() as client, elsewhere.client() as other:
        pair = other.login()
        assert client.me(pair).status_code == 200
        other.logout(pair)
        return any(client.me(pair).status_code == 401 for _ in range(TRIES))


def ends_when_another_process_ends_its_session(server: Server, elsewhere: Server) -> None:
    with ExitStack() as stack:
        client: Client = stack.enter_context(elsewhere.client())
        pair, kept = client.login(), client.login()
        sockets = [stack.enter_context(socket_of(server, each)) for each in (pair, kept)]
        streams = [stack.enter_context(stream_of(server, each)) for each in (pair, kept)]
        pair = client.refresh(pair).json()
        for socket in sockets:
            echoes(socket)
        began = time.monotonic()
        client.logout(pair)
        assert closed(sockets[0]) == (3000, "session_revoked")
        rest = list(streams[0])  # to its regular end: an answer that breaks off raises
        assert time.monotonic() - began < BOUND
        assert all(line == "" or line.startswith("data: ") for line in rest)
        echoes(sockets[1])
        until("the other stream goes on", lambda: next(streams[1]).startswith("data: "))
        client.logout(kept)
        assert closed(sockets[1]) == (3000, "session_revoked")
        list(streams[1])
        client.login()
    assert is_quiet(server), server.output


def test_between_the_workers_of_one_server(start: Start) -> None:
    """And by each way of ending that another worker may go."""
    server = start(*uvicorn("servers.fastapi_worker:app"))
    with ExitStack() as stack:
        one, two = stack.enter_context(workers_of(server))
        for number in range(4):
            pair = one.client.login()
            sockets = [stack.enter_context(socket_of(server, pair)) for _ in range(8)]
            for socket in sockets:  # they are with both workers, most probably
                echoes(socket)
            other = two.client.login()
            answer = two.client.http.delete("/auth/sessions?keep=current", headers=bearer(other))
            assert answer.status_code == 204, number
            assert [closed(socket) for socket in sockets] == [(3000, "session_revoked")] * 8
    assert is_quiet(server), server.output


def test_a_server_stops_with_what_is_open(start: Start) -> None:
    server = start(*uvicorn(APP, workers=1), "--timeout-graceful-shutdown", "1")
    with server.client() as client, socket_of(server, client.login()) as socket:
        echoes(socket)
        server.process.terminate()
        assert closed(socket)[0] == 1012
        assert server.process.wait(BOUND) is not None
    with pytest.raises(httpx2.TransportError), server.client() as client:
        client.home()
    assert "Traceback" not in server.output
