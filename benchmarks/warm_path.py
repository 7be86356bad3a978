"""The warm path: what a known token costs a request above the bare app, in process, beside a prototype that does the least.

The floor is what nobody who recognises tokens can leave out: look through the headers, one hit in a dict by the SHA-256 of
the token, is it expired, tell the app who it is. It is neither bounded nor revocable.

    python -m benchmarks.warm_path                              # rounds of all variants, interleaved and shuffled
    python -m benchmarks.warm_path --count asgi/memory:2000     # so many requests and nothing else, for callgrind and perf
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any, Final, NamedTuple

from jwtguard import AsyncGuard, Guard
from jwtguard.guard import GuardMethods
from jwtguard.model import Identity
from jwtguard.stores import open_store
from jwtguard.stores.memory import MemoryStore

from .engines import SETTINGS, redis_server
from .reports import Report, options

__all__ = ["Cost", "Serve", "measure", "variants"]

Serve = Callable[[], None]
"""Serves one request, from its scope or environ to the end of its answer."""

STORES: Final = ("memory", "sqlite", "redis")
HEADERS: Final = {
    "host": "api.example.com",
    "connection": "keep-alive",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept": "application/json",
    "accept-language": "en-GB,en;q=0.5",
    "accept-encoding": "gzip, deflate, br",
    "referer": "https://app.example.com/items",
    "origin": "https://app.example.com",
    "sec-fetch-dest": "empty",
    "sec-fetch-mode": "cors",
    "sec-fetch-site": "same-site",
}
"""Those of a browser's request, but for Authorization: twelve with it."""


class Cost(NamedTuple):
    """Microseconds per request above the bare app: the median of the rounds, and their quartiles."""

    above: float
    low: float
    high: float
    to_bare: float
    """How many times what the bare app takes, the app itself included."""
    to_floor: float
    """How many times what the floor costs above the bare app."""


class _Known(NamedTuple):
    identity: Identity
    expires_at: float


# -- ASGI ------------------------------------------------------------------------------------------------------------------


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    del receive
    assert scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def asgi_floor(app: Any, known: Mapping[bytes, _Known]) -> Any:
    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        token = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                token = value[7:]
        found = known.get(sha256(token).digest())
        if found is None or found.expires_at <= time.time():
            raise PermissionError
        scope["user"] = found.identity
        await app(scope, receive, send)

    return guarded


