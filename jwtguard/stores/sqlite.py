"""Documents in one SQLite file, shared by all threads and processes of one machine.

Invariants:
- An ending is a row of `ends`, written in the transaction of its save. A watcher's cursor is the last row such that it and
  all before it have been reported. It moves after the reports, so no thread relies on a report that is still to come.
- The cursor holds the row's random version. A history that was pruned, cut short or restored lacks that row; then anything
  may have ended.
- What is answered is of the files that are at the path now. One that is missing, empty or foreign is an error; a file is
  made only where this store has never seen one.
- No connection crosses a fork: SQLite's table of this process's locks would cross with it, and the child would rely on
  locks that nobody holds.
- Order of locks: that of forks, a store's mutex, a connection's own. Nobody waits for one while holding a later one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakSet, WeakValueDictionary

from ..clock import Clock, SystemClock
from ..errors import ConfigError, StoreError
from ._sqlite_file import FileId, Files, Place, Unfit, accept, connect, create, files_at, reconcile
from .base import Loaded

__all__ = ["SQLiteStore"]

LOAD: Final = "SELECT data, version FROM documents WHERE key = ? AND expires_at > ?"
SCAN: Final = "SELECT key, data FROM documents WHERE key > ? AND expires_at > ? ORDER BY key LIMIT ?"
AT_ONCE: Final = 256
"""Documents that are scanned in one transaction."""
SAVE: Final = """
INSERT INTO documents (key, data, version, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET data = excluded.data, version = excluded.version, expires_at = excluded.expires_at
"""
RECLAIM: Final = """
DELETE FROM documents WHERE rowid IN (SELECT rowid FROM documents WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
"""
END: Final = "INSERT INTO ends (key, version) VALUES (?, ?)"
PRUNE: Final = "DELETE FROM ends WHERE id IN (SELECT id FROM ends WHERE id <= ? ORDER BY id LIMIT ?)"
ENDED: Final = "SELECT id, version, key FROM ends WHERE id >= ? ORDER BY id"
LAST: Final = "SELECT id, version FROM ends ORDER BY id DESC LIMIT 1"
KEPT_ENDS: Final = 10_000
BATCH: Final = 20
PATIENCE: Final = 8
SHORTEST_PATIENCE: Final = 2.0
"""A save waits this many timeouts, and these seconds at least, for the others of its process: their queue is no failure."""
FORK_PATIENCE: Final = 5.0
"""Seconds that a fork waits for calls that are at the file."""

Ended = Callable[[bytes | None], None]


class SQLiteStore:
    """A store in a file on a local disk. Exact: an ending is seen by the next look of every thread of every process.

    A thread reads through a connection of its own, and all threads of a process save through one. Nothing is opened before
    the first call, which makes the file if there is none (its folder must exist).

    Arguments: `timeout`, seconds to wait for this process's other saves, and again for those of others; `recheck`, seconds
    after which a look makes sure that the file is still the one that it reads.
    """

    blocking = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 0.25,
        recheck: float = 5.0,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        self.path: Final = _absolute(os.fspath(path))
        self._timeout = timeout
        self._patience = max(SHORTEST_PATIENCE, PATIENCE * timeout)
        self._recheck = recheck
        self._clock = clock
        self._seen = False
        self._mine = threading.local()
        self._places: WeakValueDictionary[int, Place] = WeakValueDictionary()
        self._renew()
        self._writer = self._new_place()
        with _forking:
            _stores.add(self)

    def __str__(self) -> str:
        return f"SQLite store {str(self.path)!a}"

    def load(self, key: bytes) -> Loaded:
        with self._use(self._reader()) as link:
            now = self._now()
            row = link.execute(LOAD, (key, now)).fetchone()
        return Loaded(None, None, now) if row is None else Loaded(row[0], row[1], now)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        after = b""
        while True:
            with self._use(self._reader()) as link:
                rows = link.execute(SCAN, (after, self._now(), AT_ONCE)).fetchall()
            yield from rows
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0]

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        with self._use(self._writer) as link:
            link.execute("BEGIN IMMEDIATE")
            now = self._now()
            row = link.execute(LOAD, (key, now)).fetchone()
            if (None if row is None else row[1]) != expected:
                link.execute("ROLLBACK")
                return False
            link.execute(SAVE, (key, data, version, expires_at))
            if ends:
                last = link.execute(END, (key, version)).lastrowid or 0
                link.execute(PRUNE, (last - KEPT_ENDS, BATCH))
            link.execute(RECLAIM, (now, BATCH))
            link.execute("COMMIT")
            if not self._is_current(self._writer):
                raise Unfit("the file was replaced while it was written to")
            return True

    def close(self) -> None:
        for place in self._all_places():
            with place.lock:
                place.close()

    def watch(self, ended: Ended) -> Callable[[], None]:
        return _Watcher(self, ended, self._clock.monotonic).look

    # -- connections -------------------------------------------------------------------------------------------------------

    def _reader(self) -> Place:
        """This thread's own; it goes when the thread does."""
        try:
            place: Place = self._mine.reader
        except AttributeError:
            place = self._mine.reader = self._new_place()
        return place

    @contextmanager
    def _use(self, place: Place) -> Iterator[sqlite3.Connection]:
        """A link to the file that is at the path now. If its use fails it is closed, and what it left undone is undone.

        It stays open if it is the files that are wrong, so that they are known as long as they are: see `reconcile`.
        """
        if not place.lock.acquire(timeout=self._patience):
            raise StoreError(f"{self}: other threads kept it busy for {self._patience:g} s")
        try:
            yield self._link(place)
        except BaseException as error:
            if not isinstance(error, (OSError, Unfit)) or (place.link is not None and place.link.in_transaction):
                place.close()
            self._distrust()
            if isinstance(error, (sqlite3.Error, OSError, Unfit)):
                raise StoreError(f"{self}: {error}") from error
            raise
        finally:
            place.lock.release()

    def _link(self, place: Place) -> sqlite3.Connection:
        if _torn:
            raise Unfit("this process was forked in the middle of a call to it")
        place.due = self._clock.monotonic() + self._recheck  # first, so that distrust that comes meanwhile prevails
        if place.link is not None and not self._is_current(place):
            place.close()
            self._distrust()
        return place.link or self._open(place)

    def _is_current(self, place: Place) -> bool:
        """Whether it has open what is at the path, and that hasn't been cut. Raises where there is no store."""
        least, place.size = place.size, None
        now = files_at(self.path, place.real)
        reconcile(place.ids, now.ids)
        place.size = now.size
        return place.ids == now.ids and least is not None and least <= now.size

    def _open(self, place: Place) -> sqlite3.Connection:
        real = Path(os.path.realpath(self.path))
        if not self._seen and not real.exists():
            create(real, self._timeout)
        found = self._files(real)
        link = connect(real, self._timeout)
        try:
            pages = accept(link)
            files = self._files(real)
            if files.ids[0] != found.ids[0]:
                raise Unfit("the file was replaced while it was opened")
            if pages > files.size + files.log_size:
                raise Unfit("the file is shorter than it says")
            if place is not self._writer:
                link.execute("PRAGMA query_only = ON")
        except BaseException:
            link.close()
            raise
        place.put(link, real, files)
        self._seen = True
        return link

    def _files(self, real: Path) -> Files:
        """What is at the path, if it goes with what this process has open."""
        opened = [(place, place.link) for place in self._all_places()]
        now = files_at(self.path, real)
        for place, link in opened:
            if link is not None and place.link is link:  # it has been open all the while
                reconcile(place.ids, now.ids)
        return now

    def _distrust(self) -> None:
        """Have every thread's next look make sure that its file is still there."""
        for place in self._all_places():
            place.due = 0.0

    def _new_place(self) -> Place:
        place = Place()
        with self._mutex:
            self._places[id(place)] = place
        return place

    def _all_places(self) -> list[Place]:
        return [place for reference in self._places.valuerefs() if (place := reference()) is not None]

    def _now(self) -> int:
        return int(self._clock.time() * 1000)

    # -- forks -------------------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        self._mutex = threading.RLock()
        self._paused: list[threading.Lock] = []
        self._stuck: list[Place] = []

    def _pause(self) -> None:
        """Before a fork: close every connection, and let none be opened until `_resume`."""
        self._mutex.acquire()
        deadline = time.monotonic() + FORK_PATIENCE
        for place in self._all_places():
            if place.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self._paused.append(place.lock)
                place.close()
            else:
                self._stuck.append(place)

    def _resume(self) -> None:
        """After it, in the parent."""
        paused, self._paused, self._stuck = self._paused, [], []
        for lock in paused:
            lock.release()
        self._mutex.release()

    def _begin_anew(self) -> bool:
        """After it, in the child: answers False if a connection came along. Such a one is kept, and never touched again."""
        stuck = self._stuck
        self._renew()
        for place in self._all_places():
            place.lock = threading.Lock()
        for place in stuck:
            _abandoned.append((place.link, place.cursor))
            place.link = place.cursor = None
        return not stuck


class _Cursor(NamedTuple):
    """An ending in the history of a file."""

    database: FileId
    number: int
    version: bytes


class _Sight:
    """What one thread has seen: over which connection, and up to which change by others."""

    def __init__(self, reader: Place) -> None:
        self.reader = reader
        self.link: sqlite3.Connection | None = None
        self.change: object = None


class _Watcher:
    """Reports endings to one subscriber, on behalf of each thread that looks. The first look reports that any may have."""

    def __init__(self, store: SQLiteStore, ended: Ended, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._ended = ended
        self._monotonic = monotonic
        self._cursor: _Cursor | None = None
        self._mine = threading.local()

    def look(self) -> None:
        try:
            sight: _Sight = self._mine.sight
        except AttributeError:
            sight = self._mine.sight = _Sight(self._store._reader())
        if self._monotonic() < sight.reader.due and self._is_unchanged(sight):
            return
        self._catch_up(sight)

    def _is_unchanged(self, sight: _Sight) -> bool:
        reader = sight.reader
        with reader.lock:
            cursor = reader.cursor
            if cursor is None or reader.link is not sight.link:
                return False
            try:
                return _change(cursor) == sight.change
            except sqlite3.Error:  # what is wrong, the slow way finds out and says
                return False

    def _catch_up(self, sight: _Sight) -> None:
        begun = self._cursor
        with self._store._use(sight.reader) as link:
            change = _change(link.cursor())
            keys, last = _endings(link, begun, sight.reader.ids[0])
        for key in keys:
            self._ended(key)
        with self._store._mutex:
            if self._cursor is begun:
                self._cursor = last
        sight.link, sight.change = link, change


def _change(cursor: sqlite3.Cursor) -> object:
    """Moves when another connection, of whatever thread or process, has changed the file."""
    change: object = cursor.execute("PRAGMA data_version").fetchone()
    return change


def _endings(link: sqlite3.Connection, begun: _Cursor | None, database: FileId) -> tuple[list[bytes | None], _Cursor]:
    """The keys of what has ended after `begun`, and the last ending of all. The key None: anything may have."""
    if begun is not None and begun.database == database:
        rows = link.execute(ENDED, (begun.number,)).fetchall()
        if rows and rows[0][:2] == begun[1:]:
            return [key for _, _, key in rows[1:]], _Cursor(database, *rows[-1][:2])
    return [None], _Cursor(database, *(link.execute(LAST).fetchone() or (0, b"")))


def _absolute(path: str) -> Path:
    if path in ("", ":memory:") or path.startswith("file:"):
        raise ConfigError(f"{path!a} is not a file that processes could share. For this process only, use memory://")
    if "\0" in path:
        raise ConfigError(f"{path!a} is not a path")
    return Path(path).absolute()


_stores: Final[WeakSet[SQLiteStore]] = WeakSet()
_forking = threading.RLock()
_torn = False
_abandoned: Final[list[object]] = []


def _before_fork() -> None:
    _forking.acquire()
    for store in list(_stores):
        store._pause()


def _after_fork_in_parent() -> None:
    for store in list(_stores):
        store._resume()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking, _torn
    _forking = threading.RLock()
    whole = [store._begin_anew() for store in list(_stores)]
    _torn = _torn or not all(whole)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
