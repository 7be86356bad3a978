"""Reading the values of settings. Pure: readers answer a value in its one form, or raise `Wrong` with what is accepted.

Then near misses of a name; what makes a secret weak; and what may be shown of a value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

__all__ = [
    "CONTROLS",
    "Wrong",
    "choice",
    "complaint",
    "duration",
    "matching",
    "nearest",
    "redacted",
    "shown",
    "size_of",
    "span",
    "string_or_uri",
    "switch",
    "weakness",
    "whole",
]

CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
"""Control characters, line separators and surrogates, for use inside the brackets of a regular expression."""
_CONTROL: Final = re.compile(f"[{CONTROLS}]")
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)?")
_HOSTS: Final = re.compile(r"[^:\[\]]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_FILLER: Final = re.compile(
    "change|replace|example|sample|default|placeholder|secret|passw(?:or)?d|passphrase|token|your|this|that|must|should|"
    "super|very|really|long|strong|safe|secure|random|string|least|bits?|bytes?|char(?:acter)?s?|valid|which|only|never|"
    "please|insert|here|enter|some|with|production|prod|develop(?:ment)?|test(?:ing)?|local|sign(?:ing|ature)?|auth|login|"
    "jwt|api|app|key|hs(?:256|384|512)|256|384|512|qwerty(?:uiop)?|asdfgh(?:jkl)?|zxcvbn(?:m)?|"
    "for|not|use|the|and|dev|put|set|min|32|48|64|in|is|it|at|to|be|do|my|me|of|or|[-_ .,:;!=+/]"
)
# SHA-256 of secrets that are printed in documents and tutorials, and found in thousands of programs.
_PUBLISHED: Final = frozenset(
    {
        "570dad43de1af4c925f92c16a68a50936da42b7dd6fdeb24850507a1199aac89",  # FastAPI's tutorial on OAuth 2
        "3354cfcf65c7b2e6840ea6f880aede239750cb1d063950c4e8fd9fbf9ec73a32",  # a much copied one on Spring Security
        "5df73e1aa59d8f332c2f5fd6ea1c37d0f2266b623ea3c4efe6cb3d577fd6a5e1",  # another, which begins 3cfa76ef, as text
        "1ed956b932e3dd2780cc0e5f63900d6c07d6594685fa6ac8cc7683e3a5d61235",  # the same, as bytes
        "bf0b62edab9c25ed15d8ad7487c3e0a987c279f477c98cc00863147ecb4d9d71",  # a third, which begins 5367566B, as text
        "da1eb416ce10e01039167f89fd8a63142dd7f3e3cffc3ea180eb84d0fa3f407e",  # the same, as bytes
        "2f1418503c2dfc1cccf5bf27bdb8c1f320f7df415a5336d238bcdea8b53ec633",  # RFC 7515 appendix A.1, as text
        "8427f9fcbc7461bbb0b1882bd6e07b5a48ef58bf9145c9fc736423bceb1a29f9",  # the same, as bytes
        "0330b11998cbc9abd5a585e755cb5df2f73f1a5632fdcc2abb19e05e3eceddb9",  # RFC 7520 section 3.5, as text
        "73ec74458059c70cae3f0ade8663fe0da1dc4b114ed8cdac75364140b4458a4c",  # the same, as bytes
    }
)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that at most two edits (insert, delete, substitute, transpose) make of `word`; None if there is none.

    Of several, one that a single edit makes, then the first in the alphabet.
    """
    near = [other for other in known if abs(len(other) - len(word)) <= 2 and _two_edits_apart(word, other)]
    return min(near, key=lambda other: (other not in _one_edit(word, set(other)), other), default=None)


def _two_edits_apart(one: str, other: str) -> bool:
    letters = set(one) | set(other)
    return not _one_edit(one, letters).isdisjoint(_one_edit(other, letters))


