"""Every setting: its variable, its default, what it may be. Read once, checked once, then frozen.

- One table, `VARIABLES`, has a row for each setting; `Settings(...)` and `Settings.from_env` both go through it, so a value
  is accepted or refused for the same reason and with the same words, wherever it comes from.
- All that is wrong is in one ConfigError, a line for each. A wrong setting is never replaced by its default: only what is
  absent is.
- No secret is shown: not by `repr`, not in an error, not in what a traceback shows of this module's variables. The same
  holds for what may contain one (a store's URL, inline keys).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from .errors import ConfigError
from .patterns import parse_public, parse_rules
from .values import (
    CONTROLS,
    Wrong,
    choice,
    duration,
    matching,
    nearest,
    redacted,
    shown,
    size_of,
    span,
    string_or_uri,
    switch,
    weakness,
    whole,
)

__all__ = ["VARIABLES", "Settings", "Variable"]

PREFIX: Final = "JWTGUARD_"
LARGEST_FILE: Final = 64 * 1024
LONGEST_TOKEN: Final = 15 * 1024
"""A longer one would not fit into a body for the refresh endpoint."""
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret for each algorithm: as long as the hash (RFC 7518 section 3.2)."""
MAKE_ONE: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'

_YEARS: Final = 3650 * 86_400
_STORE: Final = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://[^\s{CONTROLS}]*")
_ENDPOINTS: Final = re.compile(r"off|(?!.*/\.{1,2}(?:/|\Z))(?:/[A-Za-z0-9._~-]+)+")
_REALM: Final = re.compile(r"[ !#-\[\]-~]{1,255}")
_ASYMMETRIC: Final = re.compile(r"(?:RS|ES|PS)[0-9]{3}K?|Ed(?:DSA|25519|448)")
# What Kubernetes and Docker put into the environment of every container for a service named jwtguard or jwtguard-...
_INJECTED: Final = re.compile(
    r"(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class _Unset:
    """Nothing was given."""


class _Given(NamedTuple):
    """What was given for a setting: the name it came under, and the value, `_Unset`, or the `Wrong` that stands for it."""

    name: str
    value: Any = _Unset

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
        absent = given is None or given is _Unset or (isinstance(given, str | bytes) and not given)
        return self.default if absent else self.read(given)


def _endpoints(value: object) -> str:
    return (
        "off" if value is False else matching(_ENDPOINTS, "off, or a path such as /auth without a slash at its end")(value)
    )


def _algorithm(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text in SECRET_BYTES:
        return text
    why = ""
    if text.lower() == "none":
        why = " (none is never allowed: anyone could sign in as anyone)"
    elif _ASYMMETRIC.fullmatch(text):
        why = " (asymmetric algorithms need a later version)"
    raise Wrong(", ".join(SECRET_BYTES) + why)


def _unsupported(nothing: object, accepted: str) -> Callable[[Any], Any]:
    def read(value: object) -> Any:
        if value is not False and not (isinstance(value, str | list | tuple) and value in ("off", [], ())):
            raise Wrong(accepted)
        return nothing

    return read


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


def _row(
    name: str, read: Callable[[Any], Any], default: str, meaning: str, *, value: Any = _Unset, hidden: bool = False
) -> tuple[str, Variable]:
    value = read(default) if value is _Unset else value
    return name, Variable(PREFIX + name.upper(), default, meaning, read, value, hidden)


_PUBLIC = _patterns(parse_public, "patterns such as /, /login, /static/*, GET /items/*")
_RULES = _patterns(parse_rules, "rules such as /admin/*: admin, POST /items/*: write")
_KEYS = _unsupported(None, "nothing: asymmetric keys are not supported by this version; use SECRET")
_COOKIE = _unsupported(False, "off: cookies are not supported by this version")
_ORIGINS = _unsupported((), "nothing: cookies, which it is for, are not supported by this version")

VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    dict(
        (
            _row("secret", _secret, "required", "HMAC secret, at least 32 bytes", value=b"", hidden=True),
            _row(
                "secret_fallbacks",
                _secrets,
                "empty",
                "JSON list of secrets that verify, but don't sign",
                value=(),
                hidden=True,
            ),
            _row("keys", _KEYS, "none", "asymmetric keys; not supported yet", value=None, hidden=True),
            _row("algorithm", _algorithm, "HS256", "`HS256`, `HS384` or `HS512`; never taken from the token"),
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
            _row("cookie", _COOKIE, "off", "tokens in cookies; not supported yet"),
            _row("trusted_origins", _ORIGINS, "empty", "other origins that may post; not supported yet", value=()),
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


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Settings:
    """All settings, checked. One field for each variable.

    `Settings(secret=..., public="/login")` takes each setting by keyword, as text (as in the environment) or as a number, a
    timedelta (durations; numbers are seconds), a bool (switches), a list (fallbacks, patterns), bytes (secrets). None and
    empty text are the default. ConfigError names all that are wrong.
    """

    secret: bytes
    secret_fallbacks: tuple[bytes, ...]
    keys: None
    algorithm: str
    issuer: str
    audience: str
    store: str
    access_ttl: float
    refresh_ttl: float
    session_ttl: float
    idle_timeout: float | None
    max_sessions: int
    on_limit: Literal["evict", "deny", "choose"]
    cache_ttl: float
    cache_size: int
    rotation_grace: float
    on_reuse: Literal["end", "refuse"]
    stale_if_down: float
    store_timeout: float
    public: str
    rules: str
    mode: Literal["enforce", "optional"]
    cookie: bool
    trusted_origins: tuple[str, ...]
    endpoints: str | None
    """A path, "off", or None where nothing was said."""
    leeway: float
    max_token: int
    realm: str
    remote_user: bool

    def __init__(self, **values: Any) -> None:
        given = {name: _Given(name, values.get(name, _Unset)) for name in VARIABLES}
        wrong = _unknown_keywords(values)
        values.clear()
        self._fill(given, wrong)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """The settings in the environment (`os.environ` if left out), with `overrides` by keyword going first.

        A variable that is set but empty counts as absent, as container platforms can't unset one. An override of None says
        nothing (for `idle_timeout`: off); one of empty text asks for the default, whatever the environment says.
        """
        environ = os.environ if environ is None else environ
        said = {name for name, value in overrides.items() if value is not None or name == "idle_timeout"}
        given = {
            name: _Given(name, overrides[name]) if name in said else _from_environ(variable, environ)
            for name, variable in VARIABLES.items()
        }
        wrong = _unknown_keywords(overrides) + _unknown_variables(environ)
        overrides.clear()
        del environ
        settings = object.__new__(cls)
        settings._fill(given, wrong)
        return settings

    def _fill(self, given: dict[str, _Given], wrong: list[str]) -> None:
        values, more = _checked(given)
        if wrong := more + wrong:
            values.clear()
            raise ConfigError("\n  ".join(["these settings can't be used:", *wrong]))
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = {name: getattr(self, name, None) for name, variable in VARIABLES.items() if not variable.hidden}
        values["store"] = redacted(getattr(self, "store", ""))
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def _from_environ(variable: Variable, environ: Mapping[str, str]) -> _Given:
    name, in_file = variable.name, variable.name + "_FILE"
    path = environ.get(in_file)
    if not path:
        return _Given(name, environ.get(name))
    if environ.get(name):
        return _Given(name, Wrong(f"one of {name} and {in_file}", "both"))
    return _Given(in_file, _contents(path, hidden=variable.hidden))


def _contents(path: str, *, hidden: bool) -> str | Wrong:
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        text = data.decode() if len(data) <= LARGEST_FILE else None
        why = "is too large"
    except (OSError, ValueError) as error:
        text, why = None, f"can't be read as text ({getattr(error, 'strerror', None) or type(error).__name__})"
    if text is not None:
        return re.sub(r"\r?\n\Z", "", text)
    # What isn't a whole path may be the secret itself, put into the wrong variable.
    named = size_of(path) if hidden and not Path(path).is_absolute() else shown(path)
    return Wrong("the path of a file of UTF-8 text, of at most 64 KiB", f"{named}, which {why}")


def _unknown_keywords(values: Mapping[str, object]) -> list[str]:
    known = ", ".join(VARIABLES)
    return [
        _line(name, "an unknown keyword", nearest(name, VARIABLES) or known) for name in values if name not in VARIABLES
    ]


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each misspelt name. The other unknown ones are logged, by name."""
    known = {variable.name.removeprefix(PREFIX) + end for variable in VARIABLES.values() for end in ("", "_FILE")}
    names = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    strange = [name for name in names if name not in known and not _INJECTED.fullmatch(name)]
    misspelt = {name: meant for name in strange if (meant := nearest(name.upper(), known))}
    if others := [ascii(PREFIX + name)[1:-1] for name in strange if name not in misspelt]:
        logging.getLogger("jwtguard").warning("unknown variables, ignored: %s", ", ".join(others))
    return [_line(PREFIX + name, "an unknown variable", f"{PREFIX}{misspelt[name]}, if you mean that") for name in misspelt]


def _line(name: str, found: str, accepted: str) -> str:
    return f"{name if name.isprintable() else ascii(name)}: found {found}; accepted: {accepted}"


def _checked(given: Mapping[str, _Given]) -> tuple[dict[str, Any], list[str]]:
    """The values that can be used, and a line for each that can't."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for field, variable in VARIABLES.items():
        name, value = given[field]
        try:
            values[field] = variable.value(value)
        except Wrong as why:
            found = why.found or (size_of(value) if variable.hidden else shown(value))
            wrong.append(_line(name, found, why.accepted))
    values["audience"] = values.get("audience") or values.get("issuer")
    return values, wrong + _wrong_secrets(values, given) + _wrong_order(values, given)


def _wrong_secrets(values: Mapping[str, Any], given: Mapping[str, _Given]) -> list[str]:
    algorithm = values.get("algorithm", "HS256")
    least = SECRET_BYTES[algorithm]
    secrets = [("secret", "", secret) for secret in [values.get("secret")] if secret is not None]
    secrets += [
        ("secret_fallbacks", f"as number {at}, ", old) for at, old in enumerate(values.get("secret_fallbacks", ()), 1)
    ]
    accepted = f"a random secret of at least {least} bytes, for {algorithm}. To make one: {MAKE_ONE}"
    return [
        _line(given[field].name, f"{place}{size_of(secret) if secret else 'nothing'}{why}", accepted)
        for field, place, secret in secrets
        if (why := weakness(secret, least)) is not None
    ]


def _wrong_order(values: Mapping[str, Any], given: Mapping[str, _Given]) -> list[str]:
    pairs = [("access_ttl", "refresh_ttl"), ("leeway", "access_ttl")]
    return [
        _line(given[low].name, f"{span(values[low])}", f"at most {given[high].name}, which is {span(values[high])}")
        for low, high in pairs
        if low in values and high in values and values[low] > values[high]
    ]
