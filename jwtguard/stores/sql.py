"""Documents in one table of a PostgreSQL, MySQL or MariaDB database, by SQLAlchemy Core. In both colours with psycopg 3.

Invariants (those of the statements are in `_sql_table`, those of the connections in `_sql_engine`):
- A load is one statement, and so is a save, except that on MySQL the revival of an expired document takes two.
- A load that fails for a passing reason (its connection turns out to be broken) is done once more, in the same time. A
  save isn't: it may have been carried out, and only the caller knows how to repeat it.
- What the database refuses because of another writer (an existing key, a serialization failure, a deadlock) has changed
  nothing: it is a conflict.
- Nothing crosses a fork, and each event loop has connections of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import Executable
from sqlalchemy.util import greenlet_spawn

from ..errors import ConfigError, StoreError
from ..forks import renew_after_fork
from ._sql_engine import UNTIL, Links, deadline, is_psycopg, own_engine
from ._sql_table import NOW, Statements, make_metadata, metadata
from .base import AsyncStore, Heard, Loaded

__all__ = ["AsyncSQLStore", "SQLStore", "make_metadata", "metadata"]

T = TypeVar("T")

CONFLICTS: Final = frozenset({"23505", "40001", "40P01", 1020, 1062, 1205, 1213})
"""What PostgreSQL (by SQLSTATE), MySQL and MariaDB (by number) say when another writer was first."""
TABLE_MISSING: Final = frozenset({"42P01", 1146})
LONGEST_WORD: Final = 1.0
"""Seconds that the server is given for a word while a thread listens, so that it can be stopped at any time."""
PATIENCE: Final = 30.0
"""Seconds for each step of what concerns the whole table."""
BATCH: Final = 500

Changes = Generator[bytes | Heard]
Perform = Callable[[Callable[[], Any]], Any]

_abandoned: Final[list[object]] = []
"""Engines of a parent process: closing their connections here would close them there."""


class _Conflict(StoreError):
    """Another writer was first."""


class _SQL(ABC):
    """What both colours share. It blocks; the async one runs it in a greenlet, where SQLAlchemy awaits what blocks."""

    changes: Callable[[], Changes]
    """Only there where the database can announce, and the driver can listen."""

    def __init__(self, source: Engine, timeout: float, schema: str | None) -> None:
        if source.dialect.name not in NOW:
            raise ConfigError(f"a SQL store is kept in PostgreSQL, MySQL or MariaDB, not in {source.dialect.name!a}")
        self._source = source
        self._timeout = timeout
        self._statements = Statements(source.dialect.name, schema)
        if is_psycopg(source):
            self.changes = self._changes

    def __str__(self) -> str:
        return f"SQL store {self._source.url.set(query={}).render_as_string()!a}"

    def _load(self, key: bytes) -> Loaded:
        with self._translated():
            try:
                return self._load_once(key)
            except DBAPIError as error:
                is_passing = error.connection_invalidated or _codes(error.orig) & CONFLICTS
                if not is_passing or time.monotonic() >= UNTIL.get():
                    raise
            return self._load_once(key)

    def _load_once(self, key: bytes) -> Loaded:
        with self._connected(self._engine_here()) as connection:
            now, data, version = connection.execute(self._statements.load, {"its_key": key}).one()
        return Loaded(data, version, now)

    def _save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        statement = self._statements.save(created=expected is None, ends=ends)
        values: dict[str, object] = {"its_key": key, "data": data, "version": version, "expires_at": expires_at}
        if expected is not None:
            values["expected"] = expected
        if ends and self._statements.announces:
            values["announced"] = key.hex()
        saved = self._swap(statement, values)
        if saved or expected is not None or self._statements.announces:
            return saved
        return self._swap(self._statements.revive, values)

    def _swap(self, statement: Executable, values: dict[str, object]) -> bool:
        try:
            with self._translated(), self._connected(self._engine_here()) as connection:
                result = connection.execute(statement, values)
                return result.first() is not None if result.returns_rows else result.rowcount > 0
        except _Conflict:
            return False

    def _create_tables(self) -> None:
        with self._translated():
            try:
                self._create_missing()
            except DBAPIError:  # another process made it between the look and the making
                self._create_missing()

    def _create_missing(self) -> None:
        with self._at_leisure() as connection:
            # What the dialect knows of the server, the first connection asks; it needn't be through with that.
            connection.dialect.initialize(connection)
            self._statements.metadata.create_all(connection)

    def _purge(self, batch: int) -> int:
        with self._translated(), self._at_leisure() as connection:
            return connection.execute(self._statements.purge(batch)).rowcount

    def _changes(self) -> Changes:
        from ._sql_psycopg import hear

        with self._performing(min(self._timeout, LONGEST_WORD)) as perform:
            connection: Connection = perform(own_engine(self._source, self._timeout, pooled=False).connect)
            try:
                link = connection.connection.driver_connection
                yield from hear(link, lambda statement: perform(partial(_ask, connection, statement)))
            finally:
                perform(connection.close)

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        pool = engine.pool
        with engine.connect() as connection:
            yield connection
            if engine.pool is not pool:  # the store was closed meanwhile, and nobody would close this one
                connection.detach()

    @contextmanager
    def _at_leisure(self) -> Iterator[Connection]:
        """A connection for what takes longer than an operation."""
        with self._connected(own_engine(self._source, self._timeout, pooled=False)) as connection:
            if self._statements.announces:
                connection.exec_driver_sql(f"SET statement_timeout = {int(PATIENCE * 1000)}")
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what the driver raises as StoreError."""
        try:
            yield
        except DBAPIError as error:
            codes = _codes(error.orig)
            if codes & CONFLICTS:
                raise _Conflict(f"{self}: another writer was first") from error.orig
            if codes & TABLE_MISSING:
                advice = "create_tables() of the store makes it, or a migration with jwtguard.stores.sql.metadata"
                raise StoreError(f"{self}: the table {self._statements.table} is not there; {advice}") from error.orig
            raise StoreError(f"{self} failed") from error.orig
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"{self} failed") from error

    @abstractmethod
    def _engine_here(self) -> Engine: ...

    @abstractmethod
    def _performing(self, seconds: float) -> AbstractContextManager[Perform]:
        """Gives what has calls performed, each within so much time, from a thread without an event loop."""


