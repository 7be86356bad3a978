"""SQLiteStore: files that are no store, that are damaged, replaced or restored."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_kit import Watcher, backup, fail, put_in_its_place, restore_in_place, rows, write

from jwtguard._contract_kit import KEY, end, put
from jwtguard.errors import StoreError
from jwtguard.stores import sqlite as module
from jwtguard.stores._sqlite_file import Files, Unfit, accept, connect, files_at
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


# -- files that are no store -------------------------------------------------------------------------------------------


def empty(path: Path) -> None:
    path.write_bytes(b"")


def blank(path: Path) -> None:
    write(path, "PRAGMA user_version = 1")


def foreign(path: Path) -> None:
    write(path, "CREATE TABLE documents (key, data, version, expires_at)", "CREATE TABLE ends (id, key, version)")


def newer(path: Path) -> None:
    SQLiteStore(path).load(KEY)
    gc.collect()
    write(path, "PRAGMA user_version = 2")


def text(path: Path) -> None:
    path.write_text("no database at all\n" * 100)


UNFIT: list[tuple[Callable[[Path], None], str]] = [
    (empty, "is empty"),
    (blank, "another application's database"),
    (foreign, "another application's database"),
    (newer, "schema is number 2"),
    (text, "not a database"),
]


@pytest.mark.parametrize(("make", "message"), UNFIT)
def test_a_file_that_is_no_store(make: Callable[[Path], None], message: str, store: SQLiteStore, path: Path) -> None:
    make(path)
    before = path.read_bytes()
    fail(store, message)
    with pytest.raises(StoreError, match=message):
        Watcher(store).look()
    assert path.read_bytes() == before, "it is left as it is"


@pytest.mark.parametrize(("make", "message"), UNFIT)
def test_replaced_by_a_file_that_is_no_store(
    make: Callable[[Path], None], message: str, store: SQLiteStore, path: Path, tmp_path: Path, clock: FakeClock
) -> None:
    watcher = Watcher(store)
    version = put(store)
    watcher.look()
    kept = backup(path, tmp_path / "kept.db")
    make(tmp_path / "other.db")
    put_in_its_place(path, tmp_path / "other.db")
    fail(store, message)
    with pytest.raises(StoreError, match=message):
        watcher.look()
    put_in_its_place(path, kept)
    assert store.load(KEY)[:2] == (b"data", version)
    assert watcher.look() == [None]
    assert put(store, expected=version)


def test_deleted_is_not_empty(store: SQLiteStore, path: Path, tmp_path: Path, clock: FakeClock) -> None:
    watcher = Watcher(store)
    version = put(store)
    watcher.look()
    kept = backup(path, tmp_path / "kept.db")
    path.unlink()
    clock.advance(4)
    assert watcher.look() == [], "a look makes sure of the file every few seconds only"
    clock.advance(2)
    with pytest.raises(StoreError):
        watcher.look()
    fail(store)
    assert not path.exists()
    put_in_its_place(path, kept)
    assert watcher.look() == [None]
    assert store.load(KEY).version == version


def test_a_failed_load_has_the_looks_of_other_threads_make_sure(store: SQLiteStore, path: Path) -> None:
    watcher = Watcher(store)
    watcher.look()
    path.unlink()
    with ThreadPoolExecutor(1) as executor, pytest.raises(StoreError):
        executor.submit(store.load, KEY).result()
    with pytest.raises(StoreError):
        watcher.look()


def test_emptied_is_not_empty(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    version = put(store)
    kept = backup(path, tmp_path / "kept.db")
    os.truncate(path, 0)
    fail(store, "is empty")
    put_in_its_place(path, kept)
    assert store.load(KEY).version == version


@pytest.mark.parametrize("close_first", [False, True])
def test_truncated(store: SQLiteStore, path: Path, tmp_path: Path, close_first: bool) -> None:
    for number in range(50):
        put(store, b"%d" % number, b"x" * 4000)
    version = put(store)
    store.close()
    assert store.load(KEY).version == version
    kept = backup(path, tmp_path / "kept.db")
    if close_first:
        store.close()
    os.truncate(path, path.stat().st_size // 2)
    fail(store, "malformed")
    put_in_its_place(path, kept)
    assert store.load(KEY).version == version


def test_truncated_with_a_log_that_says_otherwise(store: SQLiteStore, path: Path) -> None:
    other = SQLiteStore(path)
    for number in range(50):
        put(store, b"%d" % number, b"x" * 4000)
    store.close()
    assert put(other)
    os.truncate(path, 4096)
    fail(store, "shorter than it says")
    other.close()


def test_shrunk_by_vacuum_is_well(store: SQLiteStore, path: Path) -> None:
    versions = [put(store, b"%d" % number, b"x" * 4000) for number in range(50)]
    with closing(sqlite3.connect(path)) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.load(b"0").version == versions[0]
    before = path.stat().st_size
    write(path, "DELETE FROM documents WHERE key != x'30'")
    with closing(sqlite3.connect(path)) as link:
        link.execute("VACUUM")
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < before
    assert store.load(b"0").version == versions[0]
    assert put(store, b"0", expected=versions[0])


@pytest.mark.parametrize("where", ["start", "middle"])
def test_overwritten(store: SQLiteStore, path: Path, where: str) -> None:
    for number in range(50):
        put(store, b"%d" % number, b"x" * 4000)
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0 if where == "start" else 4096)
        file.write(os.urandom(4096 if where == "start" else size - 4096))
    with pytest.raises(StoreError):
        store.load(b"7")
    with pytest.raises(StoreError):
        put(store, b"7")


@pytest.mark.parametrize("suffixes", [["-wal"], ["-shm"], ["-wal", "-shm"]])
def test_its_log_is_removed_while_in_use(store: SQLiteStore, path: Path, suffixes: list[str]) -> None:
    """Whoever opened the file now would miss what the log holds. So nobody does, and the last to let go puts it back."""
    watcher = Watcher(store)
    put(store)
    watcher.look()
    end(store, b"ended")
    version = store.load(b"ended").version
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()
    for _ in range(2):
        fail(store, "removed while it was in use")
        with pytest.raises(StoreError, match="removed while it was in use"):
            watcher.look()
        with ThreadPoolExecutor(1) as executor, pytest.raises(StoreError, match="removed while it was in use"):
            executor.submit(store.load, KEY).result()
    store.close()
    assert store.load(b"ended")[:2] == (b"data", version)
    assert watcher.look() == [b"ended"]


# -- restored ----------------------------------------------------------------------------------------------------------


def test_restored_by_mv(store: SQLiteStore, path: Path, tmp_path: Path, clock: FakeClock) -> None:
    watcher = Watcher(store)
    version = put(store)
    kept = backup(path, tmp_path / "kept.db")
    end(store)
    watcher.look()
    put_in_its_place(path, kept)
    clock.advance(6)
    assert watcher.look() == [None]
    assert watcher.look() == []
    assert store.load(KEY).version == version
    end(store, b"later")
    assert watcher.look() == [b"later"]


def test_restored_by_mv_beside_the_log_of_the_one_before(store: SQLiteStore, path: Path, tmp_path: Path) -> None:
    """SQLite would write the old log's pages into the new file."""
    watcher = Watcher(store)
    for number in range(20):
        put(store, b"%d" % number, b"x" * 1000)
    version = put(store)
    watcher.look()
    kept = backup(path, tmp_path / "kept.db")
    for number in range(20):
        end(store, b"%d" % number)
    before = kept.read_bytes()
    kept.replace(path)
    for _ in range(2):
        fail(store, "Remove them")
        with pytest.raises(StoreError, match="Remove them"):
            watcher.look()
        with ThreadPoolExecutor(1) as executor, pytest.raises(StoreError, match="Remove them"):
            executor.submit(store.load, KEY).result()
    Path(f"{path}-wal").unlink()
    fail(store, "Remove them")
    Path(f"{path}-shm").unlink()
    assert path.read_bytes() == before
    assert store.load(b"7").data == b"x" * 1000
    assert watcher.look() == [None]
    assert put(store, expected=version)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("later", [0, 1, 2, 7])
