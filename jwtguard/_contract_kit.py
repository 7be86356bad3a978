"""What the tests of `StoreContract` are made with: stores driven by blocking calls, saves, reports, and threads."""
# ruff: noqa: S101 - for tests

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from .stores.adapters import pass_powers_on
from .stores.base import AsyncStore, Loaded, Store, Watched, is_async

__all__ = [
    "FAR",
    "KEY",
    "LONGEST_KEY",
    "NEEDS",
    "PATIENCE",
    "Driven",
    "Open",
    "Reports",
    "Watching",
    "at_once",
    "awaited",
    "end",
    "is_async",
    "needs",
    "put",
]

T = TypeVar("T")

FAR: Final = 4_102_444_800_000  # the year 2100
KEY: Final = b"the-key"
LONGEST_KEY: Final = bytes(range(256)) * 4
PATIENCE: Final = 60.0

Open: TypeAlias = Callable[[], Store]


Test: TypeAlias = Callable[..., None]
NEEDS: Final[dict[str, tuple[tuple[str, ...], Test]]] = {}
"""Tests that are only for stores with certain powers, by name: which ones, and the test."""


def needs(*powers: str) -> Callable[[Test], Test]:
    """A test for those suites only that say that their store has these powers."""

    def note(test: Test) -> Test:
        NEEDS[test.__name__] = (powers, test)
        return test

    return note


class Driven:
    """An async store driven by blocking calls, each on an event loop of its own, as a store must be able to bear."""

    blocking = True

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        pass_powers_on(store, self)

    def load(self, key: bytes) -> Loaded:
        return asyncio.run(awaited(self.store.load(key)))

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        save = self.store.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
        return asyncio.run(awaited(save))

    def close(self) -> None:
        asyncio.run(awaited(self.store.close()))


async def awaited(answer: Awaitable[T]) -> T:
    return await answer


class Reports:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []

    def ended(self, key: bytes | None) -> None:
        self.keys.append(key)

    def has(self, key: bytes) -> bool:
        return key in self.keys or None in self.keys


class Watching:
    """A watch that has begun: its first look, which may report anything, is over."""

    def __init__(self, store: Store) -> None:
        assert isinstance(store, Watched)
        self.reports = Reports()
        self._look = store.watch(self.reports.ended)
        self.look()
        self.reports.keys.clear()

    def look(self) -> None:
        if self._look is not None:
            self._look()


def put(
    store: Store,
    key: bytes = KEY,
    data: bytes = b"data",
    *,
    expected: bytes | None = None,
    expires_at: int = FAR,
    ends: bool = False,
) -> bytes | None:
    """Save under a new version; answers that, or None for a conflict."""
    version = secrets.token_bytes(8)
    saved = store.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
    assert isinstance(saved, bool)
    return version if saved else None


def end(store: Store, key: bytes = KEY) -> None:
    assert put(store, key, expected=store.load(key).version, ends=True)


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Have `count` threads do it, all beginning together."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> T:
        barrier.wait(PATIENCE)
        return work(number)

    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(begin, range(count), timeout=PATIENCE))
