"""The ASGI face: reads a request from the scope, asks the gate, and answers or passes on.

What the app sees: `scope["jwtguard.identity"]`, the same as `scope["user"]`, and `scope["auth"]` with the token's scopes
and "authenticated", as Starlette's `request.user` and `@requires` want them. Whatever a client sends under these names is
removed first, on public paths too. Lifespan passes through; a scope of a kind that is not known here does not.

A WebSocket is judged before it is accepted. Its token may come in the subprotocol pair `jwtguard.bearer, <token>`, since
browsers can't set headers there; the app never sees the token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from .answers import Answer
from .context import IDENTITY, OVER, REQUEST
from .endpoints import MAX_BODY, Endpoint, EndpointRequest, Endpoints
from .errors import BodyTooLarge, ConfigError, JWTGuardError, RequestInvalid
from .exchange import SUBPROTOCOL, Exchange, Receive, Scope, Send
from .gate import Gate
from .guard import AsyncGuard
from .head import RequestHead
from .inputs import takes
from .model import ANONYMOUS, Identity

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["ASGIApp", "JWTGuardMiddleware"]

ASGIApp: TypeAlias = Callable[..., Awaitable[None]]
"""Takes (scope, receive, send). Frameworks type these each in a way of its own."""

POLICY_VIOLATION: Final = 1008
"""The close code for a WebSocket that is refused where the server can't send an answer (RFC 6455 section 7.4.1)."""

_FORGED: Final = frozenset({b"remote-user", b"jwtguard-identity"})
_LENGTHS: Final = frozenset(map(len, {b"authorization", *_FORGED}))
_DASHES: Final = bytes.maketrans(b"_.", b"--")


class Permissions:
    """`scope["auth"]`, in the shape of Starlette's AuthCredentials. Never changed: those with equal scopes share one."""

    __slots__ = ("_scopes",)

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self._scopes = scopes

    @property
    def scopes(self) -> list[str]:
        """A list of its own for each who asks."""
        return list(self._scopes)


_NO_PERMISSIONS: Final = Permissions(())


@lru_cache(1024)
def _permissions(scopes: tuple[str, ...]) -> Permissions:
    return Permissions((*scopes, "authenticated"))


