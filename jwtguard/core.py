"""One guard's parts, put together: what `Guard` and `AsyncGuard` share, whole.

Nothing here opens or starts anything: the first use does. Keys in files are read at once, as all settings are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from .authentication import Authenticator
from .clock import Clock
from .commits import Committer
from .cookies import ROOM
from .document import everyone_key
from .errors import ConfigError, JWTGuardError
from .flow import Flow
from .health import Health
from .keyfiles import KeyFiles
from .keys import Keyring
from .live import Live
from .model import Identity
from .operations import ClaimsLoader, Operations
from .page import PageHook
from .policy import Policy
from .registry import LONGEST, Registry
from .rotation import FixedKeys, Rotation
from .rules import Rules
from .settings import Settings
from .stores.base import Pushed, Watched
from .telemetry import EventHook, Observer, Telemetry
from .tokens import Tokens, token_bytes

__all__ = ["Core", "Hooks", "patience_of"]

PATIENCE: Final = 8
"""One request waits for as many store timeouts at most, whatever it does."""
SHORTEST_PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an app may have called.

    `claims_loader(subject)` gives the custom claims at login and at each rotation; `on_event(event)`, one function or
    a list of them, is told what happens; `on_error(error, problem)` may answer another body, a JSON object, for an error;
    `observers` measure (see `telemetry`); `page(sessions_page)` renders the page "Your sessions" (see `page`).
    """

    claims_loader: ClaimsLoader | None = None
    on_event: EventHook | Sequence[EventHook] | None = None
    on_error: Callable[[Exception, dict[str, Any]], dict[str, Any] | None] | None = None
    observers: Sequence[Observer] = ()
    page: PageHook | None = None

    def check(self, *, asynchronous: bool) -> None:
        """That each can be called where it will be. Raises ConfigError."""
        for name, hook in (
            ("claims_loader", self.claims_loader),
            *(("on_event", hook) for hook in self.event_hooks),
            ("on_error", self.on_error),
            ("page", self.page),
        ):
            if hook is not None and not callable(hook):
                raise ConfigError(f"{name} is of type {type(hook).__name__}: expected a function")
            if inspect.iscoroutinefunction(hook) and not (asynchronous and name == "claims_loader"):
                raise ConfigError(f"{name} is an async function: expected a plain one, since nothing awaits it")
        for observer in self.observers:
            if not isinstance(observer, Observer):
                raise ConfigError(f"observers has a {type(observer).__name__}: expected objects of telemetry.Observer")

    @property
    def event_hooks(self) -> tuple[EventHook, ...]:
        """The functions of `on_event`."""
        if self.on_event is None:
            return ()
        return tuple(self.on_event) if isinstance(self.on_event, list | tuple) else (cast("EventHook", self.on_event),)


class Core:
    """The parts of one guard, by its settings.

    Arguments: `store`, only asked whether it is `Watched` or `Pushed`; `keys`, in place of those that the settings name.
    """

    def __init__(self, settings: Settings, *, store: object, keys: Keyring | None, clock: Clock, hooks: Hooks) -> None:
        self.settings = settings
        self.hooks = hooks
        self.clock = clock
        self.telemetry = Telemetry(clock, hooks.event_hooks, hooks.observers)
        self.rules = Rules(settings.public, settings.rules)
        self.policy = _policy(settings)
        patience = patience_of(settings)
        self.keys = _keys(settings, keys, clock)
        self.tokens = _tokens(settings, self.keys.keyring, clock)
        self.registry = _registry(settings, store, clock, self.telemetry, patience)
        committer = Committer(
            self.registry,
            self.policy,
            patience=patience,
            clock=clock,
            health=Health("write", self.telemetry, clock.monotonic),
            tell=self.telemetry.tell,
        )
        self.authenticator = self._authenticator(committer)
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
        self.operations = self._operations(committer)
        self.telemetry.attach(self.live.__len__, self.registry.coherence)

    def _authenticator(self, committer: Committer) -> Authenticator:
        return Authenticator(
            tokens=self.tokens,
            keys=self.keys,
            registry=self.registry,
            committer=committer,
            policy=self.policy,
            clock=self.clock,
            leeway=self.settings.leeway,
            stale_if_down=self.settings.stale_if_down,
            telemetry=self.telemetry,
        )

    def _operations(self, committer: Committer) -> Operations:
        return Operations(
            tokens=self.tokens,
            keys=self.keys,
            registry=self.registry,
            committer=committer,
            policy=self.policy,
            clock=self.clock,
            claims_loader=self.hooks.claims_loader,
            telemetry=self.telemetry,
        )

    def authenticate(self, token: str) -> Flow[Identity]:
        """Who an access token stands for, now. What becomes of it is told."""
        try:
            identity = yield from self.authenticator.authenticate(token_bytes(token))
        except JWTGuardError as error:
            self.telemetry.rejected(error)
            raise
        self.telemetry.passed(identity)
        return identity

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
        room=ROOM if settings.cookie else None,
        longest=max(settings.session_ttl, settings.refresh_ttl),
        clock=clock,
    )


def _registry(settings: Settings, store: object, clock: Clock, telemetry: Telemetry, patience: float) -> Registry:
    return Registry(
        everyone=everyone_key(settings.issuer),
        ttl=_lease_ttl(settings, settings.cache_ttl),
        longest=_lease_ttl(settings, LONGEST),
        size=settings.cache_size,
        patience=patience,
        clock=clock,
        health=Health("read", telemetry, clock.monotonic),
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
