"""Whether the store answers, said once per change and not once per request."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["Health"]

logger = logging.getLogger("jwtguard")


class Health:
    """One way of using the store: reading, or writing. They fail apart (a full disk can be read).

    Arguments: `verb`, what the store can or can't ("be read"); `changed`, told of each change, as `what` and "_down" or
    "_up".
    """

    def __init__(self, verb: str, changed: Callable[[str], None], what: str = "store") -> None:
        self._verb = verb
        self._changed = changed
        self._what = what
        self.down = False

    def beside(self, verb: str, what: str = "store") -> Health:
        """Another way of using the same store."""
        return Health(verb, self._changed, what)

    def failed(self, error: BaseException) -> None:
        if not self.down:
            self.down = True
            logger.error("the store can't %s: %s", self._verb, _causes(error))
            self._changed(f"{self._what}_down")

    def worked(self) -> None:
        if self.down:
            self.down = False
            logger.warning("the store can %s again", self._verb)
            self._changed(f"{self._what}_up")


def _causes(error: BaseException | None) -> str:
    """An error and what caused it, on one line."""
    parts: list[str] = []
    while error is not None and len(parts) < 4:
        parts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return "".join(character if character.isprintable() else " " for character in " <- ".join(parts))
