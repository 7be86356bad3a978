"""The guard, in two colours: the same parts, the same methods, run blocking or awaited.

What a method does is in `operations` and `authentication`; here it is only driven. A method that writes runs to its end
also when the task that awaits it is cancelled, so an ending that was begun is always followed by its invalidation.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from .answers import ErrorHook
from .clock import Clock, SystemClock
from .core import Core, Hooks, patience_of
from .errors import ConfigError
from .flow import Flow, arun, run
from .keys import Keyring
from .model import Coherence, Device, Identity, Session, TokenPair
from .operations import ClaimsLoader
from .page import PageHook
from .settings import Settings, take_arguments
from .stores import open_store
from .stores.adapters import InThreads, OnLoop, Within
from .stores.base import AsyncStore, Paired, Store, check_store, is_async
from .telemetry import EventHook, Observer

if TYPE_CHECKING:
    from .asgi import ASGIApp
    from .asgi import JWTGuardMiddleware as ASGIMiddleware
    from .wsgi import JWTGuardMiddleware as WSGIMiddleware
    from .wsgi import WSGIApp

__all__ = ["AsyncGuard", "Guard", "GuardMethods", "take_arguments"]

T = TypeVar("T")

Subject = str | int | UUID
Timestamp = float | datetime


class GuardMethods(ABC):
    """What a blocking guard can do, wherever its parts are. All methods block, and may be called from any thread."""

    @property
    @abstractmethod
    def core(self) -> Core:
        """The guard's parts: for the faces."""

    @property
    def settings(self) -> Settings:
        """The settings that this guard goes by."""
        return self.core.settings

    def login(
        self,
        subject: Subject,
        *,
        scopes: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
        device: Device | None = None,
        limit: int | None = None,
        replace: str | None = None,
        authenticated_at: Timestamp | None = None,
    ) -> TokenPair:
        """Open a session for a user who has proved who they are, and answer its tokens (RFC 6749 section 5.1).

        subject: who; 1 to 255 bytes as text. scopes: what the tokens allow. claims: more claims for the access token.
        device: where; by default what the current request tells. limit: how many sessions this user may have, instead of
        MAX_SESSIONS. replace: the id of a session to end in the same step; by default the session whose token came with
        the current request. authenticated_at: when the user proved who they are (seconds since the epoch, or an aware
        datetime). If a `revoke_all` or `revoke_others` of theirs came at that time or later, the login is refused: pass it
        where checking the password takes long.

        Raises LimitReached (under `deny` and `choose`), SessionRevoked (by `authenticated_at`), SessionEvicted (another
        login took the place meanwhile), StoreUnavailable; TypeError and ValueError for bad arguments.
        """
        return self.perform(
            self.core.operations.login(
                subject,
                scopes=scopes,
                claims=claims,
                device=device,
                limit=limit,
                replace=replace,
                authenticated_at=authenticated_at,
            )
        )

    def refresh(self, refresh_token: str, *, device: Device | None = None) -> TokenPair:
        """Exchange a refresh token for the next pair (RFC 6749 section 6, with the rotation of RFC 9700 section 4.14.2).

        A retry within ROTATION_GRACE, or after an answer that was lost, gets the same pair again. An older token than that
        ends its session, or is only refused (ON_REUSE). Raises a RefreshError, SessionEnded, StoreUnavailable.
        """
        return self.perform(self.core.operations.refresh(refresh_token, device=device))

    def authenticate(self, token: str) -> Identity:
        """Who an access token stands for, now: what the middleware asks. Raises an AuthError, or StoreUnavailable."""
        return self.perform(self.core.authenticate(token))

    def logout(self, identity: Identity) -> None:
        """End the session of an identity. One that is over already is no error. Raises StoreUnavailable."""
        self.perform(self.core.operations.logout(identity))

    def revoke(self, subject: Subject, session_id: str) -> bool:
        """End one session of a user. Answers whether it was active. Raises StoreUnavailable."""
        return self.perform(self.core.operations.revoke(subject, session_id))

    def revoke_others(self, identity: Identity) -> int:
        """End all sessions of the user but the identity's own; logins under way too, if they tell `authenticated_at`.

        Answers how many. Raises StoreUnavailable.
        """
        return self.perform(self.core.operations.revoke_others(identity))

    def revoke_all(self, subject: Subject) -> int:
        """End all sessions of a user (a changed password, a disabled account); logins under way as `revoke_others` does.

        Answers how many. Raises StoreUnavailable.
        """
        return self.perform(self.core.operations.revoke_all(subject))

    def revoke_everyone(self) -> None:
        """End every session of every user, by one write. Raises StoreUnavailable."""
        self.perform(self.core.operations.revoke_everyone())

    def end_with_ticket(self, ticket: str, session_id: str) -> bool:
        """End one of the sessions that the ticket of a `LimitReached` lists, for a user who found no room to log in.

        Answers whether it is one of them. Raises TokenInvalid, TokenExpired (the ticket is good for five minutes, and for
        one ending), StoreUnavailable.
        """
        return self.perform(self.core.operations.end_with_ticket(ticket, session_id))

    def sessions(self, subject: Subject) -> list[Session]:
        """The user's active sessions, newest first, as the store has them now. Raises StoreUnavailable."""
        return self.perform(self.core.operations.sessions(subject))

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and threads. May be called twice, and the guard used again."""

    def coherence(self) -> Coherence:
        """How soon an ending elsewhere is seen by this process, as things are."""
        return self.core.registry.coherence()

    @abstractmethod
    def perform(self, flow: Flow[T]) -> T:
        """Run a flow to its end: for the faces and the endpoints."""


class Guard(GuardMethods):
    """Guards a WSGI app, and gives its views the user's sessions. All methods block, and may be called from any thread.

    Arguments: `settings`, read from the environment if left out; `store`, in place of the one that the settings name;
    `keys`, in place of theirs; `clock`, for tests; and what the app has called, as `jwtguard.core.Hooks` says.

    Raises ConfigError at construction if anything is wrong with the settings. Connects at first use.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: Store | None = None,
        keys: Keyring | None = None,
        clock: Clock | None = None,
        claims_loader: ClaimsLoader | None = None,
        on_event: EventHook | Sequence[EventHook] | None = None,
        on_error: ErrorHook | None = None,
        observers: Sequence[Observer] = (),
        page: PageHook | None = None,
    ) -> None:
        parts = _Parts(settings, store, clock, Hooks(claims_loader, on_event, on_error, observers, page))
        parts.hooks.check(asynchronous=False)
        if is_async(parts.store):
            raise ConfigError("the store is async, and a Guard's calls block: use an AsyncGuard, or a blocking store")
        self._store: Store = parts.store
        self._core = parts.core(keys)

    @classmethod
    def from_env(cls, **overrides: Any) -> Guard:
        """A guard by the environment's `JWTGUARD_…` variables. `overrides` win over them: a setting by its name in lower
        case (`public="/login"`), or any argument of the class. Raises ConfigError."""
        arguments = take_arguments(overrides)
        return cls(Settings.from_env(**overrides), **arguments)

    @property
    def core(self) -> Core:
        return self._core

    def wrap(self, app: WSGIApp) -> WSGIMiddleware:
        """The guarded app, under a name of its own: `application = guard.wrap(app)`."""
        from .wsgi import JWTGuardMiddleware  # the one import upwards, so that one line is enough to guard an app

        return JWTGuardMiddleware(app, self)

    def close(self) -> None:
        self._core.close()
        self._store.close()

    def perform(self, flow: Flow[T]) -> T:
        return run(flow, self._store)