class JWTGuardMiddleware:
    """A guarded ASGI app.

    Arguments: `app`, the app; `guard`, an AsyncGuard. The endpoints are served where the settings say, and not at all if
    they don't say.
    """

    default_prefix: str | None = None
    """Where the endpoints are served if the settings don't say."""

    def __init__(self, app: ASGIApp, guard: AsyncGuard) -> None:
        if not isinstance(guard, AsyncGuard):
            raise ConfigError(f"an ASGI app is guarded by an AsyncGuard, not by {type(guard).__name__}")
        if not takes(app, 3):
            raise ConfigError(
                f"an AsyncGuard wraps an ASGI app, which takes (scope, receive, send); {type(app).__name__} doesn't. "
                "Is it a WSGI app? Then use a Guard"
            )
        self._app = app
        self._guard = guard
        self._gate = Gate(guard.core, self.default_prefix)
        self._own_root = _own_root(app)
        self.endpoints = Endpoints(guard.core, self._gate)
        self._marks = self.endpoints.marks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._pass_lifespan(scope, receive, send)
            return
        exchange = Exchange(self._guard, scope, receive, send)
        request = REQUEST.set(scope)
        scope[OVER] = False
        try:
            authorization = take_authorization(scope)
            if kind == "websocket":
                authorization += _token_of_subprotocol(scope, exchange)
            elif self._marks is not None and (found := self._find(scope, self._marks)) is not None:
                set_identity(scope, ANONYMOUS)
                await self.serve(found, authorization, scope, receive, exchange.send)
                return
            identity = self._gate.recall(authorization[0]) if len(authorization) == 1 else None
            if identity is None:
                identity = await self._admit(scope, authorization)
            elif self._gate.has_scope_rules:
                self._gate.check_rules(identity, method_of(scope), path_of(scope, self._own_root))
            set_identity(scope, identity)
            exchange.identity = identity
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if not await self._settle(error, exchange, scope, receive):
                raise
        finally:
            REQUEST.reset(request)
            scope[OVER] = True
            if exchange.line is not None:
                exchange.line.leave()
        if exchange.line is not None:
            await exchange.line.part()

    async def _pass_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise RuntimeError(f"jwtguard can't guard a scope of type {scope['type']!r}")
        await self._app(scope, receive, send)

    async def _settle(self, error: Exception, exchange: Exchange, scope: Scope, receive: Receive) -> bool:
        """Whether an error is dealt with, by an answer or because the connection was ended. If not, it is the server's."""
        if not isinstance(error, JWTGuardError) or exchange.started:
            if exchange.line is not None:
                await exchange.line.part()
            return exchange.explains(error)
        await self.refuse(error, scope, receive, exchange.send)
        return True

    def _find(self, scope: Scope, marks: tuple[str, str]) -> tuple[Endpoint, str] | None:
        """The endpoint that an HTTP request is for."""
        first, second = marks
        if first not in scope["path"] and second not in scope["path"]:
            return None
        return self.endpoints.find(scope["method"], path_of(scope, self._own_root))

    async def _admit(self, scope: Scope, authorization: list[bytes]) -> Identity:
        head = head_of(scope, authorization, self._own_root)
        return await self._guard.perform(self._gate.admit(head))

    async def refuse(self, error: JWTGuardError, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an error. An integration lets it out instead, to where the app handles errors."""
        await send_answer(self.endpoints.refuse(error), scope, receive, send)

    async def serve(
        self, found: tuple[Endpoint, str], authorization: list[bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve an endpoint. An integration passes it on instead, to its own route."""
        await send_answer(await self.answer(found, authorization, scope, receive), scope, receive, send)

    async def answer(
        self, found: tuple[Endpoint, str], authorization: list[bytes], scope: Scope, receive: Receive
    ) -> Answer:
        """The answer to a request for an endpoint."""
        endpoint, session_id = found
        try:
            head = head_of(scope, authorization, self._own_root)
            request = await _endpoint_request(endpoint, session_id, head, scope, receive)
        except RequestInvalid as error:
            return self.endpoints.refuse(error, endpoint)
        return await self._guard.complete(self.endpoints.answer(endpoint, request))


async def send_answer(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer; to a WebSocket that isn't accepted, as far as the server can."""
    if scope["type"] == "websocket" and not can_deny(scope):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    await response_of(answer, scope)(scope, receive, send)


def can_deny(handshake: Scope) -> bool:
    """Whether the server can answer a WebSocket's handshake with a response."""
    return "websocket.http.response" in (handshake.get("extensions") or {})


def response_of(answer: Answer, scope: Scope) -> Response:
    """An answer as Starlette's response."""
    from starlette.responses import Response

    response = Response(answer.body, answer.status)
    response.raw_headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    if scope.get("method") == "HEAD":
        response.body = b""  # its length is told all the same
    return response


def _own_root(app: object) -> str:
    """What an app calls its root path."""
    root = getattr(app, "root_path", "")
    return root if isinstance(root, str) else ""


def method_of(scope: Scope) -> str:
    """The method that patterns are to match; a WebSocket's handshake is a GET."""
    return "GET" if scope["type"] == "websocket" else scope["method"]


def set_identity(scope: Scope, identity: Identity) -> None:
    """Put the identity where the app reads it."""
    scope[IDENTITY] = scope["user"] = identity
    scope["auth"] = _permissions(identity.scopes) if identity.is_authenticated else _NO_PERMISSIONS


def path_of(scope: Scope, own_root: str = "") -> str:
    """The path below the mount point; "" where frameworks would not agree on it, which no public pattern matches.

    own_root: what the app calls its root path itself. FastAPI takes that away, whatever the server says; Quart means a
    folder by it. Some servers put the mount point before the path and others don't. Starlette takes it away at a slash
    only, Quart anywhere at the start, Litestar wherever it first occurs; so it is at the start and whole, or nowhere.
    """
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").partition(b"?")[0]
    root: str = scope.get("root_path", "")
    if own_root and path.startswith(own_root):
        return ""
    if raw and (b"%2f" in raw.lower() or unquote(raw) != path):
        return ""
    if root in ("", "/"):
        return path or "/"
    if not root.startswith("/") or root.endswith("/"):
        return ""
    if path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return "" if root in path else path


def head_of(scope: Scope, authorization: list[bytes], own_root: str) -> RequestHead:
    """The head of a request, whose Authorization values have been taken."""
    return RequestHead(
        method_of(scope),
        path_of(scope, own_root),
        authorization,
        partial(header_of, scope),
        is_live=scope["type"] == "websocket",
        mount=scope.get("root_path", ""),
        scheme=scope.get("scheme", ""),
    )


def header_of(scope: Scope, name: str) -> str | None:
    """The value of a header, by its name in upper case with underscores. HTTP/2 splits cookies (RFC 9113 section 8.2.3)."""
    size, wanted = len(name), name.encode()
    values = [
        value.decode("latin-1")
        for other, value in scope["headers"]
        if len(other) == size and other.upper().replace(b"-", b"_") == wanted
    ]
    return ("; " if name == "COOKIE" else ", ").join(values) if values else None


def take_authorization(scope: Scope) -> list[bytes]:
    """The request's Authorization values; what is forged is removed from its headers on the way."""
    found: list[bytes] = []
    forged = False
    for name, value in scope["headers"]:
        if len(name) in _LENGTHS:  # first, as this is all that most headers are asked
            if name == b"authorization":
                found.append(value)
            elif _is_forged(name):
                forged = True
    if forged:
        scope["headers"] = [header for header in scope["headers"] if not _is_forged(header[0])]
    return found


def _is_forged(name: bytes) -> bool:
    return name.lower().translate(_DASHES) in _FORGED


def _token_of_subprotocol(scope: Scope, exchange: Exchange) -> list[bytes]:
    """The token of the subprotocol pair, as an Authorization value; the pair is removed from what the app sees."""
    offered = list(scope.get("subprotocols") or ())
    tokens: list[bytes] = []
    while SUBPROTOCOL in offered:
        place = offered.index(SUBPROTOCOL)
        tokens += [b"Bearer " + text.encode("latin-1", "replace") for text in offered[place + 1 : place + 2]]
        del offered[place : place + 2]
        exchange.offered = True
    if exchange.offered:
        scope["subprotocols"] = offered
        kept = [header for header in scope["headers"] if header[0] != b"sec-websocket-protocol"]
        rest = [(b"sec-websocket-protocol", ", ".join(offered).encode("latin-1", "replace"))] if offered else []
        scope["headers"] = kept + rest
    return tokens


async def _endpoint_request(
    endpoint: Endpoint, session_id: str, head: RequestHead, scope: Scope, receive: Receive
) -> EndpointRequest:
    from starlette.requests import ClientDisconnect, Request

    request = Request(scope, receive)
    body = bytearray()
    try:
        if endpoint.reads_body:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise BodyTooLarge
    except ClientDisconnect as error:
        raise RequestInvalid("the body can't be read") from error
    return EndpointRequest(
        head=head,
        query=scope.get("query_string", b"").decode("latin-1"),
        content_type=request.headers.get("content-type", ""),
        body=bytes(body),
        session_id=session_id,
    )
