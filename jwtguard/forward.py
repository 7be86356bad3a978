"""Forward auth: answers a proxy's question whether a request may pass, for apps in any language behind it.

    JWTGUARD_PUBLIC=/login uvicorn jwtguard.forward:app

The proxy asks once per request, and passes the request on if the answer is 200. It says which request it asks about, in one
of two ways, and the URL that it is configured to ask decides in which: never a header, since a client can send any.

    /verify        by X-Forwarded-Method and X-Forwarded-Uri: Traefik's ForwardAuth, nginx's auth_request
    /envoy/...     by the method and the rest of the path: Envoy's ext_authz over HTTP with the path prefix /envoy

PUBLIC and RULES apply to that request. Its identity goes to the app in three headers, which each answer has, empty for the
anonymous identity: so a proxy that copies them overwrites what a client sent, on public paths too. A request that comes
with one of them, in any spelling that a server might take for it, is refused; so is one whose method or path isn't told
just once.

The endpoints below /auth are served beside, for the proxy to pass requests on to. A WebSocket's handshake may bring its
token in the subprotocol pair. How long it stays open is the proxy's and the app's matter: nobody here sees it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote

from .answers import Answer
from .asgi import JWTGuardMiddleware, head_of, send_answer
from .errors import JWTGuardError, RequestInvalid
from .exchange import SUBPROTOCOL, Receive, Scope, Send
from .gate import Gate
from .guard import AsyncGuard
from .model import Identity

__all__ = ["HEADERS", "ForwardAuth"]

logger = logging.getLogger("jwtguard")

HEADERS: Final = ("X-Auth-Subject", "X-Auth-Session", "X-Auth-Scopes")
"""What the app behind is told. Values are percent-encoded UTF-8 (RFC 3986); scopes are separated by spaces."""

VERIFY: Final = "/verify"
ENVOY: Final = "/envoy/"

_METHOD: Final = b"x-forwarded-method"
_TARGET: Final = b"x-forwarded-uri"
_SEPARATORS: Final = bytes.maketrans(b"_.", b"--")
_OURS: Final = frozenset(name.lower().encode() for name in HEADERS)
_OVERRIDES: Final = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
"""By these many frameworks let a client choose the method that they route, and rules are about methods."""
_PLAIN: Final = "@:/"
"""What isn't encoded, besides letters, digits and -._~ : not the plus, which some decoders take for a space."""
_NOT_FOUND: Final = Answer(404, (("Cache-Control", "no-store"),))


class ForwardAuth:
    """An ASGI app that answers a proxy's questions, and serves the endpoints.

    Arguments: `guard`, an AsyncGuard. Run it as `jwtguard.forward:app`, or mount it at the root, beside a login of yours.
    """

    def __init__(self, guard: AsyncGuard) -> None:
        self._guard = guard
        self._gate = Gate(guard.core, _Endpoints.default_prefix)
        self._face = _Endpoints(_answer_not_found, guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        asked = _question(scope) if scope["type"] == "http" else None
        if asked is None:
            await self._face(scope, receive, send)
            return
        await send_answer(await self._answer(scope, *asked), scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Let go of the store's connections when the server ends."""
        while True:
            phase = (await receive())["type"].removeprefix("lifespan.")
            if phase == "shutdown":
                await self._guard.close()
            await send({"type": f"lifespan.{phase}.complete"})
            if phase == "shutdown":
                return

    async def _answer(self, scope: Scope, methods: list[bytes], targets: list[bytes]) -> Answer:
        try:
            identity = await self._identify(scope, methods, targets)
        except JWTGuardError as error:
            answer = self._face.endpoints.refuse(error)
            return answer._replace(headers=(*answer.headers, ("X-Auth-Code", error.code)))
        return Answer(200, (("Cache-Control", "no-store"), *_told(identity)))

    async def _identify(self, scope: Scope, methods: list[bytes], targets: list[bytes]) -> Identity:
        """Whose the request is that the proxy asks about. Raises what `Gate.admit` raises, and RequestInvalid."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if any(name.lower().translate(_SEPARATORS) in _OURS for name, _ in headers):
            raise RequestInvalid("it has a header that only the proxy may set")
        if any(name.lower().translate(_SEPARATORS) in _OVERRIDES for name, _ in headers):
            raise RequestInvalid("it has a header that asks for another method than the proxy tells")
        if len(methods) != 1 or len(targets) != 1:
            logger.error("the proxy told %d methods and %d paths: see docs/forward-auth.md", len(methods), len(targets))
            raise RequestInvalid("the proxy must tell its method and its path, each once")
        authorization = [value for name, value in headers if name == b"authorization"]
        live = any(name.startswith(b"sec-websocket-") for name, _ in headers)
        if live:
            authorization += _offered_tokens(headers)
        head = head_of(scope, authorization, "")
        asked = head._replace(method=methods[0].decode("latin-1"), path=_path(targets[0]), is_live=live)
        return await self._guard.perform(self._gate.admit(asked))


class _Endpoints(JWTGuardMiddleware):
    default_prefix = "/auth"


async def _answer_not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await send_answer(_NOT_FOUND, scope, receive, send)


def _question(scope: Scope) -> tuple[list[bytes], list[bytes]] | None:
    """The methods and targets that a proxy asks about, one of each if all is well; None if it doesn't ask."""
    headers = scope["headers"]
    if scope["path"] == VERIFY:
        return [value for name, value in headers if name == _METHOD], [value for name, value in headers if name == _TARGET]
    if scope["path"].startswith(ENVOY):
        before, prefix, target = (scope.get("raw_path") or b"").partition(ENVOY.removesuffix("/").encode())
        return [scope["method"].encode()], [target if prefix and not before else b""]
    return None


def _path(target: bytes) -> str:
    """The path of a request's target; "" where it is ambiguous, which no public pattern matches."""
    raw = target.partition(b"?")[0]
    return "" if b"%2f" in raw.lower() else unquote(raw)


def _offered_tokens(headers: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The tokens of the subprotocol pair in a WebSocket's handshake, as Authorization values."""
    offered = [part.strip() for name, value in headers if name == b"sec-websocket-protocol" for part in value.split(b",")]
    for place, name in enumerate(offered):
        if name == SUBPROTOCOL.encode():
            yield from (b"Bearer " + token for token in offered[place + 1 : place + 2])


def _told(identity: Identity) -> list[tuple[str, str]]:
    values = (identity.subject, identity.session_id, *identity.scopes)
    subject, session, *scopes = (quote(value, safe=_PLAIN) for value in values)
    return list(zip(HEADERS, (subject, session, " ".join(scopes)), strict=True))


def __getattr__(name: str) -> object:
    """`app`, by the environment, made when a server asks for it. Raises ConfigError."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = app = ForwardAuth(AsyncGuard.from_env())
    return app
