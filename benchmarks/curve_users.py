"""What requests and operations cost by how many sessions a user has, and by how many users there are.

All points of a curve take turns in each round, so whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

from redis_kit import Redis

from jwtguard import Guard
from jwtguard.document import document_key, encode
from jwtguard.stores import Store, open_store
from jwtguard.stores._redis_words import name_of
from jwtguard.stores.memory import MemoryStore

from .engines import SETTINGS, redis_server
from .people import NOW, people
from .redis_memory import PREFIX, pour
from .reports import Report, options
from .wsgi import ask, asking, wsgi_app

__all__ = ["by_sessions", "known_users", "stored_users"]

SESSIONS: Final = (1, 10, 100)
KNOWN: Final = (1, 1000, 10_000, 40_000)
STORED: Final = (1000, 10_000, 100_000, 1_000_000)
ROUND: Final = 200

Curve = dict[str, dict[int, float]]
"""Microseconds of each operation, by the number on the curve's axis."""
Operation = Callable[[], object]


def guard_on(store: object, **more: str) -> Guard:
    arguments: dict[str, Any] = {**SETTINGS, "max_sessions": "1000", "store": store, **more}
    return Guard.from_env(**arguments)


def each(call: Callable[..., object], arguments: Iterable[tuple[Any, ...]]) -> Operation:
    """Calls with the next arguments each time."""
    left = iter(arguments)
    return lambda: call(*next(left))


def again(call: Callable[[], object]) -> Operation:
    """A round of the same call, for what takes too little to be timed alone."""

    def operation() -> None:
        for _ in range(ROUND):
            call()

    return operation


def microseconds(operations: Sequence[Operation], times: int) -> list[float]:
    """The median of each, in microseconds; they take turns."""
    taken: list[list[float]] = [[] for _ in operations]
    for _ in range(times):
        for found, operation in zip(taken, operations, strict=True):
            began = time.perf_counter()
            operation()
            found.append(time.perf_counter() - began)
    return [median(found) * 1e6 for found in taken]


# -- by sessions of a user -------------------------------------------------------------------------------------------------


def by_sessions(users: int, points: Sequence[int] = SESSIONS) -> Curve:
    """On the store in memory, so that what is told is the work, and not the way to a server."""
    operations: dict[str, list[Operation]] = {}
    for count in points:
        for name, operation in _of_users_with(count, users).items():
            operations.setdefault(name, []).append(operation)
    return {name: dict(zip(points, microseconds(found, users - 1), strict=True)) for name, found in operations.items()}


def _of_users_with(sessions: int, users: int) -> dict[str, Operation]:
    """What is done once for each user. They have so many sessions, of which one is in use."""
    store = MemoryStore()
    guard = guard_on(store)
    names = [f"user-{number}" for number in range(users)]
    pairs = {name: [guard.login(name, scopes=["read"]) for _ in range(sessions)][-1] for name in names}
    for pair in pairs.values():
        guard.authenticate(pair.access_token)
    other = guard_on(store)
    other.login("somebody")  # what holds for everyone is known from here on
    first = pairs[names[0]].access_token
    app, environ = other.wrap(wsgi_app), asking(first)
    ask(app, environ)
    return {
        "known token": again(partial(ask, app, environ)),
        "first sight": each(lambda name: other.authenticate(pairs[name].access_token), zip(names, strict=False)),
        "login": each(guard.login, zip(names, strict=False)),
        "refresh": each(lambda name: guard.refresh(pairs[name].refresh_token), zip(names, strict=False)),
        "list of sessions": each(guard.sessions, zip(names, strict=False)),
        "revocation": each(lambda name: guard.revoke(name, pairs[name].session_id), zip(names, strict=False)),
    }


# -- by users that a process knows -----------------------------------------------------------------------------------------


