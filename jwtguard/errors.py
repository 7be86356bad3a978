"""Every error that jwtguard raises, with the answer that it becomes.

    JWTGuardError
    ├── ConfigError                  (also a ValueError)  a setting is wrong: the process must not start
    ├── AuthError               401  the request is not authenticated
    │   ├── TokenMissing             token_missing
    │   ├── TokenInvalid             token_invalid
    │   ├── TokenExpired             token_expired
    │   ├── TokenSuperseded          token_superseded
    │   ├── AuthenticationTooOld     authentication_too_old (RFC 9470)
    │   ├── SessionEnded             its session is not active
    │   │   ├── SessionRevoked       session_revoked
    │   │   ├── SessionEvicted       session_evicted
    │   │   ├── SessionExpired       session_expired
    │   │   └── SessionUnknown       session_unknown
    │   └── RefreshError             error="invalid_grant" (RFC 6749 section 5.2)
    │       ├── RefreshInvalid       refresh_invalid
    │       ├── RefreshExpired       refresh_expired
    │       ├── RefreshReused        refresh_reused
    │       └── RefreshSuperseded    refresh_superseded
    ├── RequestInvalid          400  request_invalid
    │   └── BodyTooLarge        413  body_too_large
    ├── ScopeMissing            403  scope_missing
    ├── CrossSite               403  csrf
    ├── SessionNotFound         404  session_not_found
    ├── LimitReached            409  limit_reached
    └── StoreUnavailable        503  store_unavailable
        ├── StoreError               a store's driver failed, or answered what can't be
        │   └── Unconfirmed          an ending isn't known to be at as many replicas as were asked for
        └── DocumentDamaged          one user's document can't be read

An error class carries `status`, `code`, `error` and `description`; what renders an answer reads these and never asks for
the type. A client is told `detail`: the description, and of a malformed request also what is wrong with it. Any other
message given to the constructor is for logs and developers; it holds no token and no secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from .model import Session

__all__ = [
    "AuthError",
    "AuthenticationTooOld",
    "BodyTooLarge",
    "ConfigError",
    "CrossSite",
    "DocumentDamaged",
    "JWTGuardError",
    "LimitReached",
    "RefreshError",
    "RefreshExpired",
    "RefreshInvalid",
    "RefreshReused",
    "RefreshSuperseded",
    "RequestInvalid",
    "ScopeMissing",
    "SessionEnded",
    "SessionEvicted",
    "SessionExpired",
    "SessionNotFound",
    "SessionRevoked",
    "SessionUnknown",
    "StoreError",
    "StoreUnavailable",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "TokenSuperseded",
    "Unconfirmed",
]


class JWTGuardError(Exception):
    """Base of all errors of jwtguard.

    Class attributes: `status`, the HTTP status; `code`, what a client can switch on; `error`, the error code of RFC 6750
    section 3.1 or RFC 6749 section 5.2 where one applies; `description`, one sentence for a person.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    error: ClassVar[str | None] = None
    description: ClassVar[str] = "An error."
    challenges: ClassVar[bool] = False
    """Whether the answer carries a `WWW-Authenticate: Bearer` challenge."""
    concerns: tuple[str, str] = ("", "")
    """For telemetry: the subject and the session id of the token that was verified, where one was. No answer has them."""
    told: bool = False
    """For telemetry: whether it is counted and logged. That is done once, by whoever sees it first."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.description)

    def about(self, subject: str, session_id: str = "") -> Self:
        """This error, about a verified token."""
        self.concerns = (subject, session_id)
        return self

    @property
    def detail(self) -> str:
        """What a client is told (RFC 9457 section 3.1.4)."""
        return self.description

    def challenge_parameters(self) -> Mapping[str, str]:
        """Further parameters of the RFC 6750 challenge, besides realm and error."""
        return {}

    def members(self) -> Mapping[str, object]:
        """Extension members of the problem document (RFC 9457 section 3.2)."""
        return {}

    def headers(self) -> Mapping[str, str]:
        """Further response headers."""
        return {}


class ConfigError(JWTGuardError, ValueError):
    """A setting is wrong, or what it asks for is not installed."""

    code = "config"
    description = "The configuration is wrong."


class AuthError(JWTGuardError):
    """The request is not authenticated."""

    status = 401
    code = "token_invalid"
    error: ClassVar[str | None] = "invalid_token"
    description = "The request is not authenticated."
    challenges = True


class TokenMissing(AuthError):
    """No credentials came, and the resource needs them."""

    code = "token_missing"
    error = None  # RFC 6750 section 3.1: no error code where no credentials came
    description = "This resource needs an access token."


class TokenInvalid(AuthError):
    """The token is malformed, of another issuer, audience or kind, or its signature is wrong. Log in again."""

    code = "token_invalid"
    description = "The token is not valid. Log in again."


class TokenExpired(AuthError):
    """The access token is past its `exp`. Refresh it."""

    code = "token_expired"
    description = "The access token has expired. Refresh it."


class TokenSuperseded(AuthError):
    """The access token is of an older generation, past its grace. Use the newer one, or refresh."""

    code = "token_superseded"
    description = "A newer access token has taken this one's place. Use the newer one, or refresh."


class AuthenticationTooOld(AuthError):
    """The user proved who they are too long ago for what is asked for (RFC 9470 section 3).

    Arguments: `max_age`, seconds that it may be ago.
    """

    code = "authentication_too_old"
    error = "insufficient_user_authentication"
    description = "You signed in too long ago for this. Sign in again."

    def __init__(self, max_age: int = 0) -> None:
        super().__init__()
        self.max_age = max_age

    def challenge_parameters(self) -> Mapping[str, str]:
        return {"max_age": str(self.max_age)}


class SessionEnded(AuthError):
    """The token's session is not active."""

    code = "session_unknown"
    description = "The session is not active. Log in again."


