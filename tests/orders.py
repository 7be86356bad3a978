"""Flows driven step by step, in every order of their steps, and what must hold whatever the order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ClassVar

from documents import fresh, with_sessions
from msgspec.structs import replace
from rig import ALICE, ISSUER, ModelStore, Rig

from jwtguard.document import Document, decode, encode
from jwtguard.errors import AuthError, StoreError, StoreUnavailable
from jwtguard.flow import Flow, Load, Need, Pause, Save, Wait
from jwtguard.keys import Key
from jwtguard.model import Identity
from jwtguard.recall import Lease, digest_of
from jwtguard.testing import FakeClock
from jwtguard.tokens import Access, token_id_text
from jwtguard.transitions import rotate

CLOCK = FakeClock()
KEY = Key("k", "HS256", b"s" * 32)
NOW = int(CLOCK.time() * 1000)
SID = fresh(1).id
FIRST, SECOND = b"first generation", b"second generation"


def used(document: Document) -> Document:
    return replace(document, sessions=tuple(replace(session, used=True) for session in document.sessions))


ONE_SESSION = encode(used(with_sessions(1, now=NOW - 1000)))


class KnownTokens:
    """Two tokens of one session, without cryptography: this is about order."""

    issuer = ISSUER
    max_token = 8192
    _known: ClassVar = {FIRST: 1, SECOND: 2}

    def read_access(self, token: bytes) -> Access:
        expires_at = int(CLOCK.time()) + 600
        token_id = token_id_text(SID, self._known[token])
        claims = {"sub": "alice", "sid": token_id[:22], "jti": token_id, "scope": "", "exp": expires_at}
        return Access("alice", SID, self._known[token], (), expires_at, claims, KEY)


class Actor:
    """A flow, a step at a time.

    What multiplies the orders without making a difference is left out. `whole`: needs of these kinds are performed and
    handed on in one step, which nobody can tell where what is handed on is published to no one. `after`: a twin, that does
    just the same and begins first; the other half of the orders are the same ones with the names exchanged.
    """

    def __init__(
        self,
        world: World,
        start: Callable[[], Flow[Any]],
        *,
        whole: tuple[type[Need], ...] = (),
        after: Actor | None = None,
    ) -> None:
        self._world = world
        self._start = start
        self._whole = (Wait, Pause, *whole)
        self._after = after
        self._flow: Flow[Any] | None = None
        self._need: Need | None = None
        self._result: tuple[Any, BaseException | None] | None = None
        self.finished = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.began_over = False

    @property
    def running(self) -> bool:
        return self._flow is not None and not self.finished

    def ready(self) -> bool:
        waits = isinstance(self._need, Wait) and not self._need.future.done()
        is_second = self._after is not None and self._after._flow is None
        return not self.finished and not waits and not is_second

    def step(self) -> None:
        if self._flow is None:
            self.began_over = self._world.over
            self._flow = self._start()
            self._resume(None, None)
        elif self._result is None:
            self._result = self._performed()
            if isinstance(self._need, self._whole):
                self._resume(*self._result)
        else:
            self._resume(*self._result)

    def cancel(self) -> None:
        if self.running:
            self._resume(None, asyncio.CancelledError())

    def _performed(self) -> tuple[Any, BaseException | None]:
        assert self._need is not None
        try:
            return self._world.perform(self._need), None
        except StoreError as error:
            return None, error

    def _resume(self, result: Any, error: BaseException | None) -> None:
        assert self._flow is not None
        self._result = None
        try:
            self._need = self._flow.send(result) if error is None else self._flow.throw(error)
        except StopIteration as stop:
            self.value = stop.value
            self.finished = True
        except (AuthError, StoreUnavailable, asyncio.CancelledError) as problem:
            self.error = problem
            self.finished = True


class Once:
    """An actor of one step. `when`: not before this holds."""

    def __init__(self, act: Callable[[], None], when: Callable[[], bool] = lambda: True) -> None:
        self._act = act
        self._when = when
        self.finished = False

    def ready(self) -> bool:
        return not self.finished and self._when()

    def step(self) -> None:
        self.finished = True
        self._act()


class World:
    """A guard's parts over a store with one session, some actors, and what must hold whatever their order."""

    def __init__(self, **settings: Any) -> None:
        self.rig = Rig(clock=CLOCK, tokens=KnownTokens(), **settings)
        self.store: ModelStore = self.rig.model
        self.store.documents[ALICE] = (ONE_SESSION, b"version0")
        self.registry = self.rig.registry
        self.registry._everyone_at = CLOCK.monotonic()
        self.actors: list[Actor | Once] = []
        self.fills: list[Actor] = []
        self.enders: list[Actor] = []
        self.is_over: Callable[[], bool] = lambda: any(ender.finished and ender.error is None for ender in self.enders)
        self.sees_endings_at_once = True
        self.may_fail_with: tuple[type[BaseException], ...] = ()

    @property
    def over(self) -> bool:
        return self.is_over()

    def perform(self, need: Need) -> Any:
        return None if isinstance(need, Pause) else need.perform(self.store)

    # -- who takes part

    def fill(self, token: bytes = FIRST, *, after: Actor | None = None) -> Actor:
        actor = Actor(self, lambda: self.rig.authenticator.authenticate(token), after=after)
        self.actors.append(actor)
        self.fills.append(actor)
        return actor

    def ending(self, start: Callable[[Rig], Flow[Any]]) -> Actor:
        actor = Actor(self, partial(start, self.rig), whole=(Load,))
        self.actors.append(actor)
        self.enders.append(actor)
        return actor

    def rotation(self) -> Actor:
        rotating = partial(rotate, session_id=SID, generation=1, key_id="keyid-01")
        actor = Actor(self, lambda: self.rig.committer.commit(ALICE, "alice", rotating), whole=(Load, Save))
        self.actors.append(actor)
        return actor

    def push_out(self) -> None:
        """Two other users' leases, where there is room for just two."""

        def publish() -> None:
            now = CLOCK.monotonic()
            with self.registry._mutex:
                for other in (b"bob", b"carol"):
                    self.registry._leases.put(other, Lease(0, data=None, began=now, now=NOW, everyone=0, until=now))

        self.actors.append(Once(publish))

    # -- what must hold

    def check(self) -> None:
        if self.over and self.sees_endings_at_once:
            self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        for token in (FIRST, SECOND):
            entry = self.registry.table.get(digest_of(token))
            assert entry is None or not self.registry.table.is_good(entry), "a token of an ended session is known as good"
        lease = (self.registry._leases._young | self.registry._leases._old).get(ALICE)
        assert lease is None or not self._admits(lease), "a lease from before the ending is published"

    @staticmethod
    def _admits(lease: Lease) -> bool:
        session = decode(lease.data, "alice").find(SID)
        return lease.alive and session is not None and session.opened_at > lease.everyone

    def check_end(self) -> None:
        assert all(actor.finished or isinstance(actor, Once) for actor in self.actors), "some wait for each other"
        assert self.rig.is_at_rest(), "a flight or a turn is left behind"
        for fill in self.fills:
            assert not (fill.began_over and isinstance(fill.value, Identity)), "an ended session was let in"
            assert isinstance(fill.error, (AuthError, asyncio.CancelledError, *self.may_fail_with, type(None)))
        for token in self._tokens_there_are():
            outcome = self._afterwards(token)
            assert isinstance(outcome, AuthError if self.over else Identity), f"{token!r} after it all: {outcome!r}"

    def _tokens_there_are(self) -> list[bytes]:
        session = decode(self.store.documents[ALICE][0], "alice").find(SID)
        return [FIRST, SECOND][: 2 if session is None else session.generation]

    def _afterwards(self, token: bytes) -> Identity | AuthError:
        if self.over:
            assert self.registry.recall(token) is None, "an ended session was let in"
        try:
            return self.rig.do(self.rig.authenticator.authenticate(token))
        except AuthError as error:
            return error


Scenario = Callable[..., World]


def every_order(scenario: Scenario, **settings: Any) -> int:
    """Run a scenario in every order of its steps. Answers how many there are."""
    prefix: list[int] = []
    for number in count(1):
        taken: list[tuple[int, int]] = []
        world = scenario(**settings)
        while ready := [actor for actor in world.actors if actor.ready()]:
            choice = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((choice, len(ready)))
            ready[choice].step()
            world.check()
        world.check_end()
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return number
        prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]
    raise AssertionError
