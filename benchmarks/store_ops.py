"""What a load, a save and a login cost on each store, blocking and awaited, beside a bare SET on the same Redis.

One caller, one operation after the other, so it is about latency; what several wait for together is in `scale`. All kinds
take turns in each round, so whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import redis
import redis.asyncio

from jwtguard import AsyncGuard, Guard
from jwtguard.document import encode
from jwtguard.stores import AsyncStore, Paired, Store, open_store
from jwtguard.stores.adapters import InThreads

from .engines import SETTINGS, postgresql, redis_server
from .people import NOW, people
from .reports import Report, options, percentile

ROUND: Final = 20
TIMEOUT: Final = 5.0
[DOCUMENT] = people(1, 3)
VALUE: Final = encode(DOCUMENT)
KEEP_UNTIL: Final = NOW * 2

Operation = Callable[[], Awaitable[object]]


class Samples:
    """Seconds that an operation took, each time."""

    def __init__(self, name: str, colour: str, verb: str, operation: Operation) -> None:
        self.label = (name, colour, verb)
        self.operation = operation
        self.seconds: list[float] = []

    async def take(self, count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            await self.operation()
            self.seconds.append(time.perf_counter() - began)


def operations(name: str, url: str, stack: ExitStack, guards: list[AsyncGuard]) -> Iterator[Samples]:
    """Loads, saves and logins on one store, in both colours."""
    store = open_store(url, timeout=TIMEOUT)
    stack.callback(store.close)
    guard = Guard.from_env(store=store, **settings())
    stack.callback(guard.close)
    awaited = store.awaited() if isinstance(store, Paired) else InThreads(store) if store.blocking else None
    yield Samples(name, "blocking", "load", blocking(loading(store)))
    yield Samples(name, "blocking", "save", blocking(saving(store)))
    yield Samples(name, "blocking", "login", blocking(lambda: guard.login(secrets.token_hex(8), scopes=["read", "write"])))
    if awaited is not None:
        aguard = AsyncGuard.from_env(store=store, **settings())
        guards.append(aguard)
        yield Samples(name, "awaited", "load", aloading(store, awaited))
        yield Samples(name, "awaited", "save", asaving(awaited))
        yield Samples(name, "awaited", "login", lambda: aguard.login(secrets.token_hex(8), scopes=["read", "write"]))


def settings() -> dict[str, Any]:
    return dict(SETTINGS)


def blocking(call: Callable[[], object]) -> Operation:
    async def operation() -> object:
        return call()

    return operation


def loading(store: Store) -> Callable[[], object]:
    key = secrets.token_bytes(8)
    assert store.save(key, VALUE, expected=None, version=b"v" * 8, expires_at=KEEP_UNTIL, ends=False)
    return lambda: store.load(key)


def aloading(store: Store, awaited: AsyncStore) -> Operation:
    key = secrets.token_bytes(8)
    assert store.save(key, VALUE, expected=None, version=b"v" * 8, expires_at=KEEP_UNTIL, ends=False)
    return lambda: awaited.load(key)


def saving(store: Store) -> Callable[[], object]:
    """Saves of one document, one version after the other."""
    key = secrets.token_bytes(8)
    versions: list[bytes | None] = [None, None]

    def save() -> None:
        versions[:] = versions[1], secrets.token_bytes(8)
        assert store.save(key, VALUE, expected=versions[0], version=versions[1] or b"", expires_at=KEEP_UNTIL, ends=False)

    return save


def asaving(store: AsyncStore) -> Operation:
    key: bytes = secrets.token_bytes(8)
    versions: list[bytes | None] = [None, None]

    async def save() -> None:
        versions[:] = versions[1], secrets.token_bytes(8)
        saved = await store.save(
            key, VALUE, expected=versions[0], version=versions[1] or b"", expires_at=KEEP_UNTIL, ends=False
        )
        assert saved

    return save


async def measure(samples: list[Samples], guards: list[AsyncGuard], count: int) -> None:
    for each in samples:
        await each.take(3)  # connections, statements, scripts
        each.seconds.clear()
    for _ in range(-(-count // ROUND)):
        for each in samples:
            await each.take(ROUND)
    for guard in guards:
        await guard.close()


def bare(port: int, stack: ExitStack) -> Iterator[Samples]:
    """The driver alone, writing as many bytes and reading them."""
    client = redis.Redis(port=port)
    stack.callback(client.close)
    yield Samples("bare redis-py", "blocking", "SET", blocking(lambda: client.set("bare", VALUE)))
    yield Samples("bare redis-py", "blocking", "GET", blocking(lambda: client.get("bare")))
    aclient = redis.asyncio.Redis(port=port)
    yield Samples("bare redis-py", "awaited", "SET", lambda: aclient.set("bare", VALUE))
    yield Samples("bare redis-py", "awaited", "GET", lambda: aclient.get("bare"))


def main() -> None:
    given = options(str(__doc__), times=1000)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        database = stack.enter_context(postgresql())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        versions = {engine.name: engine.version for engine in (server, database)}
        report = Report(given, "Store operations", "redis", "psycopg", "SQLAlchemy", **versions)
        urls = {
            "memory": "memory://",
            "SQLite": f"sqlite:///{folder / 'sessions.db'}",
            "Redis": server.url,
            "PostgreSQL": database.url,
        }
        samples = [*bare(server.port, stack)]
        guards: list[AsyncGuard] = []
        for name, url in urls.items():
            samples += operations(name, url, stack, guards)
        asyncio.run(measure(samples, guards, given.times))
        report.table(f"One caller, {given.times:,} times each", HEADS, [*rows(samples)])
        report.close()


HEADS: Final = ("store", "colour", "operation", "median us", "p99 us", "a second", "beside SET")


def rows(samples: list[Samples]) -> Iterator[tuple[object, ...]]:
    """`beside SET`: by medians, against the bare SET of the same colour."""
    typical = {each.label: median(each.seconds) for each in samples}
    for each in samples:
        name, colour, verb = each.label
        middle = typical[each.label]
        ratio = middle / typical["bare redis-py", colour, "SET"]
        yield name, colour, verb, middle * 1e6, percentile(each.seconds, 0.99) * 1e6, int(1 / middle), f"{ratio:.2f}"


if __name__ == "__main__":
    main()
