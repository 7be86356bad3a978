"""The state machine of `test_state_machine`, with its documents in Redis, on one server and on a cluster.

A server's clock can't be moved by a test. So the time of day and the expiry are the test's, kept beside the document, and
Redis does the rest: keeping, comparing, swapping. (That it lets documents expire is for the contract to test.)
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import pytest
from redis_kit import Cluster, Redis
from test_state_machine import PureMachine, terms

from jwtguard._contract_kit import FAR
from jwtguard.stores.base import Loaded
from jwtguard.stores.redis import RedisStore
from jwtguard.testing import FakeClock

STAMP = 8


class Timed:
    """A store by a clock that can be moved. For one writer."""

    blocking = True

    def __init__(self, inner: RedisStore, clock: FakeClock) -> None:
        self.inner = inner
        self.clock = clock

    def load(self, key: bytes) -> Loaded:
        now = int(self.clock.time() * 1000)
        data, version, _ = self.inner.load(key)
        if data is None or int.from_bytes(data[:STAMP], "big") <= now:
            return Loaded(None, None, now)
        return Loaded(data[STAMP:], version, now)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        if expected is None and self.load(key).version is None:
            expected = self.inner.load(key).version
        stamped = expires_at.to_bytes(STAMP, "big") + data
        return self.inner.save(key, stamped, expected=expected, version=version, expires_at=FAR, ends=ends)

    def close(self) -> None:
        self.inner.close()


class RedisMachine(PureMachine):
    url: ClassVar[str]

    def make_store(self) -> Any:
        return Timed(RedisStore(f"{self.url}?prefix={secrets.token_hex(8)}:", timeout=20), self.clock)

    def teardown(self) -> None:
        self.store.close()


class ClusterMachine(RedisMachine):
    pass


@pytest.fixture(scope="module")
def _one(redis_server: Redis) -> None:
    RedisMachine.url = redis_server.url


@pytest.fixture(scope="module")
def _cluster(redis_cluster: Cluster) -> None:
    ClusterMachine.url = redis_cluster.url


@pytest.mark.servers
@pytest.mark.usefixtures("_one")
class TestRedis(RedisMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = terms(20)


@pytest.mark.servers
@pytest.mark.usefixtures("_cluster")
class TestRedisCluster(ClusterMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = terms(10)
