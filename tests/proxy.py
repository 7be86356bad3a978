"""A TCP proxy between a client and a server, which can do to them what networks do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

LISTENING: Final = (b"SUBSCRIBE", b"LISTEN")
"""By what a connection is known to be one that somebody listens by."""


class Proxy:
    """Passes on what it is given, from `port` to `target`, until a test says otherwise.

    `swallows_requests`, `swallows_replies`: what comes is dropped, and the connections stay open; with both they are half
    open. `delay`: seconds that each piece is kept. `cut` closes all connections; while `refuses`, new ones are closed too.
    `deafen` closes those by which somebody listens; until `deaf` is off again, so is each by which somebody begins to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.swallows_requests = False
        self.swallows_replies = False
        self.refuses = False
        self.deaf = False
        self.delay = 0.0
        self.accepted = 0
        self._mutex = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listening: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.refuses = True
        self.cut()
        for thread in self._threads:
            thread.join(60)

    @property
    def swallows(self) -> bool:
        """Whether connections are half open: nothing passes, in either direction."""
        return self.swallows_requests and self.swallows_replies

    @swallows.setter
    def swallows(self, value: bool) -> None:
        self.swallows_requests = self.swallows_replies = value

    def cut(self) -> None:
        with self._mutex:
            sockets, self._sockets = self._sockets, set()
        _end(sockets)

    def deafen(self) -> None:
        self.deaf = True
        with self._mutex:
            listening = set(self._listening)
        _end(listening)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._mutex:
                self._sockets |= {client, server}
            thread = threading.Thread(target=self._serve, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()
            if self.refuses:
                self.cut()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(server, client, "swallows_replies"), daemon=True)
        back.start()
        self._pump(client, server, "swallows_requests")
        back.join()
        with self._mutex:
            self._sockets -= {client, server}
            self._listening -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket, swallows: str) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.delay:
                    time.sleep(self.delay)
                if any(word in data for word in LISTENING):
                    with self._mutex:
                        self._listening |= {source, target}
                    if self.deaf:
                        break
                if not getattr(self, swallows):
                    target.sendall(data)
        _end((source, target))


def _end(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
