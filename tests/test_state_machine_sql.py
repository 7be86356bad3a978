"""The state machine over documents in PostgreSQL, which takes the time from the test.

The store and its statements are the real ones. The server's clock alone is another: its `clock_timestamp()` is shadowed, by
the search path of the store's sessions, by a function that reads a table.
"""

from __future__ import annotations

from typing import Any, ClassVar

import psycopg
import pytest
import sql_kit
from test_state_machine import PureMachine, terms

from jwtguard.stores import Loaded, open_store
from jwtguard.testing import FakeClock

SHADOW = """
CREATE SCHEMA IF NOT EXISTS shadow;
CREATE TABLE IF NOT EXISTS shadow.time (ms bigint NOT NULL);
CREATE OR REPLACE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT 'epoch'::timestamptz + ms * interval '1 millisecond' FROM shadow.time $$;
DELETE FROM jwtguard_documents;
DELETE FROM shadow.time;
INSERT INTO shadow.time VALUES (0);
"""


class ShadowedStore:
    """A store whose server is told the time before each call."""

    blocking = True

    def __init__(self, server: sql_kit.Server, clock: FakeClock) -> None:
        self._clock = clock
        self._told = 0
        self._link = psycopg.connect(server.url(), autocommit=True)
        self._link.execute(SHADOW)
        path = "?options=-c%20search_path%3Dshadow%2Cpg_catalog%2Cpublic"
        self._store = open_store(server.url() + path, timeout=10)

    def load(self, key: bytes) -> Loaded:
        self._tell()
        return self._store.load(key)

    def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        self._tell()
        return self._store.save(key, data, **terms)

    def close(self) -> None:
        self._store.close()
        self._link.close()

    def _tell(self) -> None:
        now = int(self._clock.time() * 1000)
        if now != self._told:
            self._link.execute("UPDATE shadow.time SET ms = %s", (now,))
            self._told = now


class PostgreSQLMachine(PureMachine):
    server: ClassVar[sql_kit.Server]

    def make_store(self) -> Any:
        return ShadowedStore(self.server, self.clock)

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.servers
class TestPostgreSQL(PostgreSQLMachine.TestCase):  # type: ignore[valid-type, misc]
    settings = terms(15)

    @pytest.fixture(autouse=True)
    def running(self, postgres: sql_kit.Server) -> None:
        PostgreSQLMachine.server = postgres
