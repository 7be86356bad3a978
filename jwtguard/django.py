"""For Django: a middleware, sync and async, and the user's sessions for views.

    # settings.py
    MIDDLEWARE = [..., "jwtguard.django.JWTGuardMiddleware"]
    JWTGUARD = {"PUBLIC": "/login"}

    # views.py
    from jwtguard.django import aguard, guard

    guard.login("alice")            # in a plain view
    await aguard.login("alice")     # in an async one

`JWTGUARD` takes what `AsyncGuard.from_env` takes, in upper case; a hook may be a dotted path. It wins over the environment.
The guard is made when the middleware is, so a bad setting stops the start.

Paths are matched as Django's URLconf sees them (`request.path_info`), so below FORCE_SCRIPT_NAME and any mount point.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from io import BytesIO
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from .answers import Answer
from .asgi import take_authorization
from .context import IDENTITY, OVER, REQUEST, WANTED
from .core import Core
from .endpoints import MAX_BODY, Endpoint, Endpoints
from .errors import ConfigError, JWTGuardError, RequestInvalid
from .flow import Flow
from .gate import Gate, check_user, checking
from .guard import AsyncGuard, GuardMethods, take_arguments
from .head import RequestHead
from .inputs import checked_scopes
from .live import Closing
from .model import ANONYMOUS, Identity
from .settings import Settings
from .wsgi import LiveBody, head_of, remove_forged, serve, set_remote_user

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
    from django.apps import apps
    from django.conf import settings
    from django.core.exceptions import SuspiciousOperation
    from django.core.signals import setting_changed
    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
    from django.http.multipartparser import MultiPartParserError
    from django.http.response import HttpResponseBase
    from django.utils.cache import patch_vary_headers
    from django.utils.functional import SimpleLazyObject, empty
    from django.utils.module_loading import import_string
except ImportError as error:
    raise ConfigError("jwtguard.django needs Django: pip install 'jwtguard-middleware[django]'") from error

if TYPE_CHECKING:
    from ._django_backend import IdentityBackend

__all__ = ["IdentityBackend", "JWTGuardMiddleware", "aguard", "current_identity", "guard"]

T = TypeVar("T")
V = TypeVar("V", bound=Callable[..., Any])

DEFAULT_PREFIX: Final = "/auth"
AUTHENTICATION: Final = "django.contrib.auth.middleware.AuthenticationMiddleware"
HOOKS: Final = ("claims_loader", "on_event", "on_error", "page")


class _Made:
    """The process's one guard, made once, by what the settings say then."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._guard: AsyncGuard | None = None

    def __call__(self) -> AsyncGuard:
        with self._lock:
            if self._guard is None:
                self._guard = _make()
            return self._guard

    def forget(self) -> None:
        with self._lock:
            self._guard = None


def _make() -> AsyncGuard:
    given = getattr(settings, "JWTGUARD", {})
    if not isinstance(given, dict):
        raise ConfigError(f"JWTGUARD in settings.py is of type {type(given).__name__}: expected a dict")
    terms = {str(name).lower(): value for name, value in given.items()}
    for name in HOOKS:
        if isinstance(terms.get(name), str):
            terms[name] = import_string(terms[name])
    arguments = take_arguments(terms)
    return AsyncGuard(Settings.from_env(**terms), **arguments)


_made = _Made()


class _Guard(GuardMethods):
    """The guard for plain views and management commands; its methods block."""

    @property
    def core(self) -> Core:
        return _made().core

    def perform(self, flow: Flow[T]) -> T:
        return _made().sync.perform(flow)

    def close(self) -> None:
        _made().sync.close()

    def requires(self, *scopes: str) -> Callable[[V], V]:
        """For a view, plain or async: who isn't authenticated gets 401, who lacks one of the scopes 403.

        For a class-based view: `@method_decorator(guard.requires("admin"), name="dispatch")`.
        """
        needed = checked_scopes(scopes)

        def check(request: HttpRequest, *arguments: Any, **options: Any) -> None:
            del arguments, options
            check_user(current_identity(request), needed)

        return lambda view: checking(view, check)


guard = _Guard()
"""Blocks: for plain views and management commands. Made at first use, like `aguard`, from the same settings."""

aguard = cast("AsyncGuard", SimpleLazyObject(_made))
"""The same guard for async views: its methods are awaited."""


