"""What becomes of the SQLite file under a running server: removed, damaged, replaced, locked, out of room.

In all of this nobody is let in whose session was ended, and nobody is sent away (401) whose session was not: what can't be
known is 503. The log tells the cause once. When the file is well again, so is the server, without a restart.
"""

from __future__ import annotations

import os
import random
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from servers.serving import Client, Server, Site, gunicorn, serving, until, uvicorn

pytestmark = pytest.mark.servers

SERVERS = {
    "gunicorn": gunicorn("servers.flask_worker:app", workers=1),
    "uvicorn": uvicorn("servers.fastapi_worker:app", workers=1),
}
CANT_READ, CANT_WRITE = "the store can't be read", "the store can't be written"
READS, WRITES = "the store can be read again", "the store can be written again"
FORGED = {"access_token": "e30.e30.e30", "refresh_token": "e30.e30.e30"}

THREADS = 8
"""As many threads, at most, use the file: those of gunicorn, or those that an AsyncGuard calls a blocking store in."""

Pair = dict[str, Any]


class Patient:
    """A server, its file, and what its users have: a session that is active, and one that was ended."""

    def __init__(self, site: Site, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
        self.path = site.database
        self.copy = site.folder / "copy.db"
        self.active = client.login()
        self.ended = client.login()
        for pair in (self.active, self.ended):
            assert client.me(pair).status_code == 200
        client.logout(self.ended)
        assert code_of(client.me(self.ended)) == "session_revoked"
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(self.copy)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = WAL")

    @property
    def files(self) -> list[Path]:
        """The database, its log, and the log's index."""
        return [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]

    def restore(self) -> None:
        """Put the copy into the place of whatever is there."""
        for path in self.files[1:]:
            path.unlink(missing_ok=True)
        fresh = self.copy.with_suffix(".restored")
        fresh.write_bytes(self.copy.read_bytes())
        fresh.replace(self.path)

    def empty_the_log(self) -> None:
        """Have SQLite move all that is in the log into the database: else what is done to that does no harm."""
        with closing(sqlite3.connect(self.path)) as link:
            assert link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0

    def log_of(self, *texts: str) -> list[int]:
        """How many lines of the server's log have each of the texts."""
        return [len(self.server.lines_with(text)) for text in texts]

    def ask_honestly(self) -> str:
        """The code for the user with the active session ("" if let in): never a refusal. The other one is never let in."""
        code = code_of(self.client.me(self.ended))
        assert code in ("session_revoked", "store_unavailable")
        code = code_of(self.client.me(self.active))
        assert code in ("", "store_unavailable")
        return code


def code_of(answer: httpx2.Response) -> str:
    """The problem's code, "" if there is none. That a 503 is as it should be is checked on the way."""
    if answer.is_success:
        return ""
    code = str(answer.json()["code"])
    unavailable = answer.status_code == 503
    assert (code == "store_unavailable") == unavailable == ("retry-after" in answer.headers), answer.text
    assert answer.status_code in (401, 503), answer.text
    assert unavailable != ("www-authenticate" in answer.headers)
    return code


@pytest.fixture(params=SERVERS)
def patient(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Patient]:
    # As long as a server that waits for a lock keeps a test waiting, more than ten times.
    site = Site(tmp_path, cache_ttl="100ms", store_timeout="500ms")
    with serving(site, *SERVERS[request.param]) as server, server.client() as client:
        yield Patient(site, server, client)


# -- the file can't be read ------------------------------------------------------------------------------------------------


@contextmanager
def moved(patient: Patient) -> Iterator[None]:
    aside = patient.path.parent / "aside"
    aside.mkdir()
    there = [path for path in patient.files if path.exists()]
    for path in there:
        path.rename(aside / path.name)
    yield
    for path in reversed(there):
        (aside / path.name).rename(path)


@contextmanager
def deleted(patient: Patient) -> Iterator[None]:
    for path in patient.files:
        path.unlink(missing_ok=True)
    yield
    assert not patient.path.exists()  # it was not made anew, without anyone's sessions
    patient.restore()


@contextmanager
def emptied(patient: Patient) -> Iterator[None]:
    os.truncate(patient.path, 0)
    yield
    patient.restore()


@contextmanager
def cut(patient: Patient) -> Iterator[None]:
    patient.empty_the_log()
    os.truncate(patient.path, patient.path.stat().st_size // 2)
    yield
    patient.restore()


@contextmanager
def of_another_application(patient: Patient) -> Iterator[None]:
    with closing(sqlite3.connect(patient.path.with_suffix(".other"))) as other:
        other.execute("CREATE TABLE documents (key, data, version, expires_at)")
        other.commit()
    patient.path.with_suffix(".other").replace(patient.path)
    yield
    patient.restore()


@contextmanager
def garbage(patient: Patient) -> Iterator[None]:
    other = patient.path.with_suffix(".garbage")
    other.write_bytes(random.randbytes(patient.path.stat().st_size))
    other.replace(patient.path)
    yield
    patient.restore()


@pytest.mark.parametrize("fault", [moved, deleted, emptied, cut, of_another_application, garbage])
def test_a_file_that_is_not_there_or_not_a_store(fault: Callable[[Patient], Any], patient: Patient) -> None:
    client = patient.client
    with fault(patient):
        until("it is noticed", patient.ask_honestly)
        for _ in range(5):
            assert code_of(client.me(patient.active)) == "store_unavailable"
            assert code_of(client.me(patient.ended)) == "store_unavailable"
            assert code_of(client.refresh(patient.active)) == "store_unavailable"
            assert code_of(client.try_to_log_in()) == "store_unavailable"
        # What needs no store is answered as ever.
        assert code_of(client.me(FORGED)) == "token_invalid"
        assert code_of(client.refresh(FORGED)) == "refresh_invalid"
        assert code_of(client.http.get("/me")) == "token_missing"
        assert code_of(client.home()) == ""
        assert patient.log_of(CANT_READ, CANT_WRITE, "Traceback") == [1, 0, 0]
        assert len(patient.server.lines_with("the store can't")) <= 2  # the other: that it can't tell what has ended

    until("it is well again", lambda: patient.ask_honestly() == "")
    assert code_of(client.me(patient.ended)) == "session_revoked"
    newer = client.login()
    assert code_of(client.me(newer)) == ""
    client.logout(newer)
    assert code_of(client.me(newer)) == "session_revoked"
    # It is said half a second after the last failure, by the next answer, and the line takes a moment to get here.
    until("it is said", lambda: patient.ask_honestly() == "" and patient.log_of(READS) != [0])
    assert patient.log_of(CANT_READ, READS, CANT_WRITE) == [1, 1, 0]


def test_a_file_that_is_overwritten_in_place(patient: Patient) -> None:
    """SQLite goes on with the pages that it has in memory, and they are true. What it must read again is found damaged."""
    client = patient.client
    patient.empty_the_log()
    with patient.path.open("r+b") as file:
        file.write(random.randbytes(patient.path.stat().st_size))

    def is_noticed() -> str:
        assert code_of(client.try_to_log_in()) in ("", "store_unavailable")
        return patient.ask_honestly()

    until("it is noticed", is_noticed)
    for _ in range(20):
        patient.ask_honestly()
    # Each thread has a connection with a memory of its own, and one that still can may follow one that can't.
    assert 1 <= patient.log_of(CANT_READ)[0] <= THREADS
    assert patient.log_of("Traceback") == [0]

    patient.restore()
    until("it is well again", lambda: patient.ask_honestly() == "")
    assert code_of(client.me(patient.ended)) == "session_revoked"
    assert code_of(client.me(client.login())) == ""


def test_a_file_that_is_replaced_by_an_older_copy(patient: Patient) -> None:
    client = patient.client
    newer = client.login()
    refreshed: Pair = client.refresh(patient.active).json()
    for pair in (newer, refreshed):
        assert code_of(client.me(pair)) == ""
    patient.restore()

    def is_noticed() -> bool:
        patient.ask_honestly()
        code = code_of(client.me(newer))
        assert code in ("", "store_unavailable", "session_unknown")
        return code == "session_unknown"

    until("the copy is read", is_noticed)
    assert code_of(client.me(patient.ended)) == "session_revoked"
    # The copy is from before the refresh, and the token proves it.
    assert code_of(client.me(refreshed)) == ""
    latest: Pair = client.refresh(refreshed).json()
    assert code_of(client.me(latest)) == ""


# -- the file can't be written ---------------------------------------------------------------------------------------------


@contextmanager
def locked(patient: Patient) -> Iterator[None]:
    with closing(sqlite3.connect(patient.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(patient: Patient) -> Iterator[None]:
    """A disk without room, as far as the server's process can see: no file may grow."""
    worker = int(patient.client.home().headers["x-worker"])
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, before[1]))
    yield
    resource.prlimit(worker, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fault", [locked, full])
def test_a_file_that_can_be_read_but_not_written(fault: Callable[[Patient], Any], patient: Patient) -> None:
    client = patient.client
    fresh = client.login()
    with fault(patient):
        for _ in range(3):
            assert code_of(client.me(patient.active)) == ""
            assert code_of(client.me(patient.ended)) == "session_revoked"
            assert code_of(client.me(fresh)) == ""  # its first use can't be written down, which is no reason to refuse it
            assert code_of(client.try_to_log_in()) == "store_unavailable"
            assert code_of(client.refresh(patient.active)) == "store_unavailable"
        assert patient.log_of(CANT_READ, CANT_WRITE, "Traceback") == [0, 1, 0]

    until("it is found to be well, by one request in half a second", lambda: client.try_to_log_in().is_success)
    newer = client.login()
    assert code_of(client.me(newer)) == ""
    refreshed: Pair = client.refresh(patient.active).json()
    assert code_of(client.me(refreshed)) == ""
    until("it is said", lambda: patient.log_of(WRITES) != [0])
    assert patient.log_of(CANT_READ, CANT_WRITE, WRITES) == [0, 1, 1]
