"""Every store that is in the repository, held to the contract."""

from __future__ import annotations

import inspect
import runpy
import time
from collections.abc import Generator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest
from redis_kit import Cluster, Redis

from jwtguard.stores import AsyncStore, Heard, Loaded, Store
from jwtguard.stores.adapters import InThreads
from jwtguard.stores.memory import MemoryStore, _Document
from jwtguard.stores.redis import AsyncRedisStore, RedisStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock, StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_store.py"


class TestMemoryStore(StoreContract):
    persistent = False
    watched = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return MemoryStore(clock)


class TestAnnouncingStore(StoreContract):
    persistent = False
    watched = pushed = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return Announcing(clock)


class TestSQLiteStore(StoreContract):
    watched = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return SQLiteStore(tmp_path / "store.db", timeout=10, clock=clock)


class TestAsyncStore(StoreContract):
    """A store that is async by itself: its other colour is OnLoop."""

    watched = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> AsyncStore:
        return InThreads(SQLiteStore(tmp_path / "store.db", timeout=10, clock=clock))


@pytest.mark.servers
class TestRedisStore(StoreContract):
    pushed = True
    server_clock = True

    @pytest.fixture(autouse=True)
    def server(self, redis_server: Redis) -> None:
        self.url = redis_server.url

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return RedisStore(f"{self.url}?prefix={tmp_path.name}:", timeout=10)


class TestAsyncRedisStore(TestRedisStore):
    """The store that is async by itself, whose other colour is OnLoop."""

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return cast(Store, AsyncRedisStore(f"{self.url}?prefix={tmp_path.name}:", timeout=10))


class TestRedisCluster(TestRedisStore):
    @pytest.fixture(autouse=True)
    def server(self, redis_cluster: Cluster) -> None:
        self.url = redis_cluster.url


class TestAsyncRedisCluster(TestAsyncRedisStore):
    @pytest.fixture(autouse=True)
    def server(self, redis_cluster: Cluster) -> None:
        self.url = redis_cluster.url


class TestCustomStore(StoreContract):
    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        store: Store = runpy.run_path(str(EXAMPLE))["FolderStore"](tmp_path, clock)
        return store


class Careless(MemoryStore):
    """Saves whatever version is expected."""

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        expected = self.load(key).version
        return super().save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)


class Folding(MemoryStore):
    """Takes keys for text, as some collations do."""

    def load(self, key: bytes) -> Loaded:
        return super().load(key.upper())

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return super().save(key.upper(), data, **terms)


class Racing(MemoryStore):
    """Looks, then writes."""

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        if self.load(key).version != expected:
            return False
        time.sleep(0)  # lets another thread in
        self._documents[key] = _Document(data, version, expires_at)
        return True


class Undying(MemoryStore):
    """Knows no expiry."""

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return super().save(key, data, **terms | {"expires_at": 4_102_444_800_000})


class Silent(MemoryStore):
    """Reports nothing."""

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return super().save(key, data, **terms | {"ends": False})


class Noisy(MemoryStore):
    """Reports every save."""

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return super().save(key, data, **terms | {"ends": True})


