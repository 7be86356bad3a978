"""How soon a revocation is seen: from its answer in one process to the first refusal in each of four others, under load.

With announcements the revocations come one after the other, each awaited by all workers. With the channel cut (half open:
it stays connected and nothing passes) they come in a row, and each worker asks for all of the tokens again and again.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from multiprocessing.context import SpawnContext
from typing import Any, Final, NamedTuple

from proxy import Proxy

from jwtguard import Guard, TokenPair
from jwtguard.stores import Heard, Loaded, Pushed, open_store

from .engines import SETTINGS, Engine, postgresql, redis_server
from .reports import Report, options, percentile

WORKERS: Final = 4
PACE: Final = 0.001
OTHERS: Final = 100
"""Tokens that nobody revokes, asked for in between."""
LONGEST: Final = 30.0
NOT_YET: Final = 0.0

SPAWN: Final[SpawnContext] = multiprocessing.get_context("spawn")


class TwoWays:
    """A store whose announcements come by another way than its documents. That way alone can then be cut."""

    blocking = True

    def __init__(self, url: str, announced_at: str) -> None:
        self._documents = open_store(url, timeout=5.0)
        announcing = open_store(announced_at, timeout=1.0)
        assert isinstance(announcing, Pushed)
        self._announcing = announcing

    def load(self, key: bytes) -> Loaded:
        return self._documents.load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        return self._documents.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    def close(self) -> None:
        self._documents.close()

    def changes(self) -> Generator[bytes | Heard]:
        return self._announcing.changes()


def guard_of(store: object, settings: Mapping[str, str] = SETTINGS) -> Guard:
    arguments: dict[str, Any] = {**settings, "store": store}
    return Guard.from_env(**arguments)


# -- a worker --------------------------------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What the processes have in common: which token is being revoked; when each worker first refused it, and when the last
    request came that it let in (monotonic: on this system that clock is the same for all processes); how many requests each
    has served; whether to go on."""

    current: Any
    refused: Any
    admitted: Any
    served: Any
    ready: Any
    go_on: Any


class Task(NamedTuple):
    """What a worker is given. `tokens` are those that get revoked, `others` stay; `pace`: seconds between two requests."""

    settings: Mapping[str, str]
    url: str
    announced_at: str
    tokens: Sequence[str]
    others: Sequence[str]
    pace: float


def serve(number: int, task: Task, shared: Shared) -> None:
    """One worker: a guarded WSGI app that is asked in a loop."""
    logging.getLogger("jwtguard").setLevel(logging.CRITICAL)  # that the channel is cut is meant
    guard = guard_of(TwoWays(task.url, task.announced_at), task.settings)
    ask = asker(guard)
    everybody = (*task.others, *task.tokens)
    for token in everybody:
        assert ask(token)
    while guard.coherence().state != "pushed":
        time.sleep(0.01)
    time.sleep(guard.settings.cache_ttl)  # what was loaded before the channel was up is over
    for token in everybody:
        assert ask(token)
    shared.ready.release()
    first = number * len(task.tokens)
    while shared.go_on.value:
        if (current := shared.current.value) < 0:
            for index in range(len(task.tokens)):
                shared.served[number] += note(ask, task, shared, index, first + index)
        else:
            asked = note(ask, task, shared, current, first + current)
            assert ask(task.others[shared.served[number] % OTHERS])
            shared.served[number] += asked + 1
            if task.pace:
                time.sleep(task.pace)
    guard.close()


def note(ask: Callable[[str], bool], task: Task, shared: Shared, index: int, place: int) -> bool:
    """Ask with one of the tokens that get revoked, until it is refused for the first time, and note when that is."""
    if shared.refused[place] != NOT_YET:
        return False
    asked_at = time.monotonic()
    if ask(task.tokens[index]):
        shared.admitted[place] = asked_at
    else:
        shared.refused[place] = time.monotonic()
    return True


def asker(guard: Guard) -> Callable[[str], bool]:
    """Asks the guarded app with a token; answers whether it was let in."""
    statuses: list[str] = []

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    def start_response(status: str, _headers: Any, _exc_info: Any = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _data: None

    guarded: Any = guard.wrap(app)
    plain = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}

    def ask(token: str) -> bool:
        statuses.clear()
        environ = {**plain, "wsgi.url_scheme": "http", "wsgi.input": BytesIO(), "HTTP_AUTHORIZATION": f"Bearer {token}"}
        answer = guarded(environ, start_response)
        if close := getattr(answer, "close", None):
            close()
        assert statuses[0][:3] in ("200", "401"), statuses
        return statuses[0].startswith("200")

    return ask


# -- what is measured ------------------------------------------------------------------------------------------------------


