"""Under which terms sessions live, and whether a token is active under them. Pure.

`judge` is the read side of the user document, `transitions` the write side; both go by the same `Policy` and `Moment`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from .document import Document, Reason, SessionRecord

__all__ = [
    "Active",
    "Ended",
    "Moment",
    "Policy",
    "Superseded",
    "active_sessions",
    "end_of",
    "expired_in",
    "find_active",
    "is_active",
    "judge",
    "keep_until",
    "needs_touch",
    "reason_inactive",
]


class Policy(NamedTuple):
    """The settings that the transitions go by; times in milliseconds."""

    access_ttl: int
    refresh_ttl: int
    session_ttl: int
    idle_timeout: int | None
    max_sessions: int
    on_limit: Literal["evict", "deny", "choose"]
    rotation_grace: int
    on_reuse: Literal["end", "refuse"]

    @property
    def touch_after(self) -> int:
        """How old the last touch may be before a renewed lease touches again."""
        return 60_000 if self.idle_timeout is None else min(60_000, self.idle_timeout // 10)


class Moment(NamedTuple):
    """When and under which terms a transition is applied."""

    now: int
    policy: Policy
    everyone: int = 0
    """Sessions of any user opened at or before this are over."""
    repeated: bool = False
    """Whether an earlier save of this same call may have succeeded."""

    def not_before(self, document: Document) -> Moment:
        """This moment, but never before the document's own clock: time doesn't go back within a document."""
        return self if self.now >= document.clock else self._replace(now=document.clock)


class Ended(NamedTuple):
    """The session is not active, and why."""

    reason: Reason


class Superseded(NamedTuple):
    """The token's generation is not the current one, nor within its grace."""


class Active(NamedTuple):
    """The access token is active, for this long if nothing happens (ms)."""

    session: SessionRecord
    remaining: int


def end_of(session: SessionRecord, policy: Policy) -> int:
    """When a session is over if nothing more happens to it."""
    end = min(session.expires_at, session.opened_at + policy.session_ttl)
    return end if policy.idle_timeout is None else min(end, session.seen_at + policy.idle_timeout)


def is_active(session: SessionRecord, moment: Moment) -> bool:
    """Whether a session of a document is neither expired nor ended for everyone."""
    return end_of(session, moment.policy) > moment.now and session.authenticated_at > moment.everyone


def reason_inactive(session: SessionRecord, moment: Moment) -> Reason:
    """Why a session that is in the document is not active."""
    return Reason.REVOKED if session.authenticated_at <= moment.everyone else Reason.EXPIRED


def expired_in(before: Document, moment: Moment, after: Document) -> list[SessionRecord]:
    """The sessions that had expired, and that a step from one document to the other has cleared away."""
    moment = moment.not_before(before)
    return [
        session
        for session in before.sessions
        if not is_active(session, moment)
        and reason_inactive(session, moment) is Reason.EXPIRED
        and after.find(session.id) is None
    ]


def active_sessions(document: Document, moment: Moment) -> tuple[SessionRecord, ...]:
    """The active sessions, newest first."""
    moment = moment.not_before(document)
    latest_first = reversed(document.sessions)  # the order among those of one millisecond
    active = (session for session in latest_first if is_active(session, moment))
    return tuple(sorted(active, key=lambda session: -session.opened_at))


def find_active(document: Document, moment: Moment, session_id: bytes) -> SessionRecord | Ended:
    """The session with this id if it is active, whatever token it is asked for; else why it isn't."""
    session = document.find(session_id)
    if session is None:
        return Ended(document.remembered_reason(session_id))
    return session if is_active(session, moment.not_before(document)) else Ended(reason_inactive(session, moment))


def judge(document: Document, moment: Moment, session_id: bytes, generation: int) -> Active | Ended | Superseded | None:
    """Whether an access token of this session and generation is active. None: the token is newer than the document."""
    moment = moment.not_before(document)
    session = find_active(document, moment, session_id)
    if isinstance(session, Ended):
        return session
    if generation > session.generation:
        return None
    remaining = end_of(session, moment.policy) - moment.now
    if generation == session.generation:
        return Active(session, remaining)
    retired_at = next((retired.at for retired in session.retired if retired.generation == generation), None)
    if retired_at is None or retired_at + moment.policy.rotation_grace <= moment.now:
        return Superseded()
    return Active(session, min(remaining, retired_at + moment.policy.rotation_grace - moment.now))


def needs_touch(session: SessionRecord, moment: Moment, generation: int) -> bool:
    """Whether this use is to be written down: the generation's first, or the first for a while."""
    first_use = generation == session.generation and not session.used
    return first_use or moment.now - session.seen_at > moment.policy.touch_after


def keep_until(document: Document, policy: Policy) -> int:
    """When everything in a document is dead (ms), so that the store may forget it.

    `not_before` counts until no token from before it can be alive.
    """
    longest = max(policy.access_ttl, policy.refresh_ttl, policy.session_ttl)
    ends = [session.expires_at for session in document.sessions]
    ends += [stone.until for stone in document.tombstones]
    return max([*ends, document.clock + 1, document.not_before + longest if document.not_before else 0])
