"""Who may pass: the decision about one request, once for both faces.

A face gives the head of a request, and is given an identity or an error. `recall` is the warm path: it answers only what is
known to be good, and anything else is for `admit`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .bearer import PREFIX_LENGTH, read_bearer
from .core import Core
from .errors import AuthenticationTooOld, AuthError, RequestInvalid, ScopeMissing, StoreUnavailable, TokenMissing
from .flow import Flow
from .head import RequestHead
from .model import ANONYMOUS, Identity
from .patterns import MaxAge, Need

__all__ = ["Gate", "check_scopes", "is_preflight"]

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
    """The gate of one guard."""

    def __init__(self, core: Core) -> None:
        self._authenticate = core.authenticator.authenticate
        self._recall = core.registry.table.recall
        self._rules = core.rules
        self._max_token = core.settings.max_token
        self._longest = PREFIX_LENGTH + self._max_token
        self._time = core.clock.time
        self._optional = core.settings.mode == "optional"
        self.has_scope_rules = core.rules.has_scope_rules

    def recall(self, authorization: bytes) -> Identity | None:
        """The identity of a request with just this Authorization value, if that is known without waiting."""
        scheme = authorization[:PREFIX_LENGTH]
        if (scheme != b"Bearer " and scheme.lower() != b"bearer ") or len(authorization) > self._longest:
            return None
        entry = self._recall(authorization[PREFIX_LENGTH:])
        return None if entry is None else entry.identity

    def admit(self, head: RequestHead) -> Flow[Identity]:
        """The identity of a request, anonymous where none is needed.

        Where the path is ambiguous, no public pattern matches, and the scopes of all rules are needed. STALE_IF_DOWN is not
        for WebSockets. Raises AuthError (AuthenticationTooOld among them), RequestInvalid, ScopeMissing, StoreUnavailable.
        """
        if is_preflight(head):
            return ANONYMOUS
        required = self._rules.required(head.method, head.path)
        public = not required and self._rules.is_public(head.method, head.path)
        try:
            identity = yield from self.identify(head, may_be_stale=head.method in _SAFE and not head.is_live)
        except (AuthError, RequestInvalid, StoreUnavailable):
            if public:
                return ANONYMOUS
            raise
        if not identity.is_authenticated and not public and (required or not self._optional):
            raise TokenMissing
        self._check(identity, required)
        return identity

    def check_rules(self, identity: Identity, method: str, path: str) -> None:
        """What RULES ask of a request whose identity is known. Raises AuthenticationTooOld, ScopeMissing."""
        self._check(identity, self._rules.required(method, path))

    def _check(self, identity: Identity, needs: Sequence[Need]) -> None:
        if not needs:
            return
        check_scopes(identity, [need for need in needs if isinstance(need, str)])
        ages = [need.seconds for need in needs if isinstance(need, MaxAge)]
        if ages and (identity.authenticated_at is None or self._time() - identity.authenticated_at > min(ages)):
            raise AuthenticationTooOld(int(min(ages)))

    def identify(self, head: RequestHead, *, may_be_stale: bool = False) -> Flow[Identity]:
        """The identity of a request's credentials; the anonymous one if there are none. Raises as `admit`."""
        token = self.token_of(head)
        if token is None:
            return ANONYMOUS
        return (yield from self._authenticate(token, may_be_stale=may_be_stale))

    def token_of(self, head: RequestHead) -> bytes | None:
        """The bearer token of a request. Raises TokenInvalid, RequestInvalid."""
        return read_bearer(head.authorization, self._max_token)


def check_scopes(identity: Identity, required: Sequence[str]) -> None:
    """That an identity has all of these scopes. Raises ScopeMissing."""
    if not all(scope in identity.scopes for scope in required):
        raise ScopeMissing(required)


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
