"""Documents in Redis or Valkey: one server, a master that Sentinel names, or a cluster.

One key per user; a save is one script, which also announces what it ends. `_redis_words` has what is said to a server,
`_redis_routes` to which one, `_redis_links` over which connection, `_redis_push` what it announces. Invariants:
- Whatever the driver raises becomes StoreError.
- Expiry and `now` go by the server's clock.
- Both colours of a store go by the same knowledge of the servers; each has connections of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from ..clock import Clock, SystemClock
from ..driving import adrive, drive
from ..errors import StoreError, Unconfirmed
from ._redis_links import AsyncLinks, Links
from ._redis_push import Ears
from ._redis_routes import Route, Talk, load, route_of, save
from ._redis_url import Plan, read_url
from ._redis_words import Terms, channel_of, name_of
from .adapters import within
from .base import Heard, Loaded

__all__ = ["AsyncRedisStore", "RedisStore"]

T = TypeVar("T")

logger = logging.getLogger("jwtguard")

SHARE: Final = 0.9
"""Of the timeout, for awaited calls: so the store itself notices before whoever waits for it, and can say what is known."""


class _Base:
    """What both colours share: a plan, a route, and how a document is asked for."""

    def __init__(self, plan: Plan, route: Route, timeout: float) -> None:
        self._plan = plan
        self._route = route
        self._timeout = timeout

    def __str__(self) -> str:
        return f"Redis store at {', '.join(map(str, self._plan.addresses))}"

    def _load(self, key: bytes) -> Talk[Loaded]:
        return load(self._route, name_of(self._plan.prefix, key))

    def _save(
        self, key: bytes, data: bytes, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> Talk[bool]:
        name, channel = name_of(self._plan.prefix, key), channel_of(self._plan.prefix) if ends else ""
        terms = Terms(name, expected or b"", version, data, expires_at, channel, key)
        return save(self._route, terms, wait=self._plan.wait, timeout=self._timeout)

    def _changes(self, links: Links, monotonic: Callable[[], float]) -> Generator[bytes | Heard]:
        ears = Ears(self._plan, self._route, self._timeout, monotonic, self._warn)
        return ears.changes(lambda talk: drive(talk, links.ask))

    def _warn(self, policy: str) -> None:
        logger.warning(
            "%s has the maxmemory-policy %a: when its memory is full it drops sessions, which logs users out. "
            "Set it to noeviction",
            self,
            policy,
        )


class RedisStore(_Base):
    """A store in Redis or Valkey, from version 6.2, for any number of machines. Pushes what ends.

    Nothing is connected before the first call. Arguments: `url`, see the README; `timeout`, seconds for each wait: for a
    connection of the pool, for a new one, for a reply; `clock`, what `Heard` goes by. Raises ConfigError.
    """

    blocking = True

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.25,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        plan = read_url(url)
        super().__init__(plan, route_of(plan), timeout)
        self._clock = clock
        self._links = Links(plan, self._route, timeout, self._warn)

    def load(self, key: bytes) -> Loaded:
        return self._run(self._load(key))

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        return self._run(self._save(key, data, expected, version, expires_at, ends))

    def close(self) -> None:
        self._links.close()

    def awaited(self) -> AsyncRedisStore:
        return AsyncRedisStore._of(self._plan, self._route, self._timeout)

    def changes(self) -> Generator[bytes | Heard]:
        return self._changes(self._links, self._clock.monotonic)

    def _run(self, talk: Talk[T]) -> T:
        return drive(talk, self._links.ask)


class AsyncRedisStore(_Base):
    """The same for code that awaits, on any number of event loops. Arguments and errors are those of RedisStore; `timeout`
    is for a whole call."""

    def __init__(self, url: str, *, timeout: float = 0.25) -> None:
        plan = read_url(url)
        self._begin(plan, route_of(plan), timeout)

    def _begin(self, plan: Plan, route: Route, timeout: float) -> None:
        super().__init__(plan, route, timeout)
        self._links = AsyncLinks(plan, route, self._warn)

    @classmethod
    def _of(cls, plan: Plan, route: Route, timeout: float) -> AsyncRedisStore:
        store = cls.__new__(cls)
        store._begin(plan, route, timeout)
        return store

    async def load(self, key: bytes) -> Loaded:
        return await self._run(self._load(key))

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        try:
            return await self._run(self._save(key, data, expected, version, expires_at, ends))
        except StoreError as error:
            if ends and self._plan.wait and isinstance(error.__cause__, TimeoutError):
                raise Unconfirmed("an ending got no answer in time: it isn't known whether replicas have it") from error
            raise

    async def close(self) -> None:
        await self._links.close()

    def changes(self) -> Generator[bytes | Heard]:
        links = Links(self._plan, self._route, self._timeout, self._warn)
        try:
            yield from self._changes(links, time.monotonic)
        finally:
            links.close()

    async def _run(self, talk: Talk[T]) -> T:
        try:
            return await within(SHARE * self._timeout, adrive(talk, self._links.ask))
        except TimeoutError as error:
            raise StoreError(f"{self} didn't answer within {SHARE * self._timeout:g} s") from error
