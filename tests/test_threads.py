"""Real threads on one registry: whatever they do at once, no session is let in after its ending was answered."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from rig import Rig

from jwtguard.errors import AuthError, SessionRevoked, SessionUnknown, TokenSuperseded
from jwtguard.flow import run
from jwtguard.model import TokenPair
from jwtguard.stores.base import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

THREADS, OPERATIONS, USERS = 8, 400, 3


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@dataclass
class Known:
    """A session as its client and the one who ends it see it."""

    user: str
    pairs: list[TokenPair] = field(default_factory=list)
    ending: bool = False
    over: bool = False


class Yielding(MemoryStore):
    """Lets another thread go on between what it does and its answer."""

    def load(self, key: bytes) -> Loaded:
        loaded = super().load(key)
        time.sleep(0)
        return loaded


class Crowd:
    def __init__(self, *, reports: bool, size: int) -> None:
        clock = FakeClock()
        self.store = Yielding(clock)
        watch = self.store.watch if reports else None
        self.rigs = [Rig(self.store, clock, watch=watch, size=size, patience=1e6) for _ in range(2 if reports else 1)]
        self.clock = clock
        self.sessions: list[Known] = []
        self.admitted = 0
        self.refused = 0

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(OPERATIONS):
            rig = chance.choice(self.rigs)
            known = chance.choice(self.sessions[-40:]) if self.sessions else None
            act = chance.random()
            if known is None or act < 0.08:
                self.login(rig, f"user {chance.randrange(USERS)}")
            elif act < 0.80:
                self.authenticate(rig, known, chance)
            elif act < 0.90:
                self.refresh(rig, known)
            else:
                self.end(rig, known)
            if act > 0.99:
                self.clock.advance(1.5)

    def login(self, rig: Rig, user: str) -> None:
        pair = run(rig.operations.login(user), self.store)
        self.sessions.append(Known(user, [pair]))

    def authenticate(self, rig: Rig, known: Known, chance: random.Random) -> None:
        token = chance.choice(known.pairs).access_token.encode()
        was_over = known.over
        if (recalled := rig.registry.recall(token)) is not None:
            assert not was_over, "the warm path let an ended session in"
            assert recalled.subject == known.user
        was_over = known.over
        try:
            identity = run(rig.authenticator.authenticate(token), self.store)
        except TokenSuperseded:
            assert len(known.pairs) > 1
        except (SessionRevoked, SessionUnknown):  # unknown, where it ended before the last sixteen that are remembered
            assert known.ending, "an active session was refused"
            self.refused += 1
        else:
            assert not was_over, "an ended session was let in"
            assert identity.subject == known.user
            self.admitted += 1

    def refresh(self, rig: Rig, known: Known) -> None:
        was_over = known.over
        try:
            known.pairs.append(run(rig.operations.refresh(known.pairs[-1].refresh_token), self.store))
        except AuthError:
            assert known.ending, "an active session was refused"
        else:
            assert not was_over, "an ended session was refreshed"

    def end(self, rig: Rig, known: Known) -> None:
        known.ending = True
        run(rig.operations.revoke(known.user, known.pairs[0].session_id), self.store)
        known.over = True


@pytest.mark.parametrize("reports", [False, True])
@pytest.mark.parametrize("size", [2, 1000])
def test_c79_no_session_is_let_in_after_its_ending_was_answered(reports: bool, size: int) -> None:
    crowd = Crowd(reports=reports, size=size)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(crowd.work, range(THREADS)))
    assert all(rig.is_at_rest() for rig in crowd.rigs)
    assert crowd.admitted > 200
    assert crowd.refused > 200
    for known in crowd.sessions:
        for rig in crowd.rigs:
            if known.over:
                assert all(rig.registry.recall(pair.access_token.encode()) is None for pair in known.pairs)
    assert threading.active_count() < 50
