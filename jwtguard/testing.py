"""For tests of jwtguard, of its stores, and of apps that use it. Needs pytest for `StoreContract`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._world import MovableClock, User, World

if TYPE_CHECKING:
    from ._contract import StoreContract

__all__ = ["FakeClock", "MovableClock", "StoreContract", "User", "World"]


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


def __getattr__(name: str) -> object:
    """`StoreContract`, which needs pytest, only when it is asked for."""
    if name != "StoreContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ImportError as error:
        raise ImportError("StoreContract needs pytest: pip install 'jwtguard-middleware[test]'") from error
    pytest.register_assert_rewrite("jwtguard._contract", "jwtguard._contract_push")
    from ._contract import StoreContract

    return StoreContract
