"""What an app hands to the guard, checked: each function answers the value in its one form, or says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Final
from uuid import UUID

from .tokens import DEEPEST, RESERVED_CLAIMS, is_subject, is_too_deep

__all__ = ["checked_claims", "checked_scopes", "checked_subject", "milliseconds"]

LONGEST_SCOPES: Final = 1024

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def checked_subject(subject: object) -> str:
    """A str, int or UUID as a str of 1 to 255 UTF-8 bytes without control characters. Raises TypeError, ValueError."""
    if isinstance(subject, bool) or not isinstance(subject, str | int | UUID):
        raise TypeError(f"a subject is a str, an int or a UUID, and not {type(subject).__name__}")
    text = str(subject)
    if not is_subject(text):
        raise ValueError("a subject is 1 to 255 bytes of UTF-8 without control characters")
    return text


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Scopes, each a scope-token of RFC 6749 section 3.3. Raises TypeError, ValueError."""
    if isinstance(scopes, str):
        raise TypeError("scopes is a list of strings, and not one string")
    found = tuple(dict.fromkeys(scopes))
    for scope in found:
        if not isinstance(scope, str) or _SCOPE.fullmatch(scope) is None:
            raise ValueError("a scope is printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)")
    if sum(map(len, found)) > LONGEST_SCOPES:
        raise ValueError(f"scopes are {LONGEST_SCOPES} characters at most, all together")
    return found


def checked_claims(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Custom claims as the token will give them back: JSON, and none of those that have a meaning of their own.

    Raises TypeError, ValueError.
    """
    taken = sorted(RESERVED_CLAIMS & claims.keys())
    if taken:
        raise ValueError(f"these claims are not for an app to set: {', '.join(taken)}")
    try:
        text = json.dumps(dict(claims), ensure_ascii=False, allow_nan=False)
        text.encode()
        found: dict[str, Any] | None = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        found = None
    if found is None or is_too_deep({"claims": found}):  # as deep as they are in the refresh token
        raise ValueError(f"the claims are nested too deeply: {DEEPEST - 1} levels are allowed")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the claims as it will be read back: 1 and "1" are the same name in JSON."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the claims have two names that are the same in JSON")
    return found


def milliseconds(moment: float | datetime | None) -> int | None:
    """Seconds since the epoch, or an aware datetime, in ms. Raises ValueError for a naive datetime, NaN and infinities."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("a datetime without a time zone could be any of 24 hours: use datetime.now(UTC)")
        moment = moment.timestamp()
    if moment is None:
        return None
    if not isfinite(moment):
        raise ValueError("a time is a finite number of seconds")
    return int(moment * 1000)
