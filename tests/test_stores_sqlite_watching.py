"""SQLiteStore in the threads of one process: watching, and connections."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_kit import Watcher, descriptors

from jwtguard._contract_kit import FAR, KEY, at_once, end, put
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=0.05, clock=clock)
    yield store
    store.close()


# -- watching and threads ----------------------------------------------------------------------------------------------


def test_the_first_look_reports_that_anything_may_have_ended(store: SQLiteStore) -> None:
    end(store)
    watcher = Watcher(store)
    assert watcher.look() == [None]
    assert watcher.look() == []


def test_the_first_look_of_a_thread_begins_at_what_was_reported(store: SQLiteStore) -> None:
    watcher = Watcher(store)
    watcher.look()
    end(store, b"unreported")
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(watcher.look).result() == [b"unreported"]
        assert executor.submit(watcher.look).result() == []
    assert watcher.look() == []


def test_a_report_that_is_still_to_come_is_not_relied_on(store: SQLiteStore) -> None:
    """A thread is in the middle of its reports. Another one's look must make them itself, not return."""
    begun, go_on = threading.Event(), threading.Event()
    told: list[tuple[int, bytes | None]] = []
    slow = threading.Event()

    def ended(key: bytes | None) -> None:
        if slow.is_set() and threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go_on.wait(60)
        told.append((threading.get_ident(), key))

    look = store.watch(ended)
    look()
    end(store)
    slow.set()
    with ThreadPoolExecutor(1) as executor:
        late = executor.submit(look)
        assert begun.wait(60)
        look()
        assert (threading.get_ident(), KEY) in told
        go_on.set()
        late.result()
    look()
    assert [key for _, key in told] == [None, KEY, KEY]


def test_a_report_that_fails_is_made_again(store: SQLiteStore) -> None:
    watcher = Watcher(store)
    watcher.look()
    end(store)
    watcher.reports.keys = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        watcher._look()
    watcher.reports.keys = []
    assert watcher.look() == [KEY]


def test_a_look_that_fails_says_so(store: SQLiteStore) -> None:
    watcher = Watcher(store)
    version = put(store)
    watcher.look()
    reader = store._reader()
    assert reader.link is not None
    reader.link.close()
    with pytest.raises(StoreError, match="closed"):
        watcher.look()
    assert put(store, expected=version, ends=True)
    assert watcher.look() == [KEY]


def test_nothing_is_held_open_between_calls(store: SQLiteStore, path: Path) -> None:
    watcher = Watcher(store)
    put(store)
    store.load(KEY)
    watcher.look()
    watcher.look()
    with closing(sqlite3.connect(path, timeout=0)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert watcher.look() == []
    assert put(store, b"more", ends=True)
    assert watcher.look() == [b"more"]


def test_many_threads_leave_nothing_behind(store: SQLiteStore) -> None:
    watcher = Watcher(store)

    def use() -> None:
        watcher.look()
        store.load(KEY)

    put(store)
    use()
    before = descriptors()
    for _ in range(50):
        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert descriptors() <= before + 6, "SQLite keeps as many for later as were open at a time"
    assert len(store._all_places()) == 2


def test_a_dropped_store_leaves_nothing_behind(path: Path) -> None:
    before = descriptors()
    store = SQLiteStore(path)
    put(store)
    Watcher(store).look()
    del store
    gc.collect()
    assert descriptors() == before


def test_close_lets_go_of_the_connections_of_all_threads(store: SQLiteStore, path: Path) -> None:
    with ThreadPoolExecutor(4) as executor:
        put(store)
        list(executor.map(store.load, [KEY] * 20))
        before = descriptors()
        store.close()
        assert descriptors() <= before - 4
        assert not Path(f"{path}-wal").exists(), "SQLite has tidied up after the last one"
        assert {loaded.data for loaded in executor.map(store.load, [KEY] * 20)} == {b"data"}


def test_close_while_others_use_it(path: Path) -> None:
    store = SQLiteStore(path, timeout=30)
    watcher = Watcher(store)

    def work(number: int) -> int:
        if number == 0:
            for _ in range(30):
                store.close()
            return 0
        key, version = b"%d" % number, None
        for _ in range(40):
            version = put(store, key, expected=version, ends=True)
            watcher._look()
            assert watcher.reports.has(key)
            assert store.load(key).version == version
        return 40

    assert sum(at_once(6, work)) == 200
    store.close()


def test_an_expiry_beyond_what_sqlite_counts_is_no_driver_error(store: SQLiteStore) -> None:
    with pytest.raises(OverflowError):
        put(store, expires_at=2**63)
    assert put(store, expires_at=FAR)
