"""Decisions that may have to wait, and the two drivers that wait for them.

A flow is a generator that yields what it needs (a load, a save, its turn) and is sent the result. It never waits, so it is
written once for both colours, and tests run it with `next` and `send`. `run` and `arun` only wait: they perform each need,
send its result back, and throw its error in. A need knows how to be performed in both colours, and nothing else does. How
long a store may take is the store's own matter, or its adapter's.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from .driving import adrive, drive
from .errors import StoreUnavailable
from .stores.base import AsyncStore, Loaded, Store

__all__ = ["Apart", "Call", "Flow", "Load", "Need", "Pause", "Save", "Wait", "arun", "run"]

T = TypeVar("T")


class Need(Protocol):
    """Something that a flow waits for."""

    def perform(self, store: Store) -> Any: ...

    async def aperform(self, store: AsyncStore) -> Any: ...


Flow: TypeAlias = Generator[Need, Any, T]


def run(flow: Flow[T], store: Store) -> T:
    """Run a flow to its end, blocking."""
    return drive(flow, lambda need: need.perform(store))


async def arun(flow: Flow[T], store: AsyncStore) -> T:
    """Run a flow to its end, awaiting."""
    return await adrive(flow, lambda need: need.aperform(store))


@dataclass(frozen=True, slots=True)
class Load:
    """A load from the store. Gives Loaded, raises StoreError."""

    key: bytes

    def perform(self, store: Store) -> Loaded:
        return store.load(self.key)

    async def aperform(self, store: AsyncStore) -> Loaded:
        return await store.load(self.key)


@dataclass(frozen=True, slots=True)
class Save:
    """A compare-and-swap in the store. Gives bool, raises StoreError."""

    key: bytes
    data: bytes
    expected: bytes | None
    version: bytes
    expires_at: int
    ends: bool

    def perform(self, store: Store) -> bool:
        return store.save(self.key, self.data, **self._terms())

    async def aperform(self, store: AsyncStore) -> bool:
        return await store.save(self.key, self.data, **self._terms())

    def _terms(self) -> dict[str, Any]:
        return {
            "expected": self.expected,
            "version": self.version,
            "expires_at": self.expires_at,
            "ends": self.ends,
        }


@dataclass(frozen=True, slots=True)
class Wait:
    """Waiting for another flow of this process, on any thread or event loop, for at most `timeout` seconds.

    Gives what the future is given. Raises StoreUnavailable when the time is up: the other one is stuck at the store.
    """

    future: Future[Any]
    timeout: float

    def perform(self, store: Store) -> Any:
        del store
        try:
            return self.future.result(self.timeout)
        except FutureTimeoutError as error:
            raise StoreUnavailable("gave up waiting for another request at the store") from error

    async def aperform(self, store: AsyncStore) -> Any:
        del store
        try:
            async with asyncio.timeout(self.timeout):  # wait_for of Python 3.11 may swallow a cancellation
                return await asyncio.wrap_future(self.future)
        except TimeoutError as error:
            raise StoreUnavailable("gave up waiting for another request at the store") from error


@dataclass(frozen=True, slots=True)
class Pause:
    """Waiting before another attempt."""

    seconds: float

    def perform(self, store: Store) -> None:
        del store
        time.sleep(self.seconds)

    async def aperform(self, store: AsyncStore) -> None:
        del store
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Apart:
    """A call that may wait for a disk, and so is not made on an event loop."""

    function: Callable[[], None]

    def perform(self, store: Store) -> None:
        del store
        self.function()

    async def aperform(self, store: AsyncStore) -> None:
        del store
        await asyncio.to_thread(self.function)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a user's hook; one that gives an awaitable is awaited, where that is possible."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def perform(self, store: Store) -> Any:
        del store
        result = self.function(*self.arguments)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(f"{self.function!r} is async, and a blocking guard calls it: use a plain function")
        return result

    async def aperform(self, store: AsyncStore) -> Any:
        del store
        result = self.function(*self.arguments)
        return await result if inspect.isawaitable(result) else result
