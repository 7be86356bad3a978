"""The WSGI face: reads a request from the environ, asks the gate, and answers or passes on.

What the app sees: `environ["jwtguard.identity"]`, and `REMOTE_USER` where JWTGUARD_REMOTE_USER is on. Whatever a client
sends under these names, in any spelling, is removed first, on public paths too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar
from urllib.parse import urlencode

from .answers import Answer
from .context import IDENTITY, REQUEST, WANTED
from .endpoints import MAX_BODY, Endpoint, EndpointRequest, Endpoints
from .errors import BodyTooLarge, ConfigError, JWTGuardError, RequestInvalid, SessionEnded, StoreUnavailable
from .flow import Flow
from .gate import Gate
from .guard import Guard, GuardMethods
from .head import RequestHead
from .inputs import takes
from .live import Tenure
from .model import ANONYMOUS, Identity

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

__all__ = ["JWTGuardMiddleware", "WSGIApp"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
R = TypeVar("R", bound="Response")

_NOT_PREFIXED: Final = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE"})
_FORGED: Final = ("HTTP_REMOTE_USER", "HTTP_REMOTE.USER", "HTTP_JWTGUARD_IDENTITY", "HTTP_JWTGUARD.IDENTITY")


class JWTGuardMiddleware:
    """A guarded WSGI app.

    Arguments: `app`, the app; `guard`, a Guard. The endpoints are served where the settings say, and not at all if they
    don't say.
    """

    def __init__(self, app: WSGIApp, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigError(f"a WSGI app is guarded by a Guard, not by {type(guard).__name__}")
        if not takes(app, 2):
            raise ConfigError(
                f"a Guard wraps a WSGI app, which takes (environ, start_response); {type(app).__name__} doesn't. "
                "Is it an ASGI app? Then use an AsyncGuard"
            )
        self._app = app
        self._guard = guard
        self._gate = Gate(guard.core)
        self._remote_user = guard.settings.remote_user
        self._endpoints = Endpoints(guard.core, self._gate)
        self._marks = self._endpoints.marks

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        remove_forged(environ)
        starting = _Starting(environ, start_response)
        request = REQUEST.set(environ)
        try:
            marks, path = self._marks, environ.get("PATH_INFO", "")
            if marks is not None and (marks[0] in path or marks[1] in path):
                answer = self._serve_endpoint(environ)
                if answer is not None:
                    return respond(answer, environ, starting.start)
            identity = admit(self._guard, self._gate, environ)
            environ[IDENTITY] = identity
            if self._remote_user:
                set_remote_user(environ, identity)
            body = self._app(environ, starting.start)
        except JWTGuardError as error:
            return self._refuse(error, environ, starting)
        finally:
            REQUEST.reset(request)
        if type(body) is list:  # what most frameworks give; the rest is about what isn't there yet
            return body
        if not starting.begun:
            body = _LateBody(body, environ, starting, self._refuse)
        return body if is_whole(body, environ, identity) else LiveBody(body, identity, self._guard, starting)

    def _serve_endpoint(self, environ: Environ) -> Answer | None:
        """What answers the request, if it is for an endpoint."""
        found = self._endpoints.find(environ["REQUEST_METHOD"], path_of(environ))
        return None if found is None else self._guard.perform(serve(self._endpoints, found, environ))

    def _refuse(self, error: JWTGuardError, environ: Environ, starting: _Starting) -> Iterable[bytes]:
        """Answer the error that is being handled. It replaces an answer that the app has begun, unless that is on its way:
        then the server raises the error (PEP 3333, "The start_response() callable")."""
        return respond(self._endpoints.refuse(error), environ, starting.again if starting.begun else starting.start)


class _Starting:
    """`start_response` for the app: notes whether an answer has begun, and gives it the headers that are wanted on it."""

    __slots__ = ("_environ", "_start_response", "begun", "headers")

    def __init__(self, environ: Environ, start_response: StartResponse) -> None:
        self._environ = environ
        self._start_response = start_response
        self.begun = False
        self.headers: Sequence[tuple[str, str]] = ()

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.begun = True
        self.headers = headers
        if WANTED in self._environ:
            headers = self._environ[WANTED].on(headers)
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def again(self, status: str, headers: list[tuple[str, str]]) -> Any:
        """`start_response` for an answer to the error that is being handled, in place of the one that has begun."""
        return self.start(status, headers, sys.exc_info())


class _LateBody:
    """The body of an app that calls `start_response` only when it is iterated, such as a generator function. Its code runs
    then, so the current request is set, and its errors are answered, during iteration."""

    def __init__(
        self,
        body: Iterable[bytes],
        environ: Environ,
        starting: _Starting,
        refuse: Callable[[JWTGuardError, Environ, _Starting], Iterable[bytes]],
    ) -> None:
        self._body = body
        self._environ = environ
        self._starting = starting
        self._refuse = refuse
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = REQUEST.set(self._environ)
        try:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)
        except JWTGuardError as error:
            self._parts = iter(self._refuse(error, self._environ, self._starting))
        finally:
            REQUEST.reset(request)
        return next(self._parts)

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._body, "close", None)
        if close is not None:
            close()


class _Head(Protocol):
    """Where the headers of a response are, once it has begun."""

    headers: Any


class LiveBody:
    """A streamed body, which ends when its session does, unless its length was told: then it is on its way, not open.

    Each part is passed on only if the session goes on when the app gives it. So a body is ended when its next part comes; a
    blocking server can't do it before.
    """

    def __init__(self, body: Iterable[bytes], identity: Identity, guard: GuardMethods, head: _Head) -> None:
        self._body = body
        self._identity = identity
        self._guard = guard
        self._head = head
        self._parts: Iterator[bytes] | None = None
        self._tenure: Tenure | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._body)
            part = next(self._parts)
            if not any(name.lower() == "content-length" for name, _ in tuple(self._head.headers)):
                self._tenure = Tenure(self._identity)
        else:
            part = next(self._parts)
        if self._tenure is not None and not self._goes_on(self._tenure):
            self._parts = iter(())
            raise StopIteration
        return part

    def _goes_on(self, tenure: Tenure) -> bool:
        live = self._guard.core.live
        live.look()
        if live.keys.is_due():
            self._guard.perform(live.keys.looked())
        if not live.doubtful([tenure]):
            return True
        try:
            self._guard.perform(live.judge(tenure))
        except (SessionEnded, StoreUnavailable):
            return False
        return True

    def close(self) -> None:
        close: Callable[[], None] | None = getattr(self._body, "close", None)
        if close is not None:
            close()


def is_whole(body: Iterable[bytes], environ: Environ, identity: Identity) -> bool:
    """Whether a body is passed on as it is: one that is there already, a file that the server sends, or nobody's."""
    if type(body) in (list, tuple) or not identity.is_authenticated:
        return True
    files = environ.get("wsgi.file_wrapper")
    return isinstance(files, type) and isinstance(body, files)


