"""What an app hands to the guard, checked: each function answers the value in its one form, or says what is wrong."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Final
from uuid import UUID

from .jws import DEEPEST, is_too_deep
from .model import Device, Identity
from .tokens import RESERVED_CLAIMS, is_subject

__all__ = [
    "checked_claims",
    "checked_device",
    "checked_identity",
    "checked_limit",
    "checked_scopes",
    "checked_subject",
    "milliseconds",
    "takes",
]

LONGEST_SCOPES: Final = 1024
LONGEST_DEVICE: Final = 64
"""Characters of a device's name, and of its address."""

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


def checked_limit(limit: int | None, most: int) -> int | None:
    """A limit of sessions, or None. Raises TypeError, ValueError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"limit is an int, and not {type(limit).__name__}")
    if not 1 <= limit <= most:
        raise ValueError(f"limit is {limit}: expected 1 to {most}")
    return limit


def checked_identity(identity: Identity) -> Identity:
    """An identity, and not a subject. Raises TypeError."""
    if not isinstance(identity, Identity):
        raise TypeError(
            f"an Identity is expected (of the current request, or of guard.authenticate), and not {type(identity).__name__}"
        )
    return identity


def checked_device(device: Device | None) -> Device | None:
    """A device whose name and address are short and printable, or None. Raises TypeError."""
    if device is None:
        return None
    if not isinstance(device, Device):
        raise TypeError(f"device is a jwtguard.Device, and not {type(device).__name__}")
    return Device(_printable(device.name), device.user_agent, _printable(device.ip or "") or None)


def _printable(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a device's name and ip are strings, and not {type(text).__name__}")
    return "".join(character for character in text[:LONGEST_DEVICE] if character.isprintable())


def takes(app: object, count: int) -> bool:
    """Whether something can be called with so many arguments, as far as can be told."""
    if not callable(app):
        return False
    try:
        inspect.signature(app).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it is written in C, and tells nothing
        return True
    return True


def milliseconds(moment: float | datetime | None) -> int | None:
    """Seconds since the epoch, or an aware datetime, in ms. Raises ValueError for a naive datetime, NaN and infinities."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("a datetime without a time zone could be any of 24 hours: use datetime.now(UTC)")
        moment = moment.timestamp()
    if moment is None:
        return None
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise TypeError(f"a time is a number of seconds or a datetime, and not {type(moment).__name__}")
    if not isfinite(moment):
        raise ValueError("a time is a finite number of seconds")
    return int(moment * 1000)
