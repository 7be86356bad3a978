"""The registry: what this process knows of each user's sessions, for how long, and how it learns it again.

A lease is what the store said of one user. Invariants:
- A lease that is in use is in `_leases`. One that leaves it (replaced, pushed out, ended) is dead from then on, so an
  ending reaches every lease that anything still points to.
- A fill is registered before its load begins. An ending that comes while it loads makes it stale: what it read may be from
  before the ending, so it is thrown away and never published. Nobody joins a stale fill.
- A lease counts from before its load, and from before the last load of what holds for everyone: no answer is older than
  the TTL, whatever took long.
- The lock is held for bookkeeping only, never while waiting.
- Whatever was loaded before the store began to report endings is dropped when it begins, so no ending is missed between.
- A lease relies on announcements only if its load, and that of what holds for everyone, began in the epoch that it goes by.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final, TypeVar

from cachetools import TTLCache

from .clock import Clock
from .document import Document, decode
from .errors import DocumentDamaged, StoreError, StoreUnavailable
from .flow import Apart, Flow, Load, Wait
from .forks import renew_after_fork
from .health import Health
from .model import Coherence, Identity, one_of_equals
from .mutex import Mutex
from .push import ALWAYS, Channel, Epoch
from .recall import Lease, Leases, RecallTable
from .stores.base import Loaded, Pushed

__all__ = ["Registry", "wake"]

T = TypeVar("T")

logger = logging.getLogger("jwtguard")

LONGEST: Final = 60.0
"""Seconds that a lease lasts at most, while announcements arrive."""
DAMAGED_AT_ONCE: Final = 1000
"""Users whose damaged documents are remembered, so as not to be logged again."""
EVERYONE_SHARE: Final = 5
"""What holds for everyone is loaded again, with a fill, when it is older than this part of the TTL."""

TTL_STEPS: Final = 128
"""How finely lives are told apart where channels are cut: few enough that leases share the numbers."""

Watch = Callable[[Callable[[bytes | None], None]], Callable[[], None] | None]


class _Fill:
    """A fill on its way, and who waits for it."""

    __slots__ = ("number", "stale", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.stale = False
        self.waiting: list[Future[StoreUnavailable | None]] = []

    def join(self) -> Future[StoreUnavailable | None]:
        future: Future[StoreUnavailable | None] = Future()
        self.waiting.append(future)
        return future


class Registry:
    """Leases of at most `size` users and a recall table of at most `size` tokens.

    Arguments: `ttl`, seconds that a lease lasts; `longest`, as long as announcements arrive; `patience`, seconds for all
    that one request may wait for; `everyone`, the store's key of what holds for everyone; `watch`, the store's own, if it
    is `Watched`; `pushed`, the store, if it is; `health`, told of every success and failure to read.
    """

    def __init__(
        self,
        *,
        everyone: bytes,
        ttl: float,
        size: int,
        patience: float,
        clock: Clock,
        health: Health,
        watch: Watch | None = None,
        pushed: Pushed | None = None,
        longest: float = LONGEST,
    ) -> None:
        self.table = RecallTable(size, clock.monotonic, clock.time)
        self._everyone_key = everyone
        self._ttl = ttl
        self._size = size
        self._patience = patience
        self._clock = clock
        self._health = health
        self._looks = health.beside("look", quiet=0.0)
        self._watch = watch
        self._longest = longest
        hears = health.beside("listen", quiet=0.0)  # it says so once, and the pauses bound how often
        self._channel = None if pushed is None else Channel(pushed, self.ended, hears)
        self.on_ending: Callable[[bytes | None], None] | None = None
        """Told of every ending, right after nothing from before it is relied on. It doesn't block and doesn't fail."""
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = Mutex()
        self._leases = Leases(self._size)
        self._fills: dict[bytes, _Fill] = {}
        self._number = 0
        self._everyone = 0
        self._everyone_at = float("-inf")
        self._everyone_epoch: Epoch | None = None
        self._endings_of_all = 0
        self._damaged: TTLCache[str, DocumentDamaged] = TTLCache(DAMAGED_AT_ONCE, 60, self._clock.monotonic)
        self._watching = threading.Lock()
        self._began_to_look = False
        self._look: Callable[[], None] | None = None
        if self._watch is not None:
            self._look = partial(self._begin_to_look, self._watch)
        self.table.look = None if self._look is None else self.look
        self.table.clear()

    # -- the warm path -----------------------------------------------------------------------------------------------------

    def recall(self, token: bytes) -> Identity | None:
        """The identity of a token that is known to be good, without I/O other than the store's own look."""
        return self.table.recall(b"Bearer " + token)

    def look(self) -> None:
        """Have the store report what has ended. If it can't tell, the leases still bound how long anything is relied on."""
        if self._look is None:
            return
        try:
            self._look()
        except StoreError as error:
            self._looks.failed(error)
        else:
            self._looks.worked()

    def looked(self) -> Flow[None]:
        """`look`, for a flow: the first look may have to make the store's file."""
        if self._watch is not None and not self._began_to_look:
            yield Apart(self.look)
        else:
            self.look()

    def _begin_to_look(self, watch: Watch) -> None:
        """The first look: only now does the store open anything. If it can't, the next look is the first one again."""
        with self._watching:  # a lock of its own: the store may report while it begins
            if not self._began_to_look:
                look = watch(self.ended)
                self.ended(None)
                self._look = look
                self.table.look = None if look is None else self.look
                self._began_to_look = True
            look = self._look
        if look is not None:
            look()

    @property
    def is_exact(self) -> bool:
        """Whether a look tells of every ending, as things are."""
        return self._watch is not None and not self._looks.down

    def holds(self, lease: Lease, now: float) -> bool:
        """Whether a lease may be relied on by what is open already, and looks at least several times a second.

        Where a look tells of every ending, that holds for as long as it does where endings are announced. (A request could
        go by the same. It loads again after the TTL, so that no mistake in a store's look lasts longer.)
        """
        return lease.alive and (lease.lasts(now) or (self.is_exact and now < lease.began + self._longest))

    def coherence(self) -> Coherence:
        """How soon an ending elsewhere is seen here, as things are."""
        if self.is_exact:
            return Coherence("exact", 0.0)
        if self._channel is None:
            return Coherence("cached", self._ttl)
        return Coherence("pushed" if self._channel.epoch is not None else "push_down", self._ttl)

    def close(self) -> None:
        """Stop listening, until the next use."""
        if self._channel is not None:
            self._channel.close()

    # -- endings -----------------------------------------------------------------------------------------------------------

    def ended(self, key: bytes | None) -> None:
        """Something of this user has ended (None: of any user). From here on nothing read before is relied on."""
        self._mutex.perform(partial(self._end, key))

    def _end(self, key: bytes | None) -> None:
        if key is None or key == self._everyone_key:
            self._everyone_at = float("-inf")
            self._endings_of_all += 1
            self._kill(list(self._leases), list(self._fills))
            key = None
        else:
            self._kill([key], [key])
        if self.on_ending is not None:
            self.on_ending(key)

    def _kill(self, leases: list[bytes], fills: list[bytes]) -> None:
        for key in leases:
            if (lease := self._leases.pop(key)) is not None:
                lease.alive = False
        for key in fills:
            if (fill := self._fills.pop(key, None)) is not None:
                fill.stale = True

    # -- fills -------------------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The number of the last fill that has begun."""
        return self._number

    @property
    def everyone(self) -> int:
        """Sessions of any user opened at or before this (ms) are over, as far as this process knows."""
        return self._everyone

    def lease(self, key: bytes, newer_than: int = -1) -> Flow[Lease]:
        """A lease of this user that is good now, from a fill with a number greater than `newer_than`.

        However many ask at once, the store is asked once. Raises StoreUnavailable.
        """
        deadline = self._clock.monotonic() + self._patience
        while (now := self._clock.monotonic()) < deadline:
            with self._mutex:
                lease = self._leases.get(key)
                if lease is not None and lease.lasts(now) and lease.number > newer_than:
                    return lease
                fill = self._fills.get(key)
                waiter = fill.join() if fill is not None else None
                fill = fill or self._begin_fill(key)
            if waiter is None:
                filled = yield from self._fill(key, fill)
                if filled is not None:
                    return filled
            elif (failure := (yield Wait(waiter, deadline - now))) is not None:
                raise StoreUnavailable("the load that this request waited for has failed") from failure
        raise StoreUnavailable("gave up: this user's sessions end faster than they can be read")

    def _begin_fill(self, key: bytes) -> _Fill:
        self._number += 1
        fill = self._fills[key] = _Fill(self._number)
        return fill

    def _fill(self, key: bytes, fill: _Fill) -> Flow[Lease | None]:
        """Load and publish; None if an ending came between."""
        failure: StoreUnavailable | None = None
        try:
            yield from self.know_everyone()
            began, epoch = self._clock.monotonic(), self._epoch()
            loaded = yield from self.load(key)
            with self._mutex:
                return None if fill.stale else self._publish(key, fill, loaded, began, epoch)
        except StoreUnavailable as error:
            failure = error
            raise
        finally:
            self._mutex.perform(partial(self._finish_fill, key, fill, failure))

    def _finish_fill(self, key: bytes, fill: _Fill, failure: StoreUnavailable | None) -> None:
        if self._fills.get(key) is fill:
            del self._fills[key]
        for future in fill.waiting:  # complete: nobody joins what is no longer in _fills
            wake(future, failure)

    def _epoch(self) -> Epoch | None:
        """The present epoch of announcements; None where there are none."""
        if self._channel is None:
            return None
        self._channel.begin()
        return self._channel.epoch

    def _publish(self, key: bytes, fill: _Fill, loaded: Loaded, began: float, epoch: Epoch | None) -> Lease:
        """Under the lock: make what was read the lease of this user."""
        if (older := self._leases.pop(key)) is not None:
            older.alive = False
        announced = epoch is not None and epoch is self._everyone_epoch
        lease = Lease(
            fill.number,
            data=loaded.data,
            began=began,
            now=loaded.now,
            everyone=self._everyone,
            until=one_of_equals(min(began, self._everyone_at) + (self._longest if announced else self._ttl)),
            epoch=epoch if announced and epoch is not None else ALWAYS,
            # Leases that a cut channel leaves behind are not all over, and loaded again, at the same moment.
            ttl=one_of_equals(self._ttl * random.randint(TTL_STEPS // 2, TTL_STEPS) / TTL_STEPS),  # noqa: S311 - nothing secret
        )
        self._leases.put(key, lease)
        return lease

    def know_everyone(self) -> Flow[None]:
        """Load what holds for everyone, unless what is known is young enough. Raises StoreUnavailable.

        What is known never goes back, so a load that is overtaken by an ending does no harm but to be loaded again.
        """
        deadline = self._clock.monotonic() + self._patience
        while not self._knows_everyone() and (now := self._clock.monotonic()) < deadline:
            with self._mutex:
                fill = self._fills.get(self._everyone_key)
                waiter = fill.join() if fill is not None else None
                fill = fill or self._begin_fill(self._everyone_key)
            if waiter is None:
                yield from self._load_everyone(fill)
                return
            if (failure := (yield Wait(waiter, deadline - now))) is not None:
                raise StoreUnavailable("the load that this request waited for has failed") from failure

    def _knows_everyone(self) -> bool:
        epoch = self._epoch()
        announced = epoch is not None and epoch is self._everyone_epoch
        lasts = (self._longest if announced else self._ttl) / EVERYONE_SHARE
        return self._clock.monotonic() - self._everyone_at < lasts

    def _load_everyone(self, fill: _Fill) -> Flow[None]:
        failure: StoreUnavailable | None = None
        try:
            began, epoch, endings = self._clock.monotonic(), self._epoch(), self._endings_of_all
            loaded = yield from self.load(self._everyone_key)
            floor = self.read(loaded.data, "").not_before
            with self._mutex:
                if floor > self._everyone:
                    self._everyone = floor
                    self._kill(list(self._leases), list(self._fills))
                if endings == self._endings_of_all:
                    self._everyone_at, self._everyone_epoch = began, epoch
        except StoreUnavailable as error:
            failure = error
            raise
        finally:
            self._mutex.perform(partial(self._finish_fill, self._everyone_key, fill, failure))

    def read(self, data: bytes | None, subject: str) -> Document:
        """A document that was loaded. Raises DocumentDamaged, and logs that once a minute and user."""
        try:
            return decode(data, subject)
        except DocumentDamaged as error:
            with self._mutex:
                is_news = self._damaged.setdefault(subject, error) is error
            if is_news:
                logger.error("the sessions of %a can't be read, so their requests are answered 503: %s", subject, error)
            raise

    def load(self, key: bytes) -> Flow[Loaded]:
        """A load, whose outcome the health is told of. Raises StoreUnavailable, at once if the store is known to fail."""
        self._health.check()
        loaded: Loaded = yield from self._health.call("load", Load(key))
        return loaded


def wake(future: Future[T], result: T) -> None:
    """Give a waiting flow its result, unless it has stopped waiting."""
    if future.set_running_or_notify_cancel():
        future.set_result(result)
