"""The endpoints below `/auth`, once for both faces: a request as plain data in, an Answer out.

Exactly these method and path pairs are served:

    POST   /refresh         exchange a refresh token (RFC 6749 section 6)
    POST   /logout          end this session, by access or refresh token
    GET    /sessions        the user's active sessions
    DELETE /sessions        end the others (?keep=current) or all (?keep=none)
    DELETE /sessions/{id}   end one; or, with the ticket of a refused login, one of those that it lists
    POST   /sessions        in cookie mode, for the forms of the page: `end=<id>`, `keep=current` or `keep=none`

and, where there are public keys and the endpoints are served at all, at its well-known place and not below the prefix:

    GET    /.well-known/jwks.json   the public keys (RFC 7517 section 5)

In cookie mode a browser that goes to /sessions is shown a page (see `page`), which needs no script.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from .answers import NO_CONTENT, Answer, answer_json, answer_jwks, error_answer
from .context import set_identity
from .cookies import hand_over, take_back
from .core import Core
from .errors import (
    AuthError,
    ConfigError,
    JWTGuardError,
    RequestInvalid,
    SessionNotFound,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenSuperseded,
)
from .flow import Flow
from .gate import Gate
from .head import RequestHead
from .model import Identity
from .page import SessionsPage, page_answer, prefers_html
from .rotation import PUBLISHED_FOR

__all__ = ["MAX_BODY", "Endpoint", "EndpointRequest", "Endpoints"]

MAX_BODY: Final = 16 * 1024
"""Bytes that a request's body may have; more is 413."""


class EndpointRequest(NamedTuple):
    """What an endpoint needs of a request. `session_id` is the last segment of the path, where it has one."""

    head: RequestHead
    query: str = ""
    content_type: str = ""
    body: bytes = b""
    session_id: str = ""


class Endpoint(NamedTuple):
    """One method and path pair, below the prefix; `{id}` stands for one segment."""

    method: str
    path: str
    name: str
    summary: str
    status: int
    """That of the answer where nothing is wrong."""
    reads_body: bool = False
    is_form: bool = False
    """Whether it is for the page's forms alone, so in cookie mode only, and in no document of an API."""


_ROUTES: Final = (
    Endpoint("POST", "/refresh", "refresh", "Exchange a refresh token for the next pair", 200, reads_body=True),
    Endpoint("POST", "/logout", "logout", "End this session", 204, reads_body=True),
    Endpoint("GET", "/sessions", "list", "List your active sessions", 200),
    Endpoint("DELETE", "/sessions", "end_many", "End your other sessions, or all of them", 204),
    Endpoint("DELETE", "/sessions/{id}", "end_one", "End one of your sessions", 204),
    Endpoint("POST", "/sessions", "end_by_form", "End sessions by a form", 303, reads_body=True, is_form=True),
)
JWKS: Final = Endpoint("GET", "/.well-known/jwks.json", "jwks", "The public keys", 200)
_PAGE: Final = "/sessions"
_EXPLAINED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE})
"""The refusals that the page has words for."""
_BACK: Final = Answer(303, (("Location", "sessions"), ("Cache-Control", "no-store")))
"""To the page. A relative reference (RFC 9110 section 10.2.2), so that it holds at any mount point and behind any proxy."""
_METHODS: Final = frozenset(endpoint.method for endpoint in _ROUTES)


