"""What can happen to a user document: pure functions, `(document, moment, arguments) -> Step`.

A driver loads the document, applies one of these, saves the result on condition that nothing changed meanwhile, and
applies it again to the newer document otherwise. So every function here holds these rules:

- It may be applied again after a save whose outcome is unknown: it recognises its own earlier effect.
- What it decides by (session id, moment, targets) was fixed before the first attempt.
- Time never goes back within a document: the moment counts as at least the document's own clock.
- A step with `ends` may have ended a session before its time, so caches of it are wrong from the save on. (A session that
  has merely expired is in nobody's cache beyond its expiry, so that is no ending in this sense.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from .document import MAX_BYTES, MAX_TOMBSTONES, Document, Reason, Retired, SessionRecord, Tombstone, encode
from .policy import Ended, Moment, Policy, Superseded, active_sessions, is_active, why_over

__all__ = [
    "FIRST_GENERATION",
    "Denied",
    "Reused",
    "Rotated",
    "Step",
    "Transition",
    "adopt",
    "end_all",
    "end_listed",
    "end_one",
    "end_others",
    "keep_until",
    "listing_of",
    "open_session",
    "raise_floor",
    "rotate",
    "touch",
]

T = TypeVar("T")

FIRST_GENERATION: Final = 1
MAX_RETIRED: Final = 4
UNSEEN_GIVES_WAY_AFTER: Final = 60_000
"""Under `deny` and `choose`: a session not used within this long of its login had its answer lost (ms)."""


class Denied(NamedTuple):
    """No room: the active sessions, newest first."""

    sessions: tuple[SessionRecord, ...]


class Rotated(NamedTuple):
    """The session, whose current generation is to be answered."""

    session: SessionRecord
    replayed: bool = False
    """Whether the token that asked was an older one, so this is an answer given again."""
    behind: bool = False
    """Whether the store had an older generation than the token: it has lost writes."""


class Reused(NamedTuple):
    """An older token came back too late: theft, and the session was ended."""


class Step(NamedTuple, Generic[T]):
    """What a transition answers. `document` is None where nothing is to be saved."""

    document: Document | None
    outcome: T
    ends: bool = False
    evicted: tuple[bytes, ...] = ()


# -- what each transition begins and ends with -----------------------------------------------------------------------------


def _begin(document: Document, moment: Moment) -> tuple[Document, Moment]:
    """The document as it stands at the moment, which is never before the document's own clock."""
    moment = moment.not_before(document)
    over = [session for session in document.sessions if not is_active(session, moment)]
    document = replace(document, clock=moment.now)
    for session in over:
        document = _end(document, session, why_over(session, moment))
    remembered = tuple(stone for stone in document.tombstones if stone.until > moment.now)
    return replace(document, tombstones=remembered), moment


def _end(document: Document, session: SessionRecord, reason: Reason) -> Document:
    """The document without the session, and with a tombstone of it."""
    stone = Tombstone(session.id, reason, session.expires_at)
    return replace(
        document,
        sessions=tuple(other for other in document.sessions if other.id != session.id),
        tombstones=(*document.tombstones, stone)[-MAX_TOMBSTONES:],
    )


def _put(document: Document, session: SessionRecord) -> Document:
    """The document with the session in the place of its earlier state."""
    return replace(document, sessions=tuple(session if other.id == session.id else other for other in document.sessions))


# -- open ------------------------------------------------------------------------------------------------------------------


def open_session(
    document: Document,
    moment: Moment,
    *,
    session: SessionRecord,
    limit: int,
    replaces: bytes | None = None,
    authenticated_at: int | None = None,
) -> Step[SessionRecord | Denied | Ended]:
    """Add a session, within the limit.

    session: the new one; its times are set here. limit: how many there may be with it. replaces: the id of a session to
    end in the same step. authenticated_at: when the user proved who they are (ms); at or before the document's
    `not_before`, or everyone's, the answer is Ended(REVOKED).
    """
    begun, moment = _begin(document, moment)
    document = begun
    already = document.find(session.id)
    if already is not None:
        return Step(None, already)
    if (reason := document.why_ended(session.id)) is not Reason.UNKNOWN:
        return Step(None, Ended(reason))
    floor = max(document.not_before, moment.everyone)
    if authenticated_at is not None and authenticated_at <= floor:
        return Step(None, Ended(Reason.REVOKED))
    replaced = None if replaces is None else document.find(replaces)
    if replaced is not None:
        document = _end(document, replaced, Reason.REVOKED)
    opened = _opened(session, max(moment.now, floor + 1), moment.policy)
    document = replace(document, clock=max(document.clock, opened.opened_at))
    made_room, evicted = _make_room(document, moment, opened, limit)
    if made_room is None:
        return Step(None, Denied(active_sessions(begun, moment)))
    ended = tuple(other.id for other in evicted)
    return Step(made_room, opened, ends=replaced is not None or bool(ended), evicted=ended)


