"""For all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_kit import Cluster, Redis, running

import jwtguard.testing

jwtguard.testing.StoreContract  # noqa: B018 - before anything imports the suite itself, so that its asserts explain themselves


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis server for tests that leave it as it is: each takes a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Redis Cluster, likewise."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()
