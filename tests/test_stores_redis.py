"""RedisStore and AsyncRedisStore on one server that does what servers do: die, stall, forget, refuse."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from redis_kit import LOCAL, PATIENCE, Proxy, Redis, certificate, proxied, running, speaks_tls, until

from jwtguard._contract_kit import FAR, KEY, Driven, at_once, end, put
from jwtguard.errors import StoreError
from jwtguard.stores._redis_words import SAVE_SHA
from jwtguard.stores.adapters import OnLoop
from jwtguard.stores.base import Store
from jwtguard.stores.redis import AsyncRedisStore, RedisStore

pytestmark = pytest.mark.servers

SOON = 0.2
"""A timeout, where it is to run out."""
LATE = 20.0
"""One that isn't."""

Make = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes stores, in each colour; the async one is driven by blocking calls on one event loop."""
    with ExitStack() as stack:

        def make_store(url: str, timeout: float = LATE) -> Store:
            if request.param == "blocking":
                store: Store = RedisStore(url, timeout=timeout)
            else:
                store = OnLoop(AsyncRedisStore(url, timeout=timeout), timeout=PATIENCE)
            stack.callback(store.close)
            return store

        yield make_store


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    with running(tmp_path / "server") as server:
        yield server


@pytest.fixture
def proxy(server: Redis) -> Iterator[Proxy]:
    with proxied(server.port) as proxy:
        yield proxy


def fails(store: Store, match: str = ".") -> StoreError:
    """Both verbs fail, with a cause and without the key or a password."""
    with pytest.raises(StoreError, match=match) as loading:
        store.load(KEY)
    with pytest.raises(StoreError, match=match):
        put(store)
    text = str(loading.value)
    assert KEY.decode() not in text
    assert "hunter2" not in text
    assert loading.value.__cause__ is not None
    return loading.value


# -- what is kept ----------------------------------------------------------------------------------------------------------


def test_what_is_kept_on_the_server(make: Make, server: Redis) -> None:
    store = make(server.url)
    now = store.load(KEY).now
    version = put(store, b"u\x08jwtguard{alice}", b"data", expires_at=now + 3_600_000)
    assert server("KEYS", "*") == [b"jwtguard:u%08jwtguard%7Balice%7D"]
    assert server("GET", "jwtguard:u%08jwtguard%7Balice%7D") == (version or b"") + b"data"
    assert 3_590_000 < server("PTTL", "jwtguard:u%08jwtguard%7Balice%7D") <= 3_600_000


def test_prefixes_and_databases_are_apart(make: Make, server: Redis) -> None:
    stores = [make(f"redis://{LOCAL}:{server.port}{rest}") for rest in ("", "?prefix=a:", "?prefix=b:", "/1", "?db=2")]
    versions = [put(store) for store in stores]
    assert [store.load(KEY).version for store in stores] == versions
    assert len(set(versions)) == len(stores)


@pytest.mark.parametrize("command", [("SET", "jwtguard:the-key", "short"), ("HSET", "jwtguard:the-key", "a", "b")])
def test_what_is_not_ours_is_an_error(make: Make, server: Redis, command: tuple[str, ...]) -> None:
    server(*command)
    store = make(server.url)
    with pytest.raises(StoreError):
        store.load(KEY)
    if command[0] == "HSET":
        with pytest.raises(StoreError):
            put(store)
    assert store.load(b"another").data is None


def test_a_load_is_one_round_trip_and_so_is_a_save(make: Make, server: Redis, proxy: Proxy) -> None:
    store = make(proxy.url)
    put(store, b"warm")
    before = proxy.answers
    store.load(KEY)
    assert proxy.answers == before + 1
    end(store)
    assert proxy.answers == before + 3
    assert proxy.connections == 1


# -- ways to connect -------------------------------------------------------------------------------------------------------


def test_a_socket_in_the_file_system(make: Make, tmp_path: Path) -> None:
    socket = tmp_path / "a b.sock"
    with running(tmp_path / "server", f'unixsocket "{socket}"'):
        store = make(f"unix://{str(socket).replace(' ', '%20')}?db=3")
        version = put(store)
        assert store.load(KEY).version == version
        fails(make(f"unix://{tmp_path}/none.sock"))


@pytest.mark.skipif(not speaks_tls() or not shutil.which("openssl"), reason="the server at hand was built without TLS")
def test_encrypted(make: Make, tmp_path: Path) -> None:
    authority, own, key = certificate(tmp_path)
    port = free_port()
    settings = (f"tls-port {port}", f"tls-cert-file {own}", f"tls-key-file {key}", f"tls-ca-cert-file {authority}")
    with running(tmp_path / "server", *settings, "tls-auth-clients no") as server:
        store = make(f"rediss://{LOCAL}:{port}?ssl_ca_certs={authority}")
        version = put(store)
        assert [store.load(KEY).version for _ in range(5)] == [version] * 5
        fails(make(f"rediss://{LOCAL}:{port}"), "certificate")
        fails(make(f"rediss://localhost.test:{port}?ssl_ca_certs={authority}", SOON))
        fails(make(f"redis://{LOCAL}:{port}", SOON))
        fails(make(f"rediss://{LOCAL}:{server.port}?ssl_ca_certs={authority}", SOON))


def test_passwords(make: Make, tmp_path: Path) -> None:
    with running(tmp_path / "server", "requirepass hunter2", "user alice on >hunter2 ~* &* +@all") as server:
        place = f"{LOCAL}:{server.port}"
        for given in (":hunter2@", "alice:hunter2@"):
            assert put(make(f"redis://{given}{place}?prefix={given[:2]}:")) is not None
        fails(make(f"redis://:hunter2x@{place}"), "WRONGPASS|invalid")
        fails(make(f"redis://{place}"), "Authentication")


@pytest.mark.parametrize("url", ["redis://nothing.invalid", f"redis://{LOCAL}:1", "redis+cluster://nothing.invalid"])
def test_nobody_there(make: Make, url: str) -> None:
    fails(make(url))


def test_a_database_that_does_not_exist(make: Make, server: Redis) -> None:
    fails(make(f"redis://{LOCAL}:{server.port}/77"), "DB index")


def test_a_key_is_not_text(make: Make, server: Redis) -> None:
    fails(make(f"redis://{LOCAL}:{server.port}?password=\udcff"))


# -- a server that refuses -------------------------------------------------------------------------------------------------


def test_full_memory_is_an_error_and_documents_stay(make: Make, server: Redis) -> None:
    store = make(server.url)
    version = put(store)
    server("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreError, match="memory"):
        put(store, data=b"x" * 1000, expected=version)
    assert store.load(KEY).version == version
    server("CONFIG", "SET", "maxmemory", "0")
    assert put(store, expected=version) is not None


def test_who_may_not_announce_can_not_end_anything_unannounced(make: Make, server: Redis) -> None:
    server("ACL", "SETUSER", "mute", "on", ">hunter2", "~*", "allchannels", "+@all", "-publish")
    server("ACL", "SETUSER", "deaf", "on", ">hunter2", "~*", "+@all", "resetchannels")
    for user in ("mute", "deaf"):
        store = make(f"redis://{user}:hunter2@{LOCAL}:{server.port}?prefix={user}:")
        version = put(store)
        with pytest.raises(StoreError):
            put(store, expected=version, ends=True)
        assert store.load(KEY).version == version


def test_the_least_permissions(make: Make, server: Redis) -> None:
    commands = "+get +time +getrange +set +pexpireat +publish +eval +evalsha +subscribe +ping"
    server(
        "ACL", "SETUSER", "least", "on", ">hunter2", "~jwtguard:*", "resetchannels", "&jwtguard:ended", *commands.split()
    )
    store = make(f"redis://least:hunter2@{LOCAL}:{server.port}")
    end(store)
    assert store.load(KEY).data is not None


def test_scripts_that_are_forgotten(make: Make, server: Redis) -> None:
    store = make(server.url)
    version = put(store)
    assert server.raw("SCRIPT", "EXISTS", SAVE_SHA) == [1]
    server("SCRIPT", "FLUSH")
    assert put(store, data=b"two", expected=version) is not None
    assert store.load(KEY).data == b"two"


def test_a_replica_is_refused(make: Make, server: Redis, tmp_path: Path) -> None:
    with running(tmp_path / "replica", f"replicaof {LOCAL} {server.port}") as replica:
        fails(make(replica.url), "a replica, which may be behind")


def test_a_master_that_becomes_a_replica(make: Make, server: Redis, tmp_path: Path) -> None:
    with running(tmp_path / "other") as other:
        store = make(server.url)
        put(store)
        server("REPLICAOF", LOCAL, other.port)
        with pytest.raises(StoreError, match="read only replica"):
            put(store, b"another")
        fails(store, "a replica")
        server("REPLICAOF", "NO", "ONE")
        assert put(store, b"another") is not None


def test_while_it_loads_its_data(make: Make, tmp_path: Path) -> None:
    server = Redis(tmp_path / "server", "rdbcompression no")
    try:
        store = make(server.start().url, 2)
        version = put(store)
        for number in range(30):
            server("SET", number, b"x" * 1_000_000)
        server("SAVE")
        server.kill()
        server.configure("key-load-delay 20000")  # microseconds for each key; it says that it loads every two megabytes
        server.start(wait=False)
        until("it loads", lambda: "loading" in failure_of(store))
        assert until("it is back", lambda: try_to_load(store)) == version
    finally:
        server.stop()


def failure_of(store: Store) -> str:
    try:
        store.load(KEY)
    except StoreError as error:
        return str(error)
    return ""


# -- a server that goes away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["empty", "with its data"])
def test_a_server_that_dies_and_comes_back(make: Make, tmp_path: Path, kept: bool) -> None:
    with running(tmp_path / "server", *(["appendonly yes", "appendfsync always"] if kept else [])) as server:
        store = make(server.url)
        version = put(store)
        server.kill()
        fails(store)
        server.start()
        loaded = store.load(KEY)
        assert loaded.version == (version if kept else None)
        assert put(store, expected=loaded.version) is not None


def test_a_save_after_a_restart_is_made_once_and_answered(make: Make, server: Redis) -> None:
    store = make(server.url)
    put(store)
    server.kill()
    server.start()
    time.sleep(0.01)  # for the event loop to hear of the end
    version = put(store)
    assert store.load(KEY).version == version


def test_a_load_is_tried_again_when_only_the_connection_was_dead(make: Make, proxy: Proxy) -> None:
    store = make(proxy.url)
    version = put(store)
    for _ in range(5):
        proxy.cut_at_next = True
        assert store.load(KEY).version == version


def test_a_server_that_stops_is_waited_for_no_longer_than_the_timeout(make: Make, server: Redis) -> None:
    store = make(server.url, SOON)
    version = put(store)
    with server.paused():
        fails(store)
    assert until("it is back", lambda: try_to_load(store)) == version


def try_to_load(store: Store) -> bytes | None:
    try:
        return store.load(KEY).version
    except StoreError:
        return None


def test_a_slow_server(make: Make, proxy: Proxy) -> None:
    store = make(proxy.url, 5)
    version = put(store)
    proxy.delay = 0.1
    assert store.load(KEY).version == version


def test_a_save_whose_answer_is_lost_is_not_sent_again(make: Make, server: Redis, proxy: Proxy) -> None:
    store = make(proxy.url, SOON)
    put(store, b"warm")
    before = calls_of(server, "evalsha")
    proxy.swallow = True
    with pytest.raises(StoreError):
        put(store)
    proxy.swallow = False
    assert calls_of(server, "evalsha") == before + 1
    assert store.load(KEY).data == b"data"


def calls_of(server: Redis, command: str) -> int:
    stats = server("INFO", "commandstats").get(f"cmdstat_{command}", {})
    return int(stats.get("calls", 0))


def test_what_a_server_says_is_nonsense(make: Make, proxy: Proxy) -> None:
    store = make(proxy.url, SOON)
    put(store)
    for nonsense in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"*2\r\n$1\r\nx\r\n", b"+OK\r\n+OK\r\n", b"\xff\r\n"):
        proxy.instead = nonsense
        with pytest.raises(StoreError):
            store.load(KEY)
        proxy.instead = b""
        assert store.load(KEY).data == b"data"


# -- the pool --------------------------------------------------------------------------------------------------------------


def test_connections_are_bounded_and_waited_for(make: Make, proxy: Proxy) -> None:
    store = make(f"{proxy.url}?max_connections=3")
    put(store)
    assert len(at_once(20, lambda _: store.load(KEY).version)) == 20
    assert proxy.connections <= 3


def test_a_pool_that_is_exhausted_is_an_error(make: Make, server: Redis, proxy: Proxy) -> None:
    store = make(f"{proxy.url}?max_connections=2", SOON)
    put(store)
    proxy.delay = 3 * SOON
    failures = at_once(6, lambda _: failure_or_none(store))
    assert all(failures)
    assert proxy.connections <= 6
    proxy.delay = 0
    assert until("it is back", lambda: try_to_load(store))


def failure_or_none(store: Store) -> StoreError | None:
    try:
        store.load(KEY)
    except StoreError as error:
        return error
    return None


def test_closing_while_in_use(make: Make, proxy: Proxy) -> None:
    store = make(proxy.url)
    put(store)
    stopped = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            for _ in range(20):
                try:
                    store.close()
                except StoreError as error:
                    assert "closed" in str(error)  # noqa: PT017 - by a thread that closes the loop
            stopped.set()
        while not stopped.is_set():
            try:
                assert store.load(KEY).data == b"data"
            except StoreError as error:
                assert "closed" in str(error)  # noqa: PT017

    at_once(4, work)
    store.close()
    until("all connections are closed", lambda: proxy.open == 0)


def test_a_call_that_is_interrupted_leaves_no_connection(proxy: Proxy) -> None:
    """By a worker's timeout, say, whose signal raises in the middle of it."""
    store = RedisStore(proxy.url, timeout=LATE)
    put(store)

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for url_store in (store, RedisStore(proxy.url, timeout=LATE)):
            proxy.swallow = True
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interrupted):
                url_store.load(KEY)
            proxy.swallow = False
            until("the connection is closed", lambda: proxy.open == 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert store.load(KEY).data == b"data"
    store.close()


# -- awaited ---------------------------------------------------------------------------------------------------------------


def test_a_storm_of_cancelled_calls_gives_nobody_the_reply_of_another(proxy: Proxy) -> None:
    store = AsyncRedisStore(f"{proxy.url}?max_connections=8", timeout=LATE)
    proxy.delay = 0.002
    wrong: list[object] = []

    async def ask(number: int) -> None:
        key = b"key %d" % (number % 10)
        found = (await store.load(key)).data
        if found != key:
            wrong.append((key, found))

    async def storm() -> int:
        for number in range(10):
            key = b"key %d" % number
            await store.save(key, key, expected=None, version=b"12345678", expires_at=FAR, ends=False)
        cancelled = 0
        for turn in range(40):
            tasks = [asyncio.create_task(ask(number)) for number in range(20)]
            for number, task in enumerate(tasks):
                if number % 3 == 0:
                    await asyncio.sleep(0.0003 * (turn % 7))
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(result, asyncio.CancelledError) for result in results)
            assert not [result for result in results if isinstance(result, Exception)]
        await store.close()
        return cancelled

    assert asyncio.run(storm()) > 50
    assert wrong == []
    until("all connections are closed", lambda: proxy.open == 0)


