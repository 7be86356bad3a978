"""The user document: all sessions of one user, their endings, and how they are written as bytes.

Invariants:
- A document is immutable. What changes it is in `transitions`, and answers a new one.
- Every time in it is an integer, milliseconds since the epoch by the store's clock; `clock` is the latest of them that any
  writer has used, and never decreases.
- No token and no hash of one is in it: who reads a document can't authenticate with what it says.
- Bytes that are not exactly one document of this subject are `DocumentDamaged`; they are never read as "no sessions".

On the wire it is a MessagePack array and a CRC-32 of it, so that one flipped bit isn't read as another user's session id or
another generation. It is short, because a store keeps one for each user: times are differences, to `clock` and to each
other; an IP address is a number; and a session leaves out what it has in common with the one before: key, scopes, lifetime.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from .errors import DocumentDamaged

__all__ = [
    "MAX_BYTES",
    "MAX_RETIRED",
    "MAX_SESSIONS",
    "MAX_TOMBSTONES",
    "Document",
    "Reason",
    "Retired",
    "SessionRecord",
    "Tombstone",
    "decode",
    "document_key",
    "encode",
    "everyone_key",
    "subject_of",
]

FORMAT: Final = 1
MAX_BYTES: Final = 64 * 1024
MAX_SESSIONS: Final = 1000
MAX_TOMBSTONES: Final = 16
MAX_RETIRED: Final = 4

CHECKSUM_BYTES: Final = 4

# What decoding holds the wire to: nothing that these let through can fail later, in arithmetic or when it is written again.
_Id: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Time: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_IPv4: TypeAlias = Annotated[int, Meta(ge=0, lt=2**32)]
_IPv6: TypeAlias = Annotated[tuple[_Id, ...], Meta(min_length=1, max_length=1)]
_Generation: TypeAlias = Annotated[int, Meta(ge=1, le=10**9)]


class Reason(IntEnum):
    """Why a session is not active. The numbers are on the wire."""

    UNKNOWN = 0
    REVOKED = 1
    EVICTED = 2
    EXPIRED = 3
    REUSED = 4
    """Revoked because an older refresh token came back. Told apart in tombstones only: for all else it is REVOKED."""


class Retired(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An older generation of a session's tokens, and when it ceased to be the current one."""

    generation: _Generation
    at: _Time


class SessionRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One session."""

    id: _Id
    opened_at: _Time
    authenticated_at: _Time
    """When the user proved who they are, as the app told; else when the session was opened. Never after that."""
    seen_at: _Time
    expires_at: _Time
    generation: _Generation
    rotated_at: _Time
    """When the current generation began: the `iat` of its tokens."""
    key_id: str
    """The key that signed the current generation, so that a lost answer can be given again, byte for byte."""
    used: bool
    """Whether the current generation was ever seen in use."""
    retired: Annotated[tuple[Retired, ...], Meta(max_length=MAX_RETIRED)]
    """Up to four older generations, oldest first."""
    scopes: tuple[str, ...]
    device: str
    ip: str


class Tombstone(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A session that is over, kept to tell its client why, until its last token has expired."""

    id: _Id
    reason: Reason
    until: _Time


