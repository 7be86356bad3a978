"""What a Redis server announces: listened for at every master, and only as long as it is known to arrive.

Invariants:
- The driver never connects again by itself: it would subscribe again in silence, and what was announced in between would be
  missed. A connection that fails is a gap, and so is another master. Then nothing that was known of the servers is relied
  on, for documents either: a master that stalled and comes back may have been replaced without knowing it.
- A `Heard` is of the moment before its questions were sent. It follows the answers of all masters, which come after all
  that they announced before, and the proof, fetched after that moment, that there is no other master.
- In a cluster each master announces its own endings to its own listeners; what it also sends to the other masters may get
  lost between them, so it is nothing to go by. What comes twice is told by its version.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from typing import Final, Protocol, TypeVar

from cachetools import LRUCache
from redis.exceptions import ResponseError

from ..errors import StoreError
from ._redis_links import DRIVER_ERRORS, Link, Warn, connected
from ._redis_routes import Ask, Post, Route, Talk
from ._redis_url import Address, Plan
from ._redis_words import Announced, Command, Reply, announced_in, channel_of, sound
from .base import Heard

__all__ = ["Ears"]

T = TypeVar("T")

BEAT: Final = 0.5
"""Seconds between two rounds of questions."""
LONGEST_PATIENCE: Final = 1.0
"""Seconds to wait for an answer, whatever the timeout, so that a word comes each second or none does."""
REMEMBERED: Final = 1024
AT_ONCE: Final = 256
"""Messages that are read from one connection before the others have their turn."""


class Run(Protocol):
    """Runs a flow to its end."""

    def __call__(self, talk: Talk[T]) -> T: ...


class _Line:
    """A connection that is read when something has come in."""

    def __init__(self, ask: Ask, link: Link) -> None:
        self.address = ask.address
        self.has_more = False
        """Whether more may have come in than was read: then a selector needn't know of it."""
        self._link = link

    def fileno(self) -> int:
        """For a selector."""
        sock = self._link._sock
        return -1 if sock is None else sock.fileno()

    def send(self, command: Command) -> None:
        self._link.send_packed_command(self._link.pack_commands((command,)), check_health=False)

    def read(self) -> Reply:
        """The next reply; one that is an error is a value."""
        try:
            return self._link.read_response()
        except ResponseError as error:
            return error

    def come_in(self) -> Generator[Reply]:
        """What has come in, without waiting for more, and at most AT_ONCE of it."""
        for _ in range(AT_ONCE):
            if not self._link.can_read():
                return
            yield self.read()
        self.has_more = True


class Ears:
    """One listener. Arguments: `monotonic`, the clock that `Heard` goes by."""

    def __init__(self, plan: Plan, route: Route, timeout: float, monotonic: Callable[[], float], warn: Warn) -> None:
        self._plan = plan
        self._route = route
        self._patience = min(timeout, LONGEST_PATIENCE)
        self._monotonic = monotonic
        self._warn = warn
        self._channel = channel_of(plan.prefix)
        self._seen: LRUCache[Announced, bool] = LRUCache(REMEMBERED)

    def changes(self, run: Run) -> Generator[bytes | Heard]:
        """As `Pushed.changes`."""
        with ExitStack() as stack:
            try:
                post = run(self._route.listen())
                masters = [self._subscribe(stack, address) for address in post.masters]
                control = self._connect(stack, post.control)
                selector = stack.enter_context(selectors.DefaultSelector())
                for line in (*masters, control):
                    selector.register(line, selectors.EVENT_READ, line)
                yield from _first_heard(self._rounds(selector, masters, control, post))
            except DRIVER_ERRORS as error:
                self._route.doubt()
                raise StoreError(f"the announcements broke off: {error}") from error
            except StoreError:
                self._route.doubt()
                raise

    def _connect(self, stack: ExitStack, ask: Ask) -> _Line:
        link = connected(self._plan, self._route, ask, self._patience, self._warn)
        stack.callback(link.disconnect)
        return _Line(ask, link)

    def _subscribe(self, stack: ExitStack, address: Address) -> _Line:
        line = self._connect(stack, Ask(address, ()))
        line.send(("SUBSCRIBE", self._channel))
        if sound(line.read())[0] != b"subscribe":
            raise StoreError(f"{address} didn't confirm the subscription")
        return line

    def _rounds(
        self, selector: selectors.BaseSelector, masters: list[_Line], control: _Line, post: Post
    ) -> Generator[bytes | Heard]:
        """In each round every master is asked for a sign, and who else is one; and what they announce is passed on."""
        while True:
            at, began = self._monotonic(), time.monotonic()
            for master in masters:
                master.send(("PING",))
            control.send(*post.control.commands)
            silent = {*masters, control}
            while (left := began + (self._patience if silent else BEAT) - time.monotonic()) > 0:
                were_silent = bool(silent)
                for line in _with_news(selector, [*masters, control], left):
                    for reply in line.come_in():
                        if line is control:
                            post.check(reply)
                        elif (announced := self._announced(line, reply)) is not None:
                            yield from self._news(announced)
                            continue
                        silent.discard(line)
                if were_silent and not silent:
                    yield Heard(at)
            if silent:
                names = ", ".join(sorted(str(line.address) for line in silent))
                raise StoreError(f"{names} didn't answer within {self._patience:g} s")

    def _announced(self, master: _Line, reply: Reply) -> Reply | None:
        """The message that came; None if it is the answer to a question. Raises StoreError for anything else."""
        kind, *rest = sound(reply)
        if kind == b"message":
            return rest[1]
        if kind != b"pong":
            raise StoreError(f"{master.address} ended the subscription")
        return None

    def _news(self, message: Reply) -> Generator[bytes]:
        announced = announced_in(message)
        if announced is not None and announced not in self._seen:
            self._seen[announced] = True
            yield announced.key


def _with_news(selector: selectors.BaseSelector, lines: list[_Line], timeout: float) -> Iterable[_Line]:
    """The connections that have something to read."""
    rest = [line for line in lines if line.has_more]
    for line in rest:
        line.has_more = False
    return dict.fromkeys([*rest, *(key.data for key, _ in selector.select(0 if rest else timeout))])


def _first_heard(items: Iterator[bytes | Heard]) -> Generator[bytes | Heard]:
    """The same items, but the first `Heard` comes before all others."""
    early: list[bytes | Heard] = []
    for item in items:
        if isinstance(item, Heard):
            yield item
            yield from early
            yield from items
        early.append(item)