class SessionRevoked(SessionEnded):
    """The session was ended: by a logout, by `revoke...`, or after a refresh token was used again."""

    code = "session_revoked"
    description = "The session was ended. Log in again."


class SessionEvicted(SessionEnded):
    """The session gave way to a newer login, under the limit."""

    code = "session_evicted"
    description = "The session was ended because a newer login needed its place. Log in again."


class SessionExpired(SessionEnded):
    """The session reached SESSION_TTL or IDLE_TIMEOUT."""

    code = "session_expired"
    description = "The session has expired. Log in again."


class SessionUnknown(SessionEnded):
    """The store knows nothing of the session, or no longer why it ended."""

    code = "session_unknown"
    description = "The session is not known. Log in again."


class RefreshError(AuthError):
    """A refresh token was refused (RFC 6749 section 5.2, as 401)."""

    error = "invalid_grant"


class RefreshInvalid(RefreshError):
    """What TokenInvalid is for an access token."""

    code = "refresh_invalid"
    description = "The refresh token is not valid. Log in again."


class RefreshExpired(RefreshError):
    """The refresh token is past its `exp`. Log in again."""

    code = "refresh_expired"
    description = "The refresh token has expired. Log in again."


class RefreshReused(RefreshError):
    """An older refresh token came back: theft is likely (RFC 9700 section 4.14.2)."""

    code = "refresh_reused"
    description = "The refresh token was used before, so its session was ended. Log in again."


class RefreshSuperseded(RefreshError):
    """What RefreshReused is under ON_REUSE=refuse: the session goes on."""

    code = "refresh_superseded"
    description = "A newer refresh token has taken this one's place. Use the newer one."


class RequestInvalid(JWTGuardError):
    """The request is malformed (RFC 6750 section 3.1, `invalid_request`).

    Its message reaches the client: it says what is wrong in words of ours, and quotes nothing of the request.
    """

    status = 400
    code = "request_invalid"
    error: ClassVar[str | None] = "invalid_request"
    description = "The request is malformed."
    challenges = True

    @property
    def detail(self) -> str:
        """What is wrong, where the error says it."""
        return self.description if str(self) == self.description else f"The request is malformed: {self}."


class BodyTooLarge(RequestInvalid):
    """The body of a request to an endpoint is over 16 KiB."""

    status = 413
    code = "body_too_large"
    error = None
    description = "The request's body is too large."
    challenges = False


class ScopeMissing(JWTGuardError):
    """The token lacks a scope.

    Arguments: `scopes`, all the scopes that the resource needs.
    """

    status = 403
    code = "scope_missing"
    error = "insufficient_scope"
    description = "The access token lacks a scope that this resource needs."
    challenges = True

    def __init__(self, scopes: Sequence[str] = ()) -> None:
        super().__init__()
        self.scopes = tuple(scopes)

    def challenge_parameters(self) -> Mapping[str, str]:
        return {"scope": " ".join(self.scopes)} if self.scopes else {}


class CrossSite(JWTGuardError):
    """In cookie mode: a page of another origin, which TRUSTED_ORIGINS doesn't name, had a browser send the request."""

    status = 403
    code = "csrf"
    description = "The request was sent from a page of another site."


class SessionNotFound(JWTGuardError):
    """The session that was to be ended is not the caller's, or not active."""

    status = 404
    code = "session_not_found"
    description = "You have no active session with this id."


class LimitReached(JWTGuardError):
    """The user has as many sessions as allowed, under `deny` or `choose`.

    Arguments: `sessions`, the active ones; `ticket`, under `choose`, what lets this user end one of them before they log
    in again (see `Guard.end_with_ticket`).
    """

    status = 409
    code = "limit_reached"
    description = "The limit of active sessions is reached. End one of them, then log in again."

    def __init__(self, sessions: Sequence[Session] = (), ticket: str | None = None) -> None:
        super().__init__()
        self.sessions = tuple(sessions)
        self.ticket = ticket

    def members(self) -> Mapping[str, object]:
        found: dict[str, object] = {"sessions": [session.to_dict() for session in self.sessions]}
        return found | ({"ticket": self.ticket} if self.ticket else {})


class StoreUnavailable(JWTGuardError):
    """The store can't be asked, so nothing can be said about the token: neither yes nor no."""

    status = 503
    code = "store_unavailable"
    description = "The service can't check sessions at the moment. Try again shortly."
    retry_after: ClassVar[int] = 1
    """Seconds, for the Retry-After header."""

    def headers(self) -> Mapping[str, str]:
        return {"Retry-After": str(self.retry_after)}


class StoreError(StoreUnavailable):
    """What a store raises in place of its driver's exceptions, which it sets as `__cause__`."""

    final: ClassVar[bool] = False
    """Whether trying again would only hide what is wrong."""


class Unconfirmed(StoreError):
    """An ending may be saved, but isn't known to be at as many replicas as were asked for: a failover might undo it.

    Who tried again would find the ending done, and could not tell that its replicas still lack it.
    """

    final = True


class DocumentDamaged(StoreUnavailable):
    """The store gave bytes for this user that are not a user document. Never taken for "no sessions"."""
