"""An observer that keeps what it is told."""

from __future__ import annotations

from jwtguard.model import Event, Identity
from jwtguard.telemetry import Observer, Readings

__all__ = ["Notebook"]


class Notebook(Observer):
    """What it was told, in order."""

    counts = True

    def __init__(self, *, each_request: bool = False) -> None:
        self.each_request = each_request
        self.events: list[Event] = []
        self.decisions: list[str] = []
        self.recalls: list[str] = []
        self.lookups: list[bool] = []
        self.calls: list[tuple[str, float, str]] = []
        self.signs: list[float] = []
        self.guards: list[Readings] = []

    def attach(self, readings: Readings) -> None:
        self.guards.append(readings)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def decided(self, code: str, identity: Identity | None) -> None:
        self.decisions.append(code if identity is None else f"{code} {identity.subject}".strip())

    def recalled(self, identity: Identity) -> None:
        self.recalls.append(identity.subject)

    def looked_up(self, hit: bool) -> None:
        self.lookups.append(hit)

    def stored(self, operation: str, seconds: float, outcome: str) -> None:
        self.calls.append((operation, seconds, outcome))

    def heard(self, seconds: float) -> None:
        self.signs.append(seconds)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]
