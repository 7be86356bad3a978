"""Who may pass: the decision about one request, once for both faces.

A face gives the head of a request, and is given an identity or an error. `recall` is the warm path: it answers only what is
known to be good, and anything else is for `admit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from .bearer import PREFIX_LENGTH, read_bearer
from .cookies import CookieMode, can_hand_over, hand_over
from .core import Core
from .errors import (
    AuthenticationTooOld,
    AuthError,
    ConfigError,
    JWTGuardError,
    RefreshError,
    RequestInvalid,
    ScopeMissing,
    StoreUnavailable,
    TokenExpired,
    TokenMissing,
    TokenSuperseded,
)
from .flow import Flow
from .head import RequestHead
from .model import ANONYMOUS, Identity
from .origins import may_renew
from .patterns import MaxAge, Need
from .settings import Settings

__all__ = ["Gate", "check_scopes", "check_user", "checking", "is_preflight"]

V = TypeVar("V", bound=Callable[..., Any])

_SAFE = frozenset({"GET", "HEAD"})
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^\s/?#@\\]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEVER_IN_PREFLIGHT = (
    "CONTENT_TYPE",
    "COOKIE",
    "TRANSFER_ENCODING",
    "X_HTTP_METHOD",
    "X_HTTP_METHOD_OVERRIDE",
    "X_METHOD_OVERRIDE",
)


class Gate:
    """The gate of one face.

    Arguments: `default`, where the endpoints are served if the settings don't say, such as "/auth"; None for nowhere.
    """

    def __init__(self, core: Core, default: str | None = None) -> None:
        prefix = core.settings.endpoints or default
        self.prefix = None if prefix == "off" else prefix
        """Where the endpoints are served; None for nowhere."""
        self.cookies = _cookie_mode(core.settings, self.prefix)
        self._authenticator = core.authenticator
        self._operations = core.operations
        self._authenticate = core.authenticator.authenticate
        self._recall = core.registry.table.recall
        self._rules = core.rules
        self._max_token = core.settings.max_token
        # In cookie mode more is to be judged than one header, so nothing is recalled by it.
        self._longest = PREFIX_LENGTH + self._max_token if self.cookies is None else 0
        self._time = core.clock.time
        self._optional = core.settings.mode == "optional"
        self._telemetry = core.telemetry
        self.has_scope_rules = core.rules.has_scope_rules
        if (counted := core.telemetry.counted(self.recall)) is not None:
            self.recall = counted  # type: ignore[assignment,method-assign] # so that it costs nothing where nobody counts

    def recall(self, authorization: bytes) -> Identity | None:
        """The identity of a request with just this Authorization value, if that is known without waiting.

        It is known as it is usually written; written otherwise (`bearer`, more spaces), it takes the longer way.
        """
        return self._recall(authorization) if len(authorization) <= self._longest else None

    def admit(self, head: RequestHead, *, public: bool = False) -> Flow[Identity]:
        """The identity of a request, anonymous where none is needed.

        public: the app says of what it has routed the request to that it needs no token. A rule for the path goes first.
        Where the path is ambiguous, no public pattern matches, and the scopes of all rules are needed. STALE_IF_DOWN is not
        for WebSockets. Raises AuthError (AuthenticationTooOld among them), CrossSite, RequestInvalid, ScopeMissing,
        StoreUnavailable.
        """
        try:
            identity = yield from self._admit(head, public)
        except JWTGuardError as error:
            self._telemetry.rejected(error)
            raise
        self._telemetry.passed(identity)
        return identity

    def _admit(self, head: RequestHead, public: bool) -> Flow[Identity]:
        if is_preflight(head):
            return ANONYMOUS
        self.arrive(head)
        required = self._rules.required(head.method, head.path)
        try:
            identity = yield from self.identify(head, may_be_stale=head.method in _SAFE and not head.is_live)
        except (AuthError, RequestInvalid, StoreUnavailable):
            if not required and (public or self._rules.is_public(head.method, head.path)):
                return ANONYMOUS
            raise
        if not identity.is_authenticated:
            is_open = public or self._optional or self._rules.is_public(head.method, head.path)
            if required or not is_open:
                raise TokenMissing
        self._check(identity, required)
        return identity

    def arrive(self, head: RequestHead) -> None:
        """In cookie mode, begin with a request. Raises CrossSite."""
        if self.cookies is not None:
            self.cookies.arrive(head)

    def check_rules(self, identity: Identity, method: str, path: str) -> None:
        """What RULES ask of a request whose identity is known. Raises AuthenticationTooOld, ScopeMissing."""
        try:
            self._check(identity, self._rules.required(method, path))
        except (AuthenticationTooOld, ScopeMissing) as error:
            self._telemetry.denied(error)
            raise

    def _check(self, identity: Identity, needs: Sequence[Need]) -> None:
        if not needs:
            return
        check_scopes(identity, [need for need in needs if isinstance(need, str)])
        ages = [need.seconds for need in needs if isinstance(need, MaxAge)]
        if not ages:
            return
        authenticated_at = identity.authenticated_at
        if authenticated_at is None or self._time() - authenticated_at > min(ages):
            raise AuthenticationTooOld(int(min(ages))).about(identity.subject, identity.session_id)

    def identify(self, head: RequestHead, *, may_be_stale: bool = False) -> Flow[Identity]:
        """The identity of a request's credentials; the anonymous one if there are none. Raises as `admit`."""
        token = self.token_of(head)
        if self.cookies is not None:
            access = self.cookies.access_token(head)
            if token is None:
                renews = self.cookies.is_silent and can_hand_over() and may_renew(head)
                refresh = self.cookies.refresh_token(head) if renews else None
                return (yield from self._identify_by_cookie(access, refresh, may_be_stale))
            if access is not None:
                raise RequestInvalid("a token in the Authorization header and one in a cookie")
        if token is None:
            return ANONYMOUS
        return (yield from self._authenticate(token, may_be_stale=may_be_stale))

    def _identify_by_cookie(self, access: bytes | None, refresh: bytes | None, may_be_stale: bool) -> Flow[Identity]:
        """The identity by an access token in a cookie or, where that is of no use any more, by the refresh token."""
        refused: AuthError | None = None
        if access is not None:
            try:
                return (yield from self._authenticate(access, may_be_stale=may_be_stale))
            except (TokenExpired, TokenSuperseded) as error:
                refused = error
        if refresh is not None:
            try:
                pair = yield from self._operations.refresh(refresh)
            except RefreshError as error:
                refused = refused or error
            else:
                hand_over(pair)
                return self._authenticator.vouched(pair.access_token.encode())
        if refused is not None:
            raise refused
        return ANONYMOUS

    def refresh_token_of(self, head: RequestHead) -> bytes | None:
        """The refresh token in a cookie, where that is what a request has to show. Raises RequestInvalid."""
        return None if self.cookies is None or head.authorization else self.cookies.refresh_token(head)

    def token_of(self, head: RequestHead) -> bytes | None:
        """The bearer token of a request. Raises TokenInvalid, RequestInvalid."""
        return read_bearer(head.authorization, self._max_token)


