"""Ports for the servers of tests, which are given before they are taken.

They are below those that the system gives to connections (32768 and up on Linux, 49152 elsewhere): a connection that is
opened in between can't take one, nor the port of a server that a test has stopped and starts again. Each worker of
pytest-xdist has a slice of its own. Runs side by side on one machine begin anywhere in their slices, and look.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["free_port"]

FIRST, PER_WORKER, WORKERS = 10_000, 625, 16
UNSAFE = 10_080
"""Browsers connect to no such port (Fetch standard, section 2.9). It is the one of them in these slices."""
BUS = 10_000
"""How far above its port a node of a Redis Cluster listens for the others."""


def _slice() -> Iterator[int]:
    """The ports of this process, round and round."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + number % WORKERS * PER_WORKER
    begin = random.randrange(PER_WORKER)
    while True:
        yield first + begin
        begin = (begin + 1) % PER_WORKER


_ports = _slice()


def free_port() -> int:
    """A port that is free, as is that of its bus."""
    for port in _ports:
        if port == UNSAFE:
            continue
        with suppress(OSError), socket.socket() as own, socket.socket() as bus:
            own.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + BUS))
            return port
    raise AssertionError
