"""Real servers for the tests: started on free ports, waited for by asking them, stopped by their own process group."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PATIENCE = 60.0
"""Seconds that a test waits for anything before it gives up. Nothing is expected to take that long."""


def until(what: str, happened: Callable[[], Any]) -> Any:
    """What `happened` answers, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if found := happened():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.02)


class Site:
    """What the processes of one test share: a folder, a secret, a SQLite file.

    STORE_TIMEOUT is 2 s where a test doesn't say otherwise. On a busy machine a disk may take longer than the default's
    250 ms to sync a write, and then 503 is right; but these tests are about what is answered, not when.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.database = folder / "sessions.db"
        self.settings = {"secret": secrets.token_urlsafe(48), "store": f"sqlite:///{self.database}"}
        self.settings |= {"store_timeout": "2s", **settings}

    def environ(self) -> dict[str, str]:
        """The environment of a process of this site."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("JWTGUARD_")}
        ours = {f"JWTGUARD_{name.upper()}": value for name, value in self.settings.items()}
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        return {**inherited, **ours, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Client:
    """What a user's program does. It keeps one connection, so it stays with one worker as long as that keeps it too."""

    def __init__(self, url: str) -> None:
        limits = httpx2.Limits(max_connections=1, keepalive_expiry=None)
        hooks = {"response": [_acknowledge]}
        self.http = httpx2.Client(
            base_url=url, timeout=PATIENCE, limits=limits, trust_env=False, verify=False, event_hooks=hooks
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def home(self) -> httpx2.Response:
        return self.http.get("/")

    def try_to_log_in(self, username: str = "alice", password: str = "wonderland") -> httpx2.Response:
        return self.http.post("/login", json={"username": username, "password": password})

    def login(self) -> dict[str, Any]:
        """A new session's token pair."""
        answer = self.try_to_log_in()
        assert answer.status_code == 200, answer.text
        pair: dict[str, Any] = answer.json()
        return pair

    def me(self, pair: Mapping[str, Any]) -> httpx2.Response:
        return self.http.get("/me", headers=bearer(pair))

    def try_to_log_out(self, pair: Mapping[str, Any]) -> httpx2.Response:
        return self.http.post("/auth/logout", headers=bearer(pair))

    def logout(self, pair: Mapping[str, Any]) -> None:
        answer = self.try_to_log_out(pair)
        assert answer.status_code == 204, answer.text

    def refresh(self, pair: Mapping[str, Any]) -> httpx2.Response:
        return self.http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})


def _acknowledge(answer: httpx2.Response) -> None:
    """Acknowledge the head of an answer. uvicorn's workers send the body only then, and the kernel would take its 40 ms."""
    connection = answer.extensions["network_stream"].get_extra_info("socket")
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def bearer(pair: Mapping[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


class Server:
    """A server that runs. `lines` is what it has written so far."""

    def __init__(self, command: list[str], environ: Mapping[str, str], port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def lines_with(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]

    def is_ready(self) -> bool:
        """Whether it answers; False once it has given up."""

        def answers() -> str:
            if self.process.poll() is not None:
                return "gave up"
            try:
                with Client(self.url) as client:
                    client.home()
            except httpx2.TransportError:
                return ""
            return "answers"

        return bool(until("the server answers", answers) == "answers")

    def stop(self) -> None:
        """End it, with all its workers."""
        for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, PATIENCE)):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def client(self) -> Client:
        return Client(self.url)


def serving(site: Site, *command: str) -> AbstractContextManager[Server]:
    """A running server. `{port}` in its command becomes a free port."""
    return serving_by(site, lambda port: [part.format(port=port) for part in command])


@contextmanager
def serving_by(site: Site, command: Callable[[int], Sequence[str]]) -> Iterator[Server]:
    """A running server, by its command on a free port."""
    for _ in range(5):
        port = free_port()
        program, *arguments = command(port)
        server = Server([str(BIN / program), *arguments], site.environ(), port)
        try:
            if server.is_ready():
                yield server
                return
        finally:
            server.stop()
            print(server.output)  # shown if the test fails
        if "in use" not in server.output:
            raise AssertionError(f"it didn't start:\n{server.output}")
    raise AssertionError("no port stayed free for long enough")


def gunicorn(app: str, *, workers: int = 2, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    threads = ("-w", str(workers), "--threads", "4", "--keep-alive", "600", "--no-control-socket")
    return ("gunicorn", *threads, "-b", "127.0.0.1:{port}", *more, app)


def uvicorn(app: str, *, workers: int = 2) -> tuple[str, ...]:
    return ("uvicorn", "--workers", str(workers), "--port", "{port}", "--timeout-keep-alive", "600", "--no-access-log", app)


def hypercorn(app: str) -> tuple[str, ...]:
    return ("hypercorn", "--bind", "127.0.0.1:{port}", app)


def granian(app: str) -> tuple[str, ...]:
    return ("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", app)


def nginx_of(folder: Path, site: str) -> tuple[str, ...]:
    """nginx in the foreground, with what stands inside of its `http { }`; skips where there is none."""
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = (
        f"pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {paths} include {folder}/site.conf; }}"
    )
    (folder / "nginx.conf").write_text(f"daemon off; master_process off; {whole}")
    (folder / "site.conf").write_text(site)
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no nginx here: apt-get install nginx")
    return (program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"))


class Worker:
    """One worker process of a server, by a connection that only it serves."""

    def __init__(self, client: Client, pid: str) -> None:
        self.client = client
        self.pid = pid

    def me(self, pair: Mapping[str, Any]) -> httpx2.Response:
        return self.own(self.client.me(pair))

    def own(self, answer: httpx2.Response) -> httpx2.Response:
        """An answer, which must be this worker's."""
        assert answer.headers["x-worker"] == self.pid
        return answer


@contextmanager
def workers_of(server: Server, count: int = 2) -> Iterator[list[Worker]]:
    """A connection to each worker of a server whose answers tell the worker's process id."""
    with ExitStack() as stack:
        found: dict[str, Worker] = {}

        def all_found() -> bool:
            client = stack.enter_context(server.client())
            pid = client.home().headers["x-worker"]
            found.setdefault(pid, Worker(client, pid))
            return len(found) == count

        until(f"each of {count} workers takes a connection", all_found)
        yield list(found.values())
