"""What is measured, once for whatever shows it: the instruments, and which of them moves at what.

A backend only says how an instrument is moved (see `prometheus` and `otel`). Figures that would cost a warm request too
much are read when they are wanted: `sample` moves their instruments by what has been added since.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Literal, NamedTuple

from .forks import renew_after_fork
from .model import Event, Identity
from .telemetry import Observer, Readings

__all__ = ["BUCKETS", "INSTRUMENTS", "Instrument", "Metrics"]

BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of a histogram's buckets, in seconds."""


class Instrument(NamedTuple):
    """One thing that is measured. `across`: what makes one gauge of those of several processes."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    description: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    across: Literal["sum", "max"] = "sum"


DECISIONS: Final = Instrument(
    "decisions", "counter", "Decisions: admitted, anonymous, served by an endpoint, or the code of a refusal.", ("code",)
)
LOOKUPS: Final = Instrument("cache_lookups", "counter", "Tokens looked up in the cache.", ("result",))
OPENED: Final = Instrument("sessions_opened", "counter", "Sessions opened by this process.")
ENDED: Final = Instrument(
    "sessions_ended", "counter", "Sessions ended by this process; those of revoke_everyone are not counted.", ("reason",)
)
HAPPENED: Final = Instrument("events", "counter", "Events, by name.", ("event",))
STORE: Final = Instrument("store_call", "histogram", "Calls of the store.", ("operation", "outcome"), "seconds")
LAG: Final = Instrument(
    "revocation_lag",
    "histogram",
    "Upper bound of the time from an announcement to its effect here, from twice-a-second probes of the channel.",
    unit="seconds",
)
BOUND: Final = Instrument(
    "revocation_bound", "gauge", "An ending elsewhere is seen within this, as things are.", unit="seconds", across="max"
)
CONNECTIONS: Final = Instrument("connections", "gauge", "WebSockets and streams that are open.")
DOWN: Final = Instrument(
    "store_down", "gauge", "Processes for which the store can't be read, written, looked at, or listened to.", ("access",)
)

INSTRUMENTS: Final = (DECISIONS, LOOKUPS, OPENED, ENDED, HAPPENED, STORE, LAG, BOUND, CONNECTIONS, DOWN)


class _Source:
    """A guard, and what of its counters has been counted."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self._told = [0, 0]

    def news(self) -> tuple[int, int]:
        """How many hits, and admitted ones, there were since the last call. (One that is denied just now is a hit for a
        moment, so the second may be behind the first, and never goes back.)"""
        now = (self.readings.hits(), self.readings.admitted())
        added = [max(0, value - told) for value, told in zip(now, self._told, strict=True)]
        self._told = [told + more for told, more in zip(self._told, added, strict=True)]
        return added[0], added[1]


class Metrics(Observer, ABC):
    """Moves instruments. One object may observe several guards: their figures are added up."""

    counts: ClassVar[bool] = True

    def __init__(self) -> None:
        self._sources: list[_Source] = []
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._sampling = threading.Lock()
        for source in self._sources:
            source.news()  # what the parent has counted is the parent's to tell

    @abstractmethod
    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        """Move a counter up, or a gauge up or down."""

    @abstractmethod
    def record(self, instrument: Instrument, value: float, *labels: str) -> None:
        """Put a value into a histogram."""

    @abstractmethod
    def set(self, instrument: Instrument, value: float) -> None:
        """Set a gauge."""

    def sample(self) -> None:
        """Move the instruments whose figures are only read now and then."""
        with self._sampling:
            for source in self._sources:
                hits, admitted = source.news()
                self.add(LOOKUPS, hits, "hit")
                self.add(DECISIONS, admitted, "admitted")
            self.set(CONNECTIONS, sum(source.readings.connections() for source in self._sources))
            self.set(BOUND, max((source.readings.coherence().bound for source in self._sources), default=0.0))

    # -- as an observer ----------------------------------------------------------------------------------------------------

    def attach(self, readings: Readings) -> None:
        self._sources.append(_Source(readings))

    def event(self, event: Event) -> None:
        self.add(HAPPENED, 1, event.name)
        if event.name == "opened":
            self.add(OPENED, 1)
        elif event.count:
            self.add(ENDED, event.count, event.name)
        elif event.name.endswith("_down"):
            self.add(DOWN, 1, event.code)
        elif event.name.endswith("_up"):
            self.add(DOWN, -1, event.code)

    def decided(self, code: str, identity: Identity | None) -> None:
        del identity
        self.add(DECISIONS, 1, code)

    def looked_up(self, hit: bool) -> None:
        self.add(LOOKUPS, 1, "hit" if hit else "miss")

    def stored(self, operation: str, seconds: float, outcome: str) -> None:
        self.record(STORE, seconds, operation, outcome)

    def heard(self, seconds: float) -> None:
        self.record(LAG, seconds)