def admit(guard: Guard, gate: Gate, environ: Environ, *, public: bool = False) -> Identity:
    """The identity of a request that may pass. Raises what `Gate.admit` raises."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    identity = None if authorization is None else gate.recall(authorization.encode("latin-1", "replace"))
    if identity is None:
        return guard.perform(gate.admit(head_of(environ), public=public))
    if gate.has_scope_rules:
        gate.check_rules(identity, environ["REQUEST_METHOD"], path_of(environ))
    return identity


def head_of(environ: Environ) -> RequestHead:
    """The head of a request. Several Authorization fields come as one value, joined."""
    value = environ.get("HTTP_AUTHORIZATION")
    authorization = () if value is None else (value.encode("latin-1", "replace"),)
    mount = environ.get("SCRIPT_NAME", "").encode("latin-1", "replace").decode("utf-8", "replace")
    return RequestHead(
        environ["REQUEST_METHOD"],
        path_of(environ),
        authorization,
        partial(header_of, environ),
        is_live="HTTP_SEC_WEBSOCKET_KEY" in environ,  # an app may open a WebSocket over the server's own connection
        mount=mount,
        scheme=environ.get("wsgi.url_scheme", ""),
    )


def header_of(environ: Environ, name: str) -> str | None:
    """The value of a header, by its name in upper case with underscores; None where there is none."""
    value: str | None = environ.get(name if name in _NOT_PREFIXED else f"HTTP_{name}")
    return value


def serve(
    endpoints: Endpoints, found: tuple[Endpoint, str], environ: Environ, request: Request | None = None
) -> Flow[Answer]:
    """The answer to a request for an endpoint. `request`: what has the body if it may have been read already."""
    endpoint, session_id = found
    try:
        asked = _endpoint_request(endpoint, session_id, environ, request)
    except RequestInvalid as error:
        return endpoints.refuse(error, endpoint)
    return (yield from endpoints.answer(endpoint, asked))


def respond(answer: Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Send an answer."""
    from werkzeug.wrappers import Response

    return response_of(answer, Response)(environ, start_response)


def response_of(answer: Answer, kind: type[R]) -> R:
    """An answer as a response of this kind, Werkzeug's or a framework's own."""
    response = kind(answer.body, answer.status, list(answer.headers))
    if not answer.body:
        del response.headers["Content-Type"]  # they give each response one
    return response


def remove_forged(environ: Environ) -> None:
    """Remove what a client sent under the names that are jwtguard's to give; nobody is known until it is known who."""
    for name in _FORGED:
        if name in environ:  # it hardly ever is, and to ask is half of popping it
            del environ[name]
    environ[IDENTITY] = ANONYMOUS


def set_remote_user(environ: Environ, identity: Identity) -> None:
    """Put the subject where a server would put a user's name."""
    environ.pop("REMOTE_USER", None)
    if identity.is_authenticated:
        environ["REMOTE_USER"] = identity.subject.encode().decode("latin-1")


def path_of(environ: Environ) -> str:
    """The path below the mount point, as text; "" where it is not UTF-8, which no pattern matches."""
    try:
        return str(environ.get("PATH_INFO", "").encode("latin-1").decode()) or "/"
    except UnicodeError:
        return ""


def _endpoint_request(endpoint: Endpoint, session_id: str, environ: Environ, request: Request | None) -> EndpointRequest:
    return EndpointRequest(
        head=head_of(environ),
        query=environ.get("QUERY_STRING", ""),
        content_type=environ.get("CONTENT_TYPE", ""),
        body=_body(environ, request) if endpoint.reads_body else b"",
        session_id=session_id,
    )


def _body(environ: Environ, request: Request | None) -> bytes:
    """The request's body. Raises BodyTooLarge, RequestInvalid."""
    from werkzeug import wrappers
    from werkzeug.exceptions import RequestEntityTooLarge

    request = wrappers.Request(environ) if request is None else request
    request.max_content_length = MAX_BODY + 1  # a body that reaches it counts as too large if its length isn't known
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        raise BodyTooLarge from None
    except Exception:  # noqa: BLE001 - each server has its own for a body that breaks off or is malformed
        raise RequestInvalid("the body can't be read") from None
    if not body and request.form:
        body = urlencode(list(request.form.items(multi=True))).encode()  # the app has had it read as a form
    if len(body) > MAX_BODY:
        raise BodyTooLarge
    return body
