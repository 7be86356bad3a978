"""User documents for tests: short ways to policies, moments, sessions, and documents with sessions in them."""

from __future__ import annotations

from typing import Any

from jwtguard.document import Document, SessionRecord
from jwtguard.policy import Moment, Policy
from jwtguard.transitions import FIRST_GENERATION, Step, open_session

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_750_000_000_000
KEY_ID = "keyid-01"

POLICY = Policy(
    access_ttl=30 * MINUTE,
    refresh_ttl=30 * DAY,
    session_ttl=90 * DAY,
    idle_timeout=None,
    max_sessions=100,
    on_limit="evict",
    rotation_grace=30 * SECOND,
    on_reuse="end",
)
EMPTY = Document.empty("alice")


def moment(now: int = NOW, *, everyone: Any = 0, repeated: Any = False, **policy: Any) -> Moment:
    """A moment under the defaults, or under a policy that differs from them."""
    return Moment(now, POLICY._replace(**policy), everyone, repeated)


def sid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fresh(number: int, **fields: Any) -> SessionRecord:
    """A session as a login makes it, before it is opened."""
    blank: dict[str, Any] = {
        "id": sid(number),
        "opened_at": 0,
        "authenticated_at": 0,
        "seen_at": 0,
        "expires_at": 0,
        "generation": FIRST_GENERATION,
        "rotated_at": 0,
        "key_id": KEY_ID,
        "used": False,
        "retired": (),
        "scopes": (),
        "device": "Firefox on Linux",
        "ip": "203.0.113.7",
    }
    return SessionRecord(**{**blank, **fields})


def open_one(document: Document, number: int, at: Moment, limit: int = 100, **terms: Any) -> Step[Any]:
    return open_session(document, at, session=fresh(number), limit=limit, **terms)


def with_sessions(*numbers: int, now: int = NOW, apart: int = 0) -> Document:
    """A document with these sessions, opened one after the other, `apart` ms from each other."""
    document = EMPTY
    for index, number in enumerate(numbers):
        document = saved(open_one(document, number, moment(now + index * apart)))
    return document


def saved(step: Step[Any]) -> Document:
    """The document that a step has to save."""
    assert step.document is not None
    return step.document


def after(document: Document, step: Step[Any]) -> Document:
    """The document as a step leaves it, whether it saves or not."""
    return document if step.document is None else step.document


def ids(document: Document) -> list[int]:
    """The sessions of a document, as the numbers that they were made with."""
    return [int.from_bytes(session.id, "big") for session in document.sessions]
