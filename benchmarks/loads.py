"""A client that costs little: requests prepared beforehand, on connections that stay open, one of each in flight."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, NamedTuple

from .peers.asking import BROWSERS, PATH

__all__ = ["Client", "Slice", "answered", "request_of"]

PATIENCE: Final = 10.0


class Slice(NamedTuple):
    """What came of some time of load: requests a second, and the share of the time that the client itself was busy."""

    rate: float
    client: float


class Client:
    """Asks a server on a loopback port. Every answer must be 200 and as long as the first."""

    def __init__(self, port: int, token: str, connections: int) -> None:
        self._request = request_of({**BROWSERS, "authorization": f"Bearer {token}"})
        self._sockets = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(connections)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._length = len(self._first())

    def _first(self) -> bytes:
        found = b""
        for each in self._sockets:
            each.sendall(self._request)
            found = whole_answer(each)
            assert found[9:12] == b"200", found[:200]
        return found

    def drive(self, seconds: float) -> Slice:
        """Keep all connections busy for so long."""
        sockets, request, length = self._sockets, self._request, self._length
        for each in sockets:
            each.sendall(request)
        count, busy, began = 0, time.process_time(), time.perf_counter()
        over = began + seconds
        while time.perf_counter() < over:
            for each in sockets:
                answer = each.recv(65_536)
                while len(answer) < length:
                    answer += each.recv(65_536)
                assert answer[9:12] == b"200", answer[:200]
                each.sendall(request)
            count += len(sockets)
        took, busy = time.perf_counter() - began, time.process_time() - busy
        for each in sockets:
            whole_answer(each)
        return Slice(count / took, busy / took)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in self._sockets:
            each.close()


def answered(port: int, request: bytes) -> int:
    """The status of the answer to one request."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(request)
        return int(connection.recv(65_536)[9:12])


def request_of(headers: Mapping[str, str]) -> bytes:
    """A GET as it goes over the wire."""
    lines = [f"GET {PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def whole_answer(connection: socket.socket) -> bytes:
    """An answer whose length is told. Raises AssertionError if it isn't, or the connection is closed."""
    answer = b""
    while True:
        part = connection.recv(65_536)
        assert part, f"the server closed the connection after {answer[:200]!r}"
        answer += part
        head, separator, body = answer.partition(b"\r\n\r\n")
        if separator:
            told = re.search(rb"(?i)content-length: *(\d+)", head)
            assert told, head
            if len(body) >= int(told[1]):
                return answer
