"""The file of a SQLite store: making it, knowing it again, and connecting to it.

Invariants:
- A file is made beside its place and put there complete, by a link that fails where there is one already. So a file that is
  empty or not a store is never taken for one that is being made.
- Nothing but SQLite opens a file that is in its place: closing any other descriptor of it would drop this process's locks.
- A connection is used, opened and closed under its place's lock. While it is open, SQLite removes none of its files, and no
  other file is given their inodes: so if others are at their paths, somebody has put them there.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

__all__ = ["FileId", "Files", "Ids", "Place", "Unfit", "accept", "connect", "create", "files_at", "reconcile"]

APPLICATION_ID: Final = 0x6A776764
SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
BEGIN;
CREATE TABLE documents (
    key BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL, version BLOB NOT NULL, expires_at INTEGER NOT NULL
);
CREATE INDEX documents_expiry ON documents (expires_at);
CREATE TABLE ends (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB, version BLOB NOT NULL);
INSERT INTO ends (version) VALUES (randomblob(8));
"""

FileId = tuple[int, int] | None
"""Device and inode; None where there is no file."""
Ids = tuple[FileId, FileId, FileId]
"""Of the files that a store is made of: the database, its log, and the log's index."""


class Unfit(Exception):
    """The file is not what it should be."""


class Files(NamedTuple):
    """The files of a store, and the sizes of the database and of its log."""

    ids: Ids
    size: int
    log_size: int


class Place:
    """One connection and what was at its path when it was opened; empty until it is first used."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.link: sqlite3.Connection | None = None
        self.cursor: sqlite3.Cursor | None = None
        self.real = Path()
        self.ids: Ids = (None, None, None)
        self.size: int | None = None
        """The database was never smaller than this while the connection was open: a smaller file was cut. None: the last
        check failed, so all is checked again."""
        self.due = 0.0
        """When to make sure again that the files are the same, on the monotonic clock."""

    def put(self, link: sqlite3.Connection, real: Path, files: Files) -> None:
        self.real, self.ids, self.size = real, files.ids, files.size
        self.link, self.cursor = link, link.cursor()

    def close(self) -> None:
        link, cursor, self.link, self.cursor = self.link, self.cursor, None, None
        with suppress(sqlite3.ProgrammingError):  # the link was closed before: the collector goes by no order
            if cursor is not None:
                cursor.close()  # a statement that is still held would keep the file open
            if link is not None:
                link.close()

    __del__ = close


def files_at(path: Path, real: Path) -> Files:
    """What is at `path` now, and beside `real`, where SQLite puts the log. Raises OSError where there is no database."""
    log, log_size = _find(f"{real}-wal")  # first: what leaves the log while this looks is then counted in the database
    index, _ = _find(f"{real}-shm")
    status = os.stat(path)  # noqa: PTH116
    if not status.st_size:
        raise Unfit("the file is empty, which a store never is")
    return Files(((status.st_dev, status.st_ino), log, index), status.st_size, log_size)


def reconcile(had: Ids, now: Ids) -> None:
    """Refuse to go on where a log isn't that of its database: what was answered would be lost, or another's be put in."""
    (database, *logs), (database_now, *logs_now) = had, now
    if database == database_now and logs != logs_now:
        raise Unfit("its -wal or -shm file was removed while it was in use. End all processes that use it, then start them")
    if database != database_now and any(
        log is not None and log == log_now for log, log_now in zip(logs, logs_now, strict=True)
    ):
        raise Unfit("the file was replaced, but the -wal and -shm files of the one before it are still there. Remove them")


def _find(path: str) -> tuple[FileId, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - on the way of each load, and a Path costs as much again
    except FileNotFoundError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_size


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection to a file that is there. Threads may share it, if not at the same time."""
    link = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw", timeout=timeout, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        # FULL: a power cut must not bring back a session whose end was answered. fullfsync: the same, on macOS.
        link.executescript("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA cell_size_check = ON;")
    except BaseException:
        link.close()
        raise
    return link


def accept(link: sqlite3.Connection) -> int:
    """Make sure that a file is a store that this version knows. Answers how many bytes it says that it has."""
    application, schema, pages, size, mode = (
        link.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "page_count", "page_size", "journal_mode")
    )
    if application != APPLICATION_ID:
        raise Unfit("this is another application's database, not a jwtguard store")
    if schema != SCHEMA_VERSION:
        raise Unfit(f"its schema is number {schema}, and this version of jwtguard knows number {SCHEMA_VERSION} only")
    if mode != "wal" and link.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise Unfit("SQLite can't keep a write-ahead log here")
    return int(pages * size)


def create(path: Path, timeout: float) -> None:
    """Make a store and put it at `path`, unless another process does so first."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileNotFoundError as error:
        raise Unfit("its folder doesn't exist") from error
    try:
        with closing(connect(draft, timeout)) as link:
            link.executescript(SCHEMA)
            link.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            link.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            link.execute("COMMIT")
            link.execute("PRAGMA journal_mode = WAL")  # last: what is written to a log is only moved when it closes
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
