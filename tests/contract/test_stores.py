"""Every store that is in the repository, held to the contract."""

from __future__ import annotations

import runpy
from pathlib import Path

from jwtguard.stores import AsyncStore, Store
from jwtguard.stores.adapters import InThreads
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock, StoreContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_store.py"


class TestMemoryStore(StoreContract):
    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return MemoryStore(clock)


class TestSQLiteStore(StoreContract):
    persistent = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        return SQLiteStore(tmp_path / "store.db", timeout=10, clock=clock)


class TestAsyncStore(StoreContract):
    """A store that is async by itself: its other colour is OnLoop."""

    persistent = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> AsyncStore:
        return InThreads(SQLiteStore(tmp_path / "store.db", timeout=10, clock=clock))


class TestCustomStore(StoreContract):
    persistent = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store:
        store: Store = runpy.run_path(str(EXAMPLE))["FolderStore"](tmp_path, clock)
        return store
