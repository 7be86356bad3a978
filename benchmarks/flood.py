"""Floods of tokens against one guard: what its process holds meanwhile, and what becomes of a warm request beside them.

Garbage comes in several forms, each token another one; distinct valid tokens are each of a user of their own, four times as
many as there is room for. Rounds of the warm request are interleaved with the flood, and compared with rounds before it.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from jwtguard import Guard
from jwtguard.document import document_key
from jwtguard.errors import AuthError
from jwtguard.stores.memory import MemoryStore

from .engines import SETTINGS
from .reports import Report, options
from .warm_path import Serve, serve_wsgi, wsgi_app

ROOM: Final = 50_000
"""CACHE_SIZE, the default."""
STEPS: Final = 50
SHOWN: Final = 10
"""A flood comes in so many steps, a warm round after each; of so many the memory is shown."""
WARM: Final = 400
"""Requests in a warm round."""


class ForgetfulStore(MemoryStore):
    """Forgets a user when told, so that a flood of users is held by the guard alone."""

    def forget(self, subject: str) -> None:
        self._documents.pop(document_key("jwtguard", subject), None)


def resident() -> float:
    """Megabytes of this process in memory."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def garbage(token: str) -> Iterator[str]:
    """Tokens that nobody signed, without end: each another one."""
    chance = random.Random(1)
    head, payload, signature = token.split(".")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    while True:
        noise = "".join(chance.choices(letters, k=40))
        yield noise
        yield f"{noise}.{payload}.{signature}"
        yield f"{head}.{noise}.{signature}"
        yield f"{head}.{payload}.{noise}{signature[40:]}"


class Flood:
    """A guard, a user who goes on with a known token, and what comes in between."""

    def __init__(self) -> None:
        self.store = ForgetfulStore()
        arguments: dict[str, Any] = {**SETTINGS, "cache_size": str(ROOM)}
        self.guard = Guard.from_env(store=self.store, **arguments)
        self.token = self.guard.login("somebody", scopes=["read", "write"]).access_token
        self.serve: Serve = serve_wsgi(self.guard.wrap(wsgi_app), self.token)
        self._garbage = garbage(self.token)
        self._users = iter(range(10**9))

    def warm_round(self) -> float:
        """Microseconds of a request with the known token."""
        self.serve()  # whatever is over is renewed outside of the measurement
        began = time.perf_counter()
        for _ in range(WARM):
            self.serve()
        return (time.perf_counter() - began) / WARM * 1e6

    def refuse_one(self) -> None:
        try:
            self.guard.authenticate(next(self._garbage))
        except AuthError:
            return
        raise AssertionError("garbage was let in")

    def admit_one(self) -> None:
        subject = f"user-{next(self._users):07d}"
        token = self.guard.login(subject, scopes=["read", "write"]).access_token
        assert self.guard.authenticate(token).subject == subject
        self.store.forget(subject)

    @property
    def held(self) -> int:
        return len(self.guard.core.registry.table)


def flooded(flood: Flood, name: str, count: int, one: Callable[[], None], report: Report) -> tuple[object, ...]:
    """Run a flood, and say what it did to the memory. Answers its row of the table of warm requests."""
    before = [flood.warm_round() for _ in range(STEPS)]
    curve: list[tuple[object, ...]] = [(0, resident(), flood.held)]
    during, spent = [], 0.0
    for step in range(1, STEPS + 1):
        began = time.perf_counter()
        for _ in range(count // STEPS):
            one()
        spent += time.perf_counter() - began
        during.append(flood.warm_round())
        if step % (STEPS // SHOWN) == 0:
            gc.collect()
            curve.append((step * (count // STEPS), resident(), flood.held))
    report.table(f"{name}: the process meanwhile", ("tokens so far", "MB resident", "tokens known"), curve)
    usual, beside = statistics.median(before), statistics.median(during)
    return name, count, spent / count * 1e6, usual, beside, beside / usual


def main() -> None:
    given = options("Floods of tokens.", garbage=1_000_000, valid=200_000)
    report = Report(given, "Floods", "PyJWT", "cachetools")
    flood = Flood()
    rows = [
        flooded(flood, "garbage", given.garbage, flood.refuse_one, report),
        flooded(flood, "distinct valid tokens", given.valid, flood.admit_one, report),
        flooded(flood, "garbage again, with the table full", given.garbage // 5, flood.refuse_one, report),
    ]
    heads = ("flood", "tokens", "us per token of it", "warm request before, us", "beside it, us", "beside : before")
    report.table("A warm request (bare app included)", heads, rows)
    report.close()


if __name__ == "__main__":
    main()