@contextmanager
def crew(engine: Engine, proxy: Proxy, task: Task, pairs: Sequence[TokenPair]) -> Iterator[Shared]:
    """The workers, warm."""
    shared = Shared(
        SPAWN.Value("i", 0, lock=False),
        SPAWN.RawArray("d", WORKERS * len(pairs)),
        SPAWN.RawArray("d", WORKERS * len(pairs)),
        SPAWN.RawArray("q", WORKERS),
        SPAWN.Semaphore(0),
        SPAWN.Value("b", 1, lock=False),
    )
    tokens = [pair.access_token for pair in pairs]
    task = task._replace(url=engine.url, announced_at=engine.at(proxy.port), tokens=tokens)
    workers = [SPAWN.Process(target=serve, args=(number, task, shared), daemon=True) for number in range(WORKERS)]
    try:
        for worker in workers:
            worker.start()
        for _ in workers:
            assert shared.ready.acquire(timeout=120), "a worker didn't get ready"
        yield shared
    finally:
        shared.go_on.value = 0
        for worker in workers:
            worker.join(30)


class Lags(NamedTuple):
    """Milliseconds from a revocation's answer to the first refusal, and to the last request that is let in, of every worker
    and revocation; and requests per second and worker."""

    refused: list[float]
    admitted: list[float]
    rate: float


def measured(engine: Engine, settings: Mapping[str, str], count: int, *, pace: float = 0.0, cut: bool = False) -> Lags:
    guard = guard_of(open_store(engine.url, timeout=5.0), settings)
    pairs, others = logged_in(guard, count)
    with Proxy(engine.port) as proxy, crew(engine, proxy, Task(settings, "", "", [], others, pace), pairs) as shared:
        served, began = sum(shared.served), time.monotonic()
        if cut:
            shared.current.value = -1
            proxy.swallows = True
            answered = [revoked(guard, index, pair) for index, pair in enumerate(pairs)]
            wait_for(shared, count, range(count))
        else:
            answered = [in_turn(guard, shared, index, pair, count) for index, pair in enumerate(pairs)]
        rate = (sum(shared.served) - served) / (time.monotonic() - began) / WORKERS
    guard.close()
    return Lags(lags(shared.refused, answered), lags(shared.admitted, answered), rate)


def in_turn(guard: Guard, shared: Shared, index: int, pair: TokenPair, count: int) -> float:
    """Have all workers ask with this token, revoke it, and wait until they refuse it."""
    shared.current.value = index
    time.sleep(2 * PACE)
    answered = revoked(guard, index, pair)
    wait_for(shared, count, [index])
    return answered


def logged_in(guard: Guard, count: int) -> tuple[list[TokenPair], list[str]]:
    """Sessions to revoke, each of a user of its own; and tokens of sessions that stay."""
    pairs = [guard.login(f"user-{number}", scopes=["read"]) for number in range(count)]
    return pairs, [guard.login(f"other-{number}").access_token for number in range(OTHERS)]


def revoked(guard: Guard, index: int, pair: TokenPair) -> float:
    assert guard.revoke(f"user-{index}", pair.session_id)
    return time.monotonic()


def wait_for(shared: Shared, count: int, indexes: Sequence[int]) -> None:
    """Until all workers have refused these."""
    deadline = time.monotonic() + LONGEST
    places = [worker * count + index for worker in range(WORKERS) for index in indexes]
    while any(shared.refused[place] == NOT_YET for place in places):
        assert time.monotonic() < deadline, "a revoked token is still let in"
        time.sleep(PACE)


def lags(moments: Sequence[float], answered: Sequence[float]) -> list[float]:
    """A refusal may come before the revoker knows the answer: that is no lag."""
    count = len(answered)
    return [
        max(0.0, moments[worker * count + index] - at) * 1000
        for worker in range(WORKERS)
        for index, at in enumerate(answered)
    ]


def row(title: str, found: Lags) -> tuple[object, ...]:
    values = found.refused
    shares = (percentile(values, 0.5), percentile(values, 0.99), max(values))
    return (title, len(values) // WORKERS, found.rate, *shares, max(found.admitted))


def measure(engine: Engine, count: int, ttl: float) -> Iterator[tuple[object, ...]]:
    settings = {**SETTINGS, "cache_ttl": f"{ttl:g}s"}
    yield row(f"{engine.name}, pushed, paced load", measured(engine, settings, count, pace=PACE))
    yield row(f"{engine.name}, pushed, all workers flat out", measured(engine, settings, count // 5))
    found = measured(engine, settings, count, cut=True)
    assert max(found.admitted) <= ttl * 1000, "let in later than CACHE_TTL"
    yield row(f"{engine.name}, channel cut, CACHE_TTL {ttl:g} s", found)


def main() -> None:
    given = options(str(__doc__), revocations=1000)
    with redis_server() as redis, postgresql() as postgres:
        versions = {engine.name: engine.version for engine in (redis, postgres)}
        report = Report(given, f"Revocation lag, {WORKERS} worker processes", "redis", "psycopg", "SQLAlchemy", **versions)
        rows = [
            found for engine in (redis, postgres) for found in measure(engine, given.revocations, 2 if given.quick else 5)
        ]
    heads = ("store and channel", "revocations", "requests/s per worker", "p50 ms", "p99 ms", "max ms", "last let in, ms")
    report.table("From the answer to the refusal, in every worker", heads, rows)
    report.close()


if __name__ == "__main__":
    main()