def _one_edit(word: str, letters: Iterable[str]) -> set[str]:
    """All words that one edit makes of this one, and the word itself."""
    halves = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    found = {word} | {left + right[1:] for left, right in halves if right}
    found |= {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    for letter in letters:
        found |= {left + letter + right for left, right in halves}
        found |= {left + letter + right[1:] for left, right in halves if right}
    return found


def _seconds(value: object) -> float | None:
    """The seconds that a text like `90`, `30m` or `250ms`, a timedelta or a number means; None if it isn't a duration."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        return int(match[1]) * _UNITS[match[2] or "s"] if match else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class Wrong(Exception):
    """A value can't be accepted: what is, and what was found where the value doesn't say it, or mustn't be shown."""

    def __init__(self, accepted: str, found: str | None = None) -> None:
        super().__init__(accepted)
        self.accepted = accepted
        self.found = found


def duration(low: float, high: float, *, off: bool = False) -> Callable[[Any], float | None]:
    """Reads seconds as a float; None for `off`, where that is allowed."""

    accepted = f"a duration from {span(low)} to {span(high)}, such as 90, 90s, 30m, 12h, 30d or 250ms{', or off' * off}"

    def read(value: object) -> float | None:
        if off and isinstance(value, str) and value.strip() == "off":
            return None
        seconds = _seconds(value)
        if seconds is None or not low <= seconds <= high:
            raise Wrong(accepted)
        return float(seconds)

    return read


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Reads a whole number."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Wrong(f"a whole number from {low} to {high}")
        return value

    return read


def choice(*names: str) -> Callable[[Any], str]:
    """Reads one of these words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value.strip() not in names:
            raise Wrong(" or ".join(names))
        return value.strip()

    return read


def switch(value: object) -> bool:
    """Reads `on` or `off`."""
    return value if isinstance(value, bool) else choice("on", "off")(value) == "on"


def matching(pattern: re.Pattern[str], accepted: str) -> Callable[[Any], str]:
    """Reads text that the whole pattern matches."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Wrong(accepted)
        return value

    return read


def string_or_uri(value: object) -> str:
    """Reads the name of an issuer or an audience."""
    if not isinstance(value, str) or _CONTROL.search(value) or len(value.encode()) > 255:
        raise Wrong("text of 1 to 255 bytes without control characters")
    return value


def span(seconds: float) -> str:
    """A duration as text."""
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if seconds / _UNITS[unit] >= 1 or (not seconds and unit == "s"))
    return f"{seconds / _UNITS[unit]:g}{unit}"


def weakness(secret: bytes, least: int) -> str | None:
    """Why a secret is weak, as the end of the sentence "found a value of 40 bytes ..."; "" if it is only too short, None if
    it is fine.

    Made so that no random secret of `least` bytes is refused, be it raw, hexadecimal or base64.
    """
    text = secret.decode("latin-1").lower()
    steps = [abs(one - other) for one, other in pairwise(secret)]
    if len(secret) < least:
        return ""
    if hashlib.sha256(secret).hexdigest() in _PUBLISHED:
        return " that has been published"
    if secret.startswith(b"django-insecure-"):
        return " that Django made for development, and says so"
    if len(set(secret)) < 8:
        return " with fewer than 8 different ones"
    if len({text[at : at + 3] for at in range(len(text) - 2)}) < least * 3 // 4:
        return " that repeats itself"
    if 3 * sum(step <= 1 for step in steps) >= 2 * len(steps):
        return " that counts up or down"
    if len(_FILLER.sub("", re.sub(r"(.)\1+", r"\1", text, flags=re.DOTALL))) < 16:
        return " that reads like an example"
    return None


def complaint(name: str, found: str, accepted: str) -> str:
    """The line of a ConfigError about one setting, on one line whatever the name is."""
    return f"{name if name.isprintable() else ascii(name)}: found {found}; accepted: {accepted}"


def shown(value: object) -> str:
    """A value as it may stand in a message: on one line, and not too long."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:80] + "...")
    small = isinstance(value, bool | float | timedelta) or (isinstance(value, int) and value.bit_length() < 64)
    return repr(value) if small else size_of(value)


def size_of(value: object) -> str:
    """What can be said about a value that mustn't be shown."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return f"a value of {len(value)} byte{'s' * (len(value) != 1)}"
    return f"a value of type {type(value).__name__}"


def redacted(url: str) -> str:
    """A store's URL as it may be shown: without user, password, query and what might be a misplaced part of these."""
    scheme, _, rest = url.partition("://")
    place, *query = re.split("[?#]", rest, maxsplit=1)
    _, at, place = place.rpartition("@")
    hosts, slash, path = place.partition("/")
    if "@" in "".join(query) or not all(map(_HOSTS.fullmatch, hosts.split(","))):
        return f"{scheme}://***"
    return f"{scheme}://{'***@' * bool(at)}{hosts}{slash}{path}{'?***' * bool(query)}"
