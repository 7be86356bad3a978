"""Bytes per session in Redis: a document per user, beside a key per session and a set per user, as peers keep them.

Documents are written by the store's own script, with the store's own names and values; only many at a time.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from redis_kit import Redis, executable, running

from jwtguard.document import Document, SessionRecord, document_key, encode
from jwtguard.stores._redis_words import SAVE, Terms, name_of, save_commands
from jwtguard.stores.redis import RedisStore
from jwtguard.tokens import text_of_id

from .people import DAY, people, with_uuid
from .reports import Report, options, server_version

Command = tuple[Any, ...]

PREFIX: Final = "jwtguard:"
SESSIONS: Final = 3
BATCH: Final = 500


def terms_of(document: Document, now: int) -> Terms:
    """What the store would save it by."""
    key = document_key("jwtguard", document.subject)
    version = random.randbytes(8)
    return Terms(name_of(PREFIX, key), b"", version, encode(document), now + 30 * DAY, "", key)


def ours(documents: Iterable[Document], now: int) -> Iterator[Command]:
    for document in documents:
        yield from save_commands(terms_of(document, now), whole=False, wait=0, patience=0)


def per_session(documents: Iterable[Document], now: int, pack: Callable[[Any], bytes]) -> Iterator[Command]:
    """A key per session and a set of a user's sessions, each with its expiry, and the same facts in a session's value."""
    for document in documents:
        index = f"user_sessions:{document.subject}"
        for session in document.sessions:
            token = text_of_id(session.id)
            yield "SET", f"session:{token}", pack(facts(document.subject, session)), "PXAT", now + 30 * DAY
            yield "SADD", index, token
        yield "PEXPIREAT", index, now + 30 * DAY


def facts(subject: str, session: SessionRecord) -> dict[str, Any]:
    return {
        "user_id": subject,
        "created_at": session.opened_at // 1000,
        "last_seen_at": session.seen_at // 1000,
        "expires_at": session.expires_at // 1000,
        "generation": session.generation,
        "scopes": session.scopes,
        "device": session.device,
        "ip": session.ip,
    }


# -- writing many ----------------------------------------------------------------------------------------------------------


def packed(command: Command) -> bytes:
    """A command as Redis reads it."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def pour(server: Redis, commands: Iterable[Command]) -> None:
    """Send commands without waiting for what each is answered."""
    with server.client() as client:
        client.script_load(SAVE)
        link = client.connection_pool.get_connection()
        link.send_command("CLIENT", "REPLY", "OFF")
        pieces: list[bytes] = []
        for command in commands:
            pieces.append(packed(command))
            if len(pieces) == BATCH:
                link.send_packed_command(pieces, check_health=False)
                pieces.clear()
        link.send_packed_command([*pieces, packed(("CLIENT", "REPLY", "ON"))], check_health=False)
        assert link.read_response() == b"OK"
        link.disconnect()


def measured(server: Redis, commands: Iterable[Command], keys: int) -> tuple[int, float]:
    """Bytes that these commands take in the server, and seconds that sending them took."""
    server("FLUSHALL", "SYNC")  # what is freed later would count against what comes next
    server("SCRIPT", "FLUSH")
    empty = used(server)
    began = time.monotonic()
    pour(server, commands)
    took = time.monotonic() - began
    assert server("DBSIZE") == keys, (server("DBSIZE"), keys)
    return used(server) - empty, took


def used(server: Redis) -> int:
    return int(server("INFO", "memory")["used_memory"])


def check_that_it_is_what_the_store_makes(server: Redis, now: int) -> None:
    """The same document, written by the store and by `ours`: the same value but for the version, and as much memory."""
    [document] = people(1, SESSIONS)
    terms = terms_of(document, now)
    store = RedisStore(server.url, timeout=10)
    assert store.save(terms.key, terms.data, expected=None, version=terms.version, expires_at=terms.expires_at, ends=True)
    by_store = seen(server, terms.name)
    server("DEL", terms.name)
    pour(server, save_commands(terms, whole=False, wait=0, patience=0))
    assert seen(server, terms.name) == by_store
    store.close()


def seen(server: Redis, name: str) -> tuple[Any, ...]:
    left = server("PTTL", name)
    assert left > 0
    return server("GET", name), server("MEMORY", "USAGE", name), server("OBJECT", "ENCODING", name)


# -- what is measured ------------------------------------------------------------------------------------------------------


def main() -> None:
    given = options(str(__doc__), users=300_000)
    kind = "Valkey" if "valkey" in executable() else "Redis"
    report = Report(given, "Memory in Redis", "msgspec", "redis", **{kind: server_version([executable()])})
    now = int(time.time() * 1000)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as server:
        check_that_it_is_what_the_store_makes(server, now)
        count = given.users
        rows = []
        for title, users, keys, commands in layouts(count, now):
            total, took = measured(server, commands, keys)
            rows.append((title, users, users * SESSIONS, total / users / SESSIONS, total / 1e6, took))
        heads = ("layout", "users", "sessions", "bytes per session", "MB", "seconds to write")
        report.table(f"{SESSIONS} sessions a user, INFO memory", heads, rows)
        report.table("Where the bytes go: one user", ("part", "bytes"), parts())
        report.table("By sessions per user", ("sessions", "document", "bytes per session"), by_sessions(server, count, now))
    report.close()


def layouts(count: int, now: int) -> Iterator[tuple[str, int, int, Iterator[Command]]]:
    """Title, users, keys to expect, and what to send."""
    few = count // 5
    yield "jwtguard: one document per user", count, count, ours(people(count, SESSIONS), now)
    yield "key per session + set per user, JSON", count, 4 * count, per_session(people(count, 3), now, msgspec.json.encode)
    yield "jwtguard, subjects are UUIDs", few, few, ours(people(few, SESSIONS, with_uuid), now)
    yield "key + set, JSON, UUIDs", few, 4 * few, per_session(people(few, 3, with_uuid), now, msgspec.json.encode)
    yield "key + set, MessagePack", few, 4 * few, per_session(people(few, 3), now, msgspec.msgpack.encode)


def parts() -> list[tuple[str, float]]:
    """What a value is made of, on average."""
    sample = list(people(1000, SESSIONS))
    bare = sum(len(encode(msgspec.structs.replace(document, sessions=()))) for document in sample) / len(sample)
    whole = sum(len(encode(document)) for document in sample) / len(sample)
    name = sum(len(name_of(PREFIX, document_key("jwtguard", document.subject))) for document in sample) / len(sample)
    return [
        ("name of the key", name),
        ("version", 8.0),
        ("document without its sessions", bare),
        ("each session in it", (whole - bare) / SESSIONS),
        ("document", whole),
    ]


def by_sessions(server: Redis, count: int, now: int) -> list[tuple[int, float, float]]:
    rows = []
    users = max(1000, count // 20)
    for sessions in (1, 2, 3, 5, 10, 100):
        some = max(100, users // sessions)
        sizes = [len(encode(document)) for document in people(100, sessions)]
        total, _ = measured(server, ours(people(some, sessions), now), some)
        rows.append((sessions, sum(sizes) / len(sizes), total / some / sessions))
    return rows


if __name__ == "__main__":
    main()