def _cookie_mode(settings: Settings, prefix: str | None) -> CookieMode | None:
    if not settings.cookie:
        return None
    if prefix is None and settings.cookie != "silent":
        raise ConfigError(
            "JWTGUARD_COOKIE is on, and the endpoint that refreshes isn't served: set JWTGUARD_ENDPOINTS to /auth, or "
            "JWTGUARD_COOKIE to silent"
        )
    return CookieMode(settings, f"{prefix}/refresh")


def check_scopes(identity: Identity, required: Sequence[str]) -> None:
    """That an identity has all of these scopes. Raises ScopeMissing."""
    if not all(scope in identity.scopes for scope in required):
        raise ScopeMissing(required).about(identity.subject, identity.session_id)


def check_user(identity: Identity, scopes: Sequence[str] = ()) -> None:
    """That an identity is somebody's, and has all of these scopes. Raises TokenMissing, ScopeMissing."""
    if not identity.is_authenticated:
        raise TokenMissing
    check_scopes(identity, scopes)


def checking(view: V, check: Callable[..., None]) -> V:
    """A view, plain or async, that first calls `check` with the view's own arguments."""

    @wraps(view)
    def checked(*arguments: Any, **options: Any) -> Any:
        check(*arguments, **options)
        return view(*arguments, **options)

    @wraps(view)
    async def checked_async(*arguments: Any, **options: Any) -> Any:
        check(*arguments, **options)
        return await view(*arguments, **options)

    return cast("V", checked_async if iscoroutinefunction(view) else checked)


def is_preflight(head: RequestHead) -> bool:
    """Whether a request is a CORS preflight (Fetch standard, section 4.8).

    What no browser puts into a preflight (credentials, a body, a header that asks for another method) makes it an ordinary
    request. Anyone can send one, of course: who answers it answers nobody in particular.
    """
    header = head.header
    return (
        head.method == "OPTIONS"
        and not head.authorization
        and _ORIGIN.fullmatch(header("ORIGIN") or "") is not None
        and _METHOD.fullmatch(header("ACCESS_CONTROL_REQUEST_METHOD") or "") is not None
        and header("CONTENT_LENGTH") in (None, "", "0")
        and not any(map(header, _NEVER_IN_PREFLIGHT))
    )
