"""What every store is held to, in both colours. Tests are written once, against blocking calls; see `StoreContract`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import pytest

from ._contract_kit import (
    FAR,
    KEY,
    LONGEST_KEY,
    NEEDS,
    PATIENCE,
    Driven,
    Open,
    Reports,
    Watching,
    at_once,
    end,
    needs,
    put,
)
from ._contract_push import PushContract
from .stores.adapters import InThreads, OnLoop
from .stores.base import AsyncStore, Pushed, Store, Watched, is_async
from .testing import FakeClock

__all__ = ["StoreContract"]

THREADS: Final = 8
INCREMENTS: Final = 20
ALIKE: Final = (b"a", b"A", b"a ", b" a", b"a\0", b"\0a", b"a\0b", b"a%", b"_", b"{a}b", b"ss", "ß".encode(), "é".encode())
ALIKE_BUT_DECOMPOSED: Final = "e\N{COMBINING ACUTE ACCENT}".encode()


class StoreContract(PushContract):
    """Subclass it, as `class TestMyStore(StoreContract)`, and answer a store from `make_store`; pytest does the rest.

    Every test runs in both colours: the store's own, and the other one through `InThreads` or `OnLoop`. Class attributes
    say what kind of store it is; tests that are not for this kind are not there.
    """

    persistent: ClassVar[bool] = True
    """Whether another `make_store` with the same arguments opens the same documents."""
    server_clock: ClassVar[bool] = False
    """Whether the store goes by a clock of its own (a server's), and not by the one that `make_store` is given."""
    watched: ClassVar[bool] = False
    """Whether the store has the power to tell what has ended: `Watched`."""
    pushed: ClassVar[bool] = False
    """Whether the store announces what ends: `Pushed`."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name, (powers, test) in NEEDS.items():
            setattr(cls, name, test if all(getattr(cls, power) for power in powers) else None)

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store | AsyncStore:
        """A new handle on the test's store. It is closed when the test is over."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture(params=["blocking", "async"])
    def another(self, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
        """Opens another handle on the test's store."""
        opened: list[Store] = []

        def open_another() -> Store:
            store = self.make_store(tmp_path, clock)
            opened.append(self._as_blocking(store) if request.param == "blocking" else self._as_async(store))
            return opened[-1]

        yield open_another
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, another: Open) -> Store:
        return another()

    def _as_blocking(self, store: Store | AsyncStore) -> Store:
        return OnLoop(store, timeout=PATIENCE) if is_async(store) else cast(Store, store)

    def _as_async(self, store: Store | AsyncStore) -> Store:
        return Driven(store if is_async(store) else InThreads(cast(Store, store)))

    def _expire(self, store: Store, clock: FakeClock, key: bytes = KEY, *, expected: bytes | None = None) -> bytes:
        """Save a document that has expired when this returns. Answers its version."""
        expires_at = 1 if self.server_clock else store.load(key).now + 1000
        version = put(store, key, b"short-lived", expected=expected, expires_at=expires_at)
        assert version is not None
        clock.advance(2)
        return version

    def test_it_has_the_powers_that_the_suite_says(self, store: Store) -> None:
        """Set `watched` and `pushed` in your suite to what your store can: those tests are run then, and only then."""
        assert isinstance(store, Watched) is self.watched
        assert isinstance(store, Pushed) is self.pushed

    # -- documents ---------------------------------------------------------------------------------------------------------

    def test_absent(self, store: Store) -> None:
        data, version, _ = store.load(KEY)
        assert (data, version) == (None, None)

    def test_now_is_the_time_in_milliseconds(self, store: Store, clock: FakeClock) -> None:
        for key in (KEY, b"absent"):
            now = store.load(key).now
            true = time.time() if self.server_clock else clock.time()
            assert type(now) is int
            assert abs(now - true * 1000) <= (60_000 if self.server_clock else 1)
            put(store)

    @pytest.mark.parametrize(
        "data", [b"", b"\0", b"a\0b", bytes(range(256)), b"\xff" * 65_536, secrets.token_bytes(65_536)], ids=len
    )
    def test_round_trip(self, store: Store, data: bytes) -> None:
        version = put(store, data=data)
        assert store.load(KEY)[:2] == (data, version)

    @pytest.mark.parametrize("key", [b"\0", b"\xff", LONGEST_KEY, b"x" * 1024, b"\xff" * 1024], ids=len)
    def test_any_key(self, store: Store, key: bytes) -> None:
        version = put(store, key)
        assert store.load(key)[:2] == (b"data", version)
        assert store.load(key[:-1] + b"!").data is None

    @pytest.mark.parametrize("version", [bytes(8), b"\xff" * 8, b"00000000", b"12345678", b"0x1234\r\n"])
    def test_any_version(self, store: Store, version: bytes) -> None:
        assert store.save(KEY, b"one", expected=None, version=version, expires_at=FAR, ends=False)
        assert store.load(KEY).version == version
        assert put(store, data=b"two", expected=version)

    def test_keys_that_look_alike_are_different(self, store: Store) -> None:
        keys = (*ALIKE, ALIKE_BUT_DECOMPOSED)
        for number, key in enumerate(keys):
            assert put(store, key, str(number).encode()) is not None
        assert [store.load(key).data for key in keys] == [str(number).encode() for number in range(len(keys))]

    def test_data_that_shrinks_and_grows(self, store: Store) -> None:
        version = None
        for size in (10, 60_000, 0, 3, 65_536, 1):
            version = put(store, data=b"x" * size, expected=version)
            assert store.load(KEY)[:2] == (b"x" * size, version)

    # -- compare and swap --------------------------------------------------------------------------------------------------

    def test_swap(self, store: Store) -> None:
        first = put(store, data=b"one")
        second = put(store, data=b"two", expected=first)
        assert second is not None
        assert store.load(KEY)[:2] == (b"two", second)

    def test_conflict_changes_nothing(self, store: Store) -> None:
        first = put(store, data=b"one")
        second = put(store, data=b"two", expected=first)
        for expected in (first, None, b"another."):
            assert put(store, data=b"three", expected=expected, ends=True) is None
            assert store.load(KEY)[:2] == (b"two", second)

    def test_a_version_of_what_is_absent(self, store: Store) -> None:
        assert put(store, expected=b"12345678") is None
        assert store.load(KEY).data is None

    def test_the_version_of_another_key(self, store: Store) -> None:
        version = put(store, b"one")
        put(store, b"two")
        assert put(store, b"two", expected=version) is None

    def test_expired_is_absent(self, store: Store, clock: FakeClock) -> None:
        self._expire(store, clock)
        assert store.load(KEY)[:2] == (None, None)

    def test_not_yet_expired(self, store: Store, clock: FakeClock) -> None:
        version = put(store, expires_at=store.load(KEY).now + 3_600_000)
        clock.advance(3_599)
        assert store.load(KEY)[:2] == (b"data", version)

    def test_expired_can_be_made_anew(self, store: Store, clock: FakeClock) -> None:
        self._expire(store, clock)
        version = put(store, data=b"anew")
        assert store.load(KEY)[:2] == (b"anew", version)

    def test_a_save_sets_the_expiry_anew(self, store: Store, clock: FakeClock) -> None:
        version = put(store)
        self._expire(store, clock, expected=version)
        assert store.load(KEY).data is None

    def test_the_version_of_what_expired_is_worth_nothing(self, store: Store, clock: FakeClock) -> None:
        version = self._expire(store, clock)
        assert put(store, data=b"from the dead", expected=version) is None
        anew = put(store, data=b"anew")
        assert put(store, data=b"from the dead", expected=version) is None
        assert store.load(KEY)[:2] == (b"anew", anew)

    def test_other_documents_outlive_an_expired_one(self, store: Store, clock: FakeClock) -> None:
        versions = {key: put(store, key) for key in (b"one", b"two", b"three")}
        self._expire(store, clock)
        for number in range(20):
            put(store, b"more %d" % number)
        assert {key: store.load(key).version for key in versions} == versions

    # -- many at once ------------------------------------------------------------------------------------------------------

    def test_no_increment_is_lost(self, store: Store) -> None:
        def increment(_: int) -> None:
            for _ in range(INCREMENTS):
                loaded = store.load(KEY)
                while put(store, data=b"%d" % (int(loaded.data or 0) + 1), expected=loaded.version) is None:
                    loaded = store.load(KEY)

        at_once(THREADS, increment)
        assert store.load(KEY).data == b"%d" % (THREADS * INCREMENTS)

    def test_one_creator_wins(self, store: Store) -> None:
        for number in range(5):
            key = b"key %d" % number
            versions = at_once(16, lambda creator, key=key: put(store, key, b"%d" % creator))  # type: ignore[misc]
            winners = [creator for creator, version in enumerate(versions) if version is not None]
            assert len(winners) == 1
            assert store.load(key)[:2] == (b"%d" % winners[0], versions[winners[0]])

    def test_a_save_is_seen_by_every_thread(self, store: Store) -> None:
        version = None
        for number in range(10):
            version = put(store, data=b"%d" % number, expected=version)
            assert set(at_once(4, lambda _: store.load(KEY).version)) == {version}

    # -- handles -----------------------------------------------------------------------------------------------------------

    def test_close_twice_then_use_again(self, store: Store) -> None:
        store.close()
        put(store)
        store.close()
        store.close()
        data, version, _ = store.load(KEY)
        assert data == (b"data" if self.persistent else data)
        assert put(store, expected=version) is not None

    @needs("persistent")
    def test_another_handle(self, another: Open) -> None:
        one, two = another(), another()
        first = put(one)
        assert two.load(KEY).version == first
        assert put(two, expected=first) is not None
        assert put(one, expected=first) is None
        one.close()
        two.close()
        assert another().load(KEY).data == b"data"

    # -- watching ----------------------------------------------------------------------------------------------------------

    @needs("watched")
    def test_an_ending_is_reported(self, store: Store) -> None:
        watching = Watching(store)
        for key in (KEY, b"\0", LONGEST_KEY):
            end(store, key)
            watching.look()
            assert watching.reports.has(key)

    @needs("watched")
    def test_no_ending_is_missed_between_watch_and_look(self, store: Store) -> None:
        assert isinstance(store, Watched)
        reports = Reports()
        look = store.watch(reports.ended)
        store.load(KEY)
        end(store)
        if look is not None:
            look()
        assert reports.has(KEY)

    @needs("watched")
    def test_what_ends_nothing_is_not_reported(self, store: Store) -> None:
        watching = Watching(store)
        version = put(store)
        put(store, expected=version)
        store.load(KEY)
        watching.look()
        assert watching.reports.keys == []

    @needs("watched")
    def test_a_conflict_is_not_reported(self, store: Store) -> None:
        watching = Watching(store)
        put(store)
        assert put(store, ends=True) is None
        watching.look()
        assert watching.reports.keys == []

    @needs("watched")
    def test_every_watcher_is_told(self, store: Store) -> None:
        watchings = [Watching(store), Watching(store)]
        end(store)
        for watching in watchings:
            watching.look()
            assert watching.reports.has(KEY)

    @needs("watched")
    def test_an_ending_is_reported_to_every_thread(self, store: Store) -> None:
        watching = Watching(store)

        def told(_: int, key: bytes) -> bool:
            watching.look()
            return watching.reports.has(key)

        with ThreadPoolExecutor(4) as executor:
            for number in range(20):
                key = b"key %d" % number
                executor.submit(end, store, key).result(PATIENCE)
                assert all(executor.map(told, range(4), [key] * 4))
                watching.look()
                assert watching.reports.has(key)

    @needs("watched")
    def test_endings_of_many_threads(self, store: Store) -> None:
        watching = Watching(store)

        def end_and_look(thread: int) -> None:
            for number in range(10):
                key = b"%d of %d" % (number, thread)
                end(store, key)
                watching.look()
                assert watching.reports.has(key)

        at_once(4, end_and_look)

    @needs("watched", "persistent")
    def test_an_ending_by_another_handle(self, another: Open) -> None:
        one, two = another(), another()
        watching = Watching(one)
        for number in range(20):
            key = b"key %d" % number
            end(two, key)
            watching.look()
            assert watching.reports.has(key)
        put(two)
        watching.reports.keys.clear()
        watching.look()
        assert watching.reports.keys == []

    @needs("watched")
    def test_watching_goes_on_after_close(self, store: Store) -> None:
        watching = Watching(store)
        store.close()
        end(store)
        watching.look()
        assert watching.reports.has(KEY)

    # -- cancelling --------------------------------------------------------------------------------------------------------

    def test_a_cancelled_save_is_whole_or_not_at_all(self, tmp_path: Path, clock: FakeClock) -> None:
        made = self.make_store(tmp_path, clock)
        asyncio.run(self._cancel_saves(made if is_async(made) else InThreads(cast(Store, made))))

    async def _cancel_saves(self, store: AsyncStore) -> None:
        for steps in range(6):
            loaded = await store.load(KEY)
            data, version = b"%d" % steps * 100, b"version%d" % steps
            task = asyncio.create_task(self._save(store, data, loaded.version, version))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task
            found = await store.load(KEY)
            assert found[:2] in (loaded[:2], (data, version))
            await self._save_until_it_counts(store, b"after %d" % steps)
        await store.close()

    async def _save_until_it_counts(self, store: AsyncStore, data: bytes) -> None:
        """What was cancelled may be on its way still: it can win once."""
        for _ in range(3):
            version = secrets.token_bytes(8)
            found = await store.load(KEY)
            if await self._save(store, data, found.version, version):
                assert (await store.load(KEY))[:2] == (data, version)
                return
        raise AssertionError("a save that nobody contends with fails again and again")

    async def _save(self, store: AsyncStore, data: bytes, expected: bytes | None, version: bytes) -> bool:
        return await store.save(KEY, data, expected=expected, version=version, expires_at=FAR, ends=True)
