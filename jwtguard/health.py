"""Whether the store answers: said once per change, and not asked by every request while it doesn't.

A circuit breaker, for flows: `check` before a call, `worked` or `failed` after it. After TRIP failures without a success in
between, calls are refused at once, but for one each PROBE seconds, which finds out. So a dead store costs a request
microseconds and not a timeout. No lock: two threads that probe at once do no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from .errors import StoreUnavailable

__all__ = ["Health"]

logger = logging.getLogger("jwtguard")

TRIP: Final = 5
PROBE: Final = 0.5
QUIET: Final = 0.5
"""Seconds without a failure after which a store that is asked all the time is said to be well again. Where some calls fail
and others don't, each would be a change."""


class Health:
    """Whether one kind of store access works: reading, writing, or listening. Each kind has its own object, because they
    fail independently: a store on a full disk can still be read.

    Arguments: `verb` completes the log line "the store can't ...", and `so` says there what follows; `changed` is called
    once per change, with `what` and "_down" or "_up"; `monotonic`, the clock, in seconds; `quiet`, seconds.
    """

    def __init__(
        self,
        verb: str,
        changed: Callable[[str], None],
        monotonic: Callable[[], float],
        what: str = "store",
        so: str = "",
        quiet: float = QUIET,
    ) -> None:
        self._verb = verb
        self._so = so
        self._changed = changed
        self._monotonic = monotonic
        self._what = what
        self._quiet = quiet
        self._failures = 0
        self._next_probe = 0.0
        self._said_down = False
        self._failed_at = 0.0

    @property
    def down(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def beside(self, verb: str, what: str = "store", so: str = "", quiet: float = QUIET) -> Health:
        """Another way of using the same store."""
        return Health(verb, self._changed, self._monotonic, what, so, quiet)

    def check(self) -> None:
        """Raise StoreUnavailable if the store is known not to answer and it is not yet time to find out again."""
        if self._failures < TRIP:
            return
        now = self._monotonic()
        if now < self._next_probe:
            raise StoreUnavailable("the store is known not to answer")
        self._next_probe = now + PROBE

    def failed(self, error: BaseException) -> None:
        self._failures += 1
        self._failed_at = self._monotonic()
        self._next_probe = self._failed_at + PROBE
        if not self._said_down:
            self._said_down = True
            logger.error("the store can't %s%s: %s", self._verb, self._so, _causes(error))
            self._changed(f"{self._what}_down")

    def worked(self) -> None:
        self._failures = 0
        if self._said_down and self._monotonic() - self._failed_at >= self._quiet:
            self._said_down = False
            logger.warning("the store can %s again", self._verb)
            self._changed(f"{self._what}_up")


def _causes(error: BaseException | None) -> str:
    """An error and what caused it, on one line."""
    parts: list[str] = []
    while error is not None and len(parts) < 4:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return "".join(character if character.isprintable() else " " for character in " <- ".join(parts))