def test_several_loops_one_after_the_other_and_side_by_side(proxy: Proxy) -> None:
    store = AsyncRedisStore(proxy.url, timeout=LATE)
    driven = Driven(store)
    version = put(driven)
    for _ in range(10):
        assert driven.load(KEY).version == version
    assert set(at_once(4, lambda _: driven.load(KEY).version)) == {version}
    until("each loop has closed its connections", lambda: proxy.open == 0)


def test_what_is_on_its_way_while_closing_keeps_no_connection(proxy: Proxy) -> None:
    async def drive() -> None:
        store = AsyncRedisStore(proxy.url, timeout=PATIENCE)
        await store.load(KEY)
        proxy.stuck = True
        task = asyncio.create_task(store.load(KEY))
        for _ in range(10):
            await asyncio.sleep(0)  # it asks
        await store.close()
        proxy.stuck = False
        assert (await task).data is None
        await asyncio.to_thread(until, "all connections are closed", lambda: proxy.open == 0)

    asyncio.run(drive())


def test_close_reaches_loops_that_run_elsewhere(proxy: Proxy) -> None:
    store = AsyncRedisStore(proxy.url, timeout=LATE)
    looped = OnLoop(store, timeout=PATIENCE)
    put(looped)
    Driven(store).close()
    until("all connections are closed", lambda: proxy.open == 0)
    assert looped.load(KEY).data == b"data"
    looped.close()
    asyncio.run(store.close())