class Document(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All of one user's sessions. `not_before`: who authenticated at or before it is not let in by that."""

    format: int
    subject: str
    clock: _Time
    not_before: _Time
    sessions: Annotated[tuple[SessionRecord, ...], Meta(max_length=MAX_SESSIONS)]
    tombstones: Annotated[tuple[Tombstone, ...], Meta(max_length=MAX_TOMBSTONES)]

    @classmethod
    def empty(cls, subject: str) -> Document:
        """The document of a user who never had a session."""
        return cls(FORMAT, subject, 0, 0, (), ())

    def find(self, session_id: bytes) -> SessionRecord | None:
        """The session with this id, whether expired or not; None if it isn't there."""
        return next((session for session in self.sessions if session.id == session_id), None)

    def remembered_reason(self, session_id: bytes) -> Reason:
        """Why this session is not in the document; `Reason.UNKNOWN` if nothing is remembered of it."""
        reason = self._remembered(session_id)
        return Reason.REVOKED if reason is Reason.REUSED else reason

    def was_reused(self, session_id: bytes) -> bool:
        """Whether this session was ended because an older refresh token of it came back."""
        return self._remembered(session_id) is Reason.REUSED

    def _remembered(self, session_id: bytes) -> Reason:
        return next((stone.reason for stone in self.tombstones if stone.id == session_id), Reason.UNKNOWN)


def document_key(issuer: str, subject: str) -> bytes:
    """The store's key for a user: injective, at most 513 bytes. Both parts are 1 to 255 UTF-8 bytes."""
    name = issuer.encode()
    return b"u%c" % len(name) + name + subject.encode()


def everyone_key(issuer: str) -> bytes:
    """The reserved key of what holds for every user of an issuer. No user's key begins like it."""
    return b"e" + issuer.encode()


class _WireSession(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A session on the wire. Its `retired` are in pairs: decoding sees to that, and to what the first session must have."""

    id: _Id
    before_clock: _Time
    """How long before the document's clock it was opened."""
    authenticated_after: _Time
    """After it was opened, and so mostly negative."""
    seen_after: _Time
    """After the rotation."""
    lifetime: _Time | None
    """From the rotation to the expiry. None: that of the session before; never in the first one. So too the next two."""
    generation: _Generation
    rotated_after: _Time
    """After it was opened."""
    key_id: str | None
    used: bool
    retired: Annotated[tuple[_Time, ...], Meta(max_length=2 * MAX_RETIRED)]
    """Of each, in turn: how many generations ago it was, and how long before the rotation it retired."""
    scopes: tuple[str, ...] | None
    device: str
    ip: str | _IPv4 | _IPv6
    """An IPv6 address in an array of its 16 bytes: text and bytes as they are can't be alternatives."""


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A document on the wire."""

    format: int
    subject: str
    clock: _Time
    forbidden_before_clock: _Time | None
    """How long before the clock `not_before` is; None: there is none."""
    sessions: Annotated[tuple[_WireSession, ...], Meta(max_length=MAX_SESSIONS)]
    tombstones: Annotated[tuple[Tombstone, ...], Meta(max_length=MAX_TOMBSTONES)]


def encode(document: Document) -> bytes:
    """The document as bytes, to be read by `decode`."""
    clock = document.clock
    wire = _Wire(
        document.format,
        document.subject,
        clock,
        clock - document.not_before if document.not_before else None,
        tuple(_folded(document.sessions, clock)),
        tuple(replace(stone, until=stone.until - clock) for stone in document.tombstones),
    )
    return _sealed(msgspec.msgpack.encode(wire))


def _folded(sessions: tuple[SessionRecord, ...], clock: int) -> Iterator[_WireSession]:
    common: tuple[int | None, str | None, tuple[str, ...] | None] = (None, None, None)
    for session in sessions:
        lifetime, key_id, scopes = session.expires_at - session.rotated_at, session.key_id, session.scopes
        yield _WireSession(
            id=session.id,
            before_clock=clock - session.opened_at,
            authenticated_after=session.authenticated_at - session.opened_at,
            seen_after=session.seen_at - session.rotated_at,
            lifetime=None if lifetime == common[0] else lifetime,
            generation=session.generation,
            rotated_after=session.rotated_at - session.opened_at,
            key_id=None if key_id == common[1] else key_id,
            used=session.used,
            retired=tuple(_flat(session)),
            scopes=None if scopes == common[2] else scopes,
            device=session.device,
            ip=_packed(session.ip),
        )
        common = lifetime, key_id, scopes


def _flat(session: SessionRecord) -> Iterator[int]:
    for old in session.retired:
        yield session.generation - old.generation
        yield session.rotated_at - old.at


def _packed(ip: str) -> str | int | tuple[bytes, ...]:
    """An address in numbers, if it is one and written as everybody writes it; else as it is."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        packed = socket.inet_pton(family, ip)
    except (OSError, ValueError):
        return ip
    if socket.inet_ntop(family, packed) != ip:
        return ip
    return (packed,) if family == socket.AF_INET6 else int.from_bytes(packed, "big")


def _unpacked(ip: str | int | tuple[bytes, ...]) -> str:
    if isinstance(ip, str):
        return ip
    if isinstance(ip, int):
        return socket.inet_ntop(socket.AF_INET, ip.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, ip[0])


def _sealed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big")


_decoder = msgspec.msgpack.Decoder(_Wire)


def decode(data: bytes | None, subject: str) -> Document:
    """The document that `encode` wrote for `subject`; None gives the empty one.

    Raises DocumentDamaged if the bytes are anything else, another user's document among them.
    """
    if data is None:
        return Document.empty(subject)
    body = data[:-CHECKSUM_BYTES]
    if _sealed(body) != data:
        raise DocumentDamaged("a user document is not as it was written")
    try:
        wire = _decoder.decode(body)
        sessions = tuple(_unfolded(wire.sessions, wire.clock))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DocumentDamaged("a user document can't be read") from error
    if wire.format != FORMAT or wire.subject != subject:
        raise DocumentDamaged("a user document has another format, or belongs to another user")
    clock, before = wire.clock, wire.forbidden_before_clock
    return Document(
        wire.format,
        subject,
        clock,
        0 if before is None else clock - before,
        sessions,
        tuple(replace(stone, until=stone.until + clock) for stone in wire.tombstones),
    )


def subject_of(data: bytes) -> str | None:
    """Whose document this is, by what it says itself; None if it can't be read."""
    try:
        return _decoder.decode(data[:-CHECKSUM_BYTES]).subject
    except (msgspec.MsgspecError, RecursionError):
        return None


def _unfolded(sessions: tuple[_WireSession, ...], clock: int) -> Iterator[SessionRecord]:
    """Raises ValueError."""
    lifetime: int | None = None
    key_id: str | None = None
    scopes: tuple[str, ...] | None = None
    for session in sessions:
        lifetime = lifetime if session.lifetime is None else session.lifetime
        key_id = key_id if session.key_id is None else session.key_id
        scopes = scopes if session.scopes is None else session.scopes
        if lifetime is None or key_id is None or scopes is None:
            raise ValueError("the first session has no session before it")
        opened = clock - session.before_clock
        rotated = opened + session.rotated_after
        ago, before = session.retired[::2], session.retired[1::2]
        yield SessionRecord(
            id=session.id,
            opened_at=opened,
            authenticated_at=opened + session.authenticated_after,
            seen_at=rotated + session.seen_after,
            expires_at=rotated + lifetime,
            generation=session.generation,
            rotated_at=rotated,
            key_id=key_id,
            used=session.used,
            retired=tuple(Retired(session.generation - one, rotated - ms) for one, ms in zip(ago, before, strict=True)),
            scopes=scopes,
            device=session.device,
            ip=_unpacked(session.ip),
        )
