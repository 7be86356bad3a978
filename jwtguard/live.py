"""What stays open: WebSockets and streamed responses. Each ends when its session does, and not before.

A tenure is one open connection's hold on its session. Invariants:
- What counts is the session, not the token: one that has expired, or that a refresh has replaced, closes nothing.
- What a withdrawn key has let in ends, whatever has become of its session since.
- A tenure is judged after it is entered, never only before: an ending falls into that judgement or finds it entered.
- It goes on while its lease is good and its session's own end hasn't come. Then it is judged anew, in time, or ended: where
  the store can't be asked, nothing is assumed.
- A patrol belongs to one event loop, and everything in it is done there. Others only say that something has ended.
- It begins with its loop's first tenure and ends with the last: a timer, so that nothing of it is left pending. Nothing of
  it crosses a fork.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

from .authentication import Authenticator
from .clock import Clock
from .document import document_key
from .errors import SessionEnded, SessionRevoked, StoreUnavailable
from .flow import Flow
from .forks import renew_after_fork
from .keys import Key
from .model import Identity
from .recall import DEAD, Lease
from .registry import Registry
from .rotation import FixedKeys
from .tokens import read_token_id

__all__ = ["Closing", "Connection", "Live", "Tenure"]

logger = logging.getLogger("jwtguard")

UNAUTHORIZED: Final = 3000
GOING_AWAY: Final = 1001
TRY_AGAIN_LATER: Final = 1013
"""Close codes of WebSockets, from IANA's registry."""

TICK: Final = 0.05
"""Seconds between two looks at whether anything has ended: what a store that is looked at has in place of announcements."""
LONGEST_ROUND: Final = 1.0
"""Seconds between two rounds, at most; with a shorter TTL, a fifth of it."""
AT_ONCE: Final = 16
"""Tenures of one loop that are judged at the same time, so that many that are due at once don't storm the store."""

Perform = Callable[[Flow[None]], Coroutine[Any, Any, None]]


class Closing(NamedTuple):
    """Why a connection is ended: the close code of a WebSocket, and the reason that goes with it."""

    code: int
    reason: str


class Connection(Protocol):
    """What is open."""

    def end(self, closing: Closing) -> None:
        """End it. Called once, on its event loop; doesn't wait."""
        ...


class Tenure:
    """A connection's hold on its session: whose it is, and until when that is known (monotonic)."""

    __slots__ = ("key", "key_id", "lease", "session_id", "subject", "until")

    def __init__(self, identity: Identity) -> None:
        self.key = document_key(identity.issuer, identity.subject)
        self.key_id = identity.key_id
        self.subject = identity.subject
        self.session_id, _ = read_token_id(identity.token_id)
        self.lease: Lease = DEAD
        self.until = 0.0


class Live:
    """One guard's live connections.

    Arguments: `ttl`, seconds that a lease lasts where endings aren't announced; `patience`, seconds within which a tenure
    that is due must be judged.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        registry: Registry,
        keys: FixedKeys,
        *,
        clock: Clock,
        ttl: float,
        patience: float,
    ) -> None:
        self.patience = patience
        self.round = max(TICK, min(LONGEST_ROUND, ttl / 5))
        self.look = registry.look
        self.monotonic = clock.monotonic
        self._authenticator = authenticator
        self._registry = registry
        self.keys = keys
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._patrols: dict[asyncio.AbstractEventLoop, _Patrol] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._patrols.values())))

    def doubtful(self, tenures: Iterable[Tenure]) -> list[Tenure]:
        """Those of which it isn't known without waiting that their session goes on, for who has just looked."""
        now = self.monotonic()
        holds = self._registry.holds
        return [
            tenure for tenure in tenures if now >= tenure.until or not holds(tenure.lease, now) or self._is_unkeyed(tenure)
        ]

    def judge(self, tenure: Tenure) -> Flow[None]:
        """Ask whether the session goes on. Raises SessionEnded, StoreUnavailable."""
        yield from self.keys.looked()
        if self._is_unkeyed(tenure):
            raise SessionRevoked
        tenure.lease, tenure.until = yield from self._authenticator.tenure(tenure.subject, tenure.session_id)

    def enter(self, identity: Identity, connection: Connection, perform: Perform) -> Tenure:
        """From here on, end the connection when its session ends. On the connection's event loop, which has to run."""
        loop = asyncio.get_running_loop()
        patrol = self._patrols.get(loop)
        if patrol is None:
            for other in [other for other in list(self._patrols) if other.is_closed()]:
                self._patrols.pop(other, None)
            patrol = self._patrols[loop] = _Patrol(self, loop, perform)
        tenure = Tenure(identity)
        patrol.enter(tenure, connection)
        return tenure

    def leave(self, tenure: Tenure) -> None:
        """The connection is over. May be called again."""
        loop = asyncio.get_running_loop()
        patrol = self._patrols.get(loop)
        if patrol is not None and patrol.leave(tenure):
            del self._patrols[loop]

    def withdrawn(self, keys: Iterable[Key]) -> None:
        """These keys are withdrawn, and what they let in ends. From any thread; doesn't wait."""
        ids = frozenset(key.id for key in keys)
        for patrol in list(self._patrols.values()):
            patrol.call(patrol.end_signed_by, ids)

    def _is_unkeyed(self, tenure: Tenure) -> bool:
        return bool(tenure.key_id) and not self.keys.keyring.has(tenure.key_id)

    def ended(self, key: bytes | None) -> None:
        """Something of this user (None: of any) has ended. From any thread; doesn't wait."""
        for patrol in list(self._patrols.values()):
            if key is None or patrol.has(key):
                patrol.call(patrol.hear, key)

    def close(self) -> None:
        """End what is open, since nobody would watch it any more. From any thread; doesn't wait."""
        for patrol in list(self._patrols.values()):
            patrol.call(patrol.end_all)


