"""For all tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import coverage
import hypothesis
import pytest

import jwtguard.testing

if TYPE_CHECKING:
    from redis_kit import Cluster, Redis
    from sql_kit import Server

jwtguard.testing.StoreContract  # noqa: B018 - before anything imports the suite itself, so that its asserts explain themselves

hypothesis.settings.register_profile("jwtguard", deadline=None)  # how long something takes, other tests beside it decide
hypothesis.settings.load_profile("jwtguard")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_START", None)  # it is for the workers, and not for the processes that tests start


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one more than there are cores, as tests with servers wait much of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: what needs servers is one worker's by class, or by module, and so starts them once.

    It comes first, as some of it takes long; the many short tests then fill the time that is left on each worker.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        for item in items:
            if item.get_closest_marker("servers"):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.rpartition("::")[0]))
        items.sort(key=lambda item: item.get_closest_marker("servers") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What computes for long does so without being measured, which takes three times as long: others reach every branch."""
    is_measured = not any(map(item.get_closest_marker, ("exhaustive", "unmeasured")))
    measuring = None if is_measured else coverage.Coverage.current()
    if measuring is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


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