class Announcing(MemoryStore):
    """Pushes what ends, to listeners in this process."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.listeners: list[SimpleQueue[bytes]] = []

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        saved = super().save(key, data, **terms)
        if self.is_announced(saved, terms["ends"]):
            for listener in self.listeners:
                listener.put(key)
        return saved

    def is_announced(self, saved: bool, ends: bool) -> bool:
        return saved and ends

    def changes(self) -> Generator[bytes | Heard]:
        listener: SimpleQueue[bytes] = SimpleQueue()
        self.listeners.append(listener)
        while True:
            heard = Heard(time.monotonic())
            yield from self.ordered([listener.get() for _ in range(listener.qsize())], heard)
            time.sleep(0.01)

    def ordered(self, found: list[bytes], heard: Heard) -> list[bytes | Heard]:
        return [*found, heard]


class Mute(Announcing):
    """Announces nothing."""

    def is_announced(self, saved: bool, ends: bool) -> bool:
        return False


class Talkative(Announcing):
    """Announces every save."""

    def is_announced(self, saved: bool, ends: bool) -> bool:
        return saved


class Hasty(Announcing):
    """Gives its word, and announces what the word is about only with the next one."""

    late: tuple[bytes, ...] = ()

    def ordered(self, found: list[bytes], heard: Heard) -> list[bytes | Heard]:
        late, self.late = self.late, tuple(found)
        return [*late, heard]


class Ceasing(Announcing):
    """Ceases to announce, and says nothing of it."""

    def changes(self) -> Generator[bytes | Heard]:
        yield Heard(time.monotonic())


class Seconds(MemoryStore):
    """Tells the time in seconds."""

    def load(self, key: bytes) -> Loaded:
        return super().load(key)._replace(now=self._now() // 1000)


class Unwatched:
    """Says by a misspelt method what has ended."""

    def __init__(self, clock: FakeClock) -> None:
        self._store = MemoryStore(clock)
        self.load, self.save, self.wacth = self._store.load, self._store.save, self._store.watch


class Refusing(MemoryStore):
    """Saves nothing."""

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Careless, "test_conflict_changes_nothing"),
        (Careless, "test_a_version_of_what_is_absent"),
        (Careless, "test_the_version_of_another_key"),
        (Careless, "test_one_creator_wins"),
        (Folding, "test_keys_that_look_alike_are_different"),
        (Racing, "test_no_increment_is_lost"),
        (Undying, "test_expired_is_absent"),
        (Undying, "test_expired_can_be_made_anew"),
        (Undying, "test_a_save_sets_the_expiry_anew"),
        (Undying, "test_the_version_of_what_expired_is_worth_nothing"),
        (Silent, "test_an_ending_is_reported"),
        (Silent, "test_every_watcher_is_told"),
        (Silent, "test_an_ending_is_reported_to_every_thread"),
        (Silent, "test_endings_of_many_threads"),
        (Silent, "test_watching_goes_on_after_close"),
        (Silent, "test_no_ending_is_missed_between_watch_and_look"),
        (Noisy, "test_what_ends_nothing_is_not_reported"),
        (Mute, "test_an_ending_is_announced"),
        (Mute, "test_every_listener_is_told"),
        (Mute, "test_listening_after_close"),
        (Mute, "test_endings_of_many_threads_are_announced"),
        (Talkative, "test_what_ends_nothing_is_not_announced"),
        (Hasty, "test_a_word_follows_all_endings_before_its_moment"),
        (Ceasing, "test_an_ending_is_announced"),
        (Seconds, "test_now_is_the_time_in_milliseconds"),
        (Unwatched, "test_it_has_the_powers_that_the_suite_says"),
        (Refusing, "test_swap"),
        (Refusing, "test_round_trip"),
        (Refusing, "test_close_twice_then_use_again"),
        (Refusing, "test_a_cancelled_save_is_whole_or_not_at_all"),
    ],
)
def test_the_contract_finds_a_store_that_breaks_it(
    kind: Any, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Contract(StoreContract):
        watched = pushed = True

        def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
            store: Store = kind(clock)
            return store

    monkeypatch.setattr("jwtguard._contract_push.PATIENCE", 0.5)
    clock = FakeClock()
    given = {"store": kind(clock), "clock": clock, "data": b"data", "tmp_path": tmp_path}
    method = getattr(Contract(), test)
    with pytest.raises(AssertionError):
        method(**{name: given[name] for name in inspect.signature(method).parameters})


def test_a_suite_has_the_tests_of_the_powers_that_it_claims() -> None:
    class Watching(StoreContract):
        watched = True

    class Forgetting(Watching):
        persistent = False

    class Neither(Forgetting):
        watched = False

    class Both(Neither):
        persistent = watched = True

    tests = ("test_an_ending_is_reported", "test_another_handle", "test_an_ending_by_another_handle")
    assert [callable(getattr(Watching, name)) for name in tests] == [True, True, True]
    assert [callable(getattr(Forgetting, name)) for name in tests] == [True, False, False]
    assert [callable(getattr(Neither, name)) for name in tests] == [False, False, False]
    assert [callable(getattr(Both, name)) for name in tests] == [True, True, True]


def test_a_contract_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        StoreContract().make_store(tmp_path, FakeClock())
