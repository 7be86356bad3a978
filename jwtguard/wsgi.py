"""The WSGI face: reads a request from the environ, asks the gate, and answers or passes on.

What the app sees: `environ["jwtguard.identity"]`, and `REMOTE_USER` where JWTGUARD_REMOTE_USER is on. Whatever a client
sends under these names, in any spelling, is removed first, on public paths too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .answers import Answer, answer_to
from .context import IDENTITY, NO_STORE, REQUEST
from .endpoints import MAX_BODY, Endpoint, EndpointRequest, Endpoints
from .errors import BodyTooLarge, JWTGuardError, RequestInvalid
from .gate import Gate, is_preflight
from .model import ANONYMOUS, Identity

if TYPE_CHECKING:
    from .guard import Guard

__all__ = ["JWTGuardMiddleware", "WSGIApp"]

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_FORGED: Final = ("HTTP_REMOTE_USER", "HTTP_JWTGUARD_IDENTITY", "HTTP_JWTGUARD.IDENTITY")


class JWTGuardMiddleware:
    """A guarded WSGI app.

    Arguments: `app`, the app; `guard`, a Guard. The endpoints are served where the settings say, and not at all if they
    don't say.
    """

    def __init__(self, app: WSGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._gate = Gate(guard.core)
        self._remote_user = guard.settings.remote_user
        self._endpoints = Endpoints(guard.core, self._gate)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        remove_forged(environ)
        request = REQUEST.set(environ)
        try:
            identity = self._identify(environ)
            if isinstance(identity, Answer):
                return respond(identity, environ, start_response)
            set_identity(environ, identity, self._remote_user)
            body = self._app(environ, _starting(environ, start_response))
        except JWTGuardError as error:
            return self._refuse(error, environ, start_response)
        finally:
            REQUEST.reset(request)
        return self._iterate(body, environ, start_response) if isinstance(body, GeneratorType) else body

    def _identify(self, environ: Environ) -> Identity | Answer:
        """Whose the request is, or what answers it if it is for an endpoint. Raises what `Gate.admit` raises."""
        if self._endpoints.prefix is not None:
            found = self._endpoints.find(environ["REQUEST_METHOD"], path_of(environ))
            if found is not None:
                return serve(self._guard, self._endpoints, found, environ)
        return admit(self._guard, self._gate, environ)

    def _refuse(self, error: JWTGuardError, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the error that is being handled; the app may have begun an answer of its own, which this replaces."""

        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            return start_response(status, headers, sys.exc_info())

        answer = answer_to(error, realm=self._guard.settings.realm, on_error=self._guard.core.hooks.on_error)
        return respond(answer, environ, start)

    def _iterate(
        self, body: Generator[bytes, Any, Any], environ: Environ, start_response: StartResponse
    ) -> Generator[bytes, None, None]:
        """The body of an app that is a generator function: it runs only now, so its request and its errors count now."""
        started = False
        request = REQUEST.set(environ)
        try:
            for part in body:
                started = True
                yield part
        except JWTGuardError as error:
            if started:
                raise
            yield from self._refuse(error, environ, start_response)
        finally:
            REQUEST.reset(request)
            body.close()


def admit(guard: Guard, gate: Gate, environ: Environ) -> Identity:
    """The identity of a request that may pass. Raises what `Gate.admit` raises."""
    authorization = environ.get("HTTP_AUTHORIZATION")
    method = environ["REQUEST_METHOD"]
    if authorization is None:
        if is_preflight(method, "HTTP_ORIGIN" in environ, "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ):
            return ANONYMOUS
        return guard.perform(gate.admit(method, path_of(environ), ()))
    value = authorization.encode("latin-1", "replace")
    identity = gate.recall(value)
    if identity is None:
        return guard.perform(gate.admit(method, path_of(environ), (value,)))
    if gate.has_scope_rules:
        gate.check_rules(identity, method, path_of(environ))
    return identity


def serve(guard: Guard, endpoints: Endpoints, found: tuple[Endpoint, str], environ: Environ) -> Answer:
    """The answer to a request for an endpoint."""
    endpoint, session_id = found
    environ[IDENTITY] = ANONYMOUS
    try:
        request = _endpoint_request(endpoint, session_id, environ)
    except RequestInvalid as error:
        return endpoints.refuse(endpoint, error)
    return guard.perform(endpoints.answer(endpoint, request))


def respond(answer: Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Send an answer."""
    from werkzeug.wrappers import Response

    return Response(answer.body, answer.status, list(answer.headers))(environ, start_response)


def remove_forged(environ: Environ) -> None:
    """Remove what a client sent under the names that are jwtguard's to give."""
    for name in _FORGED:
        environ.pop(name, None)


def set_identity(environ: Environ, identity: Identity, remote_user: bool) -> None:
    """Let the app see the identity."""
    environ[IDENTITY] = identity
    if remote_user:
        environ.pop("REMOTE_USER", None)
        if identity.is_authenticated:
            environ["REMOTE_USER"] = identity.subject.encode().decode("latin-1")


def path_of(environ: Environ) -> str:
    """The path below the mount point, as text; "" where it is not UTF-8, which no pattern matches."""
    try:
        return str(environ.get("PATH_INFO", "").encode("latin-1").decode()) or "/"
    except UnicodeError:
        return ""


def _starting(environ: Environ, start_response: StartResponse) -> StartResponse:
    """`start_response` for the app: an answer to a request that got tokens is not to be stored (RFC 6749 section 5.1)."""

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        if NO_STORE in environ:
            headers = [header for header in headers if header[0].lower() != "cache-control"]
            headers.append(("Cache-Control", "no-store"))
        return start_response(status, headers, *exc_info)

    return start


def _endpoint_request(endpoint: Endpoint, session_id: str, environ: Environ) -> EndpointRequest:
    from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
    from werkzeug.wrappers import Request

    request = Request(environ)
    request.max_content_length = MAX_BODY
    try:
        body = request.get_data() if endpoint.reads_body else b""
    except RequestEntityTooLarge:
        raise BodyTooLarge from None
    except BadRequest as error:
        raise RequestInvalid("the body can't be read") from error
    authorization = environ.get("HTTP_AUTHORIZATION")
    return EndpointRequest(
        authorization=() if authorization is None else (authorization.encode("latin-1", "replace"),),
        query=environ.get("QUERY_STRING", ""),
        content_type=environ.get("CONTENT_TYPE", ""),
        body=body,
        session_id=session_id,
    )
