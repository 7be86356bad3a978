"""Signed texts in compact form (RFC 7515 section 3.1), read more strictly than libraries do, and written.

The signature itself is made and checked by a key, and so by PyJWT. PyJWT's own reader would go through each character of a
token in Python, and accepts what a verifier should refuse: text that is not canonical base64url, duplicate names, other
encodings than UTF-8. What it does check is checked here too; a test holds the two together over mutated tokens.

- Before any decoding: at most so many bytes, three segments of base64url characters, and nothing else.
- The header names a key that we have, just that key's algorithm, the expected `typ`, and nothing that changes the meaning
  of the rest (`crit`, `b64`, `zip` and what would bring a key along are refused: RFC 7515 sections 4.1.11 and 4.1.2).
- The payload is neither decoded nor read before the signature holds.
- Header and payload are JSON objects in UTF-8, without duplicate names and without NaN, and not nested too deeply.
"""

from __future__ import annotations

import binascii
import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

from .keys import Key, Keyring

__all__ = [
    "DEEPEST",
    "Reader",
    "Refused",
    "from_base64url",
    "is_too_deep",
    "json_object",
    "length",
    "refuse",
    "to_base64url",
    "write",
]

DEEPEST: Final = 64
"""Levels of objects and arrays in a payload, at most."""
MOST_HEADERS: Final = 64
"""Headers that are remembered. There is one for each key and `typ`."""

_FORM: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER_NAMES: Final = frozenset({"alg", "kid", "typ"})
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")


class Refused(ValueError):
    """A check failed. The message names the check, for a debugger only: no client and no log sees it."""


def refuse(what: str) -> NoReturn:
    """Raise Refused."""
    raise Refused(what)


class _Header(NamedTuple):
    """What a header says, and all that it says. `typ` is in its short form."""

    key_id: str
    algorithm: str
    typ: str


class Reader:
    """Reads what a key of this ring has signed. `longest`: bytes."""

    def __init__(self, keyring: Keyring, longest: int) -> None:
        self._keyring = keyring
        self._longest = longest
        self._headers: dict[bytes, _Header] = {}
        """By their text, once a signature over it has held: so it is our own signer's, and their number is small."""

    def read(self, token: bytes, typ: str) -> tuple[dict[str, Any], Key]:
        """The payload of a token of this `typ`, and the key that has signed it. Raises ValueError, RecursionError."""
        if len(token) > self._longest or _FORM.fullmatch(token) is None:
            refuse("form")
        header_text, payload_text, signature_text = token.split(b".")
        known = self._headers.get(header_text)
        header = known or _header(from_base64url(header_text))
        key = self._keyring.find(header.key_id, header.algorithm)
        if key is None or header.typ != typ:
            refuse("header")
        signature = from_base64url(signature_text)
        if not key.verify(token[: -len(signature_text) - 1], signature):
            refuse("signature")
        if known is None and len(self._headers) < MOST_HEADERS:
            self._headers[header_text] = header
        return json_object(from_base64url(payload_text)), key


def write(payload: bytes, key: Key, typ: str) -> bytes:
    """This payload, signed by a key. The same arguments give the same bytes, if the key's algorithm does."""
    signed = _signed(payload, key, typ)
    return signed + b"." + to_base64url(key.sign(signed))


def length(payload: bytes, key: Key, typ: str) -> int:
    """How long that would be, without the price of a signature."""
    return len(_signed(payload, key, typ)) + 1 + -(-key.signature_bytes * 4 // 3)


def _signed(payload: bytes, key: Key, typ: str) -> bytes:
    return _header_text(key.id, key.algorithm, typ) + b"." + to_base64url(payload)


@lru_cache(maxsize=MOST_HEADERS)
def _header_text(key_id: str, algorithm: str, typ: str) -> bytes:
    return to_base64url(json.dumps({"alg": algorithm, "kid": key_id, "typ": typ}, separators=(",", ":")).encode())


def _header(data: bytes) -> _Header:
    header = json_object(data)
    key_id, algorithm, typ = header.get("kid"), header.get("alg"), header.get("typ")
    if not header.keys() <= _HEADER_NAMES or not isinstance(key_id, str) or not isinstance(algorithm, str):
        refuse("header")
    if not isinstance(typ, str):
        refuse("typ")
    return _Header(key_id, algorithm, typ.lower().removeprefix("application/"))  # RFC 7515 section 4.1.9


def from_base64url(text: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515 section 2); another text for the same bytes is refused."""
    data = binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
    if to_base64url(data) != text:
        refuse("base64url")
    return data


def to_base64url(data: bytes) -> bytes:
    """Encode as base64url without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL, b"=")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        refuse("duplicate names")
    return found


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=lambda _: refuse("encoding"))


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8, without duplicate names and without NaN or infinities (RFC 8259, RFC 7515 section 4)."""
    text = data.decode("utf-8")
    value = _decoder.decode(text)
    if not isinstance(value, dict) or (text.count("{") + text.count("[") > DEEPEST and is_too_deep(value)):
        refuse("object")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether JSON data is nested deeper than a token's may be. How much deeper Python can go differs between versions."""
    level = [value]
    for _ in range(DEEPEST):
        members = [holder.values() if isinstance(holder, dict) else holder for holder in level]
        level = [member for several in members for member in several if isinstance(member, dict | list)]
        if not level:
            return False
    return True
