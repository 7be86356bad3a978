"""A lock for bookkeeping, that code which runs at any moment may use too.

An abandoned flow (its event loop was closed, say) is run to its `finally` by the garbage collector, in whatever thread
happens to allocate memory: possibly one that holds this very lock, or is just taking it. A plain lock would then wait for
itself for ever; a reentrant one would let the clean-up into the middle of what its holder was doing. This one is
reentrant, and queues the clean-up until its holder is done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Mutex"]


class Mutex:
    """A lock whose holder, if it is interrupted to `perform` something under the lock, does it before letting go."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._later: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._busy = True  # whoever interrupts before this finds that nothing has been begun yet

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._busy:
                while self._later:
                    self._later.popleft()()
                self._busy = False  # from here on an interruption acts at once; one that came just before has queued up
                if self._later:
                    self._busy = True
        finally:
            self._busy = False
            self._lock.release()

    def perform(self, action: Callable[[], None]) -> None:
        """Do something under the lock: now, or, in the midst of what its holder does, right after that."""
        with self._lock:
            if self._busy:
                self._later.append(action)
                return
            with self:
                action()
