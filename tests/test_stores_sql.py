"""SQL stores without faults: from their URLs, on an app's engine, across forks and event loops, and their table."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sql_kit
from servers.serving import until
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from jwtguard._contract_kit import FAR, KEY, at_once, put
from jwtguard.errors import ConfigError, StoreError
from jwtguard.stores import Paired, Pushed, open_store
from jwtguard.stores.sql import AsyncSQLStore, SQLStore, make_metadata, metadata

HIDDEN = "hunter2"


@pytest.fixture
def store(postgres: sql_kit.Server) -> Iterator[SQLStore]:
    postgres.rows("DELETE FROM jwtguard_documents")
    store = postgres.store()
    yield store
    store.close()


@pytest.fixture
def engine(postgres: sql_kit.Server) -> Iterator[Engine]:
    """An app's own, which by its settings is as strict as can be, and has one connection."""
    strict = {"isolation_level": "SERIALIZABLE", "pool_size": 1, "max_overflow": 0}
    engine = create_engine(postgres.engine_url(), **strict)
    yield engine
    engine.dispose()


@pytest.fixture
def careful(postgres: sql_kit.Server) -> Iterator[str]:
    """The URL for a role that needs its password, and may do nothing."""
    postgres.rows("CREATE ROLE careful LOGIN PASSWORD 'right'")
    yield postgres.url(password="right").replace("tests:", "careful:")
    postgres.rows("DROP OWNED BY careful")
    postgres.rows("DROP ROLE careful")


# -- URLs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "POSTGRES", "postgresql+psycopg", "postgres+psycopg"])
def test_a_postgresql_url(scheme: str) -> None:
    store = open_store(f"{scheme}://alice:{HIDDEN}@nowhere.invalid/d")
    assert isinstance(store, SQLStore)
    assert isinstance(store, Pushed)
    assert isinstance(store, Paired)
    assert isinstance(store.awaited(), AsyncSQLStore)
    assert isinstance(store.awaited(), Pushed)
    assert HIDDEN not in str(store)


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql"])
def test_a_mysql_url(scheme: str) -> None:
    store = open_store(f"{scheme}://alice:{HIDDEN}@nowhere.invalid/d?password={HIDDEN}")
    assert isinstance(store, SQLStore)
    assert not hasattr(store, "changes"), "what makes it Pushed"
    assert not hasattr(store, "awaited"), "what makes it Paired"
    assert HIDDEN not in str(store)


@pytest.mark.parametrize("url", ["postgresql+asyncpg://h/d", "mysql+mysqldb://h/d"])
def test_another_driver_is_for_an_engine_of_the_app_s(url: str) -> None:
    with pytest.raises(ConfigError, match="another driver"):
        open_store(url)


