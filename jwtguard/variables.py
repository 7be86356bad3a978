"""The table of settings: the variable of each, its default, what it may be. Pure: nothing is read from anywhere.

Rows are in the order of the documents' table. A row's reader answers a value in its one form, or raises `Wrong`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from .errors import ConfigError
from .patterns import parse_public, parse_rules
from .values import (
    CONTROLS,
    Wrong,
    choice,
    duration,
    matching,
    size_of,
    string_or_uri,
    switch,
    whole,
)

__all__ = ["KEY_ALGORITHMS", "PREFIX", "SECRET_BYTES", "VARIABLES", "Given", "Variable"]

PREFIX: Final = "JWTGUARD_"
LONGEST_TOKEN: Final = 15 * 1024
"""A longer one would not fit into a body for the refresh endpoint."""
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret for each algorithm: as long as the hash (RFC 7518 section 3.2)."""
KEY_ALGORITHMS: Final = ("EdDSA", "ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
"""The algorithms of keys that are no secrets."""

_YEARS: Final = 3650 * 86_400
_STORE: Final = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://[^\s{CONTROLS}]*")
_ENDPOINTS: Final = re.compile(r"off|(?!.*/\.{1,2}(?:/|\Z))(?:/[A-Za-z0-9._~-]+)+")
_ORIGIN: Final = re.compile(
    r"(?:http://(?![^/]*:80\Z)|https://(?![^/]*:443\Z))(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?"
)
_REALM: Final = re.compile(r"[ !#-\[\]-~]{1,255}")


class Given(NamedTuple):
    """What was given for a setting: the name it came under, and the value, None, or the `Wrong` that stands for it."""

    name: str
    value: Any = None

    def __repr__(self) -> str:
        return self.name


class Variable(NamedTuple):
    """A row of the table: the variable's name, its default and meaning in words, and how a value is read."""

    name: str
    default_text: str
    meaning: str
    read: Callable[[Any], Any]
    default: Any
    hidden: bool

    def value(self, given: object) -> Any:
        """The setting's value for what was given; absent and empty are the default. Raises Wrong."""
        if isinstance(given, Wrong):
            raise given
        absent = given is None or (isinstance(given, str | bytes) and not given)
        return self.default if absent else self.read(given)


def _endpoints(value: object) -> str:
    return (
        "off" if value is False else matching(_ENDPOINTS, "off, or a path such as /auth without a slash at its end")(value)
    )


def _algorithm(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text in SECRET_BYTES or text in KEY_ALGORITHMS:
        return text
    why = " (none is never allowed: anyone could sign in as anyone)" if text.lower() == "none" else ""
    raise Wrong(", ".join([*SECRET_BYTES, *KEY_ALGORITHMS]) + why)


def _path(value: object) -> str | None:
    """The path of keys. What isn't one may be a key itself, put into the wrong variable."""
    if value is False or value == "off":
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or len(value) > 4096 or re.search(rf"[{CONTROLS}]|-----BEGIN|^\s*[{{\[]", value):
        raise Wrong("the path of a JWKS file, or of a folder of PEM files")
    return value


def _secret(value: object) -> bytes:
    if isinstance(value, str) and not re.search("[\ud800-\udfff]", value):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise Wrong("text in UTF-8, or bytes by keyword", f"{size_of(value)} that is neither")


def _secrets(value: object) -> tuple[bytes, ...]:
    accepted = 'a JSON list of strings, such as ["...", "..."], or a list by keyword'
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value, type=list[str])
        except (msgspec.MsgspecError, ValueError):
            raise Wrong(accepted, f"{size_of(value)} that is not one") from None
    if not isinstance(value, list | tuple):
        raise Wrong(accepted, size_of(value))
    return tuple(map(_secret, value))


def _store(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not _STORE.fullmatch(text):
        raise Wrong("a URL such as sqlite:///jwtguard.db or memory://", size_of(value))
    return text


def _patterns(parse: Callable[[str], object], accepted: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if isinstance(value, list | tuple) and all(isinstance(item, str) and "," not in item for item in value):
            value = ", ".join(value)
        if not isinstance(value, str):
            raise Wrong(f"{accepted}, or a list of such strings, each without a comma")
        try:
            parse(value)
        except ConfigError as error:
            raise Wrong(accepted, str(error)) from None
        return value

    return read


def _cookie(value: object) -> str | bool:
    text = {False: "off", True: "on"}[value] if isinstance(value, bool) else choice("off", "on", "silent")(value)
    return text if text != "off" else False


def _origins(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and _ORIGIN.fullmatch(each) for each in value):
        raise Wrong("origins as browsers send them, in lower case and without a path or a default port: https://a.example")
    return tuple(value)


def _row(
    name: str, read: Callable[[Any], Any], default: str, meaning: str, *, value: Any = ..., hidden: bool = False
) -> tuple[str, Variable]:
    value = read(default) if value is ... else value
    return name, Variable(PREFIX + name.upper(), default, meaning, read, value, hidden)


_PUBLIC = _patterns(parse_public, "patterns such as /, /login, /static/*, GET /items/*")
_RULES = _patterns(parse_rules, "rules such as /admin/*: admin, POST /items/*: write")

VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    dict(
        (
            _row("secret", _secret, "required unless KEYS", "HMAC secret, at least 32 bytes", value=b"", hidden=True),
            _row(
                "secret_fallbacks",
                _secrets,
                "empty",
                "JSON list of secrets that verify, but don't sign",
                value=(),
                hidden=True,
            ),
            _row("keys", _path, "none", "asymmetric keys: a JWKS file or a folder of PEM files", value=None, hidden=True),
            _row("algorithm", _algorithm, "HS256, with KEYS EdDSA", "pinned; never taken from the token", value=""),
            _row("issuer", string_or_uri, "jwtguard", "checked on every token"),
            _row("audience", string_or_uri, "the issuer", "checked on every token", value=""),
            _row("store", _store, "sqlite:///jwtguard.db", "where sessions are kept: a URL", hidden=True),
            _row("access_ttl", duration(1, _YEARS), "30m", "life of an access token"),
            _row("refresh_ttl", duration(1, _YEARS), "30d", "life of a refresh token; each refresh starts it anew"),
            _row("session_ttl", duration(1, _YEARS), "90d", "ends any session, counted from login"),
            _row("idle_timeout", duration(1, _YEARS, off=True), "off", "ends a session that isn't used"),
            _row("max_sessions", whole(1, 1000), "100", "sessions per user"),
            _row(
                "on_limit", choice("evict", "deny", "choose"), "evict", "`evict` the least recently used, `deny`, `choose`"
            ),
            _row("cache_ttl", duration(0.001, 3600), "5s", "how long a session is trusted without asking the store"),
            _row("cache_size", whole(1, 100_000_000), "50000", "cached tokens"),
            _row("rotation_grace", duration(0, 600), "30s", "how long a refreshed token may be used again"),
            _row("on_reuse", choice("end", "refuse"), "end", "on later reuse, `end` the session or `refuse` the token"),
            _row("stale_if_down", duration(0, 3600), "0s", "store down: how long known sessions still serve GET and HEAD"),
            _row("store_timeout", duration(0.001, 60), "250ms", "per store operation"),
            _row("public", _PUBLIC, "empty", "paths that need no token: `/, /login, /static/*, GET /items/*`", value=""),
            _row("rules", _RULES, "empty", "scopes by path: `/admin/*: admin, POST /items/*: write`", value=""),
            _row("mode", choice("enforce", "optional"), "enforce", "`enforce`, or `optional`: no token is anonymous"),
            _row(
                "cookie",
                _cookie,
                "off",
                "`on`: tokens in HttpOnly cookies, with CSRF defence; `silent`: and renewed as needed",
            ),
            _row("trusted_origins", _origins, "empty", "with cookies: other origins that may post", value=()),
            _row(
                "endpoints",
                _endpoints,
                "`/auth` in the integrations",
                "where the endpoints are served, or `off`",
                value=None,
            ),
            _row("leeway", duration(0, 300), "0s", "clock skew allowed when a token expires"),
            _row("max_token", whole(256, LONGEST_TOKEN), "8192", "longest token in bytes"),
            _row(
                "realm", matching(_REALM, "printable ASCII without quotes and backslashes"), "jwtguard", "in the challenge"
            ),
            _row("remote_user", switch, "off", "`on`: the subject is in WSGI's REMOTE_USER"),
        )
    )
)
"""All settings by keyword, in the order of the documents' table."""
