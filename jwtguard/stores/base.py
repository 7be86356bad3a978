"""The contract of a store: two verbs on opaque bytes, and powers that a store may have.

A store keeps one small document per key and knows nothing of users, sessions or tokens. Times are integers, milliseconds
since the epoch. All methods may be called from several threads at once. No constructor connects, reads a file or starts a
thread: that is for the first call.

The errors are the same for every method: what fails in the driver is raised as `StoreError`, with the driver's exception as
its `__cause__`. A store never answers "absent" because it failed. `jwtguard.testing.StoreContract` checks all of this.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

from ..errors import ConfigError

__all__ = ["AsyncStore", "Heard", "Loaded", "Paired", "Pushed", "Scanned", "Store", "Watched", "check_store", "is_async"]


class Loaded(NamedTuple):
    """What `load` answers: the document and its version (both None where there is none), and the store's clock."""

    data: bytes | None
    version: bytes | None
    now: int


class Heard(NamedTuple):
    """A word from the store that its announcements arrive: those of before `at` (seconds, the monotonic clock) have."""

    at: float


class Store(Protocol):
    """A store whose calls block."""

    blocking: bool
    """Whether a call may wait for anything (a disk, a network). False only for a store in this process's memory."""

    def load(self, key: bytes) -> Loaded:
        """The document under `key` (1 to 1024 bytes), as the last successful `save` left it.

        Absent or expired: `Loaded(None, None, now)`. `now` is read in the same round trip. Every save that was answered
        before this call began is seen, whoever made it.
        """
        ...

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        """Put `data` under `key` if its version is still `expected`: compare and swap, atomic among all writers.

        expected: the version that `load` gave, None for "absent or expired". version: the new one, 8 random bytes, to be
        compared for equality only. expires_at: when the document may be forgotten. ends: whether this save ends a session,
        so that a store with the power to tell others tells them in the same transaction.

        True: saved, and it stays saved. False: the version was another, and nothing was changed. StoreError: unknown; it
        may have been saved.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads. May be called twice; the next call to the store connects again."""
        ...


class AsyncStore(Protocol):
    """The same contract, awaited. It must serve several event loops, one after the other or side by side."""

    async def load(self, key: bytes) -> Loaded: ...

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool: ...

    async def close(self) -> None: ...


@runtime_checkable
class Watched(Protocol):
    """A store that can tell, for less than the cost of a load, whether any session has ended. With it a revocation takes
    effect at the next request of every process; without it, within the cache's TTL."""

    def watch(self, ended: Callable[[bytes | None], None]) -> Callable[[], None] | None:
        """Begin to report endings (saves with `ends`) to `ended`, with their key, or None for "any key may have ended".

        Answers `look`, to be called before each use of what was cached; it returns once every ending whose save was
        answered before the call has been reported, whichever thread or process saved it, and raises StoreError when it
        can't tell. Answers None where nothing need be asked, because `save` itself reports before it returns. A report may
        come twice, from any thread; `ended` doesn't block, doesn't fail, and doesn't call the store.
        """
        ...


@runtime_checkable
class Pushed(Protocol):
    """A store that announces endings to all processes as they happen. Then a revocation is seen within milliseconds, and
    what was cached is good for longer than the cache's TTL: as long as announcements are known to arrive."""

    def changes(self) -> Generator[bytes | Heard]:
        """What is announced, from now on: the key of each ending (a save with `ends`), and `Heard` in between.

        The first item is a `Heard`: from its moment on nothing is missed. Each further `Heard(at)` follows all endings
        whose save was answered before `at`, and comes at least once a second. A key may come twice. The generator blocks;
        it is used by one thread, which closes it. Raises StoreError where an ending may have been missed: then `changes` is
        called again, and what was cached before is not kept for longer than the cache's TTL.
        """
        ...


@runtime_checkable
class Scanned(Protocol):
    """A store that can go through all of its documents: for administration, and not for requests."""

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and data of each document that has not expired, in any order; one that is saved meanwhile may be there or
        not. No lock is held in between. Raises StoreError."""
        ...


@runtime_checkable
class Paired(Protocol):
    """A blocking store that has an async counterpart of its own, so that an AsyncGuard needn't call it in threads."""

    def awaited(self) -> AsyncStore:
        """The same store for code that awaits, within the same timeout. Each lets go of its own connections."""
        ...


def is_async(store: object) -> TypeGuard[AsyncStore]:
    """Whether a store is to be awaited."""
    return inspect.iscoroutinefunction(getattr(store, "load", None))


def check_store(store: object) -> None:
    """That this is an object with all that a store has. Raises ConfigError."""
    if isinstance(store, type):
        raise ConfigError(
            f"the store is the class {store.__name__}: expected an object of it, as {store.__name__}(...) gives"
        )
    lacks = [name for name in ("load", "save", "close") if not callable(getattr(store, name, None))]
    if not is_async(store) and not isinstance(getattr(store, "blocking", None), bool):
        lacks.append("blocking (a bool: whether its calls may wait for anything)")
    if lacks:
        raise ConfigError(
            f"the store is of type {type(store).__name__}, which lacks {', '.join(lacks)}: expected a store as "
            "jwtguard.stores.Store describes it, or a URL by the setting STORE"
        )
