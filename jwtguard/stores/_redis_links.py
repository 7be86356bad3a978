"""Connections to Redis servers, in both colours: bounded, kept between calls, and never used by two.

A connection is the driver's; pooling, retries and time limits are ours, because the driver's own send a command again whose
reply was lost. Invariants:
- A connection goes back to its shelf only when it has given every reply that was due. On any exception, a cancelled task's
  too, it is closed. So nobody gets another's reply. One that the server has closed is not used again.
- Waiting for a connection, connecting and waiting for replies are bounded.
- Nothing crosses a fork: a child leaves the parent's connections alone and makes its own.
- What an event loop has is closed when that loop is: an asynchronous generator, which every loop ends before it is closed,
  closes it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

import redis.asyncio.connection
import redis.connection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ..errors import StoreError
from ..forks import renew_after_fork
from ._redis_routes import Ask, NotAnswered, NotAsked, Route
from ._redis_url import Plan
from ._redis_words import Command, Reply, check_master, evicting_policy

__all__ = ["DRIVER_ERRORS", "AsyncLinks", "Link", "Links", "connected"]

DRIVER_ERRORS: Final = (RedisError, OSError, EOFError, ValueError)
"""What the driver raises; ValueError for text that can't be encoded, and for replies that make no sense."""

Warn = Callable[[str], None]


class Link(Protocol):
    """What is used of the driver's blocking connection."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...
    def read_response(self) -> Reply: ...
    @property
    def _sock(self) -> socket.socket | None: ...


class AsyncLink(Protocol):
    """The same, awaited."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    async def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...
    async def read_response(self) -> Reply: ...
    @property
    def _reader(self) -> asyncio.StreamReader | None: ...


L = TypeVar("L", Link, AsyncLink)


class _Kept(NamedTuple, Generic[L]):
    """A connection that waits for its next use, and the route's generation when it was made."""

    generation: int
    link: L


def _arguments(plan: Plan, ask: Ask, timeout: float | None) -> dict[str, Any]:
    """The driver's arguments for a connection."""
    place = {"host": ask.address.host, "port": ask.address.port} if ask.address.port else {"path": ask.address.host}
    own = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": timeout, "socket_connect_timeout": timeout}
    return {**(plan.sentinel_link if ask.sentinel else plan.link), **place, **own}


def _kind(module: Any, plan: Plan, ask: Ask) -> Any:
    """The driver's class of a connection."""
    if not ask.address.port:
        return module.UnixDomainSocketConnection
    return module.SSLConnection if plan.tls else module.Connection


def connected(plan: Plan, route: Route, ask: Ask, timeout: float, warn: Warn) -> Link:
    """A new connection to a server. Raises NotAsked."""
    link = cast(Link, _kind(redis.connection, plan, ask)(**_arguments(plan, ask, timeout)))
    try:
        link.connect()
        if greeting := _greeting(plan, route, ask):
            _heed(exchange(link, greeting), greeting, route, warn)
    except BaseException as error:
        link.disconnect()
        if isinstance(error, (*DRIVER_ERRORS, StoreError)):
            raise NotAsked(f"{ask.address}: {error}") from error
        raise
    return link


def _greeting(plan: Plan, route: Route, ask: Ask) -> tuple[Command, ...]:
    """What a new connection is asked first: whether it leads to a master, and once whether the server evicts."""
    if ask.sentinel:
        return ()
    role: tuple[Command, ...] = () if plan.kind == "cluster" else (("ROLE",),)
    return (*role, ("CONFIG", "GET", "maxmemory-policy")) if route.greets else role


def _heed(replies: Sequence[Reply], commands: tuple[Command, ...], route: Route, warn: Warn) -> None:
    """Go by the replies to a greeting. Raises StoreError."""
    for (word, *_), reply in zip(commands, replies, strict=True):
        if word == "ROLE":
            check_master(reply)
        elif route.greets:
            route.greets = False
            if (policy := evicting_policy(reply)) is not None:
                warn(policy)


