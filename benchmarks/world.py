"""A small world: users, guards and a store whose calls are counted, on a clock that is moved. The same in each run."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Final

from jwtguard import Guard, TokenPair
from jwtguard.stores import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

from .growth import Given, Predicted

__all__ = ["World"]

DAWN: Final = 600.0
"""Seconds in which the users log in at first."""
SECRET: Final = "tVb2cSQeXnF0o5m4cJrC8kLxw3ZyPq9aHs7uGd1RiEo"  # of no real app


class CountedStore(MemoryStore):
    """A store in memory that tells every guard of endings, as announcements do, and counts what it is asked and tells."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.counts: Counter[str] = Counter()

    def load(self, key: bytes) -> Loaded:
        self.counts["loads"] += 1
        self.counts["everyone"] += key.startswith(b"e")
        return super().load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        saved = super().save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
        self.counts["saves"] += saved
        self.counts["announcements"] += saved and ends
        return saved


class _Ear:
    """Counts what one process is told."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def hear(self, _key: bytes | None) -> None:
        self._counts["deliveries"] += 1


class World:
    """Guards as `given` has it, and users who are logged in. Each second has its share of everything."""

    def __init__(self, given: Given, seed: int = 1) -> None:
        self.given = given
        self._chance = random.Random(seed)
        self._clock = FakeClock()
        self._store = CountedStore(self._clock)
        settings: dict[str, Any] = {
            "secret": SECRET,
            "endpoints": "off",
            "cache_ttl": f"{given.lease:g}s",
            "access_ttl": f"{given.access_ttl:g}s",
            "cache_size": str(given.room),
        }
        self._guards = [Guard.from_env(store=self._store, clock=self._clock, **settings) for _ in range(given.workers)]
        self._ears = [_Ear(self._store.counts) for _ in self._guards]  # kept: the store holds them weakly
        for ear in self._ears:
            self._store.watch(ear.hear)
        places = range(int(given.users * given.sessions))
        self._pairs: dict[int, TokenPair] = {}
        self._expiry: dict[int, float] = {}
        for place in places:  # one after the other, so that they aren't all in step from then on
            self._login(place)
            self._clock.advance(min(given.access_ttl, DAWN) / len(places))

    def run(self, warm: float, seconds: float) -> Predicted:
        """What is counted in so many seconds, after some to warm up."""
        for moment in self._moments(warm):
            self._happen(moment)
        counts = self._store.counts
        counts.clear()
        before = self._fills_begun()
        for moment in self._moments(seconds):
            self._happen(moment)
        fills = self._fills_begun() - before - counts["everyone"]
        found = {name: counts[name] / seconds for name in ("loads", "saves", "announcements", "deliveries")}
        return Predicted(fills=fills / seconds, hit_rate=1 - fills / seconds / self.given.requests, **found)

    def _fills_begun(self) -> int:
        return sum(guard.core.registry.number for guard in self._guards)

    def _moments(self, seconds: float) -> list[str]:
        """What happens in so many seconds, in its order; the clock is moved along."""
        rates = {"request": self.given.requests, "ending": self.given.endings}
        total = sum(rates.values())
        count = round(total * seconds)
        return self._chance.choices(list(rates), weights=list(rates.values()), k=count)

    def _happen(self, what: str) -> None:
        self._clock.advance(self._chance.expovariate(self.given.requests + self.given.endings))
        place = self._chance.randrange(len(self._pairs))
        pair, guard = self._pairs[place], self._any_guard()
        if what == "ending":
            assert guard.revoke(self._user(place), pair.session_id)
            self._login(place)
        elif self._expiry[place] <= self._clock.time():
            pair = self._keep(place, guard.refresh(pair.refresh_token))
            self._any_guard().authenticate(pair.access_token)
        else:
            assert guard.authenticate(pair.access_token).subject == self._user(place)

    def _login(self, place: int) -> None:
        self._keep(place, self._any_guard().login(self._user(place)))

    def _keep(self, place: int, pair: TokenPair) -> TokenPair:
        self._pairs[place] = pair
        self._expiry[place] = self._clock.time() + pair.expires_in - 1  # it expires at a whole second
        return pair

    def _user(self, place: int) -> str:
        return f"user-{place // int(self.given.sessions)}"

    def _any_guard(self) -> Guard:
        return self._chance.choice(self._guards)