def known_users(rounds: int, points: Sequence[int] = KNOWN) -> Curve:
    """A warm request, with the token of any of so many users that are known; and the bare app, with the same requests."""
    served: dict[int, tuple[Any, list[dict[str, Any]]]] = {}
    for count in points:
        guard = guard_on(MemoryStore(), cache_size=str(4 * max(points)), cache_ttl="10m")
        tokens = [guard.login(f"user-{number}").access_token for number in range(count)]
        for token in tokens:
            guard.authenticate(token)
        served[count] = guard.wrap(wsgi_app), [asking(token) for token in tokens]

    def some(app: Any, environs: list[dict[str, Any]]) -> Operation:
        def serve() -> None:
            for environ in random.choices(environs, k=ROUND):
                ask(app, environ)

        return serve

    operations = [some(app, environs) for guarded, environs in served.values() for app in (wsgi_app, guarded)]
    found = microseconds(operations, rounds)
    bare, guarded = found[::2], found[1::2]
    above = {count: (one - other) / ROUND for count, one, other in zip(points, guarded, bare, strict=True)}
    return {"known token, above bare": above}


# -- by users in the store -------------------------------------------------------------------------------------------------

[DOCUMENT] = people(1, 3)
DATA: Final = encode(DOCUMENT)
VERSION: Final = b"v" * 8


def keys(first: int, last: int) -> Iterator[bytes]:
    return (document_key("jwtguard", f"user-{number:07d}") for number in range(first, last))


def stored_users(times: int, points: Sequence[int] = STORED) -> Curve:
    """A load of any of so many users, of whom each has three sessions."""
    found: Curve = {"load, SQLite": {}, "load, Redis": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(redis_server())
        server = Redis(folder, port=engine.port)
        stores = [open_store(f"sqlite:///{folder / 'sessions.db'}", timeout=5.0), open_store(engine.url, timeout=5.0)]
        for store in stores:
            stack.callback(store.close)
            store.load(b"nobody")
        for before, count in zip((0, *points), points, strict=False):
            _fill_sqlite(folder / "sessions.db", keys(before, count))
            pour(server, (("SET", name_of(PREFIX, key), VERSION + DATA) for key in keys(before, count)))
            took = microseconds([_loading(store, count) for store in stores], times)
            for curve, one in zip(found.values(), took, strict=True):
                curve[count] = one
    return found


def _loading(store: Store, users: int) -> Operation:
    def load() -> None:
        assert store.load(document_key("jwtguard", f"user-{random.randrange(users):07d}")).data == DATA

    load()
    return load


def _fill_sqlite(file: Path, some: Iterator[bytes]) -> None:
    """Many documents at a time, as the store itself would save them one by one."""
    with closing(sqlite3.connect(file, isolation_level=None)) as link:
        while batch := list(islice(some, 50_000)):
            link.execute("BEGIN")
            link.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", ((key, DATA, VERSION, NOW * 2) for key in batch))
            link.execute("COMMIT")


def rows(curve: Curve) -> Iterator[tuple[object, ...]]:
    """Each point, and how many times the first one of its curve it is."""
    for name, found in curve.items():
        first = next(iter(found.values()))
        for point, value in found.items():
            yield name, point, value / first, value


def main() -> None:
    given = options(str(__doc__), users=60, rounds=50, times=1000)
    report = Report(given, "By sessions and users", "redis")
    sessions = by_sessions(given.users)
    sessions["known token"] = {point: value / ROUND for point, value in sessions["known token"].items()}
    report.table("By sessions of a user", ("operation", "sessions", "x first", "us"), [*rows(sessions)])
    some = KNOWN[:-1] if given.quick else KNOWN
    report.table(
        "By users that a process knows", ("operation", "users", "x first", "us"), [*rows(known_users(given.rounds, some))]
    )
    some = STORED[:-1] if given.quick else STORED
    report.table("By users in the store", ("operation", "users", "x first", "us"), [*rows(stored_users(given.times, some))])
    report.close()


if __name__ == "__main__":
    main()
