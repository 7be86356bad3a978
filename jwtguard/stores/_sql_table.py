"""The table of a SQL store, and the statements on it, by dialect.

Invariants:
- Each statement decides and acts at once, and is a transaction of its own (autocommit): no decision rests on what an
  earlier one has read.
- Times are the database server's, read by the very statement that needs them; keys and versions compare as bytes.
- Who waits for a row that another writer holds decides by what that one has left there (PostgreSQL's READ COMMITTED, the
  current reads of InnoDB), or fails with a serialization failure, which is a conflict.
- On PostgreSQL the announcement is part of the statement that saves, so either both happen or neither.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    MetaData,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.sql import Executable

__all__ = ["CHANNEL", "Statements", "make_metadata", "metadata"]

NAME: Final = "jwtguard_documents"
CHANNEL: Final = "jwtguard_ends"
"""Where PostgreSQL announces endings; the payload is the key in hexadecimal."""
LONGEST_KEY: Final = 1024
VERSION_BYTES: Final = 8

NOW: Final = {
    "postgresql": "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    # Of UTC: NOW() is local time, in which an hour of each autumn comes twice.
    "mysql": "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)",
}
NOW["mariadb"] = NOW["mysql"]


def make_metadata(schema: str | None = None) -> MetaData:
    """A MetaData with the table alone, in a database schema of one's own: for `SQLStore(..., schema=)` and migrations."""
    made = MetaData(schema=schema)
    # MySQL's BLOB is too short for a document, can't be a key, and its text would compare by a collation.
    table = Table(
        NAME,
        made,
        Column("key", _binary(mysql.VARBINARY(LONGEST_KEY)), primary_key=True),
        Column("data", _binary(mysql.MEDIUMBLOB()), nullable=False),
        Column("version", _binary(mysql.VARBINARY(VERSION_BYTES)), nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mariadb_row_format="DYNAMIC",
    )
    Index(f"{NAME}_expiry", table.c.expires_at)
    return made


def _binary(of_mysql: Any) -> LargeBinary:
    return LargeBinary().with_variant(of_mysql, "mysql", "mariadb")


metadata: Final = make_metadata()
"""The table, for Alembic: `target_metadata = [app.metadata, jwtguard.stores.sql.metadata]`."""


class Statements:
    """What a store says to a database of this dialect, one of `NOW`'s.

    What saves has a row in its result, or a row count, if it has saved. `announces`: whether endings are announced.
    """

    def __init__(self, dialect: str, schema: str | None) -> None:
        self.metadata = metadata if schema is None else make_metadata(schema)
        self.table = next(iter(self.metadata.tables.values()))
        self.announces = dialect == "postgresql"
        self._now: ColumnElement[int] = literal_column(NOW[dialect], BigInteger)
        self.load = self._load()
        self._saves = {(created, ends): self._save(created, ends) for created in (False, True) for ends in (False, True)}
        self.revive = self._swap(self.table.c.expires_at <= self._now)

    def save(self, *, created: bool, ends: bool) -> Executable:
        """A compare and swap. `created`: of what is absent or expired."""
        return self._saves[created, ends]

    def purge(self, limit: int) -> Executable:
        """Delete what has expired, so much at most."""
        table = self.table
        now = select(self._now).scalar_subquery()  # read once, so that the index serves
        some = select(table.c.key).where(table.c.expires_at <= now).order_by(table.c.expires_at).limit(limit).subquery()
        # Asked again of the row itself: it may have come to life meanwhile.
        return delete(table).where(table.c.key.in_(select(some.c.key)), table.c.expires_at <= self._now)

    def _load(self) -> Executable:
        """One row always, for the time: with nulls where there is no document."""
        table = self.table
        clock = select(self._now.label("now")).subquery("clock")
        alive = and_(table.c.key == bindparam("its_key"), table.c.expires_at > clock.c.now)
        return select(clock.c.now, table.c.data, table.c.version).select_from(clock.outerjoin(table, alive))

    def _swap(self, *terms: ColumnElement[bool]) -> Any:
        values: dict[str, Any] = {name: bindparam(name) for name in ("data", "version", "expires_at")}
        return update(self.table).where(self.table.c.key == bindparam("its_key"), *terms).values(values)

    def _save(self, created: bool, ends: bool) -> Executable:
        table = self.table
        if created:
            values: dict[str, Any] = {
                column.name: bindparam("its_key" if column.primary_key else column.name) for column in table.columns
            }
            statement: Any = (postgresql.insert if self.announces else insert)(table).values(values)
        else:
            statement = self._swap(table.c.version == bindparam("expected"), table.c.expires_at > self._now)
        if not self.announces:
            return statement  # type: ignore[no-any-return]
        if created:
            given = {name: statement.excluded[name] for name in ("data", "version", "expires_at")}
            expired = table.c.expires_at <= self._now
            statement = statement.on_conflict_do_update(index_elements=[table.c.key], set_=given, where=expired)
        saved = statement.returning(literal(1).label("saved")).cte("saved")
        told = func.pg_notify(CHANNEL, bindparam("announced")) if ends else saved.c.saved
        return select(told).select_from(saved)