class Endpoints:
    """The endpoints of one face."""

    def __init__(self, core: Core, gate: Gate) -> None:
        self.prefix = gate.prefix
        """Where they are served; None for nowhere."""
        self._core = core
        self._gate = gate
        self._operations = core.operations
        self._handlers: dict[str, Callable[[EndpointRequest], Flow[Answer]]] = {
            "refresh": self._refresh,
            "logout": self._logout,
            "list": self._list,
            "end_many": self._end_many,
            "end_one": self._end_one,
            "end_by_form": self._end_by_form,
            "jwks": self._jwks,
        }
        self._served = tuple(endpoint for endpoint in _ROUTES if gate.cookies is not None or not endpoint.is_form)
        self._publishes = self.prefix is not None and core.keys.keyring.is_public
        self.marks = None if self.prefix is None else (self.prefix, JWKS.path if self._publishes else self.prefix)
        """The path of any of them has one of these two in it, below whatever mount point: a quick look, for each request.
        None if they are served nowhere."""

    def routes(self) -> list[tuple[Endpoint, str]]:
        """Each endpoint with its path; none where they are not served."""
        below = [] if self.prefix is None else [(endpoint, self.prefix + endpoint.path) for endpoint in self._served]
        return [*below, (JWKS, JWKS.path)] if self._publishes else below

    def find(self, method: str, path: str) -> tuple[Endpoint, str] | None:
        """The endpoint of a request and the session id in its path; None if it is the app's."""
        if self._publishes and (method, path) == JWKS[:2]:
            return JWKS, ""
        if self.prefix is None or not path.startswith(self.prefix):
            return None
        below = path[len(self.prefix) :]
        head, _, last = below.rpartition("/")
        for endpoint in self._served:
            if endpoint.method == method:
                if endpoint.path == below:
                    return endpoint, ""
                if last and endpoint.path == head + "/{id}":
                    return endpoint, last
        return None

    def check_collision(self, path: str, methods: Iterable[str] | None) -> None:
        """That a route of the app is none of these: for the integrations, where both are routes. Raises ConfigError.

        path: the route's path, with each parameter for one segment replaced by any one segment. methods: None for any.
        """
        if any(self.find(method, path) for method in (_METHODS if methods is None else methods)):
            raise ConfigError(
                f"the app's route {path!a} takes the place of one of jwtguard's endpoints: move it, or set "
                "JWTGUARD_ENDPOINTS to another prefix or to off"
            )

    def answer(self, endpoint: Endpoint, request: EndpointRequest) -> Flow[Answer]:
        """Serve a request. Every error of jwtguard becomes its answer; others are not caught."""
        try:
            self._gate.arrive(request.head)
            answer = yield from self._handlers[endpoint.name](request)
        except JWTGuardError as error:
            answer = self.refuse(error, endpoint)
            explains = endpoint.path == _PAGE and error.status in _EXPLAINED and self._is_for_a_person(request)
            return self._explained(error, answer, request) if explains else answer
        self._core.telemetry.served()
        return answer

    def refuse(self, error: JWTGuardError, endpoint: Endpoint | None = None) -> Answer:
        """The answer to a request that an error ended, be it for an endpoint or for the app."""
        self._core.telemetry.rejected(error)
        return error_answer(
            error,
            realm=self._core.settings.realm,
            on_error=self._core.hooks.on_error,
            grant=endpoint is not None and endpoint.name == "refresh",
        )

    def _refresh(self, request: EndpointRequest) -> Flow[Answer]:
        carried = self._gate.refresh_token_of(request.head)
        token = _refresh_token(request) if request.body or self._gate.cookies is None else None
        if carried is None:
            if token is None:
                raise RequestInvalid("no refresh_token in the body") if request.body else TokenMissing
            pair = yield from self._operations.refresh(token)
            return answer_json(pair.to_dict())
        if token is not None:
            raise RequestInvalid("a refresh token in the body and one in a cookie")
        pair = yield from self._operations.refresh(carried)
        hand_over(pair)
        return answer_json({"expires_in": pair.expires_in, "session_id": pair.session_id})

    def _logout(self, request: EndpointRequest) -> Flow[Answer]:
        try:
            yield from self._end_own(request)
        except AuthError:
            take_back()  # of no use to anyone, or to whoever sits here next
            raise
        take_back()
        return NO_CONTENT

    def _end_own(self, request: EndpointRequest) -> Flow[None]:
        """End the session of a request's access token, or of its refresh token."""
        token: str | bytes | None = _refresh_token(request) if request.body else None
        if token is None:
            try:
                yield from self._operations.logout((yield from self._caller(request)))
                return
            except (TokenMissing, TokenExpired, TokenSuperseded):
                token = self._gate.refresh_token_of(request.head)
                if token is None:
                    raise
        yield from self._operations.logout_by_refresh_token(token)

    def _list(self, request: EndpointRequest) -> Flow[Answer]:
        caller = yield from self._caller(request)
        sessions = yield from self._operations.sessions(caller.subject)
        if self._is_for_a_person(request):
            return page_answer(self._page(request, sessions=tuple(sessions)), self._core.hooks.page)
        return answer_json([session.to_dict() for session in sessions])

    def _end_many(self, request: EndpointRequest) -> Flow[Answer]:
        caller = yield from self._caller(request)
        if request.query not in ("keep=current", "keep=none"):
            raise RequestInvalid("expected ?keep=current or ?keep=none")
        yield from self._end_all_but(request.query.removeprefix("keep="), caller)
        return NO_CONTENT

    def _end_all_but(self, kept: str, caller: Identity) -> Flow[None]:
        if kept == "current":
            yield from self._operations.revoke_others(caller)
        else:
            yield from self._operations.revoke_all(caller.subject)

    def _end_by_form(self, request: EndpointRequest) -> Flow[Answer]:
        caller = yield from self._caller(request)
        field, value = _choice(request)
        if field == "keep":
            yield from self._end_all_but(value, caller)
        elif not (yield from self._operations.revoke(caller.subject, value)):
            raise SessionNotFound
        return _BACK

    def _end_one(self, request: EndpointRequest) -> Flow[Answer]:
        try:
            caller = yield from self._caller(request)
        except TokenInvalid:
            ticket = self._gate.token_of(request.head) or b""
            ended = yield from self._operations.end_with_ticket(ticket, request.session_id)
        else:
            ended = yield from self._operations.revoke(caller.subject, request.session_id)
        if not ended:
            raise SessionNotFound
        return NO_CONTENT

    def _jwks(self, _request: EndpointRequest) -> Flow[Answer]:
        yield from self._core.keys.looked()
        return answer_jwks(self._core.keys.keyring.jwks(), PUBLISHED_FOR)

    def _is_for_a_person(self, request: EndpointRequest) -> bool:
        """Whether a browser asks that goes to a page: its cookies are what the page's forms go by."""
        return self._gate.cookies is not None and prefers_html(request.head.header("ACCEPT") or "")

    def _explained(self, error: JWTGuardError, answer: Answer, request: EndpointRequest) -> Answer:
        """A refusal for a person: the headers of the problem, and a page in place of its JSON."""
        page = page_answer(self._page(request, error=error), self._core.hooks.page, error.status)
        replaced = {name for name, _ in page.headers}
        kept = (header for header in answer.headers if header[0] not in replaced)
        return page._replace(headers=(*page.headers, *kept))

    def _page(self, request: EndpointRequest, **shown: Any) -> SessionsPage:
        languages = request.head.header("ACCEPT_LANGUAGE") or ""
        return SessionsPage(home="../" * (self.prefix or "").count("/"), languages=languages, **shown)

    def _caller(self, request: EndpointRequest) -> Flow[Identity]:
        """Who asks. Never by a stale answer: these requests are about what is active."""
        identity = yield from self._gate.identify(request.head)
        if not identity.is_authenticated:
            raise TokenMissing
        set_identity(identity)
        return identity


