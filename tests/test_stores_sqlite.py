"""SQLiteStore: its file, and what can fail."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_kit import Watcher, fail, rows, run, write

from jwtguard._contract_kit import KEY, Reports, end, put
from jwtguard.errors import ConfigError, StoreError
from jwtguard.stores import sqlite as module
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


# -- the path and the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", ":memory:", "file:x?mode=memory", "file::memory:?cache=shared"])
def test_paths_in_memory_are_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="memory://"):
        SQLiteStore(bad)


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a path"):
        SQLiteStore("a\0b")


def test_nothing_is_opened_by_the_constructor(store: SQLiteStore, path: Path) -> None:
    store.watch(Reports().ended)
    assert not path.exists()


def test_the_file_is_for_its_owner_only(store: SQLiteStore, path: Path) -> None:
    before = os.umask(0)
    try:
        put(store)
    finally:
        os.umask(before)
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db-shm", "store.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_the_file_says_what_it_is(store: SQLiteStore, path: Path) -> None:
    put(store)
    assert rows(path, "PRAGMA application_id") == [(0x6A776764,)]
    assert rows(path, "PRAGMA user_version") == [(1,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_saves_are_synchronous_in_full(store: SQLiteStore) -> None:
    with store._use(store._writer) as link:
        assert link.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_reader_cannot_write(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="readonly"), store._use(store._reader()) as link:
        link.execute("DELETE FROM documents")


@pytest.mark.parametrize("name", ["a b.db", "a?mode=memory#x%41.db", "é\udcff.db", "a\nb.db"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    store = SQLiteStore(tmp_path / name)
    put(store)
    assert (tmp_path / name).exists()
    assert str(store).isascii()
    assert "\n" not in str(store)
    store.close()


def test_a_link_to_the_file(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    one, two = SQLiteStore(link), SQLiteStore(path)
    put(one)
    assert two.load(KEY).data == b"data"
    assert not (tmp_path / "link.db-wal").exists()
    one.close()
    two.close()


def test_a_link_that_leads_to_itself(path: Path) -> None:
    path.symlink_to(path)
    fail(SQLiteStore(path))
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_folder(tmp_path: Path) -> None:
    fail(SQLiteStore(tmp_path / "missing" / "store.db"), "its folder doesn't exist")


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir()
    fail(SQLiteStore(path))


def test_another_was_first_to_make_it(store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SQLiteStore(path)
    put(other)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert store.load(KEY).data == b"data"
    assert len(list(path.parent.iterdir())) == 3
    other.close()


# -- failures of the driver --------------------------------------------------------------------------------------------


def test_locked(store: SQLiteStore, path: Path) -> None:
    version = put(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            put(store, expected=version, ends=True)
        assert store.load(KEY).version == version, "reading goes on"
    assert put(store, expected=version)


def test_busy_with_another_thread(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = put(store)
    monkeypatch.setattr(store, "_patience", 0.01)
    with store._writer.lock, pytest.raises(StoreError, match="busy"):
        put(store, expected=version)
    assert put(store, expected=version)


@pytest.mark.parametrize("error", [TimeoutError, KeyboardInterrupt, ValueError])
def test_interrupted_in_the_middle(
    error: type[BaseException], store: SQLiteStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler that raises: others can write at once, and nothing of it was saved."""
    version, other = put(store), SQLiteStore(store.path, timeout=0, clock=clock)

    def interrupt() -> float:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store, "_now", interrupt)
        with pytest.raises((error, StoreError)):
            put(store, data=b"half", expected=version, ends=True)
    assert other.load(KEY)[:2] == (b"data", version)
    second = put(other, expected=version)
    assert put(store, expected=second)
    other.close()


def test_full(path: Path) -> None:
    script = """
import resource, sys
from jwtguard._contract_kit import KEY, put
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
told = []
look = store.watch(told.append)
version = put(store, data=b"kept")
look(); told.clear()
free = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, free[1]))
for attempt in range(3):
    try:
        put(store, data=b"x" * 200_000, expected=version, ends=True)
    except StoreError as error:
        assert "kept" not in str(error)
    else:
        sys.exit("a full disk went unnoticed")
    look()
    assert store.load(KEY)[:2] == (b"kept", version)
assert told == []
resource.setrlimit(resource.RLIMIT_FSIZE, free)
assert put(store, data=b"x" * 200_000, expected=version, ends=True)
look()
assert told == [KEY]
"""
    run(script, path)


def test_no_room_to_make_it(path: Path) -> None:
    script = """
import os, resource, sys
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
free = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (0, 1000, 4096, 8192, 16384):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, free[1]))
    try:
        store.load(b"k")
    except StoreError:
        assert os.listdir(os.path.dirname(sys.argv[1])) == []
resource.setrlimit(resource.RLIMIT_FSIZE, free)
assert store.load(b"k").data is None
"""
    run(script, path)


def test_read_only(path: Path) -> None:
    """As a user who may read the file and not write it: root may, so root becomes somebody else first."""
    script = """
import os, sys
from jwtguard._contract_kit import KEY, put
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
version = put(store)
store.close()
folder = os.path.dirname(sys.argv[1])
os.chmod(sys.argv[1], 0o444)
os.chmod(folder, 0o777)
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    assert store.load(KEY).version == version
    try:
        put(store, expected=version)
    except StoreError as error:
        assert "readonly" in str(error)
    else:
        sys.exit("it was written to")
    assert store.load(KEY).version == version
finally:
    store.close()
    os.seteuid(os.getuid())
"""
    folder = Path(shutil.copytree(path.parent, f"/tmp/jwtguard-read-only-{os.getpid()}"))
    try:
        run(script, folder / "store.db")
    finally:
        shutil.rmtree(folder)


# -- reclaiming --------------------------------------------------------------------------------------------------------


def test_expired_documents_are_reclaimed_in_batches(store: SQLiteStore, path: Path, clock: FakeClock) -> None:
    for number in range(30):
        put(store, b"%d" % number, expires_at=store.load(KEY).now + 1000)
    clock.advance(2)
    version = put(store)
    assert rows(path, "SELECT count(*) FROM documents") == [(11,)]
    put(store, expected=version)
    assert rows(path, "SELECT count(*) FROM documents") == [(1,)]


def test_endings_are_pruned_and_who_is_left_behind_forgets_everything(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_ENDS", 5)
    behind, abreast = Watcher(store), Watcher(store)
    behind.look()
    abreast.look()
    for number in range(20):
        end(store, b"%d" % number)
        assert abreast.look() == [b"%d" % number]
    assert rows(path, "SELECT count(*), min(id), max(id) FROM ends") == [(5, 17, 21)]
    assert behind.look() == [None]
    assert behind.look() == []
    end(store)
    assert behind.look() == [KEY]


def test_without_any_ending_on_record_anything_may_have_ended(store: SQLiteStore, path: Path) -> None:
    watcher = Watcher(store)
    watcher.look()
    write(path, "DELETE FROM ends")
    assert watcher.look() == [None]
    assert watcher.look() == []
    end(store)
    assert watcher.look() == [None]
    end(store)
    assert watcher.look() == [KEY]
