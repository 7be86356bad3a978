"""What users of both example apps are answered while the store comes to harm, for longer than the tests do it."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sql_kit
from redis_kit import Cluster, Sentinels, executable
from servers import scenarios
from servers.fleets import Fleet, redis_fleet, replicated_fleet, sql_fleet
from servers.load import Load

Scenario = Callable[[Fleet[Any], Load, float], None]
Row = tuple[str, int, int, int, int, int, int, float]

HEADS = ("fault", "requests", "503", "broken off", "wrong admissions", "wrong 401s", "lost", "seconds to recover")
ON_REDIS: dict[str, Scenario] = {
    "Redis killed, restarted with its data": scenarios.restarted_with_its_data,
    "Redis killed, restarted empty": scenarios.restarted_empty,
    "Redis stopped (SIGSTOP)": scenarios.stopped,
    "Redis's connections half open": scenarios.half_open,
    "announcements cut": scenarios.push_cut,
    "a worker of each server killed (-9)": scenarios.worker_killed,
}
ON_POSTGRESQL: dict[str, Scenario] = {
    "PostgreSQL killed, restarted": scenarios.sql_restarted,
    "PostgreSQL stopped (SIGSTOP)": scenarios.stopped,
}
SENTINEL: list[tuple[str, str, Scenario]] = [
    ("Sentinel failover, all writes replicated", "?wait=1", scenarios.sentinel_failover),
    ("Sentinel failover in the middle of writes", "", scenarios.sentinel_failover_under_writes),
    ("the same with wait=1", "?wait=1", scenarios.sentinel_failover_under_writes),
]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jwtguard-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def row(name: str, fleet: Fleet[Any], scenario: Scenario, seconds: float) -> Row:
    """What a fault does to a load on a fleet. Raises RuntimeError for an answer of another kind than the table has."""
    with fleet.load() as load:
        scenario(fleet, load, seconds)
        found = load.finish()
    wrong = dict(found.wrong)
    admitted, lost = wrong.pop("admitted", 0), wrong.pop("lost", 0)
    refused = sum(wrong.pop(kind) for kind in list(wrong) if kind.startswith("refused"))
    if wrong:
        raise RuntimeError(f"{name}: {wrong}")
    return (name, found.requests, found.unavailable, found.broken, admitted, refused, lost, round(found.recovery, 2))


def rows(seconds: float) -> Iterator[Row]:
    with folder() as place, redis_fleet(place) as fleet:
        for name, scenario in ON_REDIS.items():
            yield row(name, fleet, scenario, seconds)
    for timeout in ("250ms", "100ms"):
        with folder() as place, redis_fleet(place, store_timeout=timeout) as fleet:
            yield row(f"Redis slow by 200 ms, STORE_TIMEOUT={timeout}", fleet, scenarios.slow, seconds)
    with folder() as place, redis_fleet(place, "?max_connections=1", store_timeout="100ms") as fleet:
        yield row("one connection for all, 60 ms a call", fleet, scenarios.short_of_connections, seconds)
    yield from failovers(seconds)
    with folder() as place, sql_kit.postgres() as server, sql_fleet(place, server) as fleet:
        for name, scenario in ON_POSTGRESQL.items():
            yield row(name, fleet, scenario, seconds)


def failovers(seconds: float) -> Iterator[Row]:
    for name, url_options, scenario in SENTINEL:
        with folder() as place, replicated_fleet(place, Sentinels(place), url_options) as fleet:
            yield row(name, fleet, scenario, seconds)
    with folder() as place, replicated_fleet(place, Cluster(place), "?wait=1") as fleet:
        yield row("Cluster, slots moved", fleet, scenarios.slots_moved, seconds)
        yield row("Cluster, a master killed, writes replicated", fleet, scenarios.cluster_failover, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each fault lasts")
    given = parser.parse_args()
    redis = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{os.cpu_count()} cores, CPython {platform.python_version()}, {redis}\n")
    print(f"| {' | '.join(HEADS)} |\n| --- |{' ---: |' * (len(HEADS) - 1)}")
    for found in rows(given.seconds):
        print(f"| {' | '.join(map(str, found))} |", flush=True)


if __name__ == "__main__":
    main()
