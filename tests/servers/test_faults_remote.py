"""What befalls a remote store, or a worker, under a steady load.

In all of this nobody is let in whose session was ended longer ago than CACHE_TTL, nobody is refused whose session was not
ended, and no session is lost whose login was answered. What can't be known is 503, no longer than the fault lasts and a
little. All recovers without a restart, and the log has a line per change and not per request.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import pytest
from redis_kit import Cluster, Redis, Sentinels
from sql_kit import Server as Database

from servers import scenarios
from servers.fleets import TTL, WORKERS, Fleet, redis_fleet, replicated_fleet, sql_fleet
from servers.load import LONGEST, Report
from servers.serving import Worker, until, workers_of

pytestmark = pytest.mark.servers

CHANGES = 3
"""How often a worker's state may change at the borders of a fault, where some calls succeed and others don't."""
ENDINGS = 8
CANT = ("the store can't be read", "the store can't be written", "the store can't be listened to")
CAN = ("the store can be read again", "the store can be written again", "the store can be listened to again")

Scenario = Callable[[Fleet[Any], Any, float], None]


def befalls(fleet: Fleet[Any], scenario: Scenario, seconds: float, *, partly: bool = False) -> Report:
    """What came of a load during a scenario, of which nothing was wrong. `partly`: some calls fail and others don't, then
    and, on a busy machine, before and after it; so the state changes all the time."""
    before = lines(fleet)
    with fleet.load() as load:
        scenario(fleet, load, seconds)
        report = load.finish()
    print(report)
    assert report.wrong == {}
    assert report.slowest < LONGEST
    assert fleet.lines_with("Traceback") == 0
    if not partly:
        assert report.stray == 0
        assert max((lines(fleet) - before).values(), default=0) <= CHANGES * WORKERS
    return report


def lines(fleet: Fleet[Any]) -> Counter[str]:
    """How many lines of the logs tell of which change."""
    return Counter({text: fleet.lines_with(text) for text in (*CANT, *CAN)})


# -- one Redis -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet[Redis]]:
    with redis_fleet(tmp_path_factory.mktemp("redis")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet[Redis]]:
    """The same, where a machine that is busy for a moment is no reason for a 503."""
    with redis_fleet(tmp_path_factory.mktemp("patient"), store_timeout="5s") as fleet:
        yield fleet


@pytest.mark.parametrize(
    "scenario",
    [scenarios.restarted_with_its_data, scenarios.restarted_empty, scenarios.stopped, scenarios.half_open],
)
def test_a_redis_that_is_away(scenario: Scenario, on_redis: Fleet[Redis]) -> None:
    report = befalls(on_redis, scenario, 1.5)
    assert report.unavailable > 0
    assert report.broken == 0


def test_announcements_that_are_cut(patient: Fleet[Redis]) -> None:
    """Without them an ending is seen within CACHE_TTL; with them again, everywhere at once."""
    with ExitStack() as stack:
        workers = [worker for server in patient.servers for worker in stack.enter_context(workers_of(server))]
        end_everywhere(workers, workers[0])  # each listens, now that it has been used
        before = lines(patient)
        report = befalls(patient, scenarios.push_cut, 1.5 * TTL)
        assert report.unavailable == report.broken == 0
        assert lines(patient) - before == {CANT[2]: WORKERS, CAN[2]: WORKERS}
        took = [end_everywhere(workers, workers[number % WORKERS]) for number in range(ENDINGS)]
    assert median(took) < TTL / 2, "each would take the cache's time if nothing were announced"


def end_everywhere(workers: list[Worker], here: Worker) -> float:
    """Log in, use the session in each process, end it in one, and wait until all know: how many seconds that takes."""
    pair = here.client.login()
    for worker in workers:
        assert worker.me(pair).status_code == 200
    here.client.logout(pair)
    ended = time.monotonic()
    until("all refuse it", lambda: all(worker.me(pair).status_code == 401 for worker in workers))
    return time.monotonic() - ended


def test_a_worker_that_is_killed(patient: Fleet[Redis]) -> None:
    report = befalls(patient, scenarios.worker_killed, 0.5)
    assert report.unavailable == 0


@pytest.mark.parametrize(("timeout", "answers"), [("250ms", True), ("100ms", False)])
def test_a_redis_that_is_slow(timeout: str, answers: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    with redis_fleet(tmp_path_factory.mktemp("redis"), store_timeout=timeout) as fleet:
        report = befalls(fleet, scenarios.slow, 1.5, partly=True)
    assert answers or report.unavailable > 0


def test_a_redis_with_too_few_connections(tmp_path_factory: pytest.TempPathFactory) -> None:
    with redis_fleet(tmp_path_factory.mktemp("redis"), "?max_connections=1", store_timeout="100ms") as fleet:
        report = befalls(fleet, scenarios.short_of_connections, 1.5, partly=True)
    assert report.unavailable > 0


# -- several Redis servers -------------------------------------------------------------------------------------------------


def test_a_master_that_is_replaced_by_sentinel(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sentinel")
    with replicated_fleet(folder, Sentinels(folder), "?wait=1") as fleet:
        report = befalls(fleet, scenarios.sentinel_failover, 0.5)
    assert report.unavailable > 0


def test_a_cluster_whose_slots_move_and_whose_master_dies(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cluster")
    with replicated_fleet(folder, Cluster(folder), "?wait=1") as fleet:
        moved = befalls(fleet, scenarios.slots_moved, 0.5)
        assert moved.unavailable == 0
        died = befalls(fleet, scenarios.cluster_failover, 0.5)
        assert died.unavailable > 0


# -- PostgreSQL ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_postgresql(postgres: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet[Database]]:
    with sql_fleet(tmp_path_factory.mktemp("sql"), postgres) as fleet:
        yield fleet


@pytest.mark.parametrize("scenario", [scenarios.sql_restarted, scenarios.stopped])
def test_a_postgresql_that_is_away(scenario: Scenario, on_postgresql: Fleet[Database]) -> None:
    report = befalls(on_postgresql, scenario, 1.5)
    assert report.unavailable > 0