def test_restored_in_place(store: SQLiteStore, path: Path, tmp_path: Path, later: int) -> None:
    """However many endings come after, which have the same numbers as those that were lost."""
    watcher = Watcher(store)
    version = put(store)
    kept = backup(path, tmp_path / "kept.db")
    end(store)
    end(store)
    watcher.look()
    restore_in_place(path, kept)
    other = SQLiteStore(path)
    for number in range(later):
        end(other, b"%d" % number)
    assert watcher.look() == [None]
    assert store.load(KEY).version == version
    assert put(store, expected=version)
    assert watcher.look() == []
    other.close()


def test_replaced_during_a_save(store: SQLiteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    kept = backup(path, tmp_path / "kept.db")
    version = store.load(KEY).version
    looks = iter([None, lambda: put_in_its_place(path, kept)])
    real = files_at

    def happening(path: Path, place: Path) -> Files:
        if (happens := next(looks, None)) is not None:
            happens()
        return real(path, place)

    monkeypatch.setattr(module, "files_at", happening)
    with pytest.raises(StoreError, match="replaced while it was written"):
        put(store, data=b"lost", expected=version, ends=True)
    assert store.load(KEY)[:2] == (b"data", version)


def test_replaced_while_it_is_opened(
    store: SQLiteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    kept = backup(path, tmp_path / "kept.db")
    store.close()
    real = connect

    def connecting(path: Path, timeout: float) -> sqlite3.Connection:
        link = real(path, timeout)
        put_in_its_place(path, kept)
        monkeypatch.undo()
        return link

    monkeypatch.setattr(module, "connect", connecting)
    with pytest.raises(StoreError, match="replaced while it was opened"):
        store.load(KEY)
    assert store.load(KEY).data == b"data"


def test_a_copy_that_keeps_no_log(store: SQLiteStore, path: Path) -> None:
    version = put(store)
    store.close()
    write(path, "PRAGMA journal_mode = DELETE")
    assert store.load(KEY).version == version
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_where_no_log_can_be_kept() -> None:
    with closing(sqlite3.connect(":memory:")) as link:
        link.execute("PRAGMA application_id = 0x6A776764")
        link.execute("PRAGMA user_version = 1")
        with pytest.raises(Unfit, match="write-ahead log"):
            accept(link)


def test_a_copy_that_keeps_no_log_and_is_in_use(store: SQLiteStore, path: Path) -> None:
    put(store)
    store.close()
    write(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM documents").fetchone()
        fail(store, "locked")
