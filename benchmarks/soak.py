"""Minutes of mixed load on two uvicorn and two gunicorn workers that share a Redis: does anything grow?

Users log in, use their sessions, refresh, log out and try what has ended, on either server; others come with garbage, each
on a connection of its own. Meanwhile every worker tells what it holds. The third minute is compared with the last one. The
cache is small, so that it is full before the comparison begins: a cache that fills isn't a leak.

    python -m benchmarks.soak --minutes 10
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any, Final

from servers.load import Load
from servers.serving import Client, Server, Site, Worker, gunicorn, serving, uvicorn, workers_of

from .engines import redis_server
from .reports import Report, parser

__all__ = ["grown", "sampled"]

APPS: Final = (uvicorn("benchmarks.soak_apps:asgi"), gunicorn("benchmarks.soak_apps:wsgi"))
USERS: Final = 16
CACHE_SIZE: Final = 500
BOUND: Final = 2.0
"""CACHE_TTL, and how long an ended session may be let in."""
PAUSE: Final = 0.03
EVERY: Final = 2.0
"""Seconds between two samples."""
WINDOW: Final = 0.1
"""The share of the time that is compared: from 0.2 to 0.3 of it with the last tenth. In ten minutes, a minute each."""
VITALS: Final = ("pss", "rss", "tasks", "threads", "fds")

Sample = tuple[float, dict[str, int]]


@contextmanager
def strangers(servers: Sequence[Server]) -> Iterator[list[int]]:
    """Garbage for each server, ten times a second, each on a new connection. Gives how many were refused."""
    over, count = threading.Event(), [0]

    def come() -> None:
        while not over.wait(0.1):
            for server in servers:
                with Client(server.url) as client:
                    answer = client.http.get("/me", headers={"Authorization": f"Bearer {secrets.token_urlsafe(200)}"})
                    assert answer.status_code == 401, answer.text
                    count[0] += 1

    thread = threading.Thread(target=come, daemon=True)
    thread.start()
    yield count
    over.set()
    thread.join()


def sampled(workers: dict[str, Worker], seconds: float) -> dict[str, list[Sample]]:
    """What each worker holds, again and again, and since when the load has been on."""
    found: dict[str, list[Sample]] = {name: [] for name in workers}
    began = time.monotonic()
    while (since := time.monotonic() - began) < seconds:
        for name, worker in workers.items():
            answer = worker.client.http.get("/vitals")
            found[name].append((since / seconds, answer.json()))
        time.sleep(min(EVERY, seconds / 100))
    return found


def grown(samples: dict[str, list[Sample]]) -> Iterator[tuple[object, ...]]:
    """For each worker and what it holds: then, at the end, and the ratio."""
    for name, found in samples.items():
        for vital in VITALS:
            before = median(held[vital] for at, held in found if 0.2 <= at < 0.2 + WINDOW)
            after = median(held[vital] for at, held in found if at >= 1 - WINDOW)
            if before or after:
                most = max(held[vital] for at, held in found if at >= 0.2)
                yield name, UNITS[vital], f"{after / before:.3f}" if before else "", before, after, most


UNITS: Final = {
    "pss": "memory, its share (kB)",
    "rss": "memory, resident (kB)",
    "tasks": "asyncio tasks",
    "threads": "threads",
    "fds": "descriptors",
}
HEADS: Final = ("worker", "holds", "last / third minute", "third minute", "last minute", "most since minute 2")


def options() -> argparse.Namespace:
    found = parser(str(__doc__).partition("\n")[0])
    found.add_argument("--minutes", type=float, default=10.0)
    return found.parse_args()


def run(minutes: float) -> tuple[dict[str, list[Sample]], Any, int]:
    """The samples, the load's report and how many strangers came."""
    with redirect_stdout(sys.stderr), ExitStack() as stack:  # the kit shows what the servers say
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jwtguard-", ignore_cleanup_errors=True)))
        engine = stack.enter_context(redis_server())
        site = Site(
            folder, store=engine.url, cache_ttl=f"{BOUND:g}s", cache_size=str(CACHE_SIZE), issuer=secrets.token_hex(8)
        )
        servers = [stack.enter_context(serving(site, *app)) for app in APPS]
        workers: dict[str, Worker] = {}
        for server, name in zip(servers, ("uvicorn", "gunicorn"), strict=True):
            found = stack.enter_context(workers_of(server))
            workers |= {f"{name} {number}": worker for number, worker in enumerate(found, 1)}
        with (
            Load([server.url for server in servers], users=USERS, bound=BOUND, pause=PAUSE) as load,
            strangers(servers) as came,
        ):
            samples = sampled(workers, minutes * 60)
        return samples, load.finish(), came[0]


def main() -> None:
    given = options()
    minutes = given.minutes / 10 if given.quick else given.minutes
    report = Report(given, f"A soak of {minutes:g} minutes", "redis", "uvicorn", "gunicorn")
    samples, load, came = run(minutes)
    report.table("What the workers held", HEADS, [*grown(samples)])
    report.keep("memory", {name: [(at * minutes, held["pss"]) for at, held in found] for name, found in samples.items()})
    counts = {"requests": load.requests + came, "garbage among them": came, "503": load.unavailable, "broken": load.broken}
    report.table("The load", ("what", "count"), [*counts.items(), ("wrong answers", sum(load.wrong.values()))])
    for what, count in load.wrong.items():
        report.note(f"Wrong: {what}, {count} times")
    report.close()


if __name__ == "__main__":
    main()
