"""What can happen to a user document: pure functions, `(document, moment, arguments) -> Step`.

A driver loads the document, applies one of these, saves the result on condition that nothing changed meanwhile, and
applies it again to the newer document otherwise. So every function here holds these rules:

- It may be applied again after a save whose outcome is unknown: it recognises its own earlier effect.
- What it decides by (session id, moment, targets) was fixed before the first attempt.
- Time never goes back within a document: the moment counts as at least the document's own clock. The driver took it no
  earlier than the clock of the first document that it loaded; the later ones may be ahead of it.
- A step with `ends` may have ended a session before its time, so caches of it are wrong from the save on. (A session that
  has merely expired is in nobody's cache beyond its expiry, so that is no ending in this sense.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from .document import (
    MAX_BYTES,
    MAX_RETIRED,
    MAX_SESSIONS,
    MAX_TOMBSTONES,
    Document,
    Reason,
    Retired,
    SessionRecord,
    Tombstone,
    encode,
)
from .policy import Ended, Moment, Policy, Superseded, active_sessions, is_active, needs_touch, reason_inactive

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
    "listing_of",
    "open_session",
    "raise_floor",
    "rotate",
    "touch",
]

T = TypeVar("T")

FIRST_GENERATION: Final = 1
ROOM_TO_GROW: Final = 16 * 1024
"""Bytes that a login leaves free: rotations, and differences of times that grow, lengthen what is in the document."""
A_SECOND: Final = 1000
"""The times in tokens are whole seconds, so a token may run out as much earlier (ms)."""
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
    """An older refresh token was used again after its grace. That is taken for theft, so the session was ended (RFC 9700
    section 4.14.2)."""


class Step(NamedTuple, Generic[T]):
    """What a transition answers. `document` is None where nothing is to be saved. `evicted` and `replaced`: the sessions
    that it ends besides what it is for."""

    document: Document | None
    outcome: T
    ends: bool = False
    evicted: tuple[bytes, ...] = ()
    replaced: tuple[bytes, ...] = ()


# -- what each transition begins and ends with -----------------------------------------------------------------------------


def _begin(document: Document, moment: Moment) -> tuple[Document, Moment]:
    """The document as it stands at the moment, which is never before the document's own clock."""
    moment = moment.not_before(document)
    remembered = tuple(stone for stone in document.tombstones if stone.until > moment.now)
    over = [session for session in document.sessions if not is_active(session, moment)]
    document = replace(document, clock=moment.now, tombstones=remembered)
    for session in over:
        document = _end(document, session, reason_inactive(session, moment))
    return document, moment


def _end(document: Document, session: SessionRecord, reason: Reason) -> Document:
    """The document without the session, and with a tombstone of it, unless all its tokens have expired."""
    stones = document.tombstones
    if session.expires_at > document.clock:
        stones = (*stones, Tombstone(session.id, reason, session.expires_at))[-MAX_TOMBSTONES:]
    remaining = tuple(other for other in document.sessions if other.id != session.id)
    return replace(document, sessions=remaining, tombstones=stones)


def _put(document: Document, session: SessionRecord) -> Document:
    """The document with the session in the place of its earlier state."""
    return replace(document, sessions=tuple(session if other.id == session.id else other for other in document.sessions))


def _step(document: Document, outcome: T, *, ends: bool = False, keep: bytes | None = None) -> Step[T]:
    """A step to a document that is not too long to be saved: the least recently used sessions give way, but not `keep`."""
    evicted: list[bytes] = []
    while len(encode(document)) > MAX_BYTES:
        victim = min((session for session in document.sessions if session.id != keep), key=_last_use)
        evicted.append(victim.id)
        document = _end(document, victim, Reason.EVICTED)
    return Step(document, outcome, ends or bool(evicted), tuple(evicted))


