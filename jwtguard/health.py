"""Whether the store answers: said once per change, and not asked by every request while it doesn't.

A circuit breaker, for flows: `check` before a call, `worked` or `failed` after it. After TRIP failures without a success in
between, calls are refused at once, but for one each PROBE seconds, which finds out. So a dead store costs a request
microseconds and not a timeout. No lock: two threads that probe at once do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from .errors import StoreError, StoreUnavailable
from .flow import Flow, Load, Save
from .telemetry import Telemetry

__all__ = ["Access", "Health"]

TRIP: Final = 5
PROBE: Final = 0.5
QUIET: Final = 0.5
"""Seconds without a failure after which a store that is asked all the time is said to be well again. Where some calls fail
and others don't, each would be a change."""

Access = Literal["read", "write", "look", "listen"]


class _Words(NamedTuple):
    """How a way of access is spoken of: what the store can or can't, what follows if it can't, and in which event."""

    verb: str
    so: str = ""
    what: str = "store"


_WORDS: Final[dict[Access, _Words]] = {
    "read": _Words("be read"),
    "write": _Words("be written"),
    "look": _Words("tell what has ended"),
    "listen": _Words("be listened to", ", so endings elsewhere are only seen within the cache's TTL", "push"),
}


class Health:
    """Whether one way of using a store works. Each way has its own object, because they fail independently: a store on a
    full disk can still be read.

    Arguments: `telemetry`, told once per change, and of each call; `monotonic`, the clock, in seconds; `quiet`, seconds.
    """

    def __init__(self, access: Access, telemetry: Telemetry, monotonic: Callable[[], float], quiet: float = QUIET) -> None:
        self._access = access
        self._words = _WORDS[access]
        self._telemetry = telemetry
        self._monotonic = monotonic
        self._quiet = quiet
        self._failures = 0
        self._next_probe = 0.0
        self._said_down = False
        self._failed_at = 0.0

    @property
    def down(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def beside(self, access: Access, quiet: float = QUIET) -> Health:
        """Another way of using the same store."""
        return Health(access, self._telemetry, self._monotonic, quiet)

    def check(self) -> None:
        """Raise StoreUnavailable if the store is known not to answer and it is not yet time to find out again."""
        if self._failures < TRIP:
            return
        now = self._monotonic()
        if now < self._next_probe:
            raise StoreUnavailable("the store is known not to answer")
        self._next_probe = now + PROBE

    def call(self, operation: str, need: Load | Save) -> Flow[Any]:
        """A call of the store, whose outcome is noted. Raises StoreError."""
        began = self._monotonic()
        try:
            result = yield need
        except StoreError as error:
            error.told = False  # a store may raise one object again and again
            self._telemetry.stored(operation, self._monotonic() - began, "error")
            self.failed(error)
            raise
        self._telemetry.stored(operation, self._monotonic() - began, "ok")
        self.worked()
        return result

    def heard(self, at: float) -> None:
        """A sign of life that was asked for at that moment (monotonic)."""
        self._telemetry.heard(max(0.0, self._monotonic() - at))

    def failed(self, error: BaseException) -> None:
        self._failures += 1
        self._failed_at = self._monotonic()
        self._next_probe = self._failed_at + PROBE
        if not self._said_down:
            self._said_down = True
            self._say("down", f"the store can't {self._words.verb}{self._words.so}: {_causes(error)}")

    def worked(self) -> None:
        self._failures = 0
        if self._said_down and self._monotonic() - self._failed_at >= self._quiet:
            self._said_down = False
            self._say("up", f"the store can {self._words.verb} again")

    def _say(self, state: str, sentence: str) -> None:
        self._telemetry.changed(f"{self._words.what}_{state}", self._access, sentence)


def _causes(error: BaseException | None) -> str:
    """An error and what caused it, on one line."""
    parts: list[str] = []
    while error is not None and len(parts) < 4:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return "".join(character if character.isprintable() else " " for character in " <- ".join(parts))