class SQLStore(_SQL):
    """A store in a table, for code that blocks. `Pushed` with psycopg; `Paired` if `open_store` made it with psycopg.

    Arguments: `engine`, of which only the way to connect is used: the store has a pool of its own (15 connections at most);
    `timeout`, seconds for one operation (with another driver than psycopg, for a free connection: give the engine timeouts
    of its own); `schema`, the database schema of the table; `awaited`, makes the async counterpart.

    Raises ConfigError for other databases.
    """

    blocking = True
    awaited: Callable[[], AsyncStore]

    def __init__(
        self,
        engine: Engine,
        *,
        timeout: float = 0.25,
        schema: str | None = None,
        awaited: Callable[[], AsyncStore] | None = None,
    ) -> None:
        super().__init__(engine, timeout, schema)
        if awaited is not None:
            self.awaited = awaited
        self._engine: Engine | None = None
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        _abandoned.append(self._engine)
        self._engine = None

    def load(self, key: bytes) -> Loaded:
        with deadline(self._timeout):
            return self._load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        with deadline(self._timeout):
            return self._save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    def create_tables(self) -> None:
        """Make the table, unless it is there. Raises StoreError."""
        with deadline(PATIENCE):
            self._create_tables()

    def purge(self, batch: int = BATCH) -> int:
        """Delete what has expired, `batch` documents at a time. Answers how many. Raises StoreError."""
        count = found = batch
        while found == batch:
            with deadline(PATIENCE):
                found = self._purge(batch)
            count += found
        return count - batch

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _engine_here(self) -> Engine:
        if self._engine is None:
            with self._mutex:
                self._engine = self._engine or own_engine(self._source, self._timeout)
        return self._engine

    @contextmanager
    def _performing(self, seconds: float) -> Iterator[Perform]:
        def perform(call: Callable[[], T]) -> T:
            with deadline(seconds), self._translated():
                return call()

        yield perform


class AsyncSQLStore(_SQL):
    """The same, awaited. `Pushed` with psycopg.

    Each event loop has connections of its own; those of a loop that is over are closed at the next call or close.

    Arguments: as of SQLStore, but `engine` is an AsyncEngine.
    """

    def __init__(self, engine: AsyncEngine, *, timeout: float = 0.25, schema: str | None = None) -> None:
        super().__init__(engine.sync_engine, timeout, schema)
        self._places: dict[asyncio.AbstractEventLoop, tuple[Engine, Links]] = {}
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        _abandoned.append(self._places)
        self._places = {}

    async def load(self, key: bytes) -> Loaded:
        return await self._perform(self._timeout, partial(self._load, key))

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        save = partial(self._save, key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
        return await self._perform(self._timeout, save)

    async def create_tables(self) -> None:
        """As `SQLStore.create_tables`."""
        await self._perform(PATIENCE, self._create_tables)

    async def purge(self, batch: int = BATCH) -> int:
        """As `SQLStore.purge`."""
        count = found = batch
        while found == batch:
            found = await self._perform(PATIENCE, partial(self._purge, batch))
            count += found
        return count - batch

    async def close(self) -> None:
        """Let go of the connections of this event loop, and of loops that are over."""
        with self._mutex:
            self._leave_closed_loops()
            engine, _ = self._places.pop(asyncio.get_running_loop(), (None, None))
        if engine is not None:
            await greenlet_spawn(engine.dispose)

    async def _perform(self, seconds: float, call: Callable[[], T]) -> T:
        try:
            with deadline(seconds):
                async with asyncio.timeout(seconds):
                    return await greenlet_spawn(call)
        except TimeoutError as error:
            raise StoreError(f"{self} didn't answer within {seconds:g} s") from error

    def _engine_here(self) -> Engine:
        loop = asyncio.get_running_loop()
        place = self._places.get(loop)
        if place is None:
            with self._mutex:
                self._leave_closed_loops()
                links = Links()
                place = self._places[loop] = (own_engine(self._source, self._timeout, links), links)
        return place[0]

    def _leave_closed_loops(self) -> None:
        for loop, (_, links) in list(self._places.items()):
            if loop.is_closed():
                links.abandon()
                del self._places[loop]

    @contextmanager
    def _performing(self, seconds: float) -> Iterator[Perform]:
        with asyncio.Runner() as runner:

            def translated(call: Callable[[], T]) -> T:
                with self._translated():
                    return call()

            yield lambda call: runner.run(self._perform(seconds, partial(translated, call)))


def _ask(connection: Connection, statement: str) -> object:
    result = connection.exec_driver_sql(statement)
    return result.scalar_one() if result.returns_rows else None


def _codes(error: BaseException | None) -> set[object]:
    """What the database calls an error: its SQLSTATE with psycopg, a number with drivers of MySQL."""
    return {getattr(error, "sqlstate", None), *getattr(error, "args", ())[:1]}