def _last_use(session: SessionRecord) -> tuple[int, int]:
    return session.seen_at, session.opened_at


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
    if (reason := document.remembered_reason(session.id)) is not Reason.UNKNOWN:
        return Step(None, Ended(reason))
    floor = max(document.not_before, moment.everyone)
    if authenticated_at is not None and authenticated_at <= floor:
        return Step(None, Ended(Reason.REVOKED))
    replaced = None if replaces is None else document.find(replaces)
    if replaced is not None:
        document = _end(document, replaced, Reason.REVOKED)
    opened = _opened(session, max(moment.now, floor + 1), authenticated_at, moment.policy)
    document = replace(document, clock=max(document.clock, opened.opened_at))
    made_room, evicted = _make_room(document, moment, opened, min(limit, MAX_SESSIONS))
    if made_room is None:
        return Step(None, Denied(active_sessions(begun, moment)))
    gone = () if replaced is None else (replaced.id,)
    return Step(made_room, opened, bool(evicted or gone), tuple(other.id for other in evicted), gone)


def _opened(session: SessionRecord, now: int, authenticated_at: int | None, policy: Policy) -> SessionRecord:
    return replace(
        session,
        opened_at=now,
        authenticated_at=now if authenticated_at is None else min(authenticated_at, now),
        seen_at=now,
        rotated_at=now,
        expires_at=_expiry(now, now, policy),
    )


def _expiry(opened_at: int, now: int, policy: Policy) -> int:
    """When the last token of a generation that begins now expires."""
    return min(opened_at + policy.session_ttl, now + max(policy.access_ttl, policy.refresh_ttl))


def _make_room(
    document: Document, moment: Moment, opened: SessionRecord, limit: int
) -> tuple[Document | None, list[SessionRecord]]:
    """The document with `opened` in it and others evicted for it; None where the policy forbids to evict enough."""
    evicted: list[SessionRecord] = []
    candidates = _eviction_order(document, moment)
    while True:
        added = replace(document, sessions=(*document.sessions, opened))
        if len(added.sessions) <= limit and len(encode(added)) <= MAX_BYTES - ROOM_TO_GROW:
            return added, evicted
        victim = next(candidates, None)
        if victim is None:
            return None, []
        evicted.append(victim)
        document = _end(document, victim, Reason.EVICTED)


def _eviction_order(document: Document, moment: Moment) -> Iterator[SessionRecord]:
    """Who may be evicted, in that order: under `evict` the least recently used; else those whose login was never used."""
    by_use = sorted(document.sessions, key=_last_use)
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
    began = moment.now
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None:
        if moment.repeated and document.was_reused(session_id):
            return Step(None, Reused())
        return Step(None, Ended(document.remembered_reason(session_id)))
    behind = generation > session.generation
    if behind:
        session = _adopted(session, generation)
    if generation == session.generation:
        full = len(_in_grace(session, moment)) >= MAX_RETIRED
        if full and moment.now < session.rotated_at + moment.policy.access_ttl // 2:
            return Step(None, Rotated(session, replayed=True))
        successor = _renewed(session, moment, key_id) if full else _successor(session, moment, key_id, device)
        return _step(_put(document, successor), Rotated(successor, behind=behind), keep=session_id)
    if _answer_was_lost(session, generation, moment, began):
        if moment.now < session.rotated_at + moment.policy.access_ttl - A_SECOND:
            return Step(None, Rotated(session, replayed=True))
        renewed = _renewed(session, moment, key_id)
        return _step(_put(document, renewed), Rotated(renewed, replayed=True), keep=session_id)
    if moment.policy.on_reuse == "refuse":
        return Step(None, Superseded())
    return _step(_end(document, session, Reason.REUSED), Reused(), ends=True)


def _renewed(session: SessionRecord, moment: Moment, key_id: str) -> SessionRecord:
    """The session with its current generation begun anew: for a client that can't get, or has not seen, a later one, and
    whose access token has run out."""
    until = _expiry(session.opened_at, moment.now, moment.policy)
    return replace(session, rotated_at=moment.now, seen_at=moment.now, expires_at=until, key_id=key_id)


def _successor(session: SessionRecord, moment: Moment, key_id: str, device: tuple[str, str] | None) -> SessionRecord:
    """The session with its next generation. More than four in grace are never reached, so none that counts is dropped."""
    name, ip = device or (session.device, session.ip)
    return replace(
        _renewed(session, moment, key_id),
        generation=session.generation + 1,
        used=False,
        retired=(*_in_grace(session, moment), Retired(session.generation, moment.now)),
        device=name,
        ip=ip,
    )


