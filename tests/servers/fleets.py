"""Both example apps, two worker processes each, on one store that comes to harm."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from proxy import Proxy
from redis_kit import LOCAL, Cluster, Redis, Sentinels

from servers.load import Load
from servers.serving import Server, Site, gunicorn, serving, uvicorn

T = TypeVar("T")

APPS = (uvicorn("servers.crowd_fastapi:app"), gunicorn("servers.crowd_flask:app"))
WORKERS = 2 * len(APPS)
TTL = 2.0
"""CACHE_TTL of all guards, in seconds."""
DURABLE = ("appendonly yes",)


class Fleet(Generic[T]):
    """Servers, their store, and the proxy between them, where there is one."""

    def __init__(self, servers: list[Server], store: T, proxy: Proxy) -> None:
        self.servers = servers
        self.store = store
        self.proxy = proxy

    def load(self, **more: Any) -> Load:
        return Load([server.url for server in self.servers], bound=TTL, **more)

    def lines_with(self, text: str) -> int:
        return sum(len(server.lines_with(text)) for server in self.servers)


@contextmanager
def fleet(folder: Path, store: T, url: str, proxy: Proxy, **settings: str) -> Iterator[Fleet[T]]:
    """Arguments: `url`, of the store; `settings`, of the guards."""
    chosen = {"store_timeout": "500ms", "cache_ttl": f"{TTL:g}s", "max_sessions": "1000", **settings}
    site = Site(folder, store=url, issuer=secrets.token_hex(8), **chosen)
    with ExitStack() as stack:
        yield Fleet([stack.enter_context(serving(site, *app)) for app in APPS], store, proxy)


@contextmanager
def redis_fleet(folder: Path, options: str = "", **settings: str) -> Iterator[Fleet[Redis]]:
    """On one Redis that keeps a log of all writes."""
    store = Redis(folder / "redis", *DURABLE)
    with ExitStack() as stack:
        stack.callback(store.stop)
        store.start()
        proxy = stack.enter_context(Proxy(store.port))
        url = f"redis://{LOCAL}:{proxy.port}/0{options}"
        yield stack.enter_context(fleet(folder, store, url, proxy, **settings))


@contextmanager
def replicated_fleet(folder: Path, store: Sentinels | Cluster, options: str = "") -> Iterator[Fleet[Any]]:
    """On a store of several servers, reached without a proxy."""
    with ExitStack() as stack:
        stack.callback(store.stop)
        store.start()
        if isinstance(store, Sentinels):
            # On a busy machine a server that is well may be silent for longer than the kit allows.
            for one in store.sentinels:
                one.raw("SENTINEL", "SET", "main", "down-after-milliseconds", 2000)
        nowhere = stack.enter_context(Proxy(0))
        yield stack.enter_context(fleet(folder, store, store.url + options, nowhere))


@contextmanager
def sql_fleet(folder: Path, store: Any) -> Iterator[Fleet[Any]]:
    """On a PostgreSQL that runs."""
    with Proxy(store.port) as proxy, fleet(folder, store, store.url(proxy.port), proxy) as found:
        yield found