def serve_asgi(app: Any, token: str, guard: GuardMethods | None = None) -> Serve:
    """`guard`: what renews the token where it isn't known any more."""
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers.append((bytes(bytearray(b"authorization")), f"Bearer {token}".encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/items",
        "raw_path": b"/items",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        "state": {},
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message["type"]

    def serve() -> None:
        try:
            app(scope.copy(), receive, send).send(None)  # nothing waits on the warm path, so no event loop is needed
        except StopIteration:
            return
        except RuntimeError:
            if guard is None:
                raise
            guard.authenticate(token)

    return serve


# -- WSGI ------------------------------------------------------------------------------------------------------------------


def wsgi_app(environ: Any, start_response: Any) -> Any:
    assert environ["PATH_INFO"]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def wsgi_floor(app: Any, known: Mapping[bytes, _Known]) -> Any:
    def guarded(environ: Any, start_response: Any) -> Any:
        found = known.get(sha256(environ.get("HTTP_AUTHORIZATION", "").encode()[7:]).digest())
        if found is None or found.expires_at <= time.time():
            raise PermissionError
        environ["user"] = found.identity
        return app(environ, start_response)

    return guarded


def serve_wsgi(app: Any, token: str) -> Serve:
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()} | {
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/items",
        "QUERY_STRING": "",
        "SERVER_NAME": "192.0.2.2",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": None,
        "wsgi.errors": None,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }

    def start_response(status: Any, headers: Any, exc_info: Any = None) -> None:
        assert status
        del headers, exc_info

    def serve() -> None:
        for _part in app(environ.copy(), start_response):
            pass

    return serve


# -- all of them -----------------------------------------------------------------------------------------------------------


def _store(name: str, folder: str, url: str) -> Any:
    """A store of its own for each guard, which is closed by it."""
    return MemoryStore() if name == "memory" else open_store({"sqlite": f"sqlite:///{folder}/db", "redis": url}[name])


@contextmanager
def variants(stores: tuple[str, ...] = STORES) -> Iterator[dict[str, Serve]]:
    """What serves a request, by face and variant: bare, floor, and a guard on each of these stores."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(redis_server()).url if "redis" in stores else ""
        arguments: dict[str, Any] = {**SETTINGS}
        found: dict[str, Serve] = {}
        for store in stores:
            guard = Guard.from_env(store=_store(store, folder, url), **arguments)
            twin = AsyncGuard.from_env(store=_store(store, folder, url), **arguments)
            stack.callback(guard.close)
            stack.callback(_close, twin)
            found[f"wsgi/{store}"] = serve_wsgi(guard.wrap(wsgi_app), known_token(guard))
            found[f"asgi/{store}"] = serve_asgi(twin.wrap(asgi_app), known_token(twin.sync), twin.sync)
        token = known_token(guard)
        identity = guard.authenticate(token)
        known = {sha256(token.encode()).digest(): _Known(identity, float(identity.expires_at))}
        yield {
            "asgi/bare": serve_asgi(asgi_app, token),
            "asgi/floor": serve_asgi(asgi_floor(asgi_app, known), token),
            "wsgi/bare": serve_wsgi(wsgi_app, token),
            "wsgi/floor": serve_wsgi(wsgi_floor(wsgi_app, known), token),
            **found,
        }


def _close(guard: AsyncGuard) -> None:
    asyncio.run(guard.close())


def known_token(guard: GuardMethods) -> str:
    """A token that a guard knows; where its store announces endings, not before the guard listens."""
    token = guard.login("somebody", scopes=["read", "write"], claims={"name": "Some Body"}).access_token
    deadline = time.monotonic() + 10
    guard.authenticate(token)
    while guard.coherence().state == "push_down" and time.monotonic() < deadline:
        time.sleep(0.05)
    guard.authenticate(guard.login("somebody").access_token)  # what is loaded from here on lasts for a minute
    guard.authenticate(token)
    return token


def measure(rounds: int, requests: int, stores: tuple[str, ...] = STORES) -> dict[str, Cost]:
    """What each guarded variant costs."""
    with variants(stores) as all_of_them:
        taken: dict[str, list[float]] = {name: [] for name in all_of_them}
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            for name, serve in random.sample(list(all_of_them.items()), len(all_of_them)):
                taken[name].append(_microseconds(serve, requests))
        gc.unfreeze()
    return {name: _cost(name, taken) for name in taken if not name.endswith("/bare")}


def _microseconds(serve: Serve, requests: int) -> float:
    serve()  # whatever is over meanwhile is renewed outside of the measurement
    began = time.perf_counter()
    for _ in range(requests):
        serve()
    return (time.perf_counter() - began) / requests * 1e6


def _cost(name: str, taken: Mapping[str, list[float]]) -> Cost:
    face = name.partition("/")[0]
    bare = taken[f"{face}/bare"]
    above = [
        one - other for one, other in zip(taken[name], bare, strict=True)
    ]  # of one round, so of one mood of the machine
    low, middle, high = statistics.quantiles(above, n=4)
    floor = statistics.median(one - other for one, other in zip(taken[f"{face}/floor"], bare, strict=True))
    return Cost(middle, low, high, statistics.median(taken[name]) / statistics.median(bare), middle / floor)


def main() -> None:
    if sys.argv[1:2] == ["--count"]:
        name, _, number = sys.argv[2].partition(":")
        store = name.partition("/")[2]
        with variants((store,) if store in STORES else ("memory",)) as all_of_them:
            serve = all_of_them[name]
            for _ in range(int(number)):
                serve()
        return
    given: argparse.Namespace = options("The warm path.", rounds=200, requests=500)
    report = Report(given, "The warm path", "PyJWT", "cachetools")
    costs = measure(given.rounds, given.requests)
    heads = ("variant", "above bare, us", "lower quartile", "upper quartile", "x bare", "x floor")
    report.table("A known token, in process", heads, [(name, *cost) for name, cost in sorted(costs.items())])
    report.close()


if __name__ == "__main__":
    main()