class _View(GuardMethods):
    """An AsyncGuard's blocking side: its parts and its registry, with a blocking store."""

    def __init__(self, core: Core, store: Store) -> None:
        self._core = core
        self._store = store

    @property
    def core(self) -> Core:
        return self._core

    def close(self) -> None:
        self._store.close()

    def perform(self, flow: Flow[T]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run(flow, self._store)
        flow.close()
        raise RuntimeError("guard.sync blocks, and this is an event loop's thread: await the method of the guard itself")


class AsyncGuard:
    """Guards an ASGI app. The methods are those of `Guard`, awaited; the arguments of the class are the same.

    `store` may be blocking or async: a blocking one is called in threads. One guard serves any number of event loops.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: Store | AsyncStore | None = None,
        keys: Keyring | None = None,
        clock: Clock | None = None,
        claims_loader: ClaimsLoader | None = None,
        on_event: EventHook | Sequence[EventHook] | None = None,
        on_error: ErrorHook | None = None,
        observers: Sequence[Observer] = (),
        page: PageHook | None = None,
    ) -> None:
        parts = _Parts(settings, store, clock, Hooks(claims_loader, on_event, on_error, observers, page))
        parts.hooks.check(asynchronous=True)
        self._store, self._blocking = parts.both_colours()
        self.core = parts.core(keys)
        self._unfinished: set[asyncio.Task[Any]] = set()

    @classmethod
    def from_env(cls, **overrides: Any) -> AsyncGuard:
        """As `Guard.from_env`."""
        arguments = take_arguments(overrides)
        return cls(Settings.from_env(**overrides), **arguments)

    @property
    def settings(self) -> Settings:
        """The settings that this guard goes by."""
        return self.core.settings

    @property
    def sync(self) -> GuardMethods:
        """The same guard for code that blocks: `def` views, scripts. Not for an event loop's own thread."""
        return _View(self.core, self._blocking)

    def wrap(self, app: ASGIApp) -> ASGIMiddleware:
        """The guarded app, under a name of its own: `asgi = guard.wrap(app)`."""
        from .asgi import JWTGuardMiddleware  # the one import upwards, as in Guard.wrap

        return JWTGuardMiddleware(app, self)

    async def login(
        self,
        subject: Subject,
        *,
        scopes: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
        device: Device | None = None,
        limit: int | None = None,
        replace: str | None = None,
        authenticated_at: Timestamp | None = None,
    ) -> TokenPair:
        """As `Guard.login`."""
        return await self.complete(
            self.core.operations.login(
                subject,
                scopes=scopes,
                claims=claims,
                device=device,
                limit=limit,
                replace=replace,
                authenticated_at=authenticated_at,
            )
        )

    async def refresh(self, refresh_token: str, *, device: Device | None = None) -> TokenPair:
        """As `Guard.refresh`."""
        return await self.complete(self.core.operations.refresh(refresh_token, device=device))

    async def authenticate(self, token: str) -> Identity:
        """As `Guard.authenticate`."""
        return await self.perform(self.core.authenticate(token))

    async def logout(self, identity: Identity) -> None:
        """As `Guard.logout`."""
        await self.complete(self.core.operations.logout(identity))

    async def revoke(self, subject: Subject, session_id: str) -> bool:
        """As `Guard.revoke`."""
        return await self.complete(self.core.operations.revoke(subject, session_id))

    async def revoke_others(self, identity: Identity) -> int:
        """As `Guard.revoke_others`."""
        return await self.complete(self.core.operations.revoke_others(identity))

    async def revoke_all(self, subject: Subject) -> int:
        """As `Guard.revoke_all`."""
        return await self.complete(self.core.operations.revoke_all(subject))

    async def revoke_everyone(self) -> None:
        """As `Guard.revoke_everyone`."""
        await self.complete(self.core.operations.revoke_everyone())

    async def end_with_ticket(self, ticket: str, session_id: str) -> bool:
        """As `Guard.end_with_ticket`."""
        return await self.complete(self.core.operations.end_with_ticket(ticket, session_id))

    async def sessions(self, subject: Subject) -> list[Session]:
        """As `Guard.sessions`."""
        return await self.perform(self.core.operations.sessions(subject))

    async def close(self) -> None:
        """As `Guard.close`."""
        await asyncio.to_thread(self.core.close)
        await self._store.close()
        await asyncio.to_thread(self._blocking.close)

    def coherence(self) -> Coherence:
        """As `Guard.coherence`. Not awaited: it waits for nothing."""
        return self.core.registry.coherence()

    async def perform(self, flow: Flow[T]) -> T:
        """Run a flow to its end, or to the task's: for the faces and the endpoints."""
        return await arun(flow, self._store)

    async def complete(self, flow: Flow[T]) -> T:
        """Run a flow that writes in a task of its own, which goes on when the caller's task is cancelled."""
        task = asyncio.ensure_future(arun(flow, self._store))
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # an abandoned one's error has been told to the health, and nobody else waits for it


class _Parts:
    """What a guard of either colour is made of. Raises ConfigError for what can't be used."""

    def __init__(self, settings: Settings | None, store: object, clock: Clock | None, hooks: Hooks) -> None:
        self.clock = SystemClock() if clock is None else clock
        self.settings = Settings.from_env() if settings is None else settings
        self.hooks = hooks
        if not isinstance(self.settings, Settings):
            raise ConfigError(
                f"settings is of type {type(settings).__name__}: expected a Settings. from_env takes each by keyword"
            )
        if store is None:
            store = open_store(self.settings.store, timeout=self.settings.store_timeout, clock=self.clock)
        check_store(store)
        self.store: Any = store

    def core(self, keys: Keyring | None) -> Core:
        return Core(self.settings, store=self.store, keys=keys, clock=self.clock, hooks=self.hooks)

    def both_colours(self) -> tuple[AsyncStore, Store]:
        """The store for code that awaits, and for code that blocks."""
        timeout = self.settings.store_timeout
        if is_async(self.store):
            return Within(self.store, timeout), OnLoop(self.store, timeout=timeout)
        blocking: Store = self.store
        if isinstance(blocking, Paired):
            return blocking.awaited(), blocking  # which keeps to the timeout by itself
        return InThreads(blocking, patience=patience_of(self.settings)), blocking
