"""SQL stores and what goes wrong: each operation ends within its time, and no answer is taken for another's.

That something is bounded is shown by its ending at all: what these tests do to servers would otherwise last for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sql_kit
from proxy import Proxy
from servers.serving import until
from sqlalchemy import create_engine, text

from jwtguard._contract_kit import FAR, KEY, at_once, put
from jwtguard.errors import StoreError
from jwtguard.stores import AsyncStore, Store
from jwtguard.stores._sql_engine import deadline
from jwtguard.stores.adapters import OnLoop
from jwtguard.stores.sql import SQLStore

pytestmark = pytest.mark.servers

SHORT = 0.25
"""Seconds that an operation has where it is to fail."""
ENOUGH = 0.9
"""Seconds in which also a busy machine opens fifteen connections. MariaDB waits for a row for one."""


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> sql_kit.Server:
    server: sql_kit.Server = request.getfixturevalue(request.param)
    server.rows("DELETE FROM jwtguard_documents")
    return server


@pytest.fixture
def proxy(server: sql_kit.Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(params=["blocking", "async"])
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[[SQLStore], Store]]:
    """A store's colour; what is opened is closed."""
    stores: list[Store] = []

    def choose(store: SQLStore) -> Store:
        if request.param == "async" and not hasattr(store, "awaited"):
            pytest.skip("this database has one colour")
        stores.append(store if request.param == "blocking" else OnLoop(store.awaited(), timeout=60))
        return stores[-1]

    yield choose
    for store in stores:
        store.close()


Opened = Callable[[SQLStore], Store]


def fail(store: Store) -> None:
    """Both verbs fail, with a cause, and tell no key."""
    for call in (lambda: store.load(KEY), lambda: put(store)):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.__cause__ is not None
        assert KEY.decode() not in str(caught.value)


def recover(store: Store) -> None:
    """It answers again. Each connection of the pool may have to be given up first."""

    def answers() -> bool:
        with contextlib.suppress(StoreError):
            store.load(KEY)
            return put(store, expected=store.load(KEY).version) is not None
        return False

    until("the store answers again", answers)


# -- the network -----------------------------------------------------------------------------------------------------------


def test_a_save_whose_answer_is_lost(server: sql_kit.Server, proxy: Proxy, opened: Opened) -> None:
    store = opened(server.store(proxy.port, timeout=1.0))
    version = put(store)
    proxy.swallows_replies = True
    with pytest.raises(StoreError):
        store.save(KEY, b"landed", expected=version, version=b"landed..", expires_at=FAR, ends=True)
    proxy.swallows_replies = False
    until("it has landed", lambda: store.load(KEY).data == b"landed")
    assert put(store, expected=version) is None
    assert put(store, expected=b"landed..") is not None


def test_a_half_open_connection(server: sql_kit.Server, proxy: Proxy, opened: Opened) -> None:
    store = opened(server.store(proxy.port, timeout=SHORT))
    recover(store)
    proxy.swallows = True
    fail(store)
    proxy.swallows = False
    recover(store)


def test_connections_that_were_cut(server: sql_kit.Server, proxy: Proxy, opened: Opened) -> None:
    store = opened(server.store(proxy.port))
    at_once(4, lambda _: store.load(KEY))
    version = put(store)
    proxy.cut()
    assert store.load(KEY).version == version, "a load is tried once more"
    assert put(store, expected=version) is not None, "and the others weren't kept"
    proxy.cut()
    with pytest.raises(StoreError):
        put(store)
    recover(store)


def test_a_slow_network_is_no_failure(server: sql_kit.Server, proxy: Proxy, opened: Opened) -> None:
    store = opened(server.store(proxy.port))
    put(store)
    proxy.delay = 0.1
    assert store.load(KEY).data == b"data"
    assert put(store, expected=store.load(KEY).version) is not None


def test_a_refused_connection(server: sql_kit.Server, proxy: Proxy, opened: Opened) -> None:
    proxy.refuses = True
    store = opened(server.store(proxy.port))
    fail(store)
    proxy.refuses = False
    recover(store)


def test_an_answer_out_of_time_costs_one_connection_and_not_all(postgres: sql_kit.Server) -> None:
    with Proxy(postgres.port) as proxy:
        store = postgres.store(proxy.port, timeout=1.0)
        engine = store._engine_here()
        with engine.connect(), engine.connect():
            made = proxy.accepted
        proxy.swallows_replies = True
        with pytest.raises(StoreError):
            store.load(KEY)
        proxy.swallows_replies = False
        with deadline(10), engine.connect(), engine.connect():
            remade = proxy.accepted - made
        store.close()
    assert remade == 1


