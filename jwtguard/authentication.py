"""From a token to an identity, as flows: what `recall` doesn't know is verified, then judged by what the store says.

A cached document may simply be older than the token: logins, refreshes and touches in other processes are not announced. A
refusal that newer data could overturn is therefore given only after a load that began after the token was first seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, TypeAlias

from .clock import Clock
from .commits import Committer
from .document import Reason, SessionRecord, document_key
from .errors import (
    AuthError,
    SessionEvicted,
    SessionExpired,
    SessionRevoked,
    SessionUnknown,
    StoreUnavailable,
    TokenInvalid,
    TokenSuperseded,
)
from .flow import Flow
from .model import Identity
from .policy import Active, Ended, Moment, Policy, Superseded, end_of, find_active, judge, needs_touch
from .recall import FOREVER, Entry, Lease, digest_of
from .registry import Registry
from .rotation import FixedKeys
from .telemetry import Telemetry
from .tokens import Access, Tokens, access_of
from .transitions import adopt, touch

__all__ = ["ENDED", "Authenticator"]

ENDED: Final[Mapping[Reason, type[AuthError]]] = {
    Reason.UNKNOWN: SessionUnknown,
    Reason.REVOKED: SessionRevoked,
    Reason.EVICTED: SessionEvicted,
    Reason.EXPIRED: SessionExpired,
}

NO_GENERATION: Final = 0

_Verdict: TypeAlias = Active | Ended | Superseded | None


class Authenticator:
    """Authenticates access tokens.

    Arguments: `leeway`, seconds that a token may be past its `exp`; `stale_if_down`, seconds that a lease may be past its
    time while the store is down, for requests that change nothing.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        keys: FixedKeys,
        registry: Registry,
        committer: Committer,
        policy: Policy,
        clock: Clock,
        leeway: float,
        stale_if_down: float,
        telemetry: Telemetry,
    ) -> None:
        self._tokens = tokens
        self._keys = keys
        self._registry = registry
        self._committer = committer
        self._policy = policy
        self._clock = clock
        self._leeway = leeway
        self._stale_if_down = stale_if_down
        self._telemetry = telemetry

    def authenticate(self, token: bytes, *, may_be_stale: bool = False) -> Flow[Identity]:
        """Who an access token stands for, now. `may_be_stale`: the request changes nothing, so STALE_IF_DOWN applies.

        Raises an AuthError, or StoreUnavailable.
        """
        if len(token) > self._tokens.max_token:  # before anything is made of it, its digest too
            raise TokenInvalid
        good = self._registry.recall(token)
        self._telemetry.looked_up(hit=good is not None)
        if good is not None:
            return good
        yield from self._keys.looked()
        digest = digest_of(token)
        entry, access = self._verified(token, digest)
        yield from self._registry.looked()
        try:
            return (yield from self._admitted(digest, entry, access)).identity
        except StoreUnavailable as error:
            if may_be_stale and self._registry.table.is_good(entry, self._stale_if_down):
                return entry.identity
            error.about(entry.identity.subject, entry.identity.session_id)
            raise
        except AuthError as error:
            error.about(entry.identity.subject, entry.identity.session_id)
            raise

    def vouched(self, token: bytes) -> Identity:
        """Who an access token stands for that was made for this request. Raises TokenExpired, if clocks differ.

        It is no use of the token: its client may never get it, and is then to be answered again.
        """
        access = self._tokens.read_access(token)
        return self._identity(access)

    def tenure(self, subject: str, session_id: bytes) -> Flow[tuple[Lease, float]]:
        """How long a session goes on if nothing happens to it (monotonic), and the lease that says so.

        For what is open already: the token that let it in doesn't count any more. It is a use of the session, and of no
        token. Raises SessionEnded, StoreUnavailable.
        """
        asked_at = self._clock.monotonic()
        key = document_key(self._tokens.issuer, subject)
        lease = yield from self._registry.lease(key)
        session = self._session(lease, subject, session_id)
        if isinstance(session, Ended) and not isinstance(self._session(lease, subject, session_id, at=lease.now), Ended):
            lease = yield from self._registry.lease(key, newer_than=lease.number)  # it may have been prolonged elsewhere
            session = self._session(lease, subject, session_id)
        if isinstance(session, Ended):
            raise ENDED[session.reason]
        moment = self._moment(lease)
        if needs_touch(session, moment, NO_GENERATION):
            yield from self._touch(subject, NO_GENERATION, session, lease)
        return lease, asked_at + (end_of(session, self._policy) - moment.now) / 1000

    def _session(self, lease: Lease, subject: str, session_id: bytes, at: int | None = None) -> SessionRecord | Ended:
        document = self._registry.read(lease.data, subject)
        return find_active(document, self._moment(lease, at), session_id)

    def _verified(self, token: bytes, digest: bytes) -> tuple[Entry, Access]:
        """The token's entry; one that is in the table needs no second verification."""
        entry = self._registry.table.get(digest)
        if entry is not None and entry.key.alive and self._clock.time() < entry.expires_at:
            return entry, access_of(entry.identity.claims, entry.key)
        since = self._registry.number
        access = self._tokens.read_access(token)
        identity = self._identity(access)
        expires_at = max(identity.expires_at, access.expires_at)  # the same object, if they are equal: it is kept
        expires_at = expires_at + self._leeway if self._leeway else expires_at
        entry = Entry(identity, access.key, expires_at=expires_at, since=since)
        self._registry.table.put(digest, entry)
        return entry, access

    def _identity(self, access: Access) -> Identity:
        return Identity.of_token(access.claims, access.scopes, self._tokens.issuer, access.key.id)

    def _admitted(self, digest: bytes, entry: Entry, access: Access) -> Flow[Entry]:
        asked_at = self._clock.monotonic()
        lease, verdict = yield from self._verdict(access, entry.since)
        if isinstance(verdict, Superseded):
            raise TokenSuperseded
        if isinstance(verdict, Ended):
            raise ENDED[verdict.reason]
        if verdict is None:
            raise StoreUnavailable("the store is behind, and didn't take over a newer generation")
        entry = self._on_lease(entry, access, lease, verdict, asked_at)
        if not needs_touch(verdict.session, self._moment(lease), access.generation) or (
            yield from self._touch(access.subject, access.generation, verdict.session, lease)
        ):
            self._registry.table.put(digest, entry)
        return entry

    def _verdict(self, access: Access, since: int) -> Flow[tuple[Lease, _Verdict]]:
        """A verdict that may be relied on, and the lease that it is from."""
        key = document_key(self._tokens.issuer, access.subject)
        lease = yield from self._registry.lease(key)
        verdict = self._judge(lease, access)
        if self._is_suspect(lease, verdict, access, since):
            lease = yield from self._registry.lease(key, newer_than=max(since, lease.number))
            verdict = self._judge(lease, access)
        if verdict is None:
            self._telemetry.tell("store_behind", access.subject, access.session_id)
            adopting = partial(adopt, session_id=access.session_id, generation=access.generation)
            yield from self._committer.commit(key, access.subject, adopting)
            lease = yield from self._registry.lease(key, newer_than=self._registry.number)
            verdict = self._judge(lease, access)
        return lease, verdict

    def _is_suspect(self, lease: Lease, verdict: _Verdict, access: Access, since: int) -> bool:
        """Whether a newer document may say otherwise.

        A load that began after the token was first seen knows its session and its generation. What was over at the time of
        the load stays over.
        """
        if verdict is None or verdict == Ended(Reason.UNKNOWN):
            return lease.number <= since
        return verdict == Ended(Reason.EXPIRED) and self._judge(lease, access, at=lease.now) != verdict

    def _judge(self, lease: Lease, access: Access, at: int | None = None) -> _Verdict:
        document = self._registry.read(lease.data, access.subject)
        return judge(document, self._moment(lease, at), access.session_id, access.generation)

    def _moment(self, lease: Lease, at: int | None = None) -> Moment:
        now = lease.store_time(self._clock.monotonic()) if at is None else at
        return Moment(now, self._policy, lease.everyone)

    def _on_lease(self, entry: Entry, access: Access, lease: Lease, verdict: Active, asked_at: float) -> Entry:
        """The entry on its new lease. Its scopes are those of the token that the session still has. What remains is counted
        from when it was asked for, before the verdict, so that no delay in between makes it last too long."""
        scopes, allowed = access.scopes, verdict.session.scopes
        if scopes != allowed:
            scopes = tuple(scope for scope in scopes if scope in allowed)
        identity = entry.identity if scopes == entry.identity.scopes else entry.identity.with_scopes(scopes)
        until = asked_at + verdict.remaining / 1000
        outlives = until >= lease.until + self._stale_if_down  # as most do, so they needn't each keep when
        return entry.admitted(lease, identity, FOREVER if outlives else until)

    def _touch(self, subject: str, generation: int, session: SessionRecord, lease: Lease) -> Flow[bool]:
        """Write down the use, once per lease and generation. What merely says when is dropped if others write; a first use
        is not, since replays are judged by it. This request's answer depends on neither: the store admitted the token.

        Answers whether the token may be recalled from now on, and so be used without another touch: not before its first
        use is written down.
        """
        use = (session.id, generation)
        is_first = generation == session.generation and not session.used
        marks = lease.touched
        if marks is None:  # of two threads that come to this at once, one keeps its marks to itself, and writes in vain
            marks = lease.touched = {}
        written = marks.get(use)  # one look: another thread may take its mark back at any time
        if written is not None:
            return not is_first or written
        key = document_key(self._tokens.issuer, subject)
        if not is_first and self._committer.is_busy(key):
            return True
        marks[use] = False
        try:
            touching = partial(touch, session_id=session.id, generation=generation)
            yield from self._committer.commit(key, subject, touching, insist=is_first)
            marks[use] = True
        except StoreUnavailable:
            return not is_first  # the committer has told its health
        finally:
            if is_first and not marks.get(use):
                marks.pop(use, None)  # for the next request to try again
        return True
