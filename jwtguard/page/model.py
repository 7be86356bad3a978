"""What the page shows."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import JWTGuardError
from ..model import Session

__all__ = ["SessionsPage"]


@dataclass(frozen=True, slots=True)
class SessionsPage:
    """What the page shows: the user's `sessions`, newest first, or an `error` in their place.

    `home` is the app's front page, as a relative link. `languages` is the browser's Accept-Language (RFC 9110 section
    12.5.4), "" where it sends none. The forms post to `action`, a relative link to the page itself: one field of
    `end=<session id>`, `keep=current` (end the others) or `keep=none` (end all).
    """

    sessions: tuple[Session, ...] = ()
    error: JWTGuardError | None = None
    home: str = "../"
    languages: str = ""
    action: str = "sessions"
