"""A lock for bookkeeping, that code which runs at any moment may use too.

A flow that is abandoned (its event loop was closed, say) is finished by the garbage collector, which runs it to its
`finally` in whatever thread happens to allocate memory: also in one that holds this very lock. A plain lock would then wait
for itself for ever; a reentrant one would let the clean-up into the middle of what the thread was doing.
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
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._later: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._later:
                self._later.popleft()()
        finally:
            self._holder = None
            self._lock.release()

    def perform(self, action: Callable[[], None]) -> None:
        """Do something under the lock: now, or, in the midst of what its holder does, right after that."""
        if self._holder == threading.get_ident():
            self._later.append(action)
            return
        with self:
            action()
