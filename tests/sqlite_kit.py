"""What the tests of SQLiteStore do to files, and ask of stores."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from jwtguard._contract_kit import KEY, Reports, put
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore


class Watcher:
    """A watch, and what each look of it reports."""

    def __init__(self, store: SQLiteStore) -> None:
        self.reports = Reports()
        self._look = store.watch(self.reports.ended)

    def look(self) -> list[bytes | None]:
        """What this look reports."""
        self.reports.keys.clear()
        self._look()
        return list(self.reports.keys)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as link:
        return link.execute(query).fetchall()


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as link:
        for statement in statements:
            link.execute(statement)
        link.commit()


def backup(path: Path, target: Path) -> Path:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target


def restore_in_place(path: Path, saved: Path) -> None:
    backup(saved, path)


def put_in_its_place(path: Path, other: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    other.replace(path)


def fail(store: SQLiteStore, match: str = ".") -> StoreError:
    """Both verbs fail, with the path and a cause, and without the key."""
    with pytest.raises(StoreError, match=match) as loading:
        store.load(KEY)
    with pytest.raises(StoreError, match=match) as saving:
        put(store)
    for error in (loading.value, saving.value):
        assert store.path.name in str(error)
        assert KEY.decode() not in str(error)
        assert error.__cause__ is not None
    return loading.value


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def run(script: str, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
