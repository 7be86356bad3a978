"""Reading `Authorization: Bearer <token>` (RFC 6750 section 2.1), as servers deliver it.

Some servers deliver two fields as two values, others join them with a comma; both are one request with two credentials,
which is malformed (RFC 6750 section 3.1). What isn't of the scheme Bearer is another party's, and counts as no credentials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .errors import RequestInvalid, TokenInvalid

__all__ = ["PREFIX_LENGTH", "read_bearer"]

PREFIX_LENGTH: Final = len(b"Bearer ")

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
# A scheme ends where the characters of a token end (RFC 9110 sections 5.6.2 and 11.1).
_NAMES_BEARER: Final = re.compile(rb"(?:^|,)[ \t]*bearer(?![!#$%&'*+.^_`|~0-9a-z-])", re.IGNORECASE)


def read_bearer(values: Sequence[bytes], longest: int) -> bytes | None:
    """The token of a request's Authorization values; None if there are no bearer credentials.

    longest: bytes that a token may have; of a longer value no more is looked at than that. Raises RequestInvalid for more
    than one set of credentials, TokenInvalid for a Bearer without one well-formed token.
    """
    if not values:
        return None
    if len(values) > 1:
        raise RequestInvalid("more than one set of credentials")
    value = values[0][: PREFIX_LENGTH + longest]
    if _NAMES_BEARER.search(value) is None:
        return None
    if b"," in value:
        raise RequestInvalid("more than one set of credentials")
    match = _BEARER.fullmatch(value)
    if match is None or len(values[0]) > len(value):
        raise TokenInvalid("the Authorization header is not: Bearer, spaces, one token of a bounded length")
    return match[1]
