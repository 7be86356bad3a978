"""Which server to ask, and when to ask again: as flows that yield each exchange and are sent its replies. No I/O.

Invariants:
- A save is sent again only when a reply says that it has had no effect (a redirection, an unknown script). A load is sent
  again once, on a fresh connection, when one from the pool turned out dead.
- What is known of the servers is given up with any sign that it is wrong; then it is found out anew before the next use.
- An error that a reply carries is never taken for a document, nor for its absence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from redis.crc import key_slot
from redis.exceptions import NoScriptError, ReadOnlyError

from ..errors import StoreError, Unconfirmed
from ._redis_url import Address, Plan
from ._redis_words import (
    Command,
    Reply,
    Terms,
    check_master,
    load_commands,
    loaded_from,
    redirection_in,
    save_commands,
    sound,
)
from .base import Loaded

__all__ = [
    "Ask",
    "Cluster",
    "NotAnswered",
    "NotAsked",
    "One",
    "Post",
    "Route",
    "Sentinel",
    "Talk",
    "load",
    "route_of",
    "save",
]

T = TypeVar("T")

MOST_REDIRECTIONS: Final = 5
REFRESH: Final = 1.0
"""Seconds between two looks at a cluster's topology, so that a store in trouble isn't asked for it by every request."""
WAIT_SHARE: Final = 0.7
"""The part of the timeout that replicas are waited for, so that the server's answer about them still arrives in time."""


class NotAsked(StoreError):
    """Nothing was sent: no connection could be had."""


