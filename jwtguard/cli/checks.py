"""What `jwtguard check` looks for: each function answers what it finds. Nothing here prints."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import StoreError
from ..guard import Guard
from ..patterns import parse_public
from ..rules import Rules
from ..settings import Settings
from ..stores.base import Store
from ..stores.sqlite import SQLiteStore
from ..variables import VARIABLES

__all__ = ["Finding", "files_others_can_read", "several_workers", "store", "warnings_logged", "without_effect"]

MOST_SKEW: Final = 2.0
"""Seconds that this machine's clock may differ from the store's before it is worth a word."""
PROBE_LIVES: Final = 1000
"""Milliseconds after which the store may forget what the check has saved."""

NETWORK: Final = re.compile(
    r"nfs.*|cifs|smb.*|9p|afs|ceph|glusterfs|lustre|gpfs|ocfs2|gfs2|fuse\.(sshfs|s3fs|rclone|gcsfuse|ceph)"
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Finding(NamedTuple):
    """What will bite: a word for programs, and a sentence."""

    name: str
    message: str


# -- the environment -------------------------------------------------------------------------------------------------------


def several_workers(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Several processes, each with sessions of its own."""
    if not settings.store.lower().startswith("memory:"):
        return
    for name, count in _workers(environ):
        if count > 1:
            yield Finding(
                "memory_store",
                f"{name} asks for {count} workers, and each would have its own sessions in memory://: a user who is logged "
                "in at one is unknown to the others. Use another store",
            )


def _workers(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """What servers will read from the environment about the number of their processes."""
    for name in ("WEB_CONCURRENCY", "UVICORN_WORKERS", "GRANIAN_WORKERS"):
        yield name, _number(environ.get(name, ""))
    try:
        words = shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:  # gunicorn itself will say so
        return
    for place, word in enumerate(words):
        match = re.fullmatch(r"(?:--workers=|-w=?)([0-9]+)", word)
        if match:
            yield "GUNICORN_CMD_ARGS", int(match[1])
        elif word in ("--workers", "-w"):
            yield "GUNICORN_CMD_ARGS", _number("".join(words[place + 1 : place + 2]))


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def without_effect(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Settings that say something, and change nothing."""
    for names, why in _idle(settings):
        said = [VARIABLES[name].name for name in names.split() if _is_set(VARIABLES[name].name, environ)]
        if said:
            yield Finding("without_effect", f"{' and '.join(said)} {'has' if len(said) == 1 else 'have'} no effect: {why}")
    rules = Rules(settings.public, settings.rules)
    for method, path in parse_public(settings.public):
        if "*" not in path and rules.required(method or "GET", path):
            yield Finding("without_effect", f"{path} in JWTGUARD_PUBLIC has no effect: JWTGUARD_RULES asks scopes for it")


def _idle(settings: Settings) -> Iterator[tuple[str, str]]:
    """Names of settings, and why they change nothing as the others are."""
    idle = settings.idle_timeout
    if settings.store.lower().startswith("memory:"):
        yield "stale_if_down store_timeout", "memory:// is never down, and never waits"
    if settings.secret in settings.secret_fallbacks:
        yield "secret_fallbacks", "the secret is among them, and verifies anyway"
    if settings.refresh_ttl > settings.session_ttl:
        yield "refresh_ttl", "JWTGUARD_SESSION_TTL ends every session before"
    if idle is not None and idle >= settings.session_ttl:
        yield "idle_timeout", "JWTGUARD_SESSION_TTL ends every session before"
    if idle is not None and settings.cache_ttl > idle / 10:
        yield "cache_ttl", "with JWTGUARD_IDLE_TIMEOUT nothing is cached for longer than a tenth of that"
    if settings.endpoints == "off" and settings.on_limit == "choose":
        yield "on_limit", "with JWTGUARD_ENDPOINTS=off there is nowhere to choose, unless the app calls end_with_ticket"


def _is_set(name: str, environ: Mapping[str, str]) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))


def files_others_can_read(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Files with secrets in them that any user of this machine can read, or change."""
    for variable in VARIABLES.values():
        path = Path(environ.get(f"{variable.name}_FILE", ""))
        if variable.hidden and path.is_file():
            yield from _permissions(path, f"the file that {variable.name}_FILE names", stat.S_IROTH | stat.S_IWOTH)


def _permissions(path: Path, what: str, forbidden: int) -> Iterator[Finding]:
    mode = path.stat().st_mode
    if mode & forbidden:
        verb = "change" if mode & stat.S_IWOTH else "read"
        yield Finding("permissions", f"every user of this machine can {verb} {what}: chmod o-rw {str(path)!a}")


# -- the store -------------------------------------------------------------------------------------------------------------


def store(guard: Guard) -> Iterator[Finding]:
    """What can be seen of the store by using it: it is loaded from, and a key that means nothing is saved for a second."""
    found: Store = guard._store
    if isinstance(found, SQLiteStore):
        yield from sqlite_place(found.path, Path("/proc/self/mounts"))
    key = b"check" + secrets.token_bytes(16)
    began = time.time()
    try:
        loaded = found.load(key)
        ended = time.time()
        expires_at = loaded.now + PROBE_LIVES
        found.save(key, b"check", expected=None, version=secrets.token_bytes(8), expires_at=expires_at, ends=False)
    except StoreError as error:
        yield Finding("store", f"the store can't be used: {error}")
        return
    yield from skew(loaded.now / 1000, began, ended)


def skew(there: float, began: float, ended: float) -> Iterator[Finding]:
    """A clock here that isn't the store's. All in seconds; the answer was asked for at `began`, and came at `ended`."""
    apart = max(began - there, there - ended)
    if apart > MOST_SKEW:
        behind = "behind" if there > ended else "ahead of"
        yield Finding(
            "clock_skew",
            f"this machine's clock is {apart:.0f} s {behind} the store's: tokens would be refused as from the future, or "
            "outlive their time. Have both set by NTP",
        )


def sqlite_place(path: Path, mounts: Path) -> Iterator[Finding]:
    """A database where SQLite's locks don't hold, or that others can change."""
    if path.exists():
        yield from _permissions(path, "the sessions", stat.S_IWOTH)
    kind = filesystem_of(path, mounts)
    if NETWORK.fullmatch(kind):
        yield Finding(
            "network_filesystem",
            f"{str(path)!a} is on a network file system ({kind}), where SQLite's locks can't be relied on: sessions may be "
            "lost. Use a local disk, or a store that is a server",
        )


def filesystem_of(path: Path, mounts: Path) -> str:
    """The kind of the file system that a path is on, by a table of mounts as Linux has it; "" if that isn't known."""
    try:
        table = [line.split(" ") for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return ""
    place, found, longest = Path(os.path.realpath(path)), "", -1
    for _, where, kind, *_ in table:
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), where))
        if place.is_relative_to(point) and len(point.parts) >= longest:  # a later mount hides an earlier one
            found, longest = kind, len(point.parts)
    return found


# -- what the package itself warns of --------------------------------------------------------------------------------------


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def warnings_logged() -> Iterator[list[Finding]]:
    """What is logged meanwhile, as findings, once it is over: a store that evicts, variables that are unknown."""
    collector, logger, found = _Collector(), logging.getLogger("jwtguard"), list[Finding]()
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
        found += [Finding("warning", message) for message in dict.fromkeys(collector.messages)]
