"""Listening to what a store pushes: one thread per process, begun with the first use.

An epoch is a time without gaps: from the moment at which the store confirmed that this process listens, every ending that
was announced has been passed on. Invariants:
- `Epoch.heard` only grows, and only while nothing can have been missed; so does the life of what relies on it. A channel
  that is cut, half open or slow bounds itself: nobody need notice.
- After a gap there is another epoch, for what is loaded from then on. What was loaded before keeps the old one, and is over
  a TTL after it was last heard of.
- Nothing crosses a fork: a child listens anew.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Final
from weakref import WeakMethod

from .errors import StoreError
from .forks import renew_after_fork
from .health import Health
from .stores.base import Heard, Pushed

__all__ = ["ALWAYS", "Channel", "Epoch"]

logger = logging.getLogger("jwtguard")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds to wait before listening again, doubled from the first to the longest."""
GOODBYE: Final = 3.0
"""Seconds that closing waits for the thread, which gets a word from the store each second."""

Ended = Callable[[bytes], None]


class Epoch:
    """A time without gaps. `heard`: endings answered before this (monotonic) have arrived."""

    __slots__ = ("heard",)

    def __init__(self, heard: float) -> None:
        self.heard = heard


ALWAYS: Final = Epoch(float("inf"))
"""For what relies on no announcements."""


class Channel:
    """Passes endings on to `ended`, a bound method that is held weakly: who drops its object need not stop the thread.

    Arguments: `store`, what announces; `health`, told of every success and failure to listen.
    """

    def __init__(self, store: Pushed, ended: Ended, health: Health) -> None:
        self._store = store
        self._ended = WeakMethod(ended)
        self._health = health
        self._listener: _Listener | None = None
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._listener = None  # the thread is the parent's, and what it listens by stays in its frame, untouched

    @property
    def epoch(self) -> Epoch | None:
        """The present epoch, for what is loaded from now on; None while the channel isn't up."""
        listener = self._listener
        return None if listener is None else listener.epoch

    def begin(self) -> None:
        """Listen, from the first call on."""
        with self._mutex:
            if self._listener is None:
                self._listener = _Listener(self._store, self._ended, self._health)
                self._listener.start()

    def close(self) -> None:
        """Stop listening. The next `begin` listens again."""
        with self._mutex:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()


class _Listener:
    """The thread, and what it has heard."""

    def __init__(self, store: Pushed, ended: WeakMethod[Ended], health: Health) -> None:
        self.epoch: Epoch | None = None
        self._store = store
        self._ended = ended
        self._health = health
        self._pause = FIRST_PAUSE
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jwtguard-push", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Have it end. It may be what calls this: an app's own hook closes its guard, say."""
        self._stopped.set()
        self.epoch = None
        if threading.current_thread() is not self._thread:
            self._thread.join(GOODBYE)

    def _run(self) -> None:
        while self._is_wanted():
            try:
                self._listen()
            except StoreError as error:
                self._health.failed(error)
            except Exception as error:  # another party's code; without this thread nobody would notice that it is gone
                logger.exception("listening to the store failed")
                self._health.failed(error)
            self._stopped.wait(random.uniform(0, self._pause))  # noqa: S311 - nothing secret
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _is_wanted(self) -> bool:
        return not self._stopped.is_set() and self._ended() is not None

    def _listen(self) -> None:
        """Listen until the store breaks off, or nobody wants it any more."""
        with closing(self._store.changes()) as changes:
            try:
                for change in changes:
                    if not self._is_wanted():
                        return
                    self._take(change)
            finally:
                self.epoch = None
        raise StoreError("the store has ceased to announce what ends")

    def _take(self, change: bytes | Heard) -> None:
        if not isinstance(change, Heard):
            if (ended := self._ended()) is not None:
                ended(change)
            return
        if self.epoch is None:
            self.epoch = Epoch(change.at)
            self._pause = FIRST_PAUSE
            self._health.worked()
        else:
            self.epoch.heard = max(self.epoch.heard, change.at)
        self._health.heard(change.at)
