"""One guard's parts, put together: what `Guard` and `AsyncGuard` share, whole.

Nothing here opens or starts anything: the first use does. Keys in files are read at once, as all settings are.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .authentication import Authenticator
from .clock import Clock
from .commits import Committer
from .document import everyone_key
from .errors import ConfigError
from .health import Health
from .keyfiles import KeyFiles
from .keys import Keyring
from .live import Live
from .model import Event
from .operations import ClaimsLoader, Operations
from .policy import Policy
from .registry import LONGEST, Registry
from .rotation import FixedKeys, Rotation
from .rules import Rules
from .settings import Settings
from .stores.base import Pushed, Watched
from .tokens import Tokens, text_of_id

__all__ = ["Core", "Hooks", "patience_of"]

logger = logging.getLogger("jwtguard")

_ALARMING: Final = {
    "refresh_reused": "an older refresh token came back, which looks like theft; it is",
    "store_behind": "the store has lost writes; shown by a token",
}

PATIENCE: Final = 8
"""One request waits for as many store timeouts at most, whatever it does."""
SHORTEST_PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an app may have called.

    `claims_loader(subject)` gives the custom claims at login and at each rotation; `on_event(event)` is told what happens;
    `on_error(error, problem)` may answer another body, a JSON object, for an error.
    """

    claims_loader: ClaimsLoader | None = None
    on_event: Callable[[Event], None] | None = None
    on_error: Callable[[Exception, dict[str, Any]], dict[str, Any] | None] | None = None

    def check(self, *, asynchronous: bool) -> None:
        """That each can be called where it will be. Raises ConfigError."""
        for name in ("claims_loader", "on_event", "on_error"):
            hook = getattr(self, name)
            if hook is not None and not callable(hook):
                raise ConfigError(f"{name} is of type {type(hook).__name__}: expected a function")
            if inspect.iscoroutinefunction(hook) and not (asynchronous and name == "claims_loader"):
                raise ConfigError(f"{name} is an async function: expected a plain one, since nothing awaits it")

    def tell(self, name: str, subject: str = "", session_id: bytes | None = None) -> None:
        """Raise an event, and log it if somebody should look into it. What goes wrong in the app's own hook is logged, and
        changes no answer."""
        event = Event(name, subject, None if session_id is None else text_of_id(session_id))
        if name in _ALARMING:
            logger.warning("%s: %s of %a", name, _ALARMING[name], subject)
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:  # another party's code, after the fact that it is told of
            logger.exception("on_event failed for the event %r", name)


class Core:
    """The parts of one guard, by its settings.

    Arguments: `store`, only asked whether it is `Watched` or `Pushed`; `keys`, in place of those that the settings name.
    """

    def __init__(self, settings: Settings, *, store: object, keys: Keyring | None, clock: Clock, hooks: Hooks) -> None:
        self.settings = settings
        self.hooks = hooks
        self.clock = clock
        self.rules = Rules(settings.public, settings.rules)
        policy = _policy(settings)
        patience = patience_of(settings)
        self.keys = _keys(settings, keys, clock)
        self.tokens = _tokens(settings, self.keys.keyring, clock)
        self.registry = _registry(settings, store, clock, hooks, patience)
        committer = Committer(
            self.registry,
            policy,
            patience=patience,
            clock=clock,
            health=Health("be written", hooks.tell, clock.monotonic),
        )
        self.authenticator = Authenticator(
            tokens=self.tokens,
            keys=self.keys,
            registry=self.registry,
            committer=committer,
            policy=policy,
            clock=clock,
            leeway=settings.leeway,
            stale_if_down=settings.stale_if_down,
            tell=hooks.tell,
        )
        self.live = Live(
            self.authenticator,
            self.registry,
            self.keys,
            clock=clock,
            ttl=_lease_ttl(settings, settings.cache_ttl),
            patience=patience,
        )
        self.registry.on_ending = self.live.ended
        self.keys.on_withdrawal = self.live.withdrawn
        self.operations = Operations(
            tokens=self.tokens,
            keys=self.keys,
            registry=self.registry,
            committer=committer,
            policy=policy,
            clock=clock,
            claims_loader=hooks.claims_loader,
            tell=hooks.tell,
        )

    def close(self) -> None:
        """End what is open, and stop listening to the store, until the next use."""
        self.live.close()
        self.registry.close()


def patience_of(settings: Settings) -> float:
    """Seconds that one request waits for the store at most, whatever it does."""
    return max(SHORTEST_PATIENCE, PATIENCE * settings.store_timeout)


def _keys(settings: Settings, keys: Keyring | None, clock: Clock) -> FixedKeys:
    if keys is not None:
        if not isinstance(keys, Keyring):
            raise ConfigError(
                f"keys is of type {type(keys).__name__}: expected a Keyring, or the path of a file or a folder"
            )
        return FixedKeys(keys)
    if settings.keys is not None:
        return Rotation(KeyFiles(settings.keys, settings.algorithm), clock)
    return FixedKeys(Keyring.from_secrets([settings.secret, *settings.secret_fallbacks], settings.algorithm))


def _tokens(settings: Settings, keyring: Keyring, clock: Clock) -> Tokens:
    return Tokens(
        keyring,
        issuer=settings.issuer,
        audience=settings.audience,
        leeway=settings.leeway,
        max_token=settings.max_token,
        longest=max(settings.session_ttl, settings.refresh_ttl),
        clock=clock,
    )


def _registry(settings: Settings, store: object, clock: Clock, hooks: Hooks, patience: float) -> Registry:
    return Registry(
        everyone=everyone_key(settings.issuer),
        ttl=_lease_ttl(settings, settings.cache_ttl),
        longest=_lease_ttl(settings, LONGEST),
        size=settings.cache_size,
        patience=patience,
        clock=clock,
        health=Health("be read", hooks.tell, clock.monotonic),
        watch=store.watch if isinstance(store, Watched) else None,
        pushed=store if isinstance(store, Pushed) else None,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        access_ttl=_ms(settings.access_ttl),
        refresh_ttl=_ms(settings.refresh_ttl),
        session_ttl=_ms(settings.session_ttl),
        idle_timeout=None if settings.idle_timeout is None else _ms(settings.idle_timeout),
        max_sessions=settings.max_sessions,
        on_limit=settings.on_limit,
        rotation_grace=_ms(settings.rotation_grace),
        on_reuse=settings.on_reuse,
    )


def _lease_ttl(settings: Settings, longest: float) -> float:
    """Seconds that a lease lasts; short enough that what is in use is touched often enough not to count as idle."""
    return longest if settings.idle_timeout is None else min(longest, settings.idle_timeout / 10)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
