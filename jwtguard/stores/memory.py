"""Documents in this process's memory: for tests, for development, and for an app that is one process and stays up.

Invariants:
- A document is one immutable tuple, put in its place by one assignment. So a child that is forked in the middle of a save
  has the old document or the new one.
- Saves are one at a time, and subscribers are called under the lock, which loads take too. So nobody can read a document
  with an ending in it before every guard has been told of that ending.
- Each key is in the sweep's queue once: every save looks at a few documents in turn and drops those that have expired, so
  the work is bounded and nothing that is dead stays for long.
- Bound methods are held weakly: subscribing doesn't keep a guard alive.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Final, NamedTuple
from weakref import WeakMethod

from ..clock import Clock, SystemClock
from ..forks import renew_after_fork
from .base import Loaded

__all__ = ["MemoryStore"]

SWEEP: Final = 4
"""Documents looked at per save, for whether they have expired."""

Ended = Callable[[bytes | None], None]


class _Document(NamedTuple):
    data: bytes
    version: bytes
    expires_at: int


class MemoryStore:
    """A store in memory. A child process that is forked has a copy of its own from then on.

    Arguments: `clock`, what `now` and expiry go by.
    """

    blocking = False

    def __init__(self, clock: Clock = SystemClock()) -> None:  # noqa: B008 - it has no state
        self._clock = clock
        self._documents: dict[bytes, _Document] = {}
        self._queue: deque[bytes] = deque()
        self._subscribers: list[Callable[[], Ended | None]] = []
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()

    def load(self, key: bytes) -> Loaded:
        with self._mutex:
            return self._find(key)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        with self._mutex:
            now, documents = self._now(), list(self._documents.items())
        return ((key, document.data) for key, document in documents if document.expires_at > now)

    def _find(self, key: bytes) -> Loaded:
        now = self._now()
        document = self._documents.get(key)
        if document is None or document.expires_at <= now:
            return Loaded(None, None, now)
        return Loaded(document.data, document.version, now)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        with self._mutex:
            if self._find(key).version != expected:
                return False
            if key not in self._documents:
                self._queue.append(key)
            self._documents[key] = _Document(data, version, expires_at)
            self._sweep()
            if ends:
                self._report(key)
            return True

    def close(self) -> None:
        """Nothing to let go of: the documents stay, as the contract says that the store can be used again."""

    def watch(self, ended: Ended) -> None:
        """Have `ended` told of every ending, before its `save` returns; so there is nothing to look at.

        A bound method is held weakly, by its object; any other callable lives as long as the store.
        """
        subscriber: Callable[[], Ended | None] = (
            WeakMethod(ended) if isinstance(ended, MethodType) else partial(_same, ended)
        )
        with self._mutex:
            self._subscribers = [kept for kept in self._subscribers if kept() not in (None, ended)]
            self._subscribers.append(subscriber)

    def _report(self, key: bytes | None) -> None:
        for subscriber in self._subscribers:
            if (ended := subscriber()) is not None:
                ended(key)

    def _sweep(self) -> None:
        now = self._now()
        for _ in range(min(SWEEP, len(self._queue))):
            key = self._queue.popleft()
            document = self._documents.get(key)  # none, if this process was forked in the middle of a save
            if document is not None and document.expires_at > now:
                self._queue.append(key)
            else:
                self._documents.pop(key, None)

    def _now(self) -> int:
        return int(self._clock.time() * 1000)


def _same(ended: Ended) -> Ended:
    return ended