def current_identity(request: HttpRequest) -> Identity:
    """The same as `request.identity`: the anonymous one where no token is needed and none came.

    Raises ConfigError where the middleware is missing: nobody was asked for a token.
    """
    identity = getattr(request, "identity", None)
    if not isinstance(identity, Identity):
        raise ConfigError("a request has no identity: add jwtguard.django.JWTGuardMiddleware to MIDDLEWARE")
    return identity


class JWTGuardMiddleware:
    """Guards a Django site, and serves the endpoints (below /auth unless the settings say otherwise).

    What it refuses it answers itself, so every middleware before it in MIDDLEWARE sees the answer (CORS, say). Errors of
    jwtguard that a view raises are answered in the same way.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._guard = _made()
        self._blocking = self._guard.sync
        self._gate = Gate(self._guard.core, DEFAULT_PREFIX)
        self._endpoints = Endpoints(self._guard.core, self._gate)
        self._vary = ("Authorization",) if self._gate.cookies is None else ("Authorization", "Cookie")
        self._backend = _identity_backend()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        before = REQUEST.set(request.META)
        request.META[OVER] = False
        try:
            response = self._blocking.perform(self._judge(request, self._find(request)))
            return _with_wanted(request, response or self._finished(request, self._get_response(request)))
        finally:
            REQUEST.reset(before)
            request.META[OVER] = True

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        before = REQUEST.set(request.META)
        request.META[OVER] = False
        try:
            found = self._find(request)
            perform = self._guard.perform if found is None else self._guard.complete
            response = await perform(self._judge(request, found))
            return _with_wanted(request, response or self._finished(request, await self._get_response(request)))
        finally:
            REQUEST.reset(before)
            request.META[OVER] = True

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """The answer to an error of jwtguard that a view has raised; others are not its business."""
        if not isinstance(exception, JWTGuardError):
            return None
        return _response_of(self._endpoints.refuse(exception), request)

    def _find(self, request: HttpRequest) -> tuple[Endpoint, str] | None:
        return self._endpoints.find(_method_of(request), request.path_info)

    def _judge(self, request: HttpRequest, found: tuple[Endpoint, str] | None) -> Flow[HttpResponse | None]:
        """What answers a request; None if it may pass, with its identity."""
        _remove_forged(request)
        try:
            if found is None:
                self._welcome(request, (yield from self._gate.admit(_head_of(request))))
                return None
            answer = yield from serve(self._endpoints, found, _with_body(request))
        except JWTGuardError as error:
            answer = self._endpoints.refuse(error)
        return _response_of(answer, request)

    def _welcome(self, request: HttpRequest, identity: Identity) -> None:
        request.META[IDENTITY] = identity
        if self._guard.settings.remote_user:
            set_remote_user(request.META, identity)
        known: Any = request
        known.identity = identity
        if identity.is_authenticated:
            # A page of another origin can't send a bearer token for a browser's user; of cookies, the gate has judged whose
            # page sent them.
            known._dont_enforce_csrf_checks = True
        if self._backend is not None and (identity.is_authenticated or not hasattr(request, "user")):
            load = _once(partial(self._backend.user_of, identity))
            known.user, known.auser = SimpleLazyObject(load), sync_to_async(load)

    def _finished(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        patch_vary_headers(response, self._vary)  # Django's caches keep what others must not keep
        identity = cast("Any", request).identity
        if isinstance(response, StreamingHttpResponse) and identity.is_authenticated and _is_live(response):
            parts: Any = response.streaming_content
            if response.is_async:
                response.streaming_content = _LiveParts(parts, identity, self._guard)
            else:
                response.streaming_content = LiveBody(parts, identity, self._blocking, SimpleNamespace(headers=()))
        return response


class _LiveParts:
    """An async streamed body, which ends when its session does, also while the app has nothing to send."""

    def __init__(self, parts: AsyncGenerator[bytes], identity: Identity, guard: AsyncGuard) -> None:
        self._parts = parts
        self._identity = identity
        self._guard = guard
        self._wait: asyncio.Timeout | None = None
        self._is_over = False

    def end(self, closing: Closing) -> None:
        """The session has ended: the app's code, where it waits, is cancelled."""
        del closing
        self._is_over = True
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        live = self._guard.core.live
        tenure = live.enter(self._identity, self, self._guard.perform)
        try:
            async with aclosing(self._parts) as parts:
                while (part := await self._next(parts)) is not None:
                    yield part
        finally:
            live.leave(tenure)

    async def _next(self, parts: AsyncGenerator[bytes]) -> bytes | None:
        """The next part; None if the app has no more, or the session is over."""
        part = None
        try:
            async with asyncio.timeout(None) as self._wait:
                part = await anext(parts, None)
        except TimeoutError:
            if not self._is_over:
                raise  # the app's own
        finally:
            self._wait = None
        return None if self._is_over else part


