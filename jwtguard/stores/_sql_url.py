"""From a URL to a SQL store. Makes engines, and connects to nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ..errors import ConfigError
from .sql import AsyncSQLStore, SQLStore

__all__ = ["open_sql"]

DRIVERS: Final = {
    "postgresql": "psycopg",
    "postgres": "psycopg",
    "mysql": "pymysql",
    "mariadb": "pymysql",
}
INSTALL: Final = {"psycopg": "jwtguard-middleware[sql]", "pymysql": "pymysql"}


def open_sql(url: str, shown: str, timeout: float) -> SQLStore:
    """The store of a URL; `shown` is that for messages, without a password. Raises ConfigError."""
    parsed = _parse(url, shown)
    try:
        if parsed.drivername != "postgresql+psycopg":
            return SQLStore(_mysql(parsed, timeout), timeout=timeout)
        awaited = partial(_awaited, parsed, timeout)
        return SQLStore(_postgresql(parsed, timeout), timeout=timeout, awaited=awaited)
    except ImportError as error:
        install = INSTALL[parsed.get_driver_name()]
        raise ConfigError(f"the store is {shown}, and its driver isn't installed: pip install '{install}'") from error
    except (ArgumentError, NoSuchModuleError, TypeError, ValueError):
        raise ConfigError(f"the store is {shown}, and SQLAlchemy can't make sense of it") from None


def _parse(url: str, shown: str) -> URL:
    scheme, _, rest = url.partition("://")
    dialect, _, driver = scheme.lower().partition("+")
    ours = DRIVERS[dialect]
    if driver not in ("", ours):
        raise ConfigError(
            f"the store is {shown}, but {dialect}:// goes by {ours}. For another driver, pass the guard a store of an "
            "engine of your own: SQLStore(create_engine(...))"
        )
    try:
        return make_url(f"{'postgresql' if dialect == 'postgres' else dialect}+{ours}://{rest}")
    except (ArgumentError, ValueError):
        raise ConfigError(f"the store is {shown}, and SQLAlchemy can't make sense of it") from None


def _postgresql(url: URL, timeout: float) -> Engine:
    from ._sql_psycopg import BoundedConnection

    engine = create_engine(url, connect_args=_terms(url, timeout), use_native_hstore=False)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, terms: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **terms)

    return engine


def _awaited(url: URL, timeout: float) -> AsyncSQLStore:
    engine: AsyncEngine = create_async_engine(url, connect_args=_terms(url, timeout), use_native_hstore=False)
    return AsyncSQLStore(engine, timeout=timeout)


def _terms(url: URL, timeout: float) -> dict[str, Any]:
    """What libpq is told, where the URL doesn't say otherwise."""
    terms = {
        "application_name": "jwtguard",
        "connect_timeout": 2,  # the least that there is; the operation's own time is shorter
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        # A statement that nobody waits for any longer should not be carried out much later.
        "options": f"-c statement_timeout={math.ceil(timeout * 1000)} -c default_transaction_isolation=read\\ committed",
        "target_session_attrs": "read-write",  # never a replica: it is behind
    }
    return {name: value for name, value in terms.items() if name not in url.query}


def _mysql(url: URL, timeout: float) -> Engine:
    terms = {
        "connect_timeout": timeout,
        "read_timeout": timeout,
        "write_timeout": timeout,
        "init_command": "SET SESSION innodb_lock_wait_timeout = 1",
    }
    given = {name: value for name, value in terms.items() if name not in url.query}
    return create_engine(url, connect_args=given)
