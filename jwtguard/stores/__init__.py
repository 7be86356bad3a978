"""Where sessions are kept. `open_store` makes a store from its URL, and imports only what that one needs."""

from __future__ import annotations

import logging
import re
from typing import Final

from ..clock import Clock, SystemClock
from ..errors import ConfigError
from .base import AsyncStore, Heard, Loaded, Paired, Pushed, Store, Watched

__all__ = ["AsyncStore", "Heard", "Loaded", "Paired", "Pushed", "Store", "Watched", "open_store"]

logger = logging.getLogger("jwtguard")

ACCEPTED: Final = (
    "memory:// (this process only), sqlite:///path (one machine; sqlite:////path if it is absolute), redis://host:port/0 "
    "(also rediss://, unix://, redis+sentinel://, redis+cluster://), postgresql://, mysql:// or "
    "mariadb://user:password@host/database"
)
REDIS: Final = frozenset({"redis", "rediss", "unix"})
SQL: Final = frozenset({"mariadb", "mysql", "postgres", "postgresql"})
SHOWN: Final = 100


def open_store(url: str, *, timeout: float = 0.25, clock: Clock = SystemClock()) -> Store:  # noqa: B008 - it has no state
    """The store that a URL names. Nothing is opened or connected before its first call.

    Arguments: `timeout`, seconds for one operation; `clock`, for the stores that keep time themselves. Raises ConfigError.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if separator and scheme == "memory":
        return _memory(url, rest, clock)
    if separator and scheme == "sqlite":
        return _sqlite(url, rest, timeout, clock)
    if separator and scheme.partition("+")[0] in REDIS:
        return _redis(url, timeout, clock)
    if separator and scheme.partition("+")[0] in SQL:
        return _sql(url, timeout)
    raise ConfigError(f"the store is {_shown(url)}, which names no store. Accepted: {ACCEPTED}")


def _memory(url: str, rest: str, clock: Clock) -> Store:
    from .memory import MemoryStore

    if rest:
        raise ConfigError(f"the store is {_shown(url)}, but nothing follows memory://")
    return MemoryStore(clock)


def _sqlite(url: str, rest: str, timeout: float, clock: Clock) -> Store:
    from .sqlite import SQLiteStore

    location, _, query = rest.partition("?")
    if query:
        raise ConfigError(f"the store is {_shown(url)} with parameters after the '?', but sqlite:/// takes none")
    if location and not location.startswith("/"):
        raise ConfigError(f"the store is {_shown(url)}: a path follows three slashes, as in sqlite:///jwtguard.db")
    store = SQLiteStore(location[1:], timeout=timeout, clock=clock)
    logger.info("sessions are kept in %s", ascii(str(store.path)))
    return store


def _redis(url: str, timeout: float, clock: Clock) -> Store:
    try:
        from .redis import RedisStore
    except ImportError as error:
        raise ConfigError(
            f"the store is {_shown(url)}, which needs redis-py 5.2.1 or newer: pip install 'jwtguard-middleware[redis]'"
        ) from error
    return RedisStore(url, timeout=timeout, clock=clock)


def _sql(url: str, timeout: float) -> Store:
    try:
        from ._sql_url import open_sql
    except ImportError as error:
        install = "pip install 'jwtguard-middleware[sql]'"
        raise ConfigError(f"the store is {_shown(url)}, which needs SQLAlchemy: {install}") from error
    return open_sql(url, _shown(url), timeout)


def _shown(url: str) -> str:
    """A URL for a message: without user, password and parameters."""
    bare = url.partition("?")[0]
    return ascii(re.sub(r"^([^:/@]*://)?.*@", r"\1***@", bare, flags=re.DOTALL)[:SHOWN])
