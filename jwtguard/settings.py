"""Every setting, read once, checked once, then frozen.

- `Settings(...)` and `Settings.from_env` both go through the one table of variables, so a value is accepted or refused for
  the same reason and with the same words, wherever it comes from.
- All that is wrong is in one ConfigError, a line for each. A wrong setting is never replaced by its default: only what is
  absent is.
- No secret is shown: not by `repr`, not in an error, not in what a traceback shows of this module's variables. The same
  holds for what may contain one (a store's URL, inline keys).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .environment import given_in, misspelt_in
from .errors import ConfigError
from .values import Wrong, complaint, nearest, redacted, shown, size_of, span, weakness
from .variables import KEY_ALGORITHMS, SECRET_BYTES, VARIABLES, Given

__all__ = ["Settings", "take_arguments"]

MAKE_ONE: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Settings:
    """All settings, checked. One field for each variable.

    `Settings(secret=..., public="/login")` takes each setting by keyword, as text (as in the environment) or as a number, a
    timedelta (durations; numbers are seconds), a bool (switches), a list (fallbacks, patterns), bytes (secrets). None and
    empty text are the default. ConfigError names all that are wrong.
    """

    secret: bytes
    secret_fallbacks: tuple[bytes, ...]
    keys: str | None
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
    cookie: Literal["on", "silent", False]
    trusted_origins: tuple[str, ...]
    endpoints: str | None
    """A path, "off", or None where nothing was said."""
    leeway: float
    max_token: int
    realm: str
    remote_user: bool

    def __init__(self, **values: Any) -> None:
        given = {name: Given(name, values.get(name)) for name in VARIABLES}
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
            name: Given(name, overrides[name]) if name in said else given_in(variable, environ)
            for name, variable in VARIABLES.items()
        }
        wrong = _unknown_keywords(overrides) + misspelt_in(environ)
        overrides.clear()
        del environ
        settings = object.__new__(cls)
        settings._fill(given, wrong)
        return settings

    def _fill(self, given: dict[str, Given], wrong: list[str]) -> None:
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


def _unknown_keywords(values: Mapping[str, object]) -> list[str]:
    known = ", ".join(VARIABLES)
    return [
        complaint(name, "an unknown keyword", nearest(name, VARIABLES) or known) for name in values if name not in VARIABLES
    ]


def _checked(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    """The values that can be used, and a line for each that can't."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for field, variable in VARIABLES.items():
        name, value = given[field]
        try:
            values[field] = variable.value(value)
        except Wrong as why:
            found = why.found or (size_of(value) if variable.hidden else shown(value))
            wrong.append(complaint(name, found, why.accepted))
    values["audience"] = values.get("audience") or values.get("issuer")
    with_keys = values.get("keys") is not None
    algorithm = values["algorithm"] = values.get("algorithm") or ("EdDSA" if with_keys else "HS256")
    if with_keys:
        return values, wrong + _beside_keys(values, given, algorithm) + _wrong_order(values, given)
    if algorithm not in SECRET_BYTES:
        wrong.append(complaint(given["algorithm"].name, f"{algorithm!r} without KEYS", ", ".join(SECRET_BYTES)))
        algorithm = "HS256"
    return values, wrong + _wrong_secrets(values, given, algorithm) + _wrong_order(values, given)


def _beside_keys(values: Mapping[str, Any], given: Mapping[str, Given], algorithm: str) -> list[str]:
    """What can't be set with KEYS. Secrets are not mixed with keys that are public: one could be taken for the other."""
    wrong = [
        complaint(given["keys"].name, f"keys beside {field.upper()}", "one of the two")
        for field in ("secret", "secret_fallbacks")
        if values.get(field)
    ]
    if algorithm in SECRET_BYTES:
        wrong.append(complaint(given["algorithm"].name, f"{algorithm!r} with KEYS", ", ".join(KEY_ALGORITHMS)))
    return wrong


def _wrong_secrets(values: Mapping[str, Any], given: Mapping[str, Given], algorithm: str) -> list[str]:
    least = SECRET_BYTES[algorithm]
    secrets = [("secret", "", secret) for secret in [values.get("secret")] if secret is not None]
    secrets += [
        ("secret_fallbacks", f"as number {at}, ", old) for at, old in enumerate(values.get("secret_fallbacks", ()), 1)
    ]
    accepted = f"a random secret of at least {least} bytes, for {algorithm}. To make one: {MAKE_ONE}"
    return [
        complaint(given[field].name, f"{place}{size_of(secret) if secret else 'nothing'}{why}", accepted)
        for field, place, secret in secrets
        if (why := weakness(secret, least)) is not None
    ]


def _wrong_order(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    pairs = [("access_ttl", "refresh_ttl"), ("leeway", "access_ttl")]
    return [
        complaint(given[low].name, f"{span(values[low])}", f"at most {given[high].name}, which is {span(values[high])}")
        for low, high in pairs
        if low in values and high in values and values[low] > values[high]
    ]


_ARGUMENTS: Final = ("store", "keys", "clock", "claims_loader", "on_event", "on_error", "observers", "page")


def take_arguments(overrides: dict[str, Any]) -> dict[str, Any]:
    """Take from `overrides` the arguments of a guard that are no settings: `store` and `keys` as text or a path are."""
    names = [name for name in _ARGUMENTS if not isinstance(overrides.get(name, ""), str | os.PathLike)]
    return {name: overrides.pop(name) for name in names}
