"""How it grows: what an operation costs a Redis server and a worker in processor time, and what the model makes of that.

Processor time is what counts here, and not how long things take: it is the same on a machine that is busy.
"""

from __future__ import annotations

import gc
import secrets
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import redis

from jwtguard import Guard
from jwtguard.document import encode
from jwtguard.stores.redis import RedisStore

from .engines import SETTINGS, Engine, redis_server
from .growth import Given, predict
from .people import NOW, people
from .reports import Report, options
from .world import World

[DOCUMENT] = people(1, 3)
VALUE: Final = encode(DOCUMENT)
LISTENERS: Final = (0, 10, 50, 200)


class Costs(NamedTuple):
    """Microseconds of processor time."""

    load: float
    save: float
    publish: float
    """More for a save that ends something, without anyone who listens."""
    deliver: float
    """More for each who listens."""
    hear: float
    """Of a worker, for each ending announced."""
    recall: float


# -- the server ------------------------------------------------------------------------------------------------------------


def server_time(client: redis.Redis) -> float:
    found: Any = client.info("cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


def spent(client: redis.Redis, count: int, call: Callable[[], object]) -> float:
    """Microseconds of the server for one call."""
    call()
    before = server_time(client)
    for _ in range(count):
        call()
    return (server_time(client) - before) / count * 1e6


def saves(store: RedisStore, *, ends: bool) -> Callable[[], object]:
    key = secrets.token_bytes(8)
    versions: list[bytes | None] = [None, None]

    def save() -> None:
        versions[:] = versions[1], secrets.token_bytes(8)
        assert store.save(key, VALUE, expected=versions[0], version=versions[1] or b"", expires_at=NOW * 2, ends=ends)

    return save


def listen(port: int, count: int, stack: ExitStack) -> None:
    """So many subscribers, whose messages are read and dropped."""
    sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for each in sockets:
        each.sendall(b"SUBSCRIBE jwtguard:ended\r\n")
        each.recv(4096)
        each.setblocking(False)
    over = threading.Event()

    def drain() -> None:
        while not over.wait(0.02):
            for each in sockets:
                try:
                    each.recv(1 << 16)
                except BlockingIOError:
                    continue

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(over.set)


def endings_by_listeners(engine: Engine, client: redis.Redis, count: int) -> list[tuple[int, float]]:
    """Microseconds of the server for a save that ends something, by how many listen."""
    found = []
    store = RedisStore(engine.url, timeout=5.0)
    for listeners in LISTENERS:
        with ExitStack() as stack:
            listen(engine.port, listeners, stack)
            found.append((listeners, spent(client, count, saves(store, ends=True))))
    store.close()
    return found


# -- a worker --------------------------------------------------------------------------------------------------------------


def guard_on(engine: Engine) -> Guard:
    arguments: dict[str, Any] = {**SETTINGS, "store": RedisStore(engine.url, timeout=5.0)}
    return Guard.from_env(**arguments)


def heard(engine: Engine, count: int) -> float:
    """Microseconds of a worker that does nothing but listen, for each ending that is announced."""
    guard = guard_on(engine)
    guard.sessions("nobody")
    token = guard.login("somebody").access_token
    guard.authenticate(token)
    while guard.coherence().state != "pushed":
        time.sleep(0.01)
    with redis.Redis(port=engine.port) as client:
        before = time.process_time()
        for _ in range(count // 100):
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(100):
                    pipeline.publish("jwtguard:ended", secrets.token_bytes(8) + b"u\x08jwtguarduser-0000001")
                pipeline.execute()
            time.sleep(0.005)
        time.sleep(0.2)
        both = time.process_time() - before
        alone = sending(client, count)
    guard.close()
    return max(0.0, (both - alone) / count * 1e6)


def sending(client: redis.Redis, count: int) -> float:
    """Seconds that sending them takes this process itself."""
    before = time.process_time()
    for _ in range(count // 100):
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(100):
                pipeline.publish("nobody:listens", secrets.token_bytes(8) + b"u\x08jwtguarduser-0000001")
            pipeline.execute()
        time.sleep(0.005)
    return time.process_time() - before


def recalled(count: int) -> float:
    """Microseconds to recognise a token that is known."""
    arguments: dict[str, Any] = {**SETTINGS, "store": "memory://"}
    guard = Guard.from_env(**arguments)
    token = guard.login("somebody").access_token
    guard.authenticate(token)
    recall, raw = guard.core.registry.recall, token.encode()
    began = time.process_time()
    for _ in range(count):
        recall(raw)
    return (time.process_time() - began) / count * 1e6


def bytes_per_user(engine: Engine, count: int) -> float:
    """What a user with one token in use takes in a worker: lease, document, entry, identity."""
    guard = guard_on(engine)
    tokens = [guard.login(f"user-{number:07d}", scopes=["read", "write"]).access_token for number in range(count)]
    guard.authenticate(tokens[0])
    gc.collect()
    tracemalloc.start()
    for token in tokens[1:]:
        guard.authenticate(token)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    guard.close()
    return taken / (count - 1)


# -- the model -------------------------------------------------------------------------------------------------------------

WORLDS: Final = {
    "1,000 users, 2 workers": Given(users=1000, sessions=1, requests=40, workers=2),
    "500 users with 3 sessions, 4 workers": Given(users=500, sessions=3, requests=40, workers=4, access_ttl=300),
    "the same, one ending a second": Given(users=500, sessions=3, requests=40, workers=4, endings=1, access_ttl=300),
    "2,000 users, room for 500, 3 workers": Given(users=2000, sessions=1, requests=60, workers=3, room=500),
}

FLEETS: Final = {
    "10 thousand sessions, 100 req/s, 4 workers": (4, Given(330, 3, 100, 4, endings=0.01, logins=0.05)),
    "1 million, 10,000 req/s, 40 workers": (40, Given(33e3, 3, 1e4, 40, endings=1, logins=5)),
    "10 million, 100,000 req/s, 400 workers": (400, Given(330e3, 3, 1e5, 400, endings=10, logins=50)),
    "10 million, each user at 4 of the workers": (400, Given(330e3, 3, 1e5, 4, endings=10, logins=50, room=10**7)),
    "100 million, 1,000,000 req/s, 4,000 workers": (4000, Given(3.3e6, 3, 1e6, 4000, endings=100, logins=500)),
    "100 million, each user at 4 of the workers": (4000, Given(3.3e6, 3, 1e6, 4, endings=100, logins=500, room=10**7)),
    "100 million, each user at one worker": (4000, Given(3.3e6, 3, 1e6, 1, endings=100, logins=500, room=10**7)),
}
"""Workers that listen, and what the model is given: the workers that a user's requests come to. A tenth of the users are
there at a time; the others only take memory."""


def checked(seconds: float) -> Iterator[tuple[object, ...]]:
    """The model beside what is counted."""
    for name, given in WORLDS.items():
        counted = World(given).run(warm=300, seconds=seconds)
        model = predict(given._replace(logins=given.endings))
        pairs = zip(
            (counted.loads, counted.saves, counted.hit_rate), (model.loads, model.saves, model.hit_rate), strict=True
        )
        yield name, *(f"{one:.3g} / {other:.3g}" for one, other in pairs)


def fleets(costs: Costs) -> Iterator[tuple[object, ...]]:
    for name, (workers, given) in FLEETS.items():
        found = predict(given)
        deliveries = given.endings * workers
        asked = found.loads * costs.load + found.saves * costs.save
        told = found.announcements * costs.publish + deliveries * costs.deliver
        yield (
            name,
            f"{100 * found.hit_rate:.1f} %",
            f"{found.operations / given.requests:.3f}",
            found.loads,
            found.saves,
            deliveries,
            asked / 1e6,
            told / 1e6,
        )


def main() -> None:
    given = options(str(__doc__), times=20_000)
    with redis_server() as engine, redis.Redis(port=engine.port) as client:
        report = Report(given, "How it grows", "redis", Redis=engine.version)
        store = RedisStore(engine.url, timeout=5.0)
        save = spent(client, given.times, saves(store, ends=False))
        store.save(b"key", VALUE, expected=None, version=b"v" * 8, expires_at=NOW * 2, ends=False)
        load = spent(client, given.times, lambda: store.load(b"key"))
        store.close()
        by_listeners = endings_by_listeners(engine, client, given.times // 5)
        most, least = by_listeners[-1], by_listeners[0]
        deliver = (most[1] - least[1]) / most[0]
        costs = Costs(load, save, least[1] - save, deliver, heard(engine, given.times), recalled(10 * given.times))
        size = bytes_per_user(engine, min(5000, given.times))
    report.table("Microseconds of processor time", ("what", "us"), [*zip(NAMES, costs, strict=True)])
    report.table("A save that ends a session, in the server", ("listeners", "us"), by_listeners)
    report.note(f"A user with one session in use takes {size:,.0f} bytes in a worker.")
    heads = ("world", "loads/s", "saves/s", "requests without a load")
    report.table("Counted / predicted", heads, [*checked(60 if given.quick else 600)])
    report.table("Predicted", FLEET_HEADS, [*fleets(costs)])
    report.close()


NAMES: Final = (
    "load, in the server",
    "save, in the server",
    "announcing an ending, in the server",
    "each listener of an ending, in the server",
    "an ending that is heard, in a worker",
    "a token that is recalled, in a worker",
)
FLEET_HEADS: Final = (
    "fleet",
    "without a load",
    "store operations per request",
    "loads/s",
    "saves/s",
    "deliveries/s",
    "Redis: cores to answer",
    "cores to announce",
)

if __name__ == "__main__":
    main()