class _Patrol:
    """The tenures on one event loop, by user, and a timer."""

    def __init__(self, live: Live, loop: asyncio.AbstractEventLoop, perform: Perform) -> None:
        self._live = live
        self._loop = loop
        self._perform = perform
        self._tenures: dict[bytes, dict[Tenure, Connection]] = {}
        self._due: dict[Tenure, float] = {}
        """What is to be judged, and since when (monotonic)."""
        self._judges: set[asyncio.Task[None]] = set()
        self._next_round = loop.time() + live.round
        self._timer = loop.call_later(TICK, self._tick)

    def __len__(self) -> int:
        return sum(map(len, self._tenures.values()))

    def has(self, key: bytes) -> bool:
        return key in self._tenures

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function of this patrol on its loop, from any thread. A loop that is closed has nothing open."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # -- on the loop

    def enter(self, tenure: Tenure, connection: Connection) -> None:
        self._tenures.setdefault(tenure.key, {})[tenure] = connection
        self._call_in([tenure])

    def leave(self, tenure: Tenure) -> bool:
        """Forget a tenure. Answers whether that was the last, and the patrol is over."""
        self._take(tenure)
        self._due.pop(tenure, None)
        if not self._tenures:
            self._timer.cancel()
        return not self._tenures

    def _take(self, tenure: Tenure) -> Connection | None:
        """Take a tenure's connection; None if that is over already."""
        of_user = self._tenures.get(tenure.key, {})
        connection = of_user.pop(tenure, None)
        if not of_user:
            self._tenures.pop(tenure.key, None)
        return connection

    def hear(self, key: bytes | None) -> None:
        """Something has ended, so nothing that was known of it counts."""
        self._call_in(list(self._all()) if key is None else list(self._tenures.get(key, ())))

    def end_all(self) -> None:
        for tenure in list(self._all()):
            self._end(tenure, Closing(GOING_AWAY, ""))

    def end_signed_by(self, key_ids: frozenset[str]) -> None:
        for tenure in [tenure for tenure in self._all() if tenure.key_id in key_ids]:
            self._end(tenure, Closing(UNAUTHORIZED, SessionRevoked.code))

    def _all(self) -> Iterator[Tenure]:
        return chain.from_iterable(self._tenures.values())

    def _end(self, tenure: Tenure, closing: Closing) -> None:
        connection = self._take(tenure)
        self._live.leave(tenure)
        if connection is not None:
            connection.end(closing)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)  # first: what fails below must not end the patrol
        self._live.look()
        if self._loop.time() >= self._next_round:
            self._next_round = self._loop.time() + self._live.round
            self.go_round()

    def go_round(self) -> None:
        """End what has been due for too long, and have judged what has become due."""
        now = self._live.monotonic()
        for tenure in [tenure for tenure, since in self._due.items() if now - since >= self._live.patience]:
            self._end(tenure, Closing(TRY_AGAIN_LATER, StoreUnavailable.code))
        self._call_in(self._live.doubtful(self._all()))
        if self._live.keys.is_due():
            self._start(self._perform(self._live.keys.looked()))

    def _call_in(self, tenures: Iterable[Tenure]) -> None:
        """Have tenures judged: the latest first, since something has just been heard of it."""
        now = self._live.monotonic()
        for tenure in tenures:
            self._due.setdefault(tenure, now)
        while len(self._judges) < min(AT_ONCE, len(self._due)):
            self._start(self._judge_all())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._judges.add(task)
        task.add_done_callback(self._judges.discard)

    async def _judge_all(self) -> None:
        while self._due:
            tenure, _ = self._due.popitem()
            closing = await self._judged(tenure)
            if closing is not None:
                self._end(tenure, closing)

    async def _judged(self, tenure: Tenure) -> Closing | None:
        """Why a tenure is over; None if it isn't."""
        try:
            await self._perform(self._live.judge(tenure))
        except SessionEnded as error:
            return Closing(UNAUTHORIZED, error.code)
        except StoreUnavailable as error:
            return Closing(TRY_AGAIN_LATER, error.code)
        except Exception:  # another party's code; who can't be judged can't stay
            logger.exception("a session that is in use can't be judged")
            return Closing(TRY_AGAIN_LATER, StoreUnavailable.code)
        return None