# -- the server ------------------------------------------------------------------------------------------------------------


def test_a_server_that_stands_still(server: sql_kit.Server, opened: Opened) -> None:
    store = opened(server.store(timeout=SHORT))
    recover(store)
    with server.paused():
        fail(store)
        at_once(4, lambda _: fail(store))
    recover(store)


def test_a_server_that_was_restarted(server: sql_kit.Server, opened: Opened) -> None:
    port = server.port
    with Proxy(port) as proxy:
        store = opened(server.store(proxy.port))
        version = put(store)
        server.restart()
        proxy.target = server.port
        assert store.load(KEY).version == version
        assert put(store, expected=version) is not None


def test_a_server_that_was_killed(server: sql_kit.Server, opened: Opened) -> None:
    with Proxy(server.port) as proxy:
        store = opened(server.store(proxy.port))
        version = put(store)
        server.kill()
        try:
            fail(store)
        finally:
            server.start()
        proxy.target = server.port
        recover(store)
        assert put(store, expected=version) is None


# -- the pool --------------------------------------------------------------------------------------------------------------


def test_more_calls_than_connections(server: sql_kit.Server, opened: Opened) -> None:
    """While fifteen wait for a row that somebody holds, the others get no connection, and are told so."""
    store = opened(server.store(timeout=ENOUGH))
    version = put(store)
    engine = create_engine(
        server.url().replace("postgresql:", "postgresql+psycopg:").replace("mariadb:", "mariadb+pymysql:")
    )
    with engine.connect() as other:
        other.execute(text("SELECT 1 FROM jwtguard_documents FOR UPDATE"))

        def save(_: int) -> str:
            try:
                return str(put(store, expected=version))
            except StoreError as error:
                return type(error.__cause__).__name__

        found = at_once(30, save)
        assert set(found) <= {"TimeoutError", "QueryCanceled", "_Late", "OperationalError"}
        assert "TimeoutError" in found
    engine.dispose()
    recover(store)


# -- cancelling ------------------------------------------------------------------------------------------------------------


def test_a_storm_of_cancellations_mixes_no_answers_up(postgres: sql_kit.Server) -> None:
    """Every task has a document of its own, and is cancelled at any moment of its calls."""
    postgres.rows("DELETE FROM jwtguard_documents")
    seed = secrets.randbits(32)
    print("seed", seed)
    asyncio.run(_storm(postgres.store().awaited(), random.Random(seed)))


async def _storm(store: AsyncStore, chance: random.Random) -> None:
    async def use(key: bytes) -> None:
        for _ in range(200):
            found = await store.load(key)
            assert found.data in (None, key)
            await store.save(
                key, key, expected=found.version, version=secrets.token_bytes(8), expires_at=FAR, ends=chance.random() < 0.2
            )

    keys = [b"key %d" % number for number in range(30)]
    for _ in range(12):
        tasks = [asyncio.create_task(use(key)) for key in keys]
        for task in chance.sample(tasks, len(tasks)):
            await asyncio.sleep(chance.random() * 0.01)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        # None: on Python 3.11, older drivers may swallow a cancellation. Then the task has gone on, and rightly.
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results
    for key in keys:
        assert (await store.load(key)).data in (None, key)
    await store.close()


def test_a_cancelled_call_to_a_server_that_stands_still(postgres: sql_kit.Server) -> None:
    """It ends although the server doesn't acknowledge it."""

    async def cancel(store: AsyncStore) -> None:
        await store.load(KEY)
        with postgres.paused():
            task = asyncio.create_task(store.load(KEY))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await store.load(KEY)
        await store.close()

    asyncio.run(cancel(postgres.store().awaited()))


def test_many_threads_get_their_own_answers(postgres: sql_kit.Server) -> None:
    """While operations run out of time at random."""
    postgres.rows("DELETE FROM jwtguard_documents")
    store = postgres.store(timeout=0.004)
    with ThreadPoolExecutor(8) as executor:
        assert sum(executor.map(lambda number: _use(store, b"key %d" % number), range(8))) >= 0
    store.close()


def _use(store: SQLStore, key: bytes) -> int:
    late = 0
    for _ in range(150):
        try:
            found = store.load(key)
            assert found.data in (None, key)
            put(store, key, key, expected=found.version)
        except StoreError:
            late += 1
    return late