def _opened(session: SessionRecord, now: int, policy: Policy) -> SessionRecord:
    lives_until = _expiry(now, now, policy)
    return replace(session, opened_at=now, seen_at=now, rotated_at=now, expires_at=lives_until)


def _expiry(opened_at: int, now: int, policy: Policy) -> int:
    """When the last token of a generation that begins now expires."""
    return min(opened_at + policy.session_ttl, now + max(policy.access_ttl, policy.refresh_ttl))


def _make_room(
    document: Document, moment: Moment, opened: SessionRecord, limit: int
) -> tuple[Document | None, list[SessionRecord]]:
    """The document with `opened` in it and others evicted for it; None where the policy forbids to evict enough."""
    evicted: list[SessionRecord] = []
    candidates = _by_right_to_stay(document, moment)
    while True:
        added = replace(document, sessions=(*document.sessions, opened))
        if len(added.sessions) <= limit and len(encode(added)) <= MAX_BYTES:
            return added, evicted
        victim = next(candidates, None)
        if victim is None:
            return None, []
        evicted.append(victim)
        document = _end(document, victim, Reason.EVICTED)


def _by_right_to_stay(document: Document, moment: Moment) -> Iterator[SessionRecord]:
    """Who may be evicted, in that order: under `evict` the least recently used; else those whose login was never used."""
    by_use = sorted(document.sessions, key=lambda session: (session.seen_at, session.opened_at))
    if moment.policy.on_limit == "evict":
        return iter(by_use)
    return iter([session for session in by_use if _never_used(session, moment)])


def _never_used(session: SessionRecord, moment: Moment) -> bool:
    fresh = session.generation == FIRST_GENERATION and not session.used
    return fresh and session.opened_at + UNSEEN_GIVES_WAY_AFTER <= moment.now


# -- rotate ----------------------------------------------------------------------------------------------------------------


def rotate(
    document: Document,
    moment: Moment,
    *,
    session_id: bytes,
    generation: int,
    key_id: str,
    device: tuple[str, str] | None = None,
) -> Step[Rotated | Reused | Superseded | Ended]:
    """Answer a refresh token of this generation: with the next generation, or with the current one again.

    key_id: the key that will sign the next generation. device: the name and address it was asked from, if known.
    """
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None:
        return Step(None, Ended(document.why_ended(session_id)))
    behind = generation > session.generation
    if behind:
        session = _adopted(session, generation)
    if generation == session.generation:
        if len(_in_grace(session, moment)) >= MAX_RETIRED:
            return Step(None, Rotated(session, replayed=True))
        successor = _successor(session, moment, key_id, device)
        return Step(_put(document, successor), Rotated(successor, behind=behind))
    if _answer_was_lost(session, generation, moment):
        return Step(None, Rotated(session, replayed=True))
    if moment.policy.on_reuse == "refuse":
        return Step(None, Superseded())
    return Step(_end(document, session, Reason.REVOKED), Reused(), ends=True)


def _successor(session: SessionRecord, moment: Moment, key_id: str, device: tuple[str, str] | None) -> SessionRecord:
    """The session with its next generation. More than four in grace are never reached, so none that counts is dropped."""
    name, ip = device or (session.device, session.ip)
    return replace(
        session,
        generation=session.generation + 1,
        rotated_at=moment.now,
        seen_at=moment.now,
        expires_at=_expiry(session.opened_at, moment.now, moment.policy),
        key_id=key_id,
        used=False,
        retired=(*_in_grace(session, moment), Retired(session.generation, moment.now)),
        device=name,
        ip=ip,
    )


