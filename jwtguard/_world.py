"""What guards stand on in a test: a store that can be down, a clock that can be moved, and users who are logged in.

Nothing of it is used outside of tests. The clock runs, as guards wait for some things by it, and is moved on top of that.
The store is in memory, never waits, and tells every guard on it of what ends, so all that a test does takes effect at once.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, TypeAlias, TypeVar
from unittest import mock

from . import asgi, guard, wsgi
from .errors import ConfigError, StoreError
from .guard import AsyncGuard, Guard, GuardMethods
from .health import PROBE
from .model import TokenPair
from .stores.base import Loaded
from .stores.memory import MemoryStore

__all__ = ["MovableClock", "User", "World"]

T = TypeVar("T")

AnyGuard: TypeAlias = Guard | AsyncGuard


class MovableClock:
    """The machine's clock, moved on by what tests say."""

    def __init__(self) -> None:
        self._moved = 0.0

    def time(self) -> float:
        return time.time() + self._moved

    def monotonic(self) -> float:
        return time.monotonic() + self._moved

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for less than nothing: a clock that goes back ends nothing."""
        if seconds < 0:
            raise ValueError(f"time passes forwards: expected 0 or more seconds, found {seconds:g}")
        self._moved += seconds


class FailingStore(MemoryStore):
    """A MemoryStore that can be down, and can be emptied."""

    down = False

    def load(self, key: bytes) -> Loaded:
        self._check()
        return super().load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        self._check()
        return super().save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    def _check(self) -> None:
        if self.down:
            raise StoreError("the test has this store down")

    def clear(self) -> None:
        """Forget all, and have every guard on this store forget it too."""
        with self._mutex:
            self._documents.clear()
            self._queue.clear()
            self._report(None)


class World:
    """A store and a clock for the guards of a test, or of many.

    `arguments` are those for a guard that is to stand on it: `AsyncGuard.from_env(**world.arguments)`, or the same by way
    of an app's factory.
    """

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.store = FailingStore(self.clock)
        self._secret = secrets.token_urlsafe(48)

    @property
    def arguments(self) -> dict[str, Any]:
        """A secret, the store and the clock."""
        return {"secret": self._secret, "store": self.store, "clock": self.clock}

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have every guard that is made inside stand on this world, for an app that makes its guard when it is imported.

        A secret or keys that the environment names stay in force; a store or a clock that the app itself passes, too.
        """
        given = any(os.environ.get(f"JWTGUARD_{name}") for name in ("SECRET", "SECRET_FILE", "KEYS", "KEYS_FILE"))
        with (
            mock.patch.dict(os.environ, {} if given else {"JWTGUARD_SECRET": self._secret}),
            mock.patch.object(guard, "open_store", return_value=self.store),
            mock.patch.object(guard, "SystemClock", return_value=self.clock),
        ):
            yield

    @contextmanager
    def store_down(self) -> Iterator[None]:
        """Have the store fail. When it is well again, a second passes, so that guards find out at their next request."""
        self.store.down = True
        try:
            yield
        finally:
            self.store.down = False
            self.clock.advance(2 * PROBE)

    def reset(self) -> None:
        """Forget every session. The clock stays where it is, since none goes back."""
        self.store.clear()

    def check(self, known: AnyGuard) -> None:
        """That a guard stands on this world. Raises ConfigError."""
        if known._store is not self.store and getattr(known, "_blocking", None) is not self.store:
            raise ConfigError(
                "the app's guard stands on a store of its own, which a test can't take down: make the app with "
                "create_app(**jwtguard_world.arguments), or inside `with jwtguard_world.patched():`"
            )


@dataclass(frozen=True)
class User:
    """A user who is logged in to an app.

    `pair` has the tokens, `headers` what a request needs, `client` is the framework's own test client that sends them.
    """

    guard: AnyGuard
    app: object
    subject: str
    pair: TokenPair

    @classmethod
    def logged_in(cls, known: AnyGuard, app: object, subject: Any, **arguments: Any) -> User:
        """Opens a session, with the arguments of `Guard.login`. May be called in a test that is async."""
        return cls(known, app, str(subject), apart(partial(blocking(known).login, subject, **arguments)))

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header, for any client."""
        return {"Authorization": f"Bearer {self.pair.access_token}"}

    @cached_property
    def client(self) -> Any:
        """A test client of the app's framework that sends the token with every request, one for each user.

        Django's, Flask's, Starlette's for every ASGI app, or Werkzeug's. Raises TypeError for an app that is none of these.
        """
        for kind in type(self.app).__mro__:
            for place in (kind.__module__, kind.__module__.partition(".")[0]):
                if place in _CLIENTS:
                    return _CLIENTS[place](self.app, self.headers)
        raise TypeError(f"no test client is known for {type(self.app).__name__}: send `headers` with your own")

    def refresh(self) -> User:
        """This user with the next pair of tokens. Raises a RefreshError, SessionEnded, StoreUnavailable."""
        pair = apart(partial(blocking(self.guard).refresh, self.pair.refresh_token))
        return User(self.guard, self.app, self.subject, pair)

    def revoke(self) -> None:
        """End this session, as an administrator would. The user's others go on."""
        apart(partial(blocking(self.guard).revoke, self.subject, self.pair.session_id))


def blocking(known: AnyGuard) -> GuardMethods:
    """A guard's blocking side."""
    return known.sync if isinstance(known, AsyncGuard) else known


def apart(call: Callable[[], T]) -> T:
    """Call what blocks, on an event loop's thread too: nothing of a test's world waits, so it is over at once."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def guard_of(app: object) -> AnyGuard:
    """The guard of an app: Django's, Flask's, Starlette's, or one of `guard.wrap`. Raises ConfigError."""
    if type(app).__module__.startswith("django."):
        from . import django

        return django._made()
    extensions = getattr(app, "extensions", None)
    places = [
        extensions.get("jwtguard") if isinstance(extensions, Mapping) else None,
        getattr(getattr(app, "state", None), "jwtguard", None),
        app._guard if isinstance(app, asgi.JWTGuardMiddleware | wsgi.JWTGuardMiddleware) else None,
    ]
    for found in places:
        if isinstance(found, Guard | AsyncGuard):
            return found
    raise ConfigError(f"no guard is found in {type(app).__name__}: have the fixture jwtguard_guard return it")


def _flask_client(app: Any, headers: dict[str, str]) -> Any:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = headers["Authorization"]
    return client


def _asgi_client(app: Any, headers: dict[str, str]) -> Any:
    from starlette.testclient import TestClient

    return TestClient(app, headers=headers)


def _wsgi_client(app: Any, headers: dict[str, str]) -> Any:
    from werkzeug.test import Client

    known = {"HTTP_AUTHORIZATION": headers["Authorization"]}
    return Client(lambda environ, start_response: app(known | environ, start_response))


def _django_client(app: Any, headers: dict[str, str]) -> Any:
    from django.test import Client

    del app  # Django has one in a process, and its client finds it
    return Client(headers=headers)


_CLIENTS: Final[Mapping[str, Callable[[Any, dict[str, str]], Any]]] = {
    "django": _django_client,
    "flask": _flask_client,
    "starlette": _asgi_client,
    "jwtguard.asgi": _asgi_client,
    "jwtguard.wsgi": _wsgi_client,
}
"""By the module that an app's class is from."""
