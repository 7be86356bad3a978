"""What psycopg needs besides SQLAlchemy: a bound on its waiting, and listening.

Invariants:
- psycopg waits in `wait`, and for as long as it takes. Here it waits until the operation is out of time (blocking), or
  until its task is cancelled (async), and then closes the connection at once. psycopg's own answer to a cancelled task is
  to ask the server to cancel the query, and to wait for that: of a server that has stopped it asks in vain.
- PostgreSQL sends the notifications that await a session before it says that a query is over (ReadyForQuery), and a
  transaction that has notified signals the sessions that listen before it is answered. So when a query that was sent after
  a moment is over, all endings answered before that moment have arrived.
- That holds for one session. Behind a connection pooler each statement may meet another one, which doesn't listen; such a
  connection is refused, for what it seems to say is worse than nothing.
"""

from __future__ import annotations

import select
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import waiting

from ..errors import StoreError
from ._sql_engine import UNTIL
from ._sql_table import CHANNEL
from .base import Heard

__all__ = ["BoundedConnection", "bound", "hear"]

BEAT: Final = 0.5
"""Seconds from one word of the server to the next, while nothing ends."""
INTERVAL: Final = 0.1
"""Seconds from one look at the time to the next, while the server is silent."""

Waits = Generator[Any, Any, Any]


class BoundedConnection(psycopg.Connection[Any]):
    """A blocking connection that is also made within the operation's time; `connect_timeout` is 2 seconds at least."""

    @classmethod
    def _connect_gen(cls, *arguments: Any, **terms: Any) -> Waits:
        return _within(super()._connect_gen(*arguments, **terms), "connecting took too long")


def bound(link: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """From now on, have a connection wait for no longer than the operation that uses it."""
    wait: Any = _await if isinstance(link, psycopg.AsyncConnection) else _wait
    link.wait = partial(wait, link)  # type: ignore[method-assign]


def _wait(link: psycopg.Connection[Any], generator: Waits, interval: float = INTERVAL, **_: Any) -> Any:
    interval = min(interval, max(0.001, UNTIL.get() - time.monotonic()))
    try:
        return waiting.wait(_within(generator, "no answer in time"), link.pgconn.socket, interval=interval)
    except _Late:
        link.pgconn.finish()
        raise


async def _await(link: psycopg.AsyncConnection[Any], generator: Waits, interval: float = INTERVAL, **_: Any) -> Any:
    """The deadline is asked here too: on Python 3.11, older psycopg and SQLAlchemy may swallow a cancellation."""
    try:
        return await waiting.wait_async(_within(generator, "no answer in time"), link.pgconn.socket, interval=interval)
    except (CancelledError, _Late):
        link.pgconn.finish()
        raise


class _Late(psycopg.errors.ConnectionTimeout):
    """The operation is out of time."""


def _within(generator: Waits, what: str) -> Waits:
    """The same waits, until the operation is out of time."""
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() >= UNTIL.get():
                raise _Late(what)
            wanted = generator.send(ready)
    except StopIteration as stop:
        return stop.value


def hear(link: Any, ask: Callable[[str], object]) -> Generator[bytes | Heard]:
    """What a session hears, for `changes`. `ask` has it perform a statement, and answers the one value of its result.

    Whenever something has come, or nothing for a beat, the server is asked for a word. What it has to announce comes before
    its answer, so nothing need be read from the connection in another way.
    """
    heard: deque[str] = deque()
    link.add_notify_handler(lambda notice: heard.append(notice.payload))
    ask(f"LISTEN {CHANNEL}")
    begun = time.monotonic()
    _make_sure_of(link, ask)
    yield Heard(begun)
    arrival = select.poll()
    arrival.register(link.pgconn.socket, select.POLLIN)
    while True:
        arrival.poll(BEAT * 1000)
        asked = time.monotonic()
        _make_sure_of(link, ask)
        while heard:
            with suppress(ValueError):  # another's, on our channel
                yield bytes.fromhex(heard.popleft())
        yield Heard(asked)


def _make_sure_of(link: Any, ask: Callable[[str], object]) -> None:
    """Ask for a word, of the very session that was connected to: a pooler gives its clients a process id of its own."""
    if ask("SELECT pg_backend_pid()") != link.info.backend_pid:
        raise StoreError(
            "PostgreSQL can't be listened to through a connection pooler: endings come by the cache's TTL only"
        )
