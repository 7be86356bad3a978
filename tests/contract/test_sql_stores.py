"""The SQL stores, held to the contract on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import sql_kit

from jwtguard._contract_kit import PATIENCE
from jwtguard.stores import AsyncStore, Store
from jwtguard.testing import FakeClock, StoreContract

pytestmark = pytest.mark.servers


class SQLContract(StoreContract):
    server_clock = True
    fixture: str
    server: sql_kit.Server

    @pytest.fixture(autouse=True)
    def empty_server(self, request: pytest.FixtureRequest) -> None:
        self.server = request.getfixturevalue(self.fixture)
        self.server.rows("DELETE FROM jwtguard_documents")

    def make_store(self, tmp_path: Path, clock: FakeClock) -> Store | AsyncStore:
        return self.server.store(timeout=PATIENCE)


class TestPostgreSQL(SQLContract):
    fixture = "postgres"
    pushed = True


class TestPostgreSQLAwaited(SQLContract):
    fixture = "postgres"
    pushed = True

    def make_store(self, tmp_path: Path, clock: FakeClock) -> AsyncStore:
        return self.server.store(timeout=PATIENCE).awaited()


class TestMariaDB(SQLContract):
    fixture = "mariadb"