def _in_grace(session: SessionRecord, moment: Moment) -> tuple[Retired, ...]:
    return tuple(retired for retired in session.retired if moment.now < retired.at + moment.policy.rotation_grace)


def _answer_was_lost(session: SessionRecord, generation: int, moment: Moment, began: int) -> bool:
    """Whether an older generation may be answered again: it is in grace; or its successor was never used, so the answer was
    lost; or this very call made the successor, and its first save had no answer.

    `moment.repeated` alone doesn't show the last: a replay whose ending failed to be saved is repeated too.
    """
    if any(retired.generation == generation for retired in _in_grace(session, moment)):
        return True
    raised_by_this_call = moment.repeated and session.rotated_at >= began
    return generation == session.generation - 1 and (not session.used or raised_by_this_call)


def adopt(document: Document, moment: Moment, *, session_id: bytes, generation: int) -> Step[None]:
    """Take over a generation that a genuine token proves and the store has lost (it was restored from a backup)."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None or session.generation >= generation:
        return Step(None, None)
    return _step(_put(document, _adopted(session, generation)), None, keep=session_id)


def _adopted(session: SessionRecord, generation: int) -> SessionRecord:
    return replace(session, generation=generation, used=True, retired=())


# -- touch -----------------------------------------------------------------------------------------------------------------


def touch(document: Document, moment: Moment, *, session_id: bytes, generation: int) -> Step[None]:
    """Write down that a session is in use, unless another process has lately."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None or not needs_touch(session, moment, generation):
        return Step(None, None)
    used = session.used or generation == session.generation
    return _step(_put(document, replace(session, seen_at=moment.now, used=used)), None, keep=session_id)


# -- end -------------------------------------------------------------------------------------------------------------------


def end_one(document: Document, moment: Moment, *, session_id: bytes) -> Step[bool]:
    """End one session. The outcome tells whether it was active (or this call had already ended it)."""
    document, moment = _begin(document, moment)
    session = document.find(session_id)
    if session is None:
        done = moment.repeated and document.remembered_reason(session_id) is Reason.REVOKED
        return Step(None, done)
    return _step(_end(document, session, Reason.REVOKED), True, ends=True)


def end_others(document: Document, moment: Moment, *, keep: bytes | None) -> Step[int]:
    """End every session whose user proved who they are by the moment the call began, but `keep`. The outcome counts them;
    those that an earlier attempt of this call has ended are not counted again.

    It also moves `not_before`, so a login that authenticated before the call is refused although it arrives after it; one
    that slipped in between the call's load and its save is ended by the next attempt.
    """
    began = moment.now
    document, moment = _begin(document, moment)
    others = [session for session in document.sessions if session.id != keep and session.authenticated_at <= began]
    if not others and document.not_before >= began:
        return Step(None, 0)  # all of this is done, by an earlier attempt or by another call
    for session in others:
        document = _end(document, session, Reason.REVOKED)
    document = replace(document, not_before=max(document.not_before, began))
    return _step(document, len(others), ends=True, keep=keep)


def end_all(document: Document, moment: Moment) -> Step[int]:
    """End every session, as `end_others` does. The outcome counts them."""
    return end_others(document, moment, keep=None)


def raise_floor(document: Document, moment: Moment) -> Step[int]:
    """For the document of everyone: move `not_before` just beyond the moment. The outcome is the new one.

    Beyond it, so that it moves at every call, also while the store's clock is behind what it was at the last one: then
    the sessions opened since begin one millisecond after the present `not_before`.
    """
    floor = moment.now + 1
    document, moment = _begin(document, moment)
    if document.not_before >= floor:
        return Step(None, document.not_before)  # done, by an earlier attempt or by another call
    return Step(replace(document, clock=max(moment.now, floor), not_before=floor), floor, ends=True)


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
        return Step(step.document, step.outcome, step.ends, step.evicted)
    done = moment.repeated and begun.remembered_reason(session_id) is Reason.REVOKED
    return Step(None, True if done else None)


Transition = Callable[[Document, Moment], Step[T]]
