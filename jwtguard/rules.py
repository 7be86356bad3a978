"""Which paths need no token, and which scopes or how fresh a login a path needs. Pure, and cheap for every request.

The two questions are opposites, and each errs on its own safe side:

- A **public** pattern opens a door, so it matches as little as it can: only a path in canonical form, `/login` isn't
  `/login/`, `/static/*` is what lies below `/static/` but neither `/static/` nor `/static`, and methods are compared as
  they came.
- A **scope** rule closes a door, so it matches as much as it can. Frameworks route what isn't written like the rule to the
  handler that the rule is for: Flask serves `//admin` from `/admin`, Litestar `/admin/`, Starlette `/admin%0a`. A rule that
  only compares text is passed by all of them. Therefore
    - one trailing slash counts for nothing: `/admin` covers `/admin/`, and `/admin/*` covers `/admin` and `/admin/` too;
    - letters count in any case: some frameworks raise methods to upper case, and behind a proxy there may be an app that
      routes `/ADMIN` as `/admin`;
    - a path that isn't canonical may be routed anywhere, so it needs what all rules need;
    - of several rules that match, none wins: what they need adds up.
- `GET` includes `HEAD` in both, because frameworks answer HEAD with the handler of GET. For a WebSocket's handshake, which
  has no method in ASGI, callers say "GET".

No pattern makes a regular expression that backtracks more than once over the path: a wildcard never crosses the slash that
follows it, and only a last one is open-ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from .patterns import Need, Pattern, ScopeRule, canonical, parse_public, parse_rules

__all__ = ["Rules", "canonical"]

_OTHER: Final = ""
"""Stands for every method that no pattern names."""


class _Public(NamedTuple):
    """The public paths of one method."""

    exact: frozenset[str]
    wild: re.Pattern[str] | None


class _Scoped(NamedTuple):
    """The scope rules for one method, case-folded; exact paths without their trailing slash."""

    exact: dict[str, tuple[Need, ...]]
    wild: tuple[tuple[re.Pattern[str], tuple[Need, ...]], ...]


class Rules:
    """Public paths and scope rules.

    Arguments: `public` and `rules`, texts in the language of `jwtguard.patterns`. ConfigError where they can't be read.
    Paths are decoded and relative to the mount point.
    """

    __slots__ = ("_all_needs", "_public", "_scoped", "has_public_paths", "has_scope_rules")

    def __init__(self, public: str = "", rules: str = "") -> None:
        patterns, scope_rules = parse_public(public), parse_rules(rules)
        self.has_public_paths: Final = bool(patterns)
        """Whether any path is public. If not, `is_public` needn't be asked."""
        self.has_scope_rules: Final = bool(scope_rules)
        """Whether there is a scope rule. If not, `required` needn't be asked."""
        self._public = {method: _public(patterns, method) for method in _methods(patterns)}
        self._scoped = {method: _scoped(scope_rules, method) for method in _methods(rule.pattern for rule in scope_rules)}
        self._all_needs = _union(rule.needs for rule in scope_rules)

    def is_public(self, method: str, path: str) -> bool:
        """Whether this path needs no token."""
        public = self._public.get(method) or self._public[_OTHER]
        if path in public.exact:  # no need to look at its form: patterns are canonical
            return True
        return public.wild is not None and canonical(path) and public.wild.fullmatch(path) is not None

    def required(self, method: str, path: str) -> tuple[Need, ...]:
        """All that this path needs, in the order of the rules; () if nothing."""
        if not self.has_scope_rules:
            return ()
        if not canonical(path):
            return self._all_needs
        scoped = self._scoped.get(method.upper()) or self._scoped[_OTHER]
        path = path.casefold()
        exact = scoped.exact.get(path.removesuffix("/"), ())
        wild = [needs for pattern, needs in scoped.wild if pattern.fullmatch(path)]
        return _union([exact, *wild]) if wild else exact


def _methods(patterns: Iterable[Pattern]) -> set[str]:
    """The methods that can make a difference, and the stand-in for all others."""
    named = {pattern.method for pattern in patterns} | {_OTHER}
    return named | {"HEAD"} if "GET" in named else named


def _applies(pattern: Pattern, method: str) -> bool:
    return pattern.method in ("", method) or (pattern.method == "GET" and method == "HEAD")


def _public(patterns: Iterable[Pattern], method: str) -> _Public:
    paths = {pattern.path for pattern in patterns if _applies(pattern, method)}
    wild = sorted(path for path in paths if "*" in path)
    joined = "|".join(_segments(path.removesuffix("/*")) + ("/.+" if path.endswith("/*") else "") for path in wild)
    return _Public(frozenset(paths.difference(wild)), re.compile(joined) if wild else None)


def _scoped(rules: Iterable[ScopeRule], method: str) -> _Scoped:
    exact: dict[str, tuple[Need, ...]] = {}
    wild: list[tuple[re.Pattern[str], tuple[Need, ...]]] = []
    for pattern, needs in rules:
        if not _applies(pattern, method):
            continue
        path = pattern.path.casefold()
        if "*" in path:
            wild.append((_covering(path), needs))
        else:
            path = path.removesuffix("/")
            exact[path] = _union([exact.get(path, ()), needs])
    return _Scoped(exact, tuple(wild))


def _covering(path: str) -> re.Pattern[str]:
    """What a scope rule for this path covers: more than what a public pattern matches."""
    if path.endswith("/*"):
        return re.compile(_segments(path.removesuffix("/*")) + "(?:/.*)?")
    return re.compile(_segments(path.removesuffix("/")) + "/?")


def _segments(path: str) -> str:
    return "/".join("[^/]+" if segment == "*" else re.escape(segment) for segment in path.split("/"))


def _union(groups: Iterable[tuple[Need, ...]]) -> tuple[Need, ...]:
    return tuple(dict.fromkeys(need for group in groups for need in group))
