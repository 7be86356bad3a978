"""A request, sent through each face by hand: no server, no framework. And what came of it."""

from __future__ import annotations

import asyncio
import io
import json
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, unquote, unquote_to_bytes

from world import World

from jwtguard.errors import JWTGuardError
from jwtguard.model import Identity

__all__ = ["Reply", "Request", "Seen", "send_asgi", "send_wsgi"]

Body: TypeAlias = Literal["whole", "chunked", "cut"]
CLIENT = ("203.0.113.7", 51234)


@dataclass(frozen=True)
class Request:
    """An HTTP request as a client wrote it. `sent`: with its length, without it (chunked), or shorter than its length."""

    method: str = "GET"
    target: str = "/me"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    sent: Body = "whole"
    mount: str = ""

    def filled(self, world: World) -> Request:
        """With what the world has made in place of each `<name>`; the world is done when this is."""
        headers = tuple((name, world.filled(value)) for name, value in self.headers)
        target, body = world.filled(self.target), world.filled(self.body.decode("latin-1")).encode("latin-1")
        return Request(self.method, target, headers, body, self.sent, self.mount)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Seen:
    """What the app saw of a request that reached it."""

    subject: str
    scopes: tuple[str, ...]
    names: frozenset[str]
    """Of all that a request carries, in one spelling."""
    remote_user: str | None = None


@dataclass
class Reply:
    """What the client got; the headers' names in lower case, all in order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    seen: list[Seen] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        found = [value for other, value in self.headers if other == name]
        if len(found) > 1:
            raise AssertionError(f"{name} comes {len(found)} times")
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)

    def agreed(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """What both faces must agree on."""
        return self.status, sorted(self.headers), self.body


View: TypeAlias = Literal["echo", "login"] | JWTGuardError


# -- WSGI ------------------------------------------------------------------------------------------------------------------


def environ_of(request: Request) -> dict[str, Any]:
    """As gunicorn makes it: headers that come twice are joined."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": request.mount,
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "REMOTE_ADDR": CLIENT[0],
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
    }
    if request.sent == "chunked":
        environ["wsgi.input_terminated"] = True
    elif request.body:
        environ["CONTENT_LENGTH"] = str(len(request.body) + 10 * (request.sent == "cut"))
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def seen_of_environ(environ: Mapping[str, Any]) -> Seen:
    identity: Identity = environ["jwtguard.identity"]
    names = frozenset(_plain(name.removeprefix("HTTP_")) for name in environ if name.startswith("HTTP_"))
    return Seen(identity.subject, identity.scopes, names, environ.get("REMOTE_USER"))


def wsgi_app(guard: Any, view: View, seen: list[Seen]) -> Callable[..., Iterable[bytes]]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.append(seen_of_environ(environ))
        body = b"the app"
        if isinstance(view, Exception):
            raise view
        if view == "login":
            body = json.dumps(guard.login("alice").to_dict()).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    return app


def send_wsgi(world: World, request: Request, view: View = "echo", times: int = 1) -> list[Reply]:
    """The replies to a request that is sent so many times."""
    guard = world.guard()
    seen: list[Seen] = []
    app = guard.wrap(wsgi_app(guard, view, seen))
    replies = []
    for _ in range(times):
        seen.clear()
        replies.append(call_wsgi(app, environ_of(request)))
        replies[-1].seen = list(seen)
    return replies


def call_wsgi(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Reply:
    """As a server does (PEP 3333): headers go out with the first part of the body that isn't empty."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    sent = bytearray()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is None:
            assert not begun, "start_response was called twice"
        elif sent:
            raise exc_info[1].with_traceback(exc_info[2])
        begun[:] = [(status, headers)]
        return sent.extend

    body = app(environ, start_response)
    try:
        for part in body:
            assert begun, "the body came before start_response"
            sent.extend(part)
    finally:
        if hasattr(body, "close"):
            body.close()
    ((status, headers),) = begun
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in headers)
    return Reply(int(status.split(" ")[0]), [(name.lower(), value) for name, value in headers], bytes(sent))


# -- ASGI ------------------------------------------------------------------------------------------------------------------


def scope_of(request: Request) -> dict[str, Any]:
    """As uvicorn makes it."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers]
    if request.body and request.sent != "chunked":
        headers.append((b"content-length", b"%d" % (len(request.body) + 10 * (request.sent == "cut"))))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "path": request.mount + unquote(request.path),
        "raw_path": quote(request.mount + request.path, safe=string.printable).encode(),
        "root_path": request.mount,
        "query_string": request.query.encode("latin-1"),
        "headers": headers,
        "client": CLIENT,
        "server": ("testserver", 80),
        "scheme": "http",
    }


def seen_of_scope(scope: Mapping[str, Any]) -> Seen:
    identity: Identity = scope["jwtguard.identity"]
    assert scope["user"] is identity
    assert scope["auth"].scopes == [*identity.scopes, *(["authenticated"] * identity.is_authenticated)]
    return Seen(
        identity.subject, identity.scopes, frozenset(_plain(name.decode("latin-1")) for name, _ in scope["headers"])
    )


def asgi_app(guard: Any, view: View, seen: list[Seen]) -> Callable[..., Any]:
    async def app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        seen.append(seen_of_scope(scope))
        body = b"the app"
        if isinstance(view, Exception):
            raise view
        if view == "login":
            body = json.dumps((await guard.login("alice")).to_dict()).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    return app


def send_asgi(world: World, request: Request, view: View = "echo", times: int = 1) -> list[Reply]:
    """The replies to a request that is sent so many times."""
    guard = world.async_guard()
    seen: list[Seen] = []
    app = guard.wrap(asgi_app(guard, view, seen))

    async def send_all() -> list[Reply]:
        replies = []
        for _ in range(times):
            seen.clear()
            replies.append(await call_asgi(app, scope_of(request), request))
            replies[-1].seen = list(seen)
        return replies

    return asyncio.run(send_all())


async def call_asgi(app: Callable[..., Any], scope: dict[str, Any], request: Request | None = None) -> Reply:
    """As a server does, with the body in parts of 1,000 bytes."""
    body, cut = (request.body, request.sent == "cut") if request else (b"", False)
    parts = [body[at : at + 1000] for at in range(0, len(body), 1000)] or [b""]
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if cut:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []
    answered = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not messages:
            await answered.wait()  # the client waits for its answer, and goes then
            return {"type": "http.disconnect"}
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            answered.set()

    await app(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in rest] == ["http.response.body"] * len(rest)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    assert all(name == name.lower() for name, _ in headers)
    return Reply(start["status"], headers, b"".join(message.get("body", b"") for message in rest))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
