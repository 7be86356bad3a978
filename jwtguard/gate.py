"""Who may pass: the decision about one request, once for both faces.

A face reads from a request its method, its path below the mount point, and its Authorization values, and is given an
identity or an error. `recall` is the warm path: it answers only what is known to be good, and anything else is for `admit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .bearer import PREFIX_LENGTH, read_bearer
from .core import Core
from .errors import AuthError, RequestInvalid, ScopeMissing, StoreUnavailable, TokenMissing
from .flow import Flow
from .model import ANONYMOUS, Identity

__all__ = ["Gate", "check_scopes", "is_preflight"]

_SAFE = frozenset({"GET", "HEAD"})
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^\s/?#@\\]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEVER_IN_PREFLIGHT = (
    "AUTHORIZATION",
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
        self._registry = core.registry
        self._rules = core.rules
        self._max_token = core.settings.max_token
        self._longest = PREFIX_LENGTH + self._max_token
        self._optional = core.settings.mode == "optional"
        self.has_scope_rules = core.rules.has_scope_rules

    def recall(self, authorization: bytes) -> Identity | None:
        """The identity of a request with just this Authorization value, if that is known without waiting."""
        if len(authorization) > self._longest or authorization[:PREFIX_LENGTH].lower() != b"bearer ":
            return None
        entry = self._registry.recall(authorization[PREFIX_LENGTH:])
        return None if entry is None else entry.identity

    def admit(self, method: str, path: str, authorization: Sequence[bytes], *, live: bool = False) -> Flow[Identity]:
        """The identity of a request, anonymous where none is needed.

        path: as the app will route it, below the mount point; "" if that is ambiguous: then no public pattern matches, and
        the scopes of all rules are needed. live: the request opens a WebSocket, so STALE_IF_DOWN doesn't apply.

        Raises AuthError, RequestInvalid, ScopeMissing, StoreUnavailable.
        """
        required = self._rules.required(method, path)
        public = not required and self._rules.is_public(method, path)
        try:
            identity = yield from self.identify(authorization, may_be_stale=method in _SAFE and not live)
        except (AuthError, RequestInvalid, StoreUnavailable):
            if public:
                return ANONYMOUS
            raise
        if not identity.is_authenticated and not public and (required or not self._optional):
            raise TokenMissing
        check_scopes(identity, required)
        return identity

    def check_rules(self, identity: Identity, method: str, path: str) -> None:
        """What RULES ask of a request whose identity is known. Raises ScopeMissing."""
        check_scopes(identity, self._rules.required(method, path))

    def identify(self, authorization: Sequence[bytes], *, may_be_stale: bool = False) -> Flow[Identity]:
        """The identity of these credentials; the anonymous one if there are none. Raises as `admit`."""
        token = self.token_of(authorization)
        if token is None:
            return ANONYMOUS
        return (yield from self._authenticate(token, may_be_stale=may_be_stale))

    def token_of(self, authorization: Sequence[bytes]) -> bytes | None:
        """The token of these credentials. Raises TokenInvalid, RequestInvalid."""
        return read_bearer(authorization, self._max_token)


def check_scopes(identity: Identity, required: Sequence[str]) -> None:
    """That an identity has all of these scopes. Raises ScopeMissing."""
    if not all(scope in identity.scopes for scope in required):
        raise ScopeMissing(required)


def is_preflight(method: str, header: Callable[[str], str | None]) -> bool:
    """Whether a request is a CORS preflight (Fetch standard, section 4.8).

    header: gives the value of a header, by its name in upper case with underscores; None where there is none. What no
    browser puts into a preflight (credentials, a body, a header that asks for another method) makes it an ordinary request.
    Anyone can send one, of course: who answers it answers nobody in particular.
    """
    return (
        method == "OPTIONS"
        and _ORIGIN.fullmatch(header("ORIGIN") or "") is not None
        and _METHOD.fullmatch(header("ACCESS_CONTROL_REQUEST_METHOD") or "") is not None
        and header("CONTENT_LENGTH") in (None, "", "0")
        and not any(map(header, _NEVER_IN_PREFLIGHT))
    )