def _identity_backend() -> IdentityBackend | None:
    """The one in AUTHENTICATION_BACKENDS. Raises ConfigError where Django would put its own user in place of it."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    from ._django_backend import IdentityBackend

    kinds = map(import_string, settings.AUTHENTICATION_BACKENDS)
    found = next((kind() for kind in kinds if issubclass(kind, IdentityBackend)), None)
    if found is not None:
        own = f"{__name__}.JWTGuardMiddleware"
        known = [path for path in settings.MIDDLEWARE if path in (own, AUTHENTICATION)]
        if known[-1:] == [AUTHENTICATION]:
            raise ConfigError(f"put {own} after {AUTHENTICATION}, which would set request.user anew")
    return found


def __getattr__(name: str) -> object:
    """`IdentityBackend`, which needs Django's models to be there, only when it is asked for."""
    if name != "IdentityBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._django_backend import IdentityBackend

    return IdentityBackend


def _once(load: Callable[[], T]) -> Callable[[], T]:
    found: list[T] = []

    def load_once() -> T:
        if not found:
            found.append(load())
        return found[0]

    return load_once


def _head_of(request: HttpRequest) -> RequestHead:
    return head_of(request.META)._replace(method=_method_of(request), path=request.path_info)


def _method_of(request: HttpRequest) -> str:
    """The method as it came: Django has it in upper case, which another method may become."""
    scope = getattr(request, "scope", None)
    method: str = request.META["REQUEST_METHOD"] if scope is None else scope["method"]
    return method


def _remove_forged(request: HttpRequest) -> None:
    remove_forged(request.META)
    vars(request).pop("headers", None)  # which is made of META, once
    if (scope := getattr(request, "scope", None)) is not None:
        take_authorization(scope)
    cast("Any", request).identity = ANONYMOUS


def _with_body(request: HttpRequest) -> dict[str, Any]:
    """A WSGI environ from which the request's body can be read, also where something has read it already.

    A form is what Django takes for one, and that includes what its test client sends if nothing else is said. Raises
    RequestInvalid for one that Django can't read.
    """
    length = request.META.get("CONTENT_LENGTH", "")
    if request.content_type == "multipart/form-data" and length.isdecimal() and int(length) <= MAX_BODY:
        try:
            form = request.POST.urlencode().encode()
        except (MultiPartParserError, SuspiciousOperation):
            raise RequestInvalid("the body can't be read") from None
        as_form = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": str(len(form))}
        return {**request.META, **as_form, "wsgi.input": BytesIO(form)}
    if "wsgi.input" in request.META and not hasattr(request, "_body"):
        return request.META
    return {**request.META, "wsgi.input": request, "wsgi.input_terminated": True}


def _is_live(response: StreamingHttpResponse) -> bool:
    """Whether a streamed response is open; a file that the server sends, and what tells its length, are on their way."""
    return getattr(response, "file_to_stream", None) is None and "Content-Length" not in response.headers


def _response_of(answer: Answer, request: HttpRequest) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
    if answer.status != 204:  # which tells no length (RFC 9110 section 8.6)
        response.headers["Content-Length"] = str(len(answer.body))
    if not answer.body:
        del response.headers["Content-Type"]  # Django gives each response one
    if request.method == "HEAD":
        response.content = b""
    return response


def _with_wanted(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """A response with what the guard wants on it."""
    wanted = request.META.get(WANTED)
    if wanted is not None:
        for name, value in wanted.headers.items():
            response.headers[name] = value
        for name, value, path, max_age in wanted.cookies.values():
            response.set_cookie(name, value, max_age, path=path, secure=True, httponly=True, samesite="Lax")
    return response


def _settings_changed(*, setting: str, **_: Any) -> None:
    """In tests, `override_settings(JWTGUARD=...)` makes another guard; a new test client uses it."""
    if setting == "JWTGUARD":
        _made.forget()
        cast("Any", aguard)._wrapped = empty


setting_changed.connect(_settings_changed)
