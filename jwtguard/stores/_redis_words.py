"""What is said to a Redis server, and what its replies mean. No I/O.

A document is one string: its version, 8 bytes, then its data. Invariants:
- Different keys have different names, of bounded length and without braces, so in a cluster nobody chooses their own slot.
- The script announces an ending before it writes. A script runs as one step, so nobody who hears of it can read what was
  before; and where announcing is forbidden, nothing is written that nobody would hear of.
- In each exchange the command with the key is the first: in a cluster it alone may be redirected, and then it has had no
  effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from redis.exceptions import AskError, MovedError, ResponseError

from ..errors import StoreError
from .base import Loaded

__all__ = [
    "Announced",
    "Command",
    "Reply",
    "announced_in",
    "channel_of",
    "check_master",
    "evicting_policy",
    "load_commands",
    "loaded_from",
    "name_of",
    "redirection_in",
    "save_commands",
    "sound",
]

Command = tuple[Any, ...]
Reply = Any

VERSION_BYTES: Final = 8
LONGEST_NAME: Final = 256

SAVE: Final = """\
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then return 0 end
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[5], ARGV[2] .. ARGV[6]) end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
"""
SAVE_SHA: Final = hashlib.sha1(SAVE.encode(), usedforsecurity=False).hexdigest()


def name_of(prefix: str, key: bytes) -> str:
    """The name of a key: readable where it is harmless, escaped elsewhere, and a hash if that gets too long."""
    name = quote(key, safe=":@")
    return prefix + (name if len(name) <= LONGEST_NAME else f"#{hashlib.sha256(key).hexdigest()}")


def channel_of(prefix: str) -> str:
    """Where endings are announced."""
    return f"{prefix}ended"


def load_commands(name: str) -> tuple[Command, ...]:
    return ("GET", name), ("TIME",)


def loaded_from(replies: Sequence[Reply]) -> Loaded:
    """What the replies to `load_commands` say. Raises StoreError."""
    value, clock = (sound(reply) for reply in replies)
    try:
        now = int(clock[0]) * 1000 + int(clock[1]) // 1000
    except (IndexError, TypeError, ValueError) as error:
        raise StoreError("the server told no time") from error
    if value is None:
        return Loaded(None, None, now)
    if not isinstance(value, bytes) or len(value) < VERSION_BYTES:
        raise StoreError("what the server has under this key is not ours")
    return Loaded(value[VERSION_BYTES:], value[:VERSION_BYTES], now)


class Terms(NamedTuple):
    """A compare-and-swap, as the script's arguments."""

    name: str
    expected: bytes
    version: bytes
    data: bytes
    expires_at: int
    channel: str
    key: bytes


def save_commands(terms: Terms, *, whole: bool, wait: int, patience: int) -> tuple[Command, ...]:
    """A compare-and-swap. `whole`: with the script itself, which the server needn't know yet. `wait`: for how many
    replicas, and `patience`, for how many milliseconds at most."""
    name, *arguments = terms
    script = ("EVAL", SAVE) if whole else ("EVALSHA", SAVE_SHA)
    save: Command = (*script, 1, name, *arguments)
    return (save, ("WAIT", wait, patience)) if wait else (save,)


def sound(reply: Reply) -> Reply:
    """A reply that is no error. Raises StoreError."""
    if isinstance(reply, Exception):
        raise StoreError(f"the server refused: {reply}") from reply
    return reply


class Redirection(NamedTuple):
    """Which server has a key: for good, or (`asking`) for this once, while its slot moves. No `host`: the same."""

    asking: bool
    host: str
    port: int


def redirection_in(reply: Reply) -> Redirection | None:
    """What a reply redirects to, if it does. Older drivers leave it to be read from the error's text."""
    if isinstance(reply, AskError):  # which MovedError is too
        return Redirection(not isinstance(reply, MovedError), reply.host, reply.port)
    word, _, rest = str(reply).partition(" ") if isinstance(reply, ResponseError) else ("", "", "")
    if word not in ("ASK", "MOVED"):
        return None
    host, _, port = rest.rpartition(" ")[2].rpartition(":")
    return Redirection(word == "ASK", host, int(port))


class Announced(NamedTuple):
    """An ending that was heard of: the new version tells it from others of the same key."""

    version: bytes
    key: bytes


def announced_in(message: Reply) -> Announced | None:
    """The ending that a message on the channel announces; None if it is none of ours."""
    if not isinstance(message, bytes) or len(message) <= VERSION_BYTES:
        return None
    return Announced(message[:VERSION_BYTES], message[VERSION_BYTES:])


def check_master(reply: Reply) -> None:
    """Raise StoreError if a server says by ROLE that it is a replica: it may be behind. Who may not ask has to trust."""
    if not isinstance(reply, Exception) and reply[0] != b"master":
        raise StoreError("the server is a replica, which may be behind: the store needs the master's address")


def evicting_policy(reply: Reply) -> str | None:
    """The eviction policy that CONFIG GET maxmemory-policy tells, unless it is that nothing is evicted."""
    if not isinstance(reply, list) or len(reply) != 2 or reply[1] == b"noeviction":
        return None
    return str(reply[1], errors="replace")
