"""The engines of a SQL store: connections of its own, each operation within its time.

Invariants:
- A store never uses a connection, a transaction or a pool of the app's. It makes connections as the app's engine does, and
  keeps them in a pool of its own. So an app's rollback can't undo what was answered, and an app whose requests each hold a
  connection while they ask the store can't wait for itself.
- Connections are in autocommit, whatever the engine's own isolation level.
- A connection whose answer was not waited for is closed: the answer can't be taken for another's.
- A database that is slow for one operation costs that connection; one that has broken a connection costs all of the pool.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import AsyncAdaptedQueuePool, Engine, NullPool, QueuePool, event
from sqlalchemy.engine import ExceptionContext

__all__ = ["UNTIL", "Links", "deadline", "is_psycopg", "own_engine"]

UNTIL: Final[ContextVar[float]] = ContextVar("jwtguard_until", default=float("inf"))
"""When the operation under way in this thread or task is out of time, by the monotonic clock."""

POOL_SIZE: Final = 5
MAX_OVERFLOW: Final = 10


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give what runs inside so much time."""
    token = UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        UNTIL.reset(token)


def is_psycopg(engine: Engine) -> bool:
    """Whether an engine uses psycopg 3."""
    return engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg"


class Links:
    """The open connections of one engine, as the driver has them."""

    def __init__(self) -> None:
        self._links: dict[int, Any] = {}

    def add(self, link: Any) -> None:
        self._links = {key: other for key, other in self._links.items() if not other.closed} | {id(link): link}

    def abandon(self) -> None:
        """Close them without the event loop that they belong to, which is over."""
        for link in self._links.values():
            link.pgconn.finish()


def own_engine(source: Engine, timeout: float, links: Links | None = None, *, pooled: bool = True) -> Engine:
    """An engine that connects as `source` does. Connects to nothing by itself.

    Arguments: `timeout`, seconds to wait for a free connection; `links`, where psycopg's connections are kept an eye on.
    """
    dialect = source.dialect

    def connect() -> Any:
        loan = source.pool.recreate().connect()
        try:
            link: Any = loan.dbapi_connection
            dialect.set_isolation_level(link, "AUTOCOMMIT")
            if is_psycopg(source):
                from ._sql_psycopg import bound

                driver = dialect.get_driver_connection(link)
                bound(driver)
                if links is not None:
                    links.add(driver)
            loan.detach()
        except BaseException:  # a task that is cancelled here, too, must leave nothing open
            loan.invalidate()
            raise
        return link

    if pooled:
        kind = AsyncAdaptedQueuePool if dialect.is_async else QueuePool
        pool: Any = kind(connect, POOL_SIZE, MAX_OVERFLOW, timeout, use_lifo=True, reset_on_return=None, dialect=dialect)
    else:
        pool = NullPool(connect, reset_on_return=None, dialect=dialect)
    engine = Engine(pool, dialect, source.url, hide_parameters=True)
    event.listen(engine, "handle_error", _spare_the_others)
    return engine


def _spare_the_others(context: ExceptionContext) -> None:
    """Of a connection that was closed because it was slow: the others needn't be."""
    if time.monotonic() >= UNTIL.get():
        context.invalidate_pool_on_disconnect = False
