"""RedisStore on a cluster that changes: slots that move, masters that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis_kit import LOCAL, Cluster, Redis, until

from jwtguard._contract_kit import KEY, end, put
from jwtguard._contract_push import Hearing
from jwtguard.errors import StoreError
from jwtguard.stores._redis_words import name_of
from jwtguard.stores.adapters import OnLoop
from jwtguard.stores.base import Store
from jwtguard.stores.redis import AsyncRedisStore, RedisStore

NAME = name_of("jwtguard:", KEY)
SLOT = key_slot(NAME.encode())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def owner_of(cluster: Cluster, slot: int = SLOT) -> Redis:
    for first, last, master, *_ in cluster.alive[0].raw("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return cluster.node_at(master[1])
    raise AssertionError(slot)


def id_of(node: Redis) -> bytes:
    return bytes(node.raw("CLUSTER", "MYID"))


@pytest.mark.servers
def test_a_slot_that_moves(cluster: Cluster) -> None:
    """Both colours follow each step, with the document here, there, and made meanwhile; no listening breaks off."""
    blocking, awaited = RedisStore(cluster.url, timeout=5), OnLoop(AsyncRedisStore(cluster.url, timeout=5), timeout=60)
    version = put(blocking)

    def check() -> None:
        nonlocal version
        for store in (blocking, awaited):
            assert store.load(KEY).version == version
            assert put(store, expected=b"12345678") is None
            version = put(store, expected=version, ends=True)
            assert version is not None

    with Hearing(blocking) as hearing:
        check()
        source = owner_of(cluster)
        target = next(node for node in cluster.masters if node is not source)
        target.raw("CLUSTER", "SETSLOT", SLOT, "IMPORTING", id_of(source))
        source.raw("CLUSTER", "SETSLOT", SLOT, "MIGRATING", id_of(target))
        check()
        source.raw("MIGRATE", LOCAL, target.port, NAME, 0, 5000)
        check()
        target.raw("SCRIPT", "FLUSH")
        check()
        for node in (target, source, *cluster.masters):
            node.raw("CLUSTER", "SETSLOT", SLOT, "NODE", id_of(target))
        check()
        assert target.raw("EXISTS", NAME) == 1
        hearing.catches_up()
        assert hearing.keys.count(KEY) == 10
    blocking.close()
    awaited.close()


@pytest.mark.servers
def test_a_master_that_dies(cluster: Cluster) -> None:
    blocking, awaited = RedisStore(cluster.url, timeout=2), OnLoop(AsyncRedisStore(cluster.url, timeout=2), timeout=60)
    version = put(blocking)
    assert awaited.load(KEY).version == version
    owner = owner_of(cluster)
    owner("WAIT", 1, 5000)
    with Hearing(blocking) as hearing:
        owner.kill()
        with pytest.raises(StoreError):
            hearing.until(lambda: False)
    for store in (blocking, awaited):
        with pytest.raises(StoreError):
            store.load(KEY)
        assert until("a replica has taken over", lambda store=store: version_or_none(store)) == version  # type: ignore[misc]
    with Hearing(blocking) as hearing:
        end(awaited)
        hearing.hears(KEY)
    assert owner_of(cluster) is not owner
    blocking.close()
    awaited.close()


def version_or_none(store: Store) -> bytes | None:
    try:
        return store.load(KEY).version
    except StoreError:
        return None


@pytest.mark.servers
def test_each_master_announces_its_own(redis_cluster: Cluster) -> None:
    store = RedisStore(f"{redis_cluster.url}?prefix=each:", timeout=5)
    with Hearing(store) as hearing:
        keys = [b"%d" % number for number in range(60)]
        for key in keys:
            end(store, key)
        hearing.catches_up()
        assert sorted(hearing.keys) == sorted(keys), "each once, though every master sends it on"
    store.close()


@pytest.mark.servers
def test_users_are_spread_and_can_not_choose_their_slot(redis_cluster: Cluster) -> None:
    store = RedisStore(f"{redis_cluster.url}?prefix=spread:", timeout=5)
    for number in range(40):
        put(store, b"{same}%d" % number)
    counts = [len(node.raw("KEYS", "spread:*")) for node in redis_cluster.masters]
    assert sum(counts) == 40
    assert min(counts) > 0
    store.close()


@pytest.mark.servers
def test_a_server_that_is_no_cluster(redis_server: Redis) -> None:
    with pytest.raises(StoreError, match="no server of the cluster tells") as caught:
        RedisStore(f"redis+cluster://{LOCAL}:{redis_server.port}").load(KEY)
    assert "cluster support disabled" in str(caught.value.__cause__)