class NotAnswered(StoreError):
    """The reply was lost; the command may have had its effect.

    Arguments: `stale`, whether that shows only that a connection from the pool was dead.
    """

    def __init__(self, message: str | None = None, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Ask(NamedTuple):
    """Commands to be sent to one server in one go. The replies come in their order; one that is an error comes as a value.

    `fresh`: on a new connection, and none that is in the pool is good any more.
    """

    address: Address
    commands: tuple[Command, ...]
    sentinel: bool = False
    fresh: bool = False


Talk: TypeAlias = Generator[Ask, list[Reply], T]


class Post(NamedTuple):
    """Where endings are listened for: the masters, each of which announces its own; and how to make sure that there are no
    others. `check` raises StoreError unless a reply to `control`, asked later on, still says so."""

    masters: list[Address]
    control: Ask
    check: Callable[[Reply], None]


class Route(Protocol):
    """The way to the server that has a key. `generation` changes when connections made before are not to be used."""

    generation: int
    greets: bool
    """Whether the first connection is asked for the eviction policy still."""

    def ask(self, name: str, commands: tuple[Command, ...], *, fresh: bool = False) -> Talk[list[Reply]]:
        """The replies to commands, of which the first alone has the key. Raises StoreError."""
        ...

    def listen(self) -> Talk[Post]:
        """Where to listen for endings. Raises StoreError."""
        ...

    def doubt(self) -> None:
        """Give up what is known of the servers."""
        ...


def load(route: Route, name: str) -> Talk[Loaded]:
    try:
        replies = yield from route.ask(name, load_commands(name))
    except NotAnswered as error:
        if not error.stale:
            raise
        replies = yield from route.ask(name, load_commands(name), fresh=True)
    return loaded_from(replies)


def save(route: Route, terms: Terms, *, wait: int, timeout: float) -> Talk[bool]:
    """A compare-and-swap. With `wait`, one that ends something raises Unconfirmed unless that many replicas have it."""
    wait = wait if terms.channel else 0
    patience = int(timeout * WAIT_SHARE * 1000)
    try:
        replies = yield from route.ask(terms.name, save_commands(terms, whole=False, wait=wait, patience=patience))
        if isinstance(replies[0], NoScriptError):
            replies = yield from route.ask(terms.name, save_commands(terms, whole=True, wait=wait, patience=patience))
    except NotAnswered as error:
        if wait:
            raise Unconfirmed("an ending got no answer, so it isn't known whether its replicas have it") from error
        raise
    if isinstance(replies[0], ReadOnlyError) or "READONLY" in str(replies[0]):  # within a script's own error, up to 6.2
        route.doubt()
    saved: bool = sound(replies[0]) == 1
    if saved and wait:
        _confirm(replies[1], wait)
    return saved


def _confirm(reply: Reply, wait: int) -> None:
    if not isinstance(reply, int) or reply < wait:
        cause = reply if isinstance(reply, Exception) else None
        told = "can't tell" if cause else f"only {reply} of {wait}"
        raise Unconfirmed(f"an ending is saved, but not known to be at its replicas: {told}") from cause


def route_of(plan: Plan, monotonic: Callable[[], float] = time.monotonic) -> Route:
    if plan.kind == "sentinel":
        return Sentinel(plan)
    return Cluster(plan, monotonic) if plan.kind == "cluster" else One(plan)


class One:
    """One server, whose address stays."""

    def __init__(self, plan: Plan) -> None:
        self.address = plan.addresses[0]
        self.generation = 0
        self.greets = True

    def ask(self, name: str, commands: tuple[Command, ...], *, fresh: bool = False) -> Talk[list[Reply]]:
        del name
        return (yield Ask(self.address, commands, fresh=fresh))

    def listen(self) -> Talk[Post]:
        yield from ()
        return Post([self.address], Ask(self.address, (("ROLE",),)), check_master)

    def doubt(self) -> None:
        self.generation += 1


class Sentinel:
    """The master that Sentinel names."""

    def __init__(self, plan: Plan) -> None:
        self.sentinels = list(plan.addresses)
        self.service = plan.service
        self.generation = 0
        self.greets = True
        self._master: Address | None = None

    def ask(self, name: str, commands: tuple[Command, ...], *, fresh: bool = False) -> Talk[list[Reply]]:
        del name
        try:
            master = self._master or (yield from self.find())
            return (yield Ask(master, commands, fresh=fresh))
        except BaseException:
            self._master = None
            raise

    def find(self) -> Talk[Address]:
        """The master, as a Sentinel names it now. One that doesn't answer is asked last from then on. Raises StoreError."""
        failure: StoreError | None = None
        for sentinel in list(self.sentinels):
            self._move_to_end(sentinel)
            try:
                replies = yield Ask(sentinel, (self.question(),), sentinel=True)
                master = self.named_in(replies[0])
            except StoreError as error:
                failure = error
            else:
                self.sentinels = [sentinel, *(other for other in self.sentinels if other != sentinel)]
                self._master = master
                return master
        raise StoreError(f"no Sentinel names the master {self.service!a}") from failure

    def question(self) -> Command:
        return "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service

    def named_in(self, reply: Reply) -> Address:
        """The master that a reply to `question` names. Raises StoreError."""
        found = sound(reply)
        if not isinstance(found, list) or len(found) != 2:
            raise StoreError(f"Sentinel knows no master {self.service!a}")
        return Address(str(found[0], errors="replace"), int(found[1]))

    def listen(self) -> Talk[Post]:
        master = yield from self.find()

        def check(reply: Reply) -> None:
            if (named := self.named_in(reply)) != master:
                raise StoreError(f"Sentinel names another master, {named} in place of {master}")

        return Post([master], Ask(self.sentinels[0], (self.question(),), sentinel=True), check)

    def doubt(self) -> None:
        self._master = None
        self.generation += 1

    def _move_to_end(self, sentinel: Address) -> None:
        self.sentinels = [*(other for other in self.sentinels if other != sentinel), sentinel]


class Range(NamedTuple):
    """Slots, and the master that has them."""

    first: int
    last: int
    master: Address


class Cluster:
    """The master of the key's slot. Replicas are never asked."""

    def __init__(self, plan: Plan, monotonic: Callable[[], float]) -> None:
        self.seeds = plan.addresses
        self.generation = 0
        self.greets = True
        self._monotonic = monotonic
        self._ranges: list[Range] = []
        self._moved: dict[int, Address] = {}
        self._silent: set[Address] = set()
        self._known = False
        self._refreshed = float("-inf")

    def ask(self, name: str, commands: tuple[Command, ...], *, fresh: bool = False) -> Talk[list[Reply]]:
        slot = key_slot(name.encode())
        address = yield from self._master_of(slot)
        asking = False
        for _ in range(MOST_REDIRECTIONS):
            try:
                sent = (("ASKING",), *commands) if asking else commands
                replies = (yield Ask(address, sent, fresh=fresh))[asking:]
            except BaseException:
                self._silent.add(address)
                self.doubt()
                raise
            if (redirection := redirection_in(replies[0])) is None:
                return replies
            address = Address(redirection.host or address.host, redirection.port)
            asking = redirection.asking
            if not asking:
                self._moved[slot] = address
                self.doubt()
        raise StoreError("the cluster redirects in a circle")

    def _master_of(self, slot: int) -> Talk[Address]:
        if not self._ranges or (not self._known and self._monotonic() - self._refreshed >= REFRESH):
            yield from self.find()
        if (master := self._moved.get(slot)) is not None:
            return master
        for piece in self._ranges:
            if piece.first <= slot <= piece.last:
                return piece.master
        self.doubt()
        raise StoreError(f"no server of the cluster has slot {slot}")

    def find(self) -> Talk[list[Address]]:
        """The masters, as the first server that answers names them; one that didn't is asked last. Raises StoreError."""
        self._refreshed = self._monotonic()
        failure: StoreError | None = None
        known = dict.fromkeys([*_masters(self._ranges), *self.seeds])
        for address in sorted(known, key=self._silent.__contains__):
            self._silent.add(address)
            try:
                replies = yield Ask(address, (self.question(),))
                self._ranges = self.ranges_in(replies[0], address)
            except StoreError as error:
                failure = error
            else:
                self._silent = self._silent & known.keys() - {address}
                self._moved = {}
                self._known = True
                return _masters(self._ranges)
        raise StoreError("no server of the cluster tells who has which slots") from failure

    def question(self) -> Command:
        return "CLUSTER", "SLOTS"

    def ranges_in(self, reply: Reply, asked: Address) -> list[Range]:
        """The topology that a server's reply to `question` tells. Raises StoreError."""
        try:
            found = [
                Range(int(first), int(last), Address(_host(master[0]) or asked.host, int(master[1])))
                for first, last, master, *_ in sound(reply)
            ]
        except (IndexError, TypeError, ValueError) as error:
            raise StoreError("the cluster's topology can't be read") from error
        if not found:
            raise StoreError("the cluster has no slots")
        return found

    def listen(self) -> Talk[Post]:
        masters = yield from self.find()

        def check(reply: Reply) -> None:
            if set(_masters(self.ranges_in(reply, masters[0]))) != set(masters):
                raise StoreError("the cluster has other masters than before")

        return Post(masters, Ask(masters[0], (self.question(),)), check)

    def doubt(self) -> None:
        self._known = False


def _masters(ranges: Sequence[Range]) -> list[Address]:
    return list(dict.fromkeys(piece.master for piece in ranges))


def _host(found: Any) -> str:
    """A host's name; none where the server doesn't know its own."""
    name = str(found or b"", errors="replace")
    return "" if name == "?" else name