@pytest.mark.parametrize(
    "url", [f"postgresql://alice:{HIDDEN}@h:port/d", f"mysql://alice:{HIDDEN}@h/d?read_timeout=much{HIDDEN}"]
)
def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(ConfigError, match="make sense") as caught:
        open_store(url)
    assert HIDDEN not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("module", "url", "advice"),
    [
        ("sqlalchemy", "postgresql://h/d", "jwtguard-middleware[sql]"),
        ("psycopg", "postgresql://h/d", "jwtguard-middleware[sql]"),
        ("pymysql", "mysql://h/d", "pip install 'pymysql'"),
    ],
)
def test_what_is_missing_is_named(module: str, url: str, advice: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None\nfrom jwtguard.stores import open_store; open_store({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError" in done.stderr.splitlines()[-1]
    assert advice in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "url"),
    [("jwtguard.stores._sql_url", "postgresql://h/d"), ("jwtguard.stores._sql_psycopg", "postgresql://h/d")],
)
def test_what_can_not_be_imported_is_a_setting_that_is_wrong(
    module: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"jwtguard-middleware\[sql\]"):
        open_store(url)


def test_other_databases() -> None:
    with pytest.raises(ConfigError, match="not in 'sqlite'"):
        SQLStore(create_engine("sqlite://"))


def test_nothing_is_opened_before_the_first_call() -> None:
    store = open_store("postgresql://nowhere.invalid/d")
    store.close()
    with pytest.raises(StoreError):
        store.load(KEY)


# -- the table -------------------------------------------------------------------------------------------------------------


def test_the_table_is_for_migrations_too() -> None:
    assert list(metadata.tables) == ["jwtguard_documents"]
    assert list(make_metadata("ours").tables) == ["ours.jwtguard_documents"]


@pytest.mark.servers
def test_a_missing_table_is_made_on_request(store: SQLStore, engine: Engine, postgres: sql_kit.Server) -> None:
    postgres.rows("DROP SCHEMA IF EXISTS ours CASCADE")
    postgres.rows("CREATE SCHEMA ours")
    other = SQLStore(engine, schema="ours", timeout=10)
    for call in (lambda: other.load(KEY), lambda: put(other)):
        with pytest.raises(StoreError, match=r"table ours\.jwtguard_documents is not there; create_tables\(\)"):
            call()
    other.create_tables()
    put(other)
    assert store.load(KEY).data is None
    other.close()


@pytest.mark.servers
def test_many_processes_may_make_the_table_at_once(engine: Engine, postgres: sql_kit.Server) -> None:
    postgres.rows("DROP SCHEMA IF EXISTS ours CASCADE")
    postgres.rows("CREATE SCHEMA ours")
    store = SQLStore(engine, schema="ours", timeout=10)
    at_once(8, lambda _: store.create_tables())
    assert [index["name"] for index in inspect(engine).get_indexes("jwtguard_documents", "ours")] == [
        "jwtguard_documents_expiry"
    ]


@pytest.mark.servers
def test_purging_leaves_what_is_alive(store: SQLStore) -> None:
    for number in range(25):
        put(store, b"dead %d" % number, expires_at=1)
    put(store)
    assert store.purge(10) == 25
    assert store.purge() == 0
    assert store.load(KEY).data == b"data"


@pytest.mark.servers
def test_the_async_store_makes_and_purges_too(store: SQLStore) -> None:
    async def use(awaited: AsyncSQLStore) -> int:
        await awaited.create_tables()
        for number in range(3):
            assert await awaited.save(
                b"%d" % number, b"", expected=None, version=b"12345678", expires_at=number or FAR, ends=False
            )
        purged = await awaited.purge(2)
        await awaited.close()
        return purged

    assert asyncio.run(use(_awaited(store))) == 2


def _awaited(store: SQLStore) -> AsyncSQLStore:
    awaited = store.awaited()
    assert isinstance(awaited, AsyncSQLStore)
    return awaited


# -- an app's own engine ---------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_an_app_that_rolls_back_undoes_nothing(store: SQLStore, engine: Engine) -> None:
    ours = SQLStore(engine, timeout=10)
    with engine.begin() as transaction:  # the only connection that the app may have
        transaction.execute(text("SELECT 1"))
        version = put(ours)
        transaction.rollback()
    assert store.load(KEY).version == version
    ours.close()


@pytest.mark.servers
def test_an_app_s_async_engine(store: SQLStore, postgres: sql_kit.Server) -> None:
    engine = create_async_engine(postgres.engine_url())
    ours = AsyncSQLStore(engine, timeout=10)

    async def use() -> bytes | None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            version = put(store)
            found = await ours.load(KEY)
            assert found.version == version
            await connection.rollback()
        await ours.close()
        await ours.close()
        await engine.dispose()
        return found.data

    assert asyncio.run(use()) == b"data"


@pytest.mark.servers
def test_another_driver_of_postgresql_is_not_pushed(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(engine.dialect, "driver", "psycopg2")
    store = SQLStore(engine, timeout=10)
    assert not hasattr(store, "changes")
    store.load(KEY)
    store.close()


# -- conflicts -------------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_serialization_failure_is_a_conflict(store: SQLStore, engine: Engine, postgres: sql_kit.Server) -> None:
    version = put(store)
    url = postgres.url() + "?options=-c%20default_transaction_isolation%3Dserializable"
    strict = open_store(url, timeout=10)
    with engine.connect() as other:
        other.execute(text("UPDATE jwtguard_documents SET data = 'other'"))
        with ThreadPoolExecutor(1) as executor:
            saving = executor.submit(put, strict, expected=version)
            until("the save waits", lambda: postgres.rows(WAITING))
            other.commit()
            assert saving.result() is None
    assert store.load(KEY).data == b"other"
    strict.close()


WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.mark.servers
def test_a_deadlock_is_a_conflict(store: SQLStore, engine: Engine, postgres: sql_kit.Server) -> None:
    version = put(store)
    postgres.rows(
        "CREATE OR REPLACE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'"
    )
    postgres.rows("CREATE TRIGGER waits BEFORE UPDATE ON jwtguard_documents FOR EACH ROW EXECUTE FUNCTION wait()")
    try:
        with engine.connect() as other, ThreadPoolExecutor(1) as executor:
            other.execute(text("SET deadlock_timeout = '60s'"))
            other.execute(text("SELECT pg_advisory_xact_lock(1)"))
            saving = executor.submit(put, store, expected=version, ends=True)
            until("the save waits", lambda: postgres.rows(WAITING))
            other.execute(text("SELECT 1 FROM jwtguard_documents FOR UPDATE"))
            assert saving.result() is None
    finally:
        postgres.rows("DROP FUNCTION wait CASCADE")
    assert store.load(KEY).version == version


# -- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_wrong_password_is_not_shown(careful: str) -> None:
    wrong = open_store(careful.replace(":right@", f":{HIDDEN}@"), timeout=10)
    with pytest.raises(StoreError) as caught:
        wrong.load(KEY)
    assert caught.value.__cause__ is not None
    assert "password authentication failed" in str(caught.value.__cause__)
    assert HIDDEN not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.servers
@pytest.mark.parametrize("state", ["read only", "not allowed"])
def test_a_server_that_may_not_be_written(store: SQLStore, careful: str, postgres: sql_kit.Server, state: str) -> None:
    if state == "read only":
        postgres.rows("GRANT ALL ON jwtguard_documents TO careful")
        postgres.rows("ALTER ROLE careful SET default_transaction_read_only = on")
    refused = open_store(careful, timeout=10)
    with pytest.raises(StoreError) as caught:
        put(refused)
    assert caught.value.__cause__ is not None
    assert state.split()[-1] in str(caught.value.__cause__).replace("permission denied", "allowed").replace("-", " ")
    assert put(store) is not None
    refused.close()


# -- forks, loops, closing -------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_child_connects_by_itself(store: SQLStore) -> None:
    version = put(store)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = store.load(KEY).version
            code = 0 if put(store, expected=found) and found == version else 2
            store.close()
        finally:
            os.write(writing, b"%d" % code)
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    assert store.load(KEY).version != version


@pytest.mark.servers
def test_loops_side_by_side_and_one_after_the_other(store: SQLStore) -> None:
    awaited = _awaited(store)
    version = put(store)

    async def load() -> bytes | None:
        return (await awaited.load(KEY)).version

    at_once(4, lambda _: asyncio.run(load()))
    assert asyncio.run(load()) == version
    asyncio.run(awaited.close())
    gc.collect()  # a connection that was left open says so


@pytest.mark.servers
def test_closing_while_a_call_is_under_way(store: SQLStore, engine: Engine, postgres: sql_kit.Server) -> None:
    version = put(store)
    with engine.connect() as other, ThreadPoolExecutor(1) as executor:
        other.execute(text("SELECT 1 FROM jwtguard_documents FOR UPDATE"))
        saving = executor.submit(put, store, expected=version)
        until("the save waits", lambda: postgres.rows(WAITING))
        store.close()
        other.rollback()
        assert saving.result() is not None
    gc.collect()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jwtguard'"
    until("its connection is closed", lambda: postgres.rows(query) == [(0,)])


@pytest.mark.servers
def test_a_connection_that_is_given_up_while_it_is_made(postgres: sql_kit.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine(postgres.engine_url())
    store = SQLStore(engine, timeout=10)
    with monkeypatch.context() as patch:
        patch.setattr(engine.dialect, "set_isolation_level", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.load(KEY)
    gc.collect()  # a connection that was left open says so
    store.load(KEY)
    store.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.servers
def test_what_exists_is_only_revived_where_that_is_a_statement_of_its_own(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on MySQL, whose own tests need a server that may not be there."""
    put(store, data=b"alive")
    put(store, b"dead", expires_at=1)
    monkeypatch.setattr(store._statements, "announces", False)
    assert put(store) is None
    assert put(store, b"dead") is not None
    assert store.load(KEY).data == b"alive"


# -- MariaDB ---------------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_mariadb_s_table(mariadb: sql_kit.Server) -> None:
    store = mariadb.store()
    at_once(4, lambda _: store.create_tables())
    for number in range(5):
        put(store, b"dead %d" % number, expires_at=1)
    assert store.purge(2) >= 5
    mariadb.rows("RENAME TABLE jwtguard_documents TO away")
    try:
        with pytest.raises(StoreError, match="not there"):
            store.load(KEY)
    finally:
        mariadb.rows("RENAME TABLE away TO jwtguard_documents")
    store.close()


@pytest.mark.servers
def test_mariadb_s_lock_waits_are_conflicts(mariadb: sql_kit.Server) -> None:
    mariadb.rows("DELETE FROM jwtguard_documents")
    store = mariadb.store()
    version = put(store)
    engine = create_engine(mariadb.engine_url())
    with engine.connect() as other:
        other.execute(text("SELECT 1 FROM jwtguard_documents FOR UPDATE"))
        assert put(store, expected=version) is None
    assert put(store, expected=version) is not None
    store.close()
    engine.dispose()


def test_a_table_that_another_process_makes_meanwhile(store: SQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked for the table, and before it made one another had."""
    make, tries = store._create_missing, []

    def lose_the_first_race() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise DBAPIError("CREATE TABLE", {}, Exception("duplicate key value"))
        make()

    monkeypatch.setattr(store, "_create_missing", lose_the_first_race)
    store.create_tables()
    assert len(tries) == 2
