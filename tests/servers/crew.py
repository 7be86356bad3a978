"""Processes with a guard each, all of which do what they are told at the same moment."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from jwtguard import Guard, LimitReached, Settings
from jwtguard.document import decode, document_key
from jwtguard.errors import JWTGuardError
from jwtguard.model import Identity
from jwtguard.stores import open_store
from servers.serving import PATIENCE, Site

SPAWN = multiprocessing.get_context("spawn")


class Outcome(NamedTuple):
    """What a call answered, or the code of the error that it raised ("" if none)."""

    error: str
    value: Any = None
    ticket: str | None = None


class Seen(NamedTuple):
    """What was seen of a user's document: the most sessions in it, and how many states of it."""

    most: int
    states: int


class Crew:
    """Guards in processes of their own, on one store."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections

    def at_once(self, threads: int, method: str, *arguments: tuple[Any, ...]) -> list[Outcome]:
        """Call a method of the guards in so many threads of each process, all behind one barrier.

        With several tuples of arguments, each process takes another.
        """
        for place, connection in enumerate(self._connections):
            connection.send((threads, method, arguments[place % len(arguments)]))
        return [outcome for connection in self._connections for outcome in _received(connection)]

    def each(self, method: str, *arguments: Any) -> list[Outcome]:
        """Call a method once in each process."""
        return self.at_once(1, method, arguments)

    def one(self, place: int, method: str, *arguments: Any) -> Outcome:
        """Call a method in one of the processes."""
        connection = self._connections[place]
        connection.send((0, method, arguments))
        outcome: Outcome = _received(connection)[0]
        return outcome


@contextmanager
def crew(site: Site, count: int = 4) -> Iterator[Crew]:
    barrier = SPAWN.Barrier(count)
    with _running([(act, (barrier, site.settings))] * count) as connections:
        yield Crew(connections)


@contextmanager
def watching(site: Site, subject: str) -> Iterator[Callable[[], Seen]]:
    """A process that looks at a user's document as often as it can. The function ends it, and answers what it saw."""
    with _running([(watch, (site.settings, subject))]) as (connection,):
        assert _received(connection) == "ready"

        def stop() -> Seen:
            connection.send("stop")
            seen: Seen = _received(connection)
            return seen

        yield stop


@contextmanager
def _running(jobs: Sequence[tuple[Callable[..., None], tuple[Any, ...]]]) -> Iterator[list[Connection]]:
    """A process for each job, with a connection to it. All are gone afterwards."""
    connections: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for target, arguments in jobs:
            ours, theirs = SPAWN.Pipe()
            connections.append(ours)
            process = SPAWN.Process(target=target, args=(theirs, *arguments), daemon=True)
            process.start()
            processes.append(process)
            theirs.close()
        yield connections
    finally:
        for connection in connections:
            connection.close()  # which ends the process
        for process in processes:
            process.join(10)
            process.kill()
            process.join()
            process.close()


def _received(connection: Connection) -> Any:
    assert connection.poll(PATIENCE), "a process gives no answer"
    return connection.recv()


# -- in the processes ------------------------------------------------------------------------------------------------------


def act(connection: Connection, barrier: Barrier, settings: dict[str, str]) -> None:
    guard = Guard(Settings(**settings))
    try:
        while True:
            threads, method, arguments = connection.recv()
            call = getattr(guard, method)
            connection.send(_together(threads, barrier, call, arguments) if threads else [_outcome(call, arguments)])
    except EOFError:
        guard.close()


def _together(threads: int, barrier: Barrier, call: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Outcome]:
    def all_here() -> None:
        barrier.wait(PATIENCE)

    line = threading.Barrier(threads, action=all_here)

    def go(_: int) -> Outcome:
        line.wait(PATIENCE)
        return _outcome(call, arguments)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(go, range(threads)))


def _outcome(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    try:
        value = call(*arguments)
    except JWTGuardError as error:
        return Outcome(error.code, str(error), error.ticket if isinstance(error, LimitReached) else None)
    return Outcome("", None if isinstance(value, Identity) else value)  # its claims, a read-only view, can't be pickled


def watch(connection: Connection, settings: dict[str, str], subject: str) -> None:
    store: Any = open_store(settings["store"], timeout=10)
    key = document_key(settings.get("issuer", "jwtguard"), subject)
    most, states = 0, set()
    store.load(key)
    connection.send("ready")
    while not connection.poll():
        loaded = store.load(key)
        most = max(most, len(decode(loaded.data, subject).sessions))
        states.add(loaded.version)
    connection.send(Seen(most, len(states)))
    store.close()
