"""The small languages in which paths are written. Pure: text in, plain values out.

JWTGUARD_PUBLIC and JWTGUARD_RULES:

    PUBLIC   [METHOD ]/path, ...              /, /login, /static/*, GET /items/*
    RULES    [METHOD ]/path: need ..., ...    /admin/*: admin, POST /items/*: write max_age=5m

A need is a scope, or `max_age=` and how long ago the user may have signed in: so no scope can begin like that.

- `*` is a whole segment: one segment, or, as the last one, everything below. All else is literal; in PUBLIC also its case.
- A pattern is in canonical form, so that a path in any other form can't equal one.
- What can't be read is an error that says why; nothing is guessed, because a rule that is read as another one than its
  author meant may open a door. Elements without text (a trailing comma) say nothing and are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, TypeVar

from .errors import ConfigError
from .values import CONTROLS, Wrong, duration, nearest, shown

__all__ = ["MaxAge", "Pattern", "ScopeRule", "canonical", "parse_public", "parse_rules"]

T = TypeVar("T")

# U+FFFD stands for bytes that a server couldn't decode, and some frameworks drop such bytes before they route.
_ODD: Final = re.compile(rf"[{CONTROLS}\ufffd\\;%?#]")
_DOTS: Final = re.compile(r"/\.\.?(?:/|\Z)")
_NOT_CANONICAL: Final = re.compile(rf"{_ODD.pattern}|//|{_DOTS.pattern}")
_COLON: Final = re.compile(r":\s")
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]*")
_SCOPE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3, and no comma
_MAX_AGE: Final = "max_age"
_age: Final = duration(1, 3650 * 86_400)
_COMMON_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class Pattern(NamedTuple):
    """`method` is "" for any; `path` is as written."""

    method: str
    path: str


class MaxAge(NamedTuple):
    """The user must have proved who they are at most so long ago."""

    seconds: float


Need: TypeAlias = str | MaxAge
"""A scope that a token must have, or how fresh its login must be."""


class ScopeRule(NamedTuple):
    """What matches `pattern` needs all of `needs`."""

    pattern: Pattern
    needs: tuple[Need, ...]


class _Unreadable(Exception):
    """Why an element can't be read."""


def canonical(path: str) -> bool:
    """Whether a path, decoded, is written in the one way that every framework routes alike.

    It begins with `/`, has no empty segment except a last one, no `.` or `..` segment, no control character, surrogate or
    U+FFFD, and none of `\\ ; % ? #`. So `/login/` is canonical, and another path than `/login`.
    """
    return path.startswith("/") and _NOT_CANONICAL.search(path) is None


def parse_public(text: str) -> tuple[Pattern, ...]:
    """The patterns in a text like `/, /login, GET /items/*`. ConfigError names each element that can't be read."""
    return _each(text, _pattern)


def parse_rules(text: str) -> tuple[ScopeRule, ...]:
    """The rules in a text like `/admin/*: admin, POST /items/*: read write`. ConfigError as in `parse_public`."""
    return _each(text, _rule)


def _each(text: str, read: Callable[[str], T]) -> tuple[T, ...]:
    found: list[T] = []
    wrong: list[str] = []
    for element in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(read(element))
        except _Unreadable as why:
            wrong.append(f"{shown(element)}, which {why}")
    if wrong:
        raise ConfigError("; ".join(wrong))
    return tuple(found)


def _rule(element: str) -> ScopeRule:
    # A colon alone doesn't end the path: paths (`/jobs/7:run`) and scopes (`read:items`) may hold one.
    path, *rest = _COLON.split(element, maxsplit=1)
    words = "".join(rest).split()
    if not path or not words:
        raise _Unreadable("lacks a path or a scope (a path, a colon, a space, then the scopes)")
    return ScopeRule(_pattern(path), tuple(dict.fromkeys(map(_need, words))))


def _need(word: str) -> Need:
    name, equals, value = word.partition("=")
    if name == _MAX_AGE and equals:
        try:
            seconds = _age(value)
        except Wrong as why:
            raise _Unreadable(f"has {shown(word)}: expected {why.accepted}") from None
        return MaxAge(seconds or 0)
    if not _SCOPE.fullmatch(word) or word.startswith("/") or word.endswith(":"):
        raise _Unreadable(f"has what is not a scope: {shown(word)} (is a comma missing?)")
    return word


def _pattern(element: str) -> Pattern:
    *before, path = element.split()
    if len(before) > 1 or (before and before[0].startswith("/")):
        raise _Unreadable("has a space in its path (is a comma missing?)")
    method = before[0] if before else ""
    _check_method(method)
    _check_path(path)
    return Pattern(method, path)


def _check_method(method: str) -> None:
    if not method or method in _COMMON_METHODS:
        return
    if not _METHOD.fullmatch(method):
        raise _Unreadable("begins with what is not a method in upper case")
    meant = nearest(method, _COMMON_METHODS)
    if meant:  # a misspelt method matches no request, so its rule would guard nothing
        raise _Unreadable(f"begins with an unknown method (did you mean {meant}?)")


def _check_path(path: str) -> None:
    bare = "/".join("x" if segment == "*" else segment for segment in path.split("/"))
    if not path.startswith("/"):
        raise _Unreadable("has a path that doesn't begin with /")
    if "*" in bare:
        raise _Unreadable("has a * that is not a whole segment")
    if "//" in path:
        raise _Unreadable("has an empty segment (//), so no path in canonical form can match it")
    if _DOTS.search(path):
        raise _Unreadable("has a segment . or .., so no path in canonical form can match it")
    if odd := _ODD.search(path):
        raise _Unreadable(f"has the character {odd[0]!a}, so no path in canonical form can match it (write paths decoded)")
