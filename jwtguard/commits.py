"""Writing: load, apply a pure transition, save if nothing changed meanwhile, else again.

Invariants:
- What the transition decides by is fixed before the first attempt: its arguments, and the moment, which is the store's
  clock at the first load (or the document's own, if that is ahead).
- A save that failed without an answer may have succeeded. It is tried once more, and the transition is told; unless the
  error is final: then the second try would find the first one's effect and hide what was wrong with it.
- A save that may have ended something is followed by the invalidation, whatever became of the save. One that failed
  without an answer may land late, so when the commit is over it is followed by another.
- In one process, one writer per user at a time: the others would only lose their races. Across processes the
  compare-and-swap decides, and the losers back off with full jitter.
- One deadline for all of it; then StoreUnavailable.
"""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

from .clock import Clock
from .document import Document, SessionRecord, encode
from .errors import StoreError, StoreUnavailable
from .flow import Flow, Pause, Save, Wait
from .forks import renew_after_fork
from .health import Health
from .mutex import Mutex
from .policy import Moment, Policy, expired_in, keep_until
from .registry import Registry, wake
from .stores.base import Loaded
from .telemetry import Tell
from .transitions import Step, Transition

__all__ = ["Committer", "Turns"]

T = TypeVar("T")

LONGEST_PAUSE: Final = 0.064
SHORTEST_PAUSE: Final = 0.001
MOST_DOUBLINGS: Final = 16
VERSION_BYTES: Final = 8


class Turns:
    """A queue per key: one holder at a time, on whatever thread or event loop."""

    def __init__(self) -> None:
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = Mutex()
        self._queues: dict[bytes, deque[Future[None]]] = {}

    def is_taken(self, key: bytes) -> bool:
        """Whether it is anybody's turn."""
        return key in self._queues

    def join(self, key: bytes) -> Future[None]:
        """Queue up. The future is done when it is one's turn."""
        turn: Future[None] = Future()
        with self._mutex:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            first = queue[0] is turn
        if first:
            wake(turn, None)
        return turn

    def leave(self, key: bytes, turn: Future[None]) -> None:
        """Be done with it, or give up waiting for it; the next one's turn begins if it was one's own."""
        self._mutex.perform(partial(self._leave, key, turn))

    def _leave(self, key: bytes, turn: Future[None]) -> None:
        queue = self._queues.get(key)
        if queue is None or turn not in queue:
            return  # of a flow from before a fork: the child began anew
        was_first = queue[0] is turn
        queue.remove(turn)
        if not queue:
            del self._queues[key]
        elif was_first:
            wake(queue[0], None)


class Committer:
    """Applies transitions to user documents.

    Arguments: `patience`, seconds for a whole commit; `health`, told of every success and failure to write; `tell`, of what
    ends on the way.
    """

    def __init__(
        self, registry: Registry, policy: Policy, *, patience: float, clock: Clock, health: Health, tell: Tell
    ) -> None:
        self._registry = registry
        self._policy = policy
        self._patience = patience
        self._clock = clock
        self._health = health
        self._tell = tell
        self._turns = Turns()

    def is_busy(self, key: bytes) -> bool:
        """Whether this process is writing this document already, so that a further writer would wait."""
        return self._turns.is_taken(key)

    def commit(self, key: bytes, subject: str, transition: Transition[T], *, insist: bool = True) -> Flow[Step[T]]:
        """Apply a transition to a user's document until it is saved or has nothing to save.

        Answers its step. With `insist` off, a step that loses its race is dropped. Raises StoreUnavailable.
        """
        self._health.check()
        deadline = self._clock.monotonic() + self._patience
        turn = self._turns.join(key)
        try:
            if not turn.done():
                yield Wait(turn, self._patience)
            return (yield from self._attempts(key, subject, transition, deadline, insist))
        finally:
            self._turns.leave(key, turn)

    def _attempts(
        self, key: bytes, subject: str, transition: Transition[T], deadline: float, insist: bool
    ) -> Flow[Step[T]]:
        yield from self._registry.looked()
        yield from self._registry.know_everyone()
        moment: Moment | None = None
        attempt = 0
        may_land_late = False
        try:
            while True:
                loaded = yield from self._registry.load(key)
                document = self._registry.read(loaded.data, subject)
                moment = moment or self._moment(loaded, document)
                present = moment._replace(everyone=self._registry.everyone)
                step = transition(document, present)
                if step.document is None:
                    return step
                try:
                    if (yield from self._save(key, loaded.version, step.document, step.ends)):
                        self._tell_of(subject, step, expired_in(document, present, step.document))
                        return step
                except StoreError as error:
                    may_land_late = may_land_late or step.ends
                    if moment.repeated or error.final:
                        raise
                    moment = moment._replace(repeated=True)
                attempt += 1
                if not insist or self._clock.monotonic() > deadline:
                    break
                yield Pause(_jitter(attempt))
        finally:
            if may_land_late:  # a fill may have read between the invalidation and the landing
                self._registry.ended(key)
        if insist:
            raise StoreUnavailable("gave up: others changed this user's sessions at every attempt")
        return step

    def _tell_of(self, subject: str, step: Step[Any], expired: Iterable[SessionRecord]) -> None:
        """Tell what a saved step has ended on its way to what it was for."""
        for session in expired:
            self._tell("expired", subject, session.id, count=1)
        for session_id in step.replaced:
            self._tell("revoked", subject, session_id, code="replaced", count=1)
        for session_id in step.evicted:
            self._tell("evicted", subject, session_id, count=1)

    def _moment(self, loaded: Loaded, document: Document) -> Moment:
        return Moment(loaded.now, self._policy).not_before(document)

    def _save(self, key: bytes, expected: bytes | None, document: Document, ends: bool) -> Flow[bool]:
        save = Save(
            key,
            encode(document),
            expected=expected,
            version=secrets.token_bytes(VERSION_BYTES),
            expires_at=keep_until(document, self._policy),
            ends=ends,
        )
        try:
            saved: bool = yield from self._health.call("save", save)
        finally:
            if ends:
                self._registry.ended(key)
        return saved


def _jitter(attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to back off before an attempt: anything up to a bound that doubles (full jitter)."""
    return uniform(0, min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(attempt, MOST_DOUBLINGS)))
