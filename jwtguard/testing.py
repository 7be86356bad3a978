"""For tests of jwtguard, of its stores, and of apps that use it. Needs pytest for `StoreContract`."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A clock that moves only when told to.

    Arguments: `now`, seconds since the epoch.
    """

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._time = now
        self._monotonic = 1_000.0

    def time(self) -> float:
        return self._time

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both readings."""
        self._time += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP may: the monotonic reading stays."""
        self._time += seconds