def _refresh_token(request: EndpointRequest) -> str | None:
    """The one `refresh_token` of a JSON or form body; None if it has none. Raises RequestInvalid if the body is neither."""
    media_type = request.content_type.partition(";")[0].strip().lower()
    read = _READERS.get(media_type)
    if read is None:
        raise RequestInvalid("expected a body of application/json or application/x-www-form-urlencoded")
    try:
        found = read(request.body)
    except (ValueError, RecursionError):
        found = None
    if found is None:  # raised out here, so that nothing of the body ends up in a log by way of a cause or a context
        raise RequestInvalid("the body can't be read")
    if len(found) > 1:
        raise RequestInvalid("more than one refresh_token in the body")
    return found[0] if found else None


def _of_json(body: bytes) -> list[str]:
    pairs = json.loads(body.decode(), object_pairs_hook=_Members)
    if not isinstance(pairs, _Members):
        raise ValueError
    tokens = [value for name, value in pairs if name == "refresh_token" and value is not None]
    for token in tokens:
        if not isinstance(token, str):
            raise ValueError
        token.encode()  # fails for a lone surrogate, which is no text
    return tokens


class _Members(list[tuple[str, Any]]):
    """A JSON object as it is written, with what comes twice. What a client adds (grant_type, say) is of no interest."""


def _of_form(body: bytes) -> list[str]:
    pairs = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=16)
    return [value for name, value in pairs if name == "refresh_token"]


def _choice(request: EndpointRequest) -> tuple[str, str]:
    """What a form of the page asks for. Raises RequestInvalid."""
    media_type = request.content_type.partition(";")[0].strip().lower()
    fields = []
    if media_type == "application/x-www-form-urlencoded":
        with suppress(ValueError):
            fields = parse_qsl(request.body.decode("ascii"), strict_parsing=True, max_num_fields=1)
    for field, value in fields:
        if field == "end" or (field == "keep" and value in ("current", "none")):
            return field, value
    raise RequestInvalid("expected a form with end=<session id>, keep=current or keep=none")


_READERS: Final[Mapping[str, Callable[[bytes], list[str]]]] = {
    "application/json": _of_json,
    "application/x-www-form-urlencoded": _of_form,
}
