"""What a guard does, once for both colours: each method is a flow (see `flow`) or waits for nothing.

Here the pure parts meet: tokens say what a client claims, the registry what the store knows, `judge` and the transitions
what follows. Order matters, and is the same everywhere: verify first, ask the store second, answer last; and nothing is
minted before what it stands for is saved.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from .authentication import ENDED
from .clock import Clock
from .commits import Committer
from .context import current_device, current_identity, forbid_storing
from .cookies import check_origin, hand_over, take_back
from .document import MAX_SESSIONS, Reason, SessionRecord, document_key, everyone_key
from .errors import JWTGuardError, LimitReached, RefreshReused, RefreshSuperseded, TokenInvalid
from .flow import Call, Flow
from .inputs import (
    checked_claims,
    checked_device,
    checked_identity,
    checked_limit,
    checked_scopes,
    checked_subject,
    milliseconds,
)
from .model import Device, Identity, Session, TokenPair
from .policy import Ended, Moment, Policy, Superseded, active_sessions, reason_inactive
from .registry import Registry
from .rotation import FixedKeys
from .telemetry import Telemetry
from .tokens import CLOCK_SKEW, ID_BYTES, Refresh, Tokens, id_of_text, text_of_id, token_bytes
from .transitions import (
    FIRST_GENERATION,
    Denied,
    Reused,
    Rotated,
    Step,
    Transition,
    end_all,
    end_listed,
    end_one,
    end_others,
    listing_of,
    open_session,
    raise_floor,
    rotate,
)

__all__ = ["Operations"]

T = TypeVar("T")
P = ParamSpec("P")
E = TypeVar("E", bound=JWTGuardError)

ClaimsLoader = Callable[[str], Any]


class _Claims(NamedTuple):
    """Custom claims. `from_login`: those given to `login`; the refresh token carries them. `current`: these and what
    `claims_loader` returns now; what it no longer returns is gone with the next refresh."""

    from_login: dict[str, Any]
    current: dict[str, Any]


def _reported(method: Callable[Concatenate[Operations, P], Flow[T]]) -> Callable[Concatenate[Operations, P], Flow[T]]:
    """A flow whose refusal is told, also where its caller deals with it."""

    def flow(self: Operations, *arguments: P.args, **options: P.kwargs) -> Flow[T]:
        try:
            return (yield from method(self, *arguments, **options))
        except JWTGuardError as error:
            self._telemetry.rejected(error)
            raise

    return wraps(method)(flow)  # type: ignore[return-value]


class Operations:
    """The flows of one guard.

    Arguments: `claims_loader`, a user's hook, called with the subject at login and at each rotation.
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
        claims_loader: ClaimsLoader | None,
        telemetry: Telemetry,
    ) -> None:
        self._tokens = tokens
        self._keys = keys
        self._issuer = tokens.issuer
        self._registry = registry
        self._committer = committer
        self._policy = policy
        self._clock = clock
        self._claims_loader = claims_loader
        self._telemetry = telemetry
        self._tell = telemetry.tell

    # -- login and refresh -------------------------------------------------------------------------------------------------

    @_reported
    def login(
        self,
        subject: object,
        *,
        scopes: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
        device: Device | None = None,
        limit: int | None = None,
        replace: str | None = None,
        authenticated_at: float | datetime | None = None,
    ) -> Flow[TokenPair]:
        """Open a session within the limit. See `Guard.login`."""
        check_origin()
        user = checked_subject(subject)
        presented = current_identity()
        yield from self._keys.looked()
        replaced = self._replaced(user, replace, presented)
        session = self._new_session(checked_scopes(scopes), checked_device(device) or current_device())
        allowed = checked_limit(limit, MAX_SESSIONS) or self._policy.max_sessions
        proved_at = milliseconds(authenticated_at)
        custom = yield from self._claims(user, checked_claims(claims or {}))
        self._tokens.check_that_they_fit(user, session.scopes, custom.current, custom.from_login)
        opening = partial(
            open_session,
            session=session,
            limit=allowed,
            replaces=replaced,
            authenticated_at=proved_at,
        )
        step = yield from self._commit(user, opening)
        if isinstance(step.outcome, Denied):
            raise self._limit_reached(user, step.outcome).about(user)
        if isinstance(step.outcome, Ended):
            raise ENDED[step.outcome.reason]().about(user)
        where = Device(session.device, None, session.ip or None)
        self._tell("opened", user, session.id, count=1, device=where)
        if presented.is_authenticated and presented.subject != user:
            yield from self.logout(presented)
        pair = self._pair(user, step.outcome, custom)
        hand_over(pair)
        return pair

    def _replaced(self, user: str, replace: str | None, presented: Identity) -> bytes | None:
        """The session to end in the same step: the one asked for, or the one whose token came with this request."""
        if replace is not None:
            if (session_id := id_of_text(replace) if isinstance(replace, str) else None) is None:
                raise ValueError("replace is not a session id: expected 22 characters, as Session.id has them")
            return session_id
        return id_of_text(presented.session_id) if presented.subject == user else None

    def _new_session(self, scopes: tuple[str, ...], device: Device) -> SessionRecord:
        return SessionRecord(
            id=secrets.token_bytes(ID_BYTES),
            opened_at=0,
            authenticated_at=0,
            seen_at=0,
            expires_at=0,
            generation=FIRST_GENERATION,
            rotated_at=0,
            key_id=self._tokens.keyring.signing.id,
            used=False,
            retired=(),
            scopes=scopes,
            device=device.name,
            ip=device.ip or "",
        )

    def _limit_reached(self, user: str, denied: Denied) -> LimitReached:
        sessions = [_session(user, record) for record in denied.sessions]
        if self._policy.on_limit != "choose":
            return LimitReached(sessions)
        return LimitReached(sessions, self._tokens.mint_ticket(user, listing_of(denied.sessions)))

    @_reported
    def refresh(self, refresh_token: str | bytes, *, device: Device | None = None) -> Flow[TokenPair]:
        """Answer a refresh token. See `Guard.refresh`."""
        yield from self._keys.looked()
        asked = self._tokens.read_refresh(token_bytes(refresh_token))
        custom = yield from self._claims(asked.subject, asked.claims)
        if self._claims_loader is not None:  # else they are those of the login, which did fit
            self._tokens.check_that_they_fit(asked.subject, (), custom.current, custom.from_login)
        known = checked_device(device) or current_device()
        rotating = partial(
            rotate,
            session_id=asked.session_id,
            generation=asked.generation,
            key_id=self._tokens.keyring.signing.id,
            device=(known.name, known.ip or "") if known.name or known.ip else None,
        )
        try:
            step = yield from self._commit(asked.subject, rotating)
        finally:  # the older access token is good for its grace from now on, and not for what is left of a lease
            self._registry.ended(document_key(self._issuer, asked.subject))
        return self._answer_refresh(asked, step.outcome, custom)

    def _answer_refresh(self, asked: Refresh, outcome: Rotated | Reused | Superseded | Ended, custom: _Claims) -> TokenPair:
        if isinstance(outcome, Ended):
            raise _about(asked, ENDED[outcome.reason]())
        if isinstance(outcome, Reused | Superseded):
            error = RefreshReused() if isinstance(outcome, Reused) else RefreshSuperseded()
            ended = int(isinstance(outcome, Reused))
            self._tell("refresh_reused", asked.subject, asked.session_id, code=error.code, count=ended)
            raise _about(asked, error)
        if outcome.behind:
            self._tell("store_behind", asked.subject, asked.session_id)
        self._tell("refresh_replayed" if outcome.replayed else "refreshed", asked.subject, asked.session_id)
        return self._pair(asked.subject, outcome.session, custom)

    def _claims(self, user: str, own: dict[str, Any]) -> Flow[_Claims]:
        if self._claims_loader is None:
            return _Claims(own, own)
        return _Claims(own, checked_claims({**own, **(yield Call(self._claims_loader, (user,)))}))

    def _pair(self, user: str, session: SessionRecord, custom: _Claims) -> TokenPair:
        """The tokens of a session's current generation: a function of what is stored, so a retry gets the same bytes."""
        issued_at = self._issued_at(session)
        ends_at = min(session.expires_at, session.opened_at + self._policy.session_ttl) // 1000
        refresh_until = min(ends_at, issued_at + self._policy.refresh_ttl // 1000)
        access_until = min(ends_at, issued_at + self._policy.access_ttl // 1000)
        token_id = (session.id, session.generation)
        access = self._tokens.mint_access(
            user,
            token_id,
            key_id=session.key_id,
            issued_at=issued_at,
            expires_at=access_until,
            authenticated_at=session.authenticated_at // 1000,
            scopes=session.scopes,
            claims=custom.current,
        )
        refresh = self._tokens.mint_refresh(
            user, token_id, key_id=session.key_id, issued_at=issued_at, expires_at=refresh_until, claims=custom.from_login
        )
        forbid_storing()
        return TokenPair(access, refresh, self._expires_in(issued_at, access_until), text_of_id(session.id))

    def _issued_at(self, session: SessionRecord) -> int:
        """When the current generation began. A document's time doesn't go back, so after a clock was ahead and set right it
        is ahead itself for a while; a token from the future would be refused."""
        now = int(self._clock.time())
        began = session.rotated_at // 1000
        return began if began <= now + CLOCK_SKEW else now

    def _expires_in(self, issued_at: int, expires_at: int) -> int:
        """What is left of a token's life; while its pair may be asked for again, all of it: each answer is the same.

        That is too much by ROTATION_GRACE at most, and whose token expires early is told so, and refreshes.
        """
        now = int(self._clock.time())
        in_grace = now - issued_at <= self._policy.rotation_grace // 1000
        return max(0, expires_at - (issued_at if in_grace else now))

    # -- endings and listing -----------------------------------------------------------------------------------------------

    def logout(self, identity: Identity) -> Flow[None]:
        """End the session of an identity; one that is over already is no error."""
        if checked_identity(identity).is_authenticated:
            yield from self._revoke(identity.subject, identity.session_id, "logout")

    @_reported
    def logout_by_refresh_token(self, refresh_token: str | bytes) -> Flow[None]:
        """End the session of a refresh token, of whatever generation. Raises a RefreshError, or SessionEnded."""
        yield from self._keys.looked()
        asked = self._tokens.read_refresh(token_bytes(refresh_token))
        step = yield from self._end(asked.subject, partial(end_one, session_id=asked.session_id))
        if not step.outcome:
            raise _about(asked, ENDED[(yield from self._why_over(asked))]())
        self._tell("revoked", asked.subject, asked.session_id, code="logout", count=1)

    def revoke(self, subject: object, session_id: str) -> Flow[bool]:
        """End one session of a user. Answers whether it was active."""
        return (yield from self._revoke(checked_subject(subject), session_id, "one"))

    def _revoke(self, user: str, session_id: str, code: str) -> Flow[bool]:
        target = id_of_text(session_id)
        if target is None:
            return False
        step = yield from self._end(user, partial(end_one, session_id=target))
        if current_identity().session_id == session_id:
            take_back()
        if step.outcome:
            self._tell("revoked", user, target, code=code, count=1)
        return step.outcome

    def revoke_others(self, identity: Identity) -> Flow[int]:
        """End the user's sessions but the identity's own. Answers how many."""
        keep = id_of_text(checked_identity(identity).session_id)
        if keep is None:
            raise TokenInvalid("the anonymous identity has no sessions")
        step = yield from self._end(identity.subject, partial(end_others, keep=keep))
        self._tell("revoked", identity.subject, code="others", count=step.outcome)
        return step.outcome

    def revoke_all(self, subject: object) -> Flow[int]:
        """End all sessions of a user. Answers how many."""
        user = checked_subject(subject)
        step = yield from self._end(user, end_all)
        if current_identity().subject == user:
            take_back()
        self._tell("revoked", user, code="all", count=step.outcome)
        return step.outcome

    def revoke_everyone(self) -> Flow[None]:
        """End every session of every user, by one write."""
        yield from self._committer.commit(everyone_key(self._issuer), "", raise_floor)
        self._tell("revoked", code="everyone", count=None)

    @_reported
    def end_with_ticket(self, ticket: str | bytes, session_id: str) -> Flow[bool]:
        """End one of the sessions that a ticket lists. Answers whether it is one of them. Raises TokenInvalid if they have
        changed since (the ticket was used, or is out of date)."""
        yield from self._keys.looked()
        asked = self._tokens.read_ticket(token_bytes(ticket))
        target = id_of_text(session_id)
        if target is None:
            return False
        ending = partial(end_listed, session_id=target, listing=asked.listing)
        step = yield from self._end(asked.subject, ending)
        if step.outcome is None:
            raise TokenInvalid("the ticket was used, or the sessions that it lists have changed")
        if step.outcome:
            self._tell("revoked", asked.subject, target, code="ticket", count=1)
        return step.outcome

    def sessions(self, subject: object) -> Flow[list[Session]]:
        """The user's active sessions, newest first, as the store has them now."""
        user = checked_subject(subject)
        yield from self._registry.looked()
        yield from self._registry.know_everyone()
        loaded = yield from self._registry.load(document_key(self._issuer, user))
        moment = Moment(loaded.now, self._policy, self._registry.everyone)
        records = active_sessions(self._registry.read(loaded.data, user), moment)
        current = current_identity().session_id
        return [_session(user, record).as_current(current) for record in records]

    def _why_over(self, asked: Refresh) -> Flow[Reason]:
        """Why a session that is not active isn't."""
        loaded = yield from self._registry.load(document_key(self._issuer, asked.subject))
        document = self._registry.read(loaded.data, asked.subject)
        session = document.find(asked.session_id)
        if session is None:
            return document.remembered_reason(asked.session_id)
        return reason_inactive(session, Moment(loaded.now, self._policy, self._registry.everyone))

    def _end(self, user: str, transition: Transition[T]) -> Flow[Step[T]]:
        """Commit an ending. What another process has ended already, this one may not know yet: it does from here on."""
        try:
            return (yield from self._commit(user, transition))
        finally:
            self._registry.ended(document_key(self._issuer, user))

    def _commit(self, user: str, transition: Transition[T]) -> Flow[Step[T]]:
        return self._committer.commit(document_key(self._issuer, user), user, transition)


def _about(asked: Refresh, error: E) -> E:
    return error.about(asked.subject, text_of_id(asked.session_id))


def _session(user: str, record: SessionRecord) -> Session:
    """What a user sees of a session."""
    return Session(
        id=text_of_id(record.id),
        subject=user,
        device=Device(record.device, None, record.ip or None),
        scopes=record.scopes,
        created_at=record.opened_at // 1000,
        last_seen_at=record.seen_at // 1000,
        expires_at=record.expires_at // 1000,
    )