def _in_grace(session: SessionRecord, moment: Moment) -> tuple[Retired, ...]:
    return tuple(retired for retired in session.retired if moment.now < retired.at + moment.policy.rotation_grace)


def _answer_was_lost(session: SessionRecord, generation: int, moment: Moment) -> bool:
    """Whether an older generation may ask again: in grace; or its successor was never seen; or this very call raised it."""
    if any(retired.generation == generation for retired in _in_grace(session, moment)):
        return True
    return generation == session.generation - 1 and (not session.used or moment.repeated)


def adopt(document: Document, moment: Moment, *, session_id: bytes, generation: int) -> Step[None]:
    """Take over a generation that a genuine token proves and the store has lost (it was restored from a backup)."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None or session.generation >= generation:
        return Step(None, None)
    return Step(_put(document, _adopted(session, generation)), None)


def _adopted(session: SessionRecord, generation: int) -> SessionRecord:
    return replace(session, generation=generation, used=True, retired=())


# -- touch -----------------------------------------------------------------------------------------------------------------


def touch(document: Document, moment: Moment, *, session_id: bytes, generation: int) -> Step[None]:
    """Write down that a session is in use."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None:
        return Step(None, None)
    used = session.used or generation == session.generation
    return Step(_put(document, replace(session, seen_at=moment.now, used=used)), None)


# -- end -------------------------------------------------------------------------------------------------------------------


def end_one(document: Document, moment: Moment, *, session_id: bytes) -> Step[bool]:
    """End one session. The outcome tells whether it was active (or this call had already ended it)."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None:
        done = moment.repeated and document.why_ended(session_id) is Reason.REVOKED
        return Step(None, done)
    return Step(_end(document, session, Reason.REVOKED), True, ends=True)


def end_others(document: Document, moment: Moment, *, keep: bytes | None) -> Step[int]:
    """End every session opened by the moment the call began, but `keep`. The outcome counts them.

    It also moves `not_before`, so a login that authenticated before the call is refused although it arrives after it.
    """
    began = moment.now
    document, moment = _begin(document, moment)
    others = [session for session in document.sessions if session.id != keep and session.opened_at <= began]
    for session in others:
        document = _end(document, session, Reason.REVOKED)
    document = replace(document, not_before=max(document.not_before, began))
    return Step(document, len(others), ends=True)


def end_all(document: Document, moment: Moment) -> Step[int]:
    """End every session opened by the moment the call began. The outcome counts them."""
    return end_others(document, moment, keep=None)


def raise_floor(document: Document, moment: Moment) -> Step[int]:
    """For the document of everyone: move `not_before` to the moment. The outcome is the new one."""
    document, moment = _begin(document, moment)
    floor = max(document.not_before, moment.now)
    return Step(replace(document, not_before=floor), floor, ends=True)


def listing_of(sessions: Iterable[SessionRecord]) -> str:
    """A fingerprint of a set of sessions, for the ticket that may end one of just these."""
    return hashlib.sha256(b"".join(sorted(session.id for session in sessions))).hexdigest()[:32]


def end_listed(document: Document, moment: Moment, *, session_id: bytes, listing: str) -> Step[bool | None]:
    """End one of the sessions that a ticket lists, if the user's active sessions are still just these.

    So a ticket is good for one use without anything to remember it by: what it ends is then no longer as listed. The
    outcome is that of `end_one`, or None if the listing is not the present one.
    """
    begun, later = _begin(document, moment)
    if listing_of(begun.sessions) == listing:
        step = end_one(begun, later, session_id=session_id)
        return Step(step.document, step.outcome, step.ends)
    done = moment.repeated and begun.why_ended(session_id) is Reason.REVOKED
    return Step(None, True if done else None)


def keep_until(document: Document, policy: Policy) -> int:
    """When everything in a document is dead (ms), so that the store may forget it.

    `not_before` counts until no token from before it can be alive.
    """
    longest = max(policy.access_ttl, policy.refresh_ttl, policy.session_ttl)
    ends = [session.expires_at for session in document.sessions]
    ends += [stone.until for stone in document.tombstones]
    return max([*ends, document.clock + 1, document.not_before + longest if document.not_before else 0])


Transition = Callable[[Document, Moment], Step[T]]
