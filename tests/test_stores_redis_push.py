"""What Redis stores announce, and how soon they know that they may have missed something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from redis_kit import LOCAL, Proxy, Redis, Sentinels, proxied, running, until

from jwtguard._contract_kit import KEY, end, put
from jwtguard._contract_push import Hearing
from jwtguard.errors import StoreError
from jwtguard.stores import Heard
from jwtguard.stores._redis_push import AT_ONCE
from jwtguard.stores._redis_words import announced_in
from jwtguard.stores.redis import RedisStore

pytestmark = pytest.mark.servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    with running(tmp_path / "server") as server:
        yield server


@pytest.fixture
def proxy(server: Redis) -> Iterator[Proxy]:
    with proxied(server.port) as proxy:
        yield proxy


def breaks_off(hearing: Hearing, match: str = ".") -> None:
    """The listener is told that something may have been missed."""
    with pytest.raises(StoreError, match=match):
        hearing.until(lambda: False)


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (lambda server, proxy: proxy.cut(), "broke off"),
        (lambda server, proxy: setattr(proxy, "stuck", True), "didn't answer within 1 s"),
        (lambda server, proxy: setattr(proxy, "swallow", True), "didn't answer within 1 s"),
        (lambda server, proxy: server.kill(), "broke off"),
        (lambda server, proxy: server("CLIENT", "KILL", "TYPE", "pubsub"), "broke off"),
        (lambda server, proxy: server("REPLICAOF", LOCAL, 1), "a replica"),
    ],
    ids=["cut", "half open", "answers lost", "killed", "disconnected by the server", "demoted"],
)
def test_a_gap_is_told(what: Callable[[Redis, Proxy], object], match: str, server: Redis, proxy: Proxy) -> None:
    with Hearing(RedisStore(proxy.url, timeout=5)) as hearing:
        what(server, proxy)
        breaks_off(hearing, match)
    until("all its connections are closed", lambda: proxy.open == 0 or proxy.stuck)


def test_a_server_that_stops(server: Redis) -> None:
    with Hearing(RedisStore(server.url, timeout=0.3)) as hearing, server.paused():
        breaks_off(hearing, r"didn't answer within 0\.3 s")


def test_after_a_gap_it_can_listen_again(server: Redis, proxy: Proxy) -> None:
    store = RedisStore(proxy.url, timeout=5)
    with Hearing(store) as hearing:
        proxy.cut()
        breaks_off(hearing)
    with Hearing(store) as hearing:
        end(store)
        hearing.hears(KEY)
    store.close()


def test_nobody_to_listen_to() -> None:
    with closing(RedisStore(f"redis://{LOCAL}:1").changes()) as changes, pytest.raises(StoreError):
        next(changes)


def test_who_may_not_listen(server: Redis) -> None:
    server("ACL", "SETUSER", "deaf", "on", ">hunter2", "~*", "allchannels", "+@all", "-subscribe")
    changes = RedisStore(f"redis://deaf:hunter2@{LOCAL}:{server.port}").changes()
    with pytest.raises(StoreError, match="permission"):
        next(changes)


def test_who_may_not_ask_for_the_role_listens_all_the_same(server: Redis) -> None:
    server("ACL", "SETUSER", "modest", "on", ">hunter2", "~*", "allchannels", "+@all", "-role", "-config")
    store = RedisStore(f"redis://modest:hunter2@{LOCAL}:{server.port}", timeout=5)
    with Hearing(store) as hearing:
        end(store)
        hearing.hears(KEY)
        hearing.catches_up()
    store.close()


def test_other_messages_on_the_channel_are_passed_over(server: Redis) -> None:
    store = RedisStore(server.url, timeout=5)
    with Hearing(store) as hearing:
        for message in ("", "short", "8 bytes."):
            server("PUBLISH", "jwtguard:ended", message)
        end(store)
        hearing.catches_up()
        assert hearing.keys == [KEY]
    store.close()


def test_what_is_announced_twice_is_told_once(server: Redis) -> None:
    with Hearing(RedisStore(server.url, timeout=5)) as hearing:
        for message in ("version1key", "version1key", "version2key"):
            server("PUBLISH", "jwtguard:ended", message)
        hearing.catches_up()
        assert hearing.keys == [b"key", b"key"]


def test_prefixes_have_channels_of_their_own(server: Redis) -> None:
    one, two = RedisStore(f"{server.url}?prefix=one:", timeout=5), RedisStore(f"{server.url}?prefix=two:", timeout=5)
    with Hearing(one) as hearing:
        end(two, b"other")
        end(one)
        hearing.hears(KEY)
        hearing.catches_up()
        assert hearing.keys == [KEY]
    one.close()
    two.close()


def test_an_announcement_comes_after_the_write(server: Redis) -> None:
    """Who hears of an ending and looks, sees it."""
    store, listener = RedisStore(server.url, timeout=5), RedisStore(server.url, timeout=5)

    def end_many() -> None:
        for number in range(300):
            end(store, b"%d" % number)

    with closing(listener.changes()) as changes:
        assert isinstance(next(changes), Heard)
        writer = threading.Thread(target=end_many)
        writer.start()
        for number in range(300):
            key = next(item for item in changes if not isinstance(item, Heard))
            assert key == b"%d" % number
            assert listener.load(key).data == b"data"
        writer.join()
    store.close()
    listener.close()


def test_many_announcements_at_once(server: Redis) -> None:
    """They are more than are read in one go, and the words of the others come in between."""
    with Hearing(RedisStore(server.url, timeout=5)) as hearing, server.client() as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(5 * AT_ONCE):
            pipeline.publish("jwtguard:ended", f"version1{number}")
        pipeline.execute()
        hearing.catches_up()
        assert hearing.keys == [b"%d" % number for number in range(5 * AT_ONCE)]


def test_what_a_message_means() -> None:
    assert announced_in(b"8 bytes.") is None
    assert announced_in(7) is None
    assert announced_in(b"8 bytes.k") == (b"8 bytes.", b"k")


# -- Sentinel --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(tmp_path)
    try:
        yield sentinels.start()
    finally:
        sentinels.stop()


def listens_again(store: RedisStore) -> Generator[bytes | Heard]:
    """A listener that has had its first word, as soon as there is one."""
    found: list[Generator[bytes | Heard]] = []

    def begins() -> bool:
        changes = store.changes()
        try:
            next(changes)
        except StoreError:
            return False
        found.append(changes)
        return True

    until("it listens again", begins)
    return found[0]


def test_a_failover(sentinels: Sentinels) -> None:
    with ExitStack() as stack:
        store = RedisStore(sentinels.url, timeout=1)
        stack.callback(store.close)
        version = put(store)
        hearing = stack.enter_context(Hearing(store))
        old = sentinels.servers[0]
        old("WAIT", 2, 5000)
        old.kill()
        breaks_off(hearing)
        with pytest.raises(StoreError):
            store.load(KEY)
        changes = stack.enter_context(closing(listens_again(store)))
        assert until("it has a master again", lambda: load_or_none(store)) == version
        end(store)
        assert next(item for item in changes if not isinstance(item, Heard)) == KEY


def load_or_none(store: RedisStore) -> bytes | None:
    try:
        return store.load(KEY).version
    except StoreError:
        return None


def test_a_master_that_is_no_longer_named(sentinels: Sentinels) -> None:
    """It still runs, and holds itself for the master: what it says is no longer heeded."""
    store = RedisStore(sentinels.url, timeout=1)
    put(store)
    old = sentinels.servers[0]
    with Hearing(store) as hearing:
        with old.paused():
            until("all name another", lambda: sentinels.master not in (old, None))
            breaks_off(hearing)
        put(store, b"after")
    assert sentinels.master is not None
    assert sentinels.master("GET", "jwtguard:after") is not None
    store.close()


def test_sentinels_that_do_not_answer_are_passed_over(sentinels: Sentinels) -> None:
    store = RedisStore(sentinels.url, timeout=1)
    sentinels.sentinels[0].kill()
    with sentinels.sentinels[1].paused():
        version = put(store)
        assert store.load(KEY).version == version
        sentinels.sentinels[2].kill()
        assert store.load(KEY).version == version, "who the master is, is known"
        with pytest.raises(StoreError, match="no Sentinel names the master 'main'"):
            RedisStore(sentinels.url, timeout=0.2).load(KEY)
    store.close()


def test_a_master_that_sentinel_does_not_know(sentinels: Sentinels) -> None:
    store = RedisStore(sentinels.url.replace("/main", "/other"), timeout=1)
    with pytest.raises(StoreError, match="no Sentinel names the master 'other'"):
        store.load(KEY)
    store.close()