def test_a_loop_that_is_closed_without_a_word(proxy: Proxy) -> None:
    script = f"""
import asyncio, warnings
from jwtguard.stores.redis import AsyncRedisStore
store = AsyncRedisStore("{proxy.url}", timeout={LATE})
loop = asyncio.new_event_loop()
loop.run_until_complete(store.load(b"k"))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
asyncio.run(store.load(b"k"))
del store
"""
    run(script)
    until("all connections are closed", lambda: proxy.open == 0)


def test_both_colours_side_by_side(proxy: Proxy) -> None:
    store = RedisStore(proxy.url, timeout=LATE)
    awaited = Driven(store.awaited())
    version = put(store)
    assert awaited.load(KEY).version == version
    awaited.close()
    assert put(store, expected=version) is not None
    store.close()


# -- forks -----------------------------------------------------------------------------------------------------------------


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_forks(server: Redis) -> None:
    run(f"""
import asyncio, os
from jwtguard.stores.redis import RedisStore
store = RedisStore("{server.url}", timeout={LATE})
awaited = store.awaited()
loop = asyncio.new_event_loop()
store.load(b"k")
loop.run_until_complete(awaited.load(b"k"))
children = []
for number in range(4):
    if (child := os.fork()) == 0:
        key = b"%d" % number
        asyncio._set_running_loop(None)
        for _ in range(50):
            loaded = store.load(key)
            assert loaded.data in (None, key)
            assert store.save(key, key, expected=loaded.version, version=os.urandom(8), expires_at=2**42, ends=False)
            assert asyncio.run(awaited.load(key)).data == key
        store.close()
        asyncio.run(awaited.close())
        os._exit(0)
    children.append(child)
for number in range(50):
    store.load(b"k")
    loop.run_until_complete(awaited.load(b"k"))
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
store.load(b"k")
loop.run_until_complete(awaited.load(b"k"))
loop.run_until_complete(awaited.close())
loop.close()
store.close()
""")


# -- the eviction policy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["volatile-lru", "allkeys-lru", "noeviction"])
def test_a_policy_that_evicts_is_reported_once(
    make: Make, server: Redis, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    server("CONFIG", "SET", "maxmemory-policy", policy)
    store = make(server.url)
    for number in range(3):
        put(store, b"%d" % number)
        store.close()
    found = [record.getMessage() for record in caplog.records if "maxmemory-policy" in record.getMessage()]
    assert len(found) == (policy != "noeviction")
    assert all(repr(policy) in message and "noeviction" in message for message in found)
