"""What PostgreSQL announces, and when listening to it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import sql_kit
from proxy import Proxy
from servers.serving import until
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from jwtguard import Guard, Settings
from jwtguard._contract_kit import KEY, at_once, end, put
from jwtguard.errors import SessionRevoked, StoreError
from jwtguard.stores import Heard, Pushed, Store
from jwtguard.stores.sql import AsyncSQLStore, SQLStore

pytestmark = pytest.mark.servers

Keys = list[bytes]


@pytest.fixture(autouse=True)
def empty(postgres: sql_kit.Server) -> None:
    postgres.rows("DELETE FROM jwtguard_documents")


@pytest.fixture
def store(postgres: sql_kit.Server) -> Iterator[SQLStore]:
    store = postgres.store()
    yield store
    store.close()


@pytest.fixture(params=["by URL", "an app's engine", "an app's async engine"])
def listening(request: pytest.FixtureRequest, postgres: sql_kit.Server) -> Pushed:
    """A store that is listened to."""
    makers: dict[str, Callable[[], object]] = {
        "by URL": lambda: postgres.store(),
        "an app's engine": lambda: SQLStore(create_engine(postgres.engine_url()), timeout=10),
        "an app's async engine": lambda: AsyncSQLStore(create_async_engine(postgres.engine_url()), timeout=10),
    }
    made = makers[request.param]()
    assert isinstance(made, Pushed)
    return made


def keys_until_heard(changes: Iterator[bytes | Heard], moment: float) -> Keys:
    """The keys that come before the word that all from before a moment have come."""
    keys: Keys = []
    for change in changes:
        if isinstance(change, Heard):
            if change.at >= moment:
                break
        else:
            keys.append(change)
    return keys


def test_endings_come_before_the_word_that_they_have(listening: Pushed, store: SQLStore) -> None:
    with closing(listening.changes()) as changes:
        assert isinstance(next(changes), Heard)
        for key in (KEY, b"\0", bytes(range(256)) * 4):
            end(store, key)
            assert keys_until_heard(changes, time.monotonic()) == [key]


def test_what_ends_nothing_is_not_announced(store: SQLStore) -> None:
    with closing(store.changes()) as changes:
        next(changes)
        version = put(store)
        put(store, expected=version)
        put(store, expected=version, ends=True)
        put(store, ends=True)
        assert keys_until_heard(changes, time.monotonic()) == []


def test_endings_of_many_threads(store: SQLStore) -> None:
    """None is missed: each is there when the first word after its answer is."""
    with closing(store.changes()) as changes:
        next(changes)
        keys = [b"%d" % number for number in range(200)]

        def end_some(thread: int) -> None:
            for key in keys[thread::8]:
                end(store, key)

        at_once(8, end_some)
        assert sorted(keys_until_heard(changes, time.monotonic())) == sorted(keys)


def test_each_word_is_right_under_load(store: SQLStore) -> None:
    """An ending that was answered before a word was asked for has come before that word."""
    stopped = threading.Event()
    answered: dict[bytes, float] = {}

    def go_on_ending() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            end(store, b"%d" % number)
            answered[b"%d" % number] = time.monotonic()

    came: set[bytes] = set()
    thread = threading.Thread(target=go_on_ending)
    with closing(store.changes()) as changes:
        next(changes)
        thread.start()
        for change in changes:
            if isinstance(change, bytes):
                came.add(change)
            else:
                assert {key for key, at in answered.copy().items() if at < change.at} <= came
                if len(came) > 300:
                    break
        stopped.set()
        thread.join()


def test_what_others_say_on_the_channel_is_no_key(store: SQLStore, postgres: sql_kit.Server) -> None:
    with closing(store.changes()) as changes:
        next(changes)
        postgres.rows("SELECT pg_notify('jwtguard_ends', 'not a key')")
        end(store)
        assert keys_until_heard(changes, time.monotonic()) == [KEY]


@pytest.mark.parametrize("way", ["cut", "half open", "stopped"])
def test_a_channel_that_breaks(postgres: sql_kit.Server, way: str) -> None:
    with Proxy(postgres.port) as proxy, closing(postgres.store(proxy.port, timeout=0.25).changes()) as changes:
        assert isinstance(next(changes), Heard)
        assert isinstance(next(changes), Heard)
        if way == "stopped":
            with postgres.paused(), pytest.raises(StoreError):
                list(changes)
            return
        if way == "cut":
            proxy.cut()
        proxy.swallows = True
        with pytest.raises(StoreError):
            list(changes)


def test_a_pooler_is_found_out(store: SQLStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 1)
    with pytest.raises(StoreError, match="pooler"):
        next(store.changes())


# -- guards ----------------------------------------------------------------------------------------------------------------


def _guard(store: Store) -> Guard:
    return Guard(Settings(secret="kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi", cache_ttl="1h", store_timeout="10s"), store=store)


def test_a_revocation_elsewhere_is_seen_long_before_the_cache_s_time_is_up(postgres: sql_kit.Server) -> None:
    one, two = _guard(postgres.store()), _guard(postgres.store())
    pair = one.login("alice")
    two.authenticate(pair.access_token)
    until("push is up", lambda: two.coherence().state == "pushed")
    one.revoke_all("alice")

    def is_refused() -> bool:
        try:
            two.authenticate(pair.access_token)
        except SessionRevoked:
            return True
        return False

    until("it is refused", is_refused)
    for guard in (one, two):
        guard.close()
        assert guard.coherence().state == "push_down"