def exchange(link: Link, commands: tuple[Command, ...]) -> list[Reply]:
    """Send commands in one go, and read what each is answered. A reply that is an error is a value."""
    link.send_packed_command(link.pack_commands(commands), check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(link.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


class _Shelf:
    """The connections to one server."""

    def __init__(self, most: int) -> None:
        self.free = threading.BoundedSemaphore(most)
        self.kept: deque[_Kept[Link]] = deque()
        self.closed = False

    def take(self) -> _Kept[Link] | None:
        try:
            return self.kept.pop()
        except IndexError:
            return None

    def put(self, kept: _Kept[Link]) -> None:
        self.kept.append(kept)
        if self.closed:
            self.clear()

    def clear(self) -> None:
        while (kept := self.take()) is not None:
            kept.link.disconnect()


class Links:
    """Blocking connections to every server that is asked.

    Arguments: `timeout`, seconds that each wait lasts; `warn`, told of a server that evicts.
    """

    def __init__(self, plan: Plan, route: Route, timeout: float, warn: Warn) -> None:
        self._plan = plan
        self._route = route
        self._timeout = timeout
        self._warn = warn
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._shelves: dict[tuple[Any, ...], _Shelf] = {}

    def ask(self, ask: Ask) -> list[Reply]:
        """The replies of a server. Raises NotAsked or NotAnswered."""
        shelf = self._shelf(ask)
        if not shelf.free.acquire(timeout=self._timeout):
            raise NotAsked(f"{ask.address}: all connections were busy for {self._timeout:g} s")
        try:
            kept, used = self._take(shelf, ask)
            try:
                replies = exchange(kept.link, ask.commands)
            except BaseException as error:
                kept.link.disconnect()
                if isinstance(error, DRIVER_ERRORS):
                    raise _lost(ask, error, used=used) from error
                raise
            shelf.put(kept)
            return replies
        finally:
            shelf.free.release()

    def close(self) -> None:
        with self._mutex:
            shelves, self._shelves = self._shelves, {}
        for shelf in shelves.values():
            shelf.closed = True
            shelf.clear()

    def _shelf(self, ask: Ask) -> _Shelf:
        place = (ask.address, ask.sentinel)
        with self._mutex:
            if (shelf := self._shelves.get(place)) is None:
                shelf = self._shelves[place] = _Shelf(self._plan.max_connections)
            return shelf

    def _take(self, shelf: _Shelf, ask: Ask) -> tuple[_Kept[Link], bool]:
        """A connection, and whether it has been in use before."""
        if ask.fresh:
            shelf.clear()
        while (kept := shelf.take()) is not None:
            if kept.generation == self._route.generation and _is_quiet(kept.link):
                return kept, True
            kept.link.disconnect()
        generation = self._route.generation
        return _Kept(generation, connected(self._plan, self._route, ask, self._timeout, self._warn)), False


def _is_quiet(link: Link) -> bool:
    """Whether a connection is open and nothing has come in that nobody asked for."""
    try:
        return not link.can_read()
    except DRIVER_ERRORS:
        return False


def _lost(ask: Ask, error: BaseException, *, used: bool) -> NotAnswered:
    timed_out = isinstance(error, (TimeoutError, redis.exceptions.TimeoutError))
    return NotAnswered(f"{ask.address}: {error}", stale=used and not timed_out)


# -- awaited ---------------------------------------------------------------------------------------------------------------


async def aexchange(link: AsyncLink, commands: tuple[Command, ...]) -> list[Reply]:
    """As `exchange`."""
    await link.send_packed_command(link.pack_commands(commands), check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await link.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


class _AsyncShelf:
    """The connections of one event loop to one server."""

    def __init__(self, most: int) -> None:
        self.free = asyncio.Semaphore(most)
        self.kept: list[_Kept[AsyncLink]] = []

    async def clear(self) -> None:
        while self.kept:
            await self.kept.pop().link.disconnect(nowait=True)


class _Home:
    """All that one event loop has."""

    def __init__(self) -> None:
        self.shelves: dict[tuple[Any, ...], _AsyncShelf] = {}
        self.closed = False
        self.keeper = self._keep()

    async def _keep(self) -> AsyncGenerator[None]:
        """Once begun, ends when the loop does, or when it is closed; then so do the connections."""
        try:
            yield
        finally:
            self.closed = True
            for shelf in self.shelves.values():
                await shelf.clear()
            await asyncio.sleep(0)  # for the transports to let go of their sockets


class AsyncLinks:
    """As `Links`, awaited: connections apart for each event loop. The caller bounds the time."""

    def __init__(self, plan: Plan, route: Route, warn: Warn) -> None:
        self._plan = plan
        self._route = route
        self._warn = warn
        self._homes: dict[asyncio.AbstractEventLoop, _Home] = {}
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        if self._homes:
            _abandoned.append(self._homes)
        self._homes = {}

    async def ask(self, ask: Ask) -> list[Reply]:
        """As `Links.ask`."""
        home = await self._home()
        shelf = home.shelves.setdefault((ask.address, ask.sentinel), _AsyncShelf(self._plan.max_connections))
        async with shelf.free:
            kept, used = await self._take(shelf, ask)
            try:
                replies = await aexchange(kept.link, ask.commands)
            except BaseException as error:
                await kept.link.disconnect(nowait=True)
                if isinstance(error, DRIVER_ERRORS):
                    raise _lost(ask, error, used=used) from error
                raise
            shelf.kept.append(kept)
            if home.closed:
                await shelf.clear()
            return replies

    async def close(self) -> None:
        """Close what this event loop has, and have the other ones that run close theirs."""
        with self._mutex:
            homes, self._homes = self._homes, {}
        here = asyncio.get_running_loop()
        for loop, home in homes.items():
            if loop is here:
                await home.keeper.aclose()
            elif not loop.is_closed():
                asyncio.run_coroutine_threadsafe(home.keeper.aclose(), loop)

    async def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None or home.closed:
            with self._mutex:
                self._homes = {one: its for one, its in self._homes.items() if not one.is_closed()}
                home = self._homes[loop] = _Home()
            await anext(home.keeper)
        return home

    async def _take(self, shelf: _AsyncShelf, ask: Ask) -> tuple[_Kept[AsyncLink], bool]:
        if ask.fresh:
            await shelf.clear()
        while shelf.kept:
            kept = shelf.kept.pop()
            if kept.generation == self._route.generation and _is_open(kept.link):
                return kept, True
            await kept.link.disconnect(nowait=True)
        return await self._connect(ask), False

    async def _connect(self, ask: Ask) -> _Kept[AsyncLink]:
        generation = self._route.generation
        link = cast(AsyncLink, _kind(redis.asyncio.connection, self._plan, ask)(**_arguments(self._plan, ask, None)))
        try:
            await link.connect()
            if greeting := _greeting(self._plan, self._route, ask):
                _heed(await aexchange(link, greeting), greeting, self._route, self._warn)
        except BaseException as error:
            await link.disconnect(nowait=True)
            if isinstance(error, (*DRIVER_ERRORS, StoreError)):
                raise NotAsked(f"{ask.address}: {error}") from error
            raise
        return _Kept(generation, link)


def _is_open(link: AsyncLink) -> bool:
    """Whether the server hasn't closed a connection. (The driver's way to ask differs from version to version.)"""
    return link._reader is not None and not link._reader.at_eof()


_abandoned: Final[list[object]] = []
"""Connections of a parent process. Closing one here would take its descriptor out of the parent's epoll set."""
