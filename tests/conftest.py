"""For all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import jwtguard.testing

if TYPE_CHECKING:
    from redis_kit import Cluster, Redis
    from sql_kit import Server

jwtguard.testing.StoreContract  # noqa: B018 - before anything imports the suite itself, so that its asserts explain themselves


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis server for tests that leave it as it is: each takes a prefix of its own."""
    from redis_kit import running

    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Redis Cluster, likewise."""
    from redis_kit import Cluster

    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server with the table. Who stops it, or fills the table, sets it right again."""
    import sql_kit

    with sql_kit.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The same of MariaDB; skips where there is none."""
    import sql_kit

    with sql_kit.mariadb() as server:
        yield server
