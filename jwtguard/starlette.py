"""For Starlette: the guard inside the app's CORS and error handling, and the endpoints as its routes.

    app = Starlette(routes=[...])
    guard = AsyncGuard.from_env(public="/login")
    install(app, guard)

The guard stands around the app's router, so it is inside every middleware that the app adds, before or after. A refusal is
raised there, and the app's exception handlers answer it: jwtguard's, or one that the app has for the error's class.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import cast

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import Answer, answer_to
from .asgi import JWTGuardMiddleware, send_answer, serve_endpoint, take_authorization
from .endpoints import ROUTES, Endpoint, Endpoints
from .errors import ConfigError, JWTGuardError
from .gate import Gate
from .guard import AsyncGuard

__all__ = ["DEFAULT_PREFIX", "View", "endpoints_of", "install", "install_with"]

DEFAULT_PREFIX = "/auth"

View = Callable[[Request], Awaitable[Response]]
AddRoute = Callable[[Endpoint, str, View], None]


def install(app: Starlette, guard: AsyncGuard) -> None:
    """Guard an app. Raises ConfigError at once if it is guarded already, and when the app starts if a route of its own
    takes the place of an endpoint."""

    def add_route(endpoint: Endpoint, path: str, view: View) -> None:
        app.router.routes.append(Route(path, view, methods=[endpoint.method], include_in_schema=False))

    install_with(app, guard, add_route)


def install_with(app: Starlette, guard: AsyncGuard, add_route: AddRoute) -> None:
    """Guard an app, with the endpoints added as routes by `add_route`."""
    if hasattr(app.state, "jwtguard"):
        raise ConfigError("this app is guarded already: call install once")
    if app.middleware_stack is not None:
        raise ConfigError("this app has served a request already: call install before it does")
    app.state.jwtguard = guard
    endpoints = endpoints_of(guard)
    before = list(app.router.routes)
    if endpoints is not None:
        for endpoint in ROUTES:
            add_route(endpoint, endpoints.prefix + endpoint.path, _view(guard, endpoints, endpoint))
    ours = [route for route in app.router.routes if route not in before]
    app.router.routes[:] = [*ours, *before]  # first, so that a catch-all of the app doesn't hide them
    app.router.middleware_stack = _Inside(app, app.router.middleware_stack, guard, endpoints, ours)
    app.exception_handlers.setdefault(JWTGuardError, _handler(guard))


def endpoints_of(guard: AsyncGuard) -> Endpoints | None:
    """The endpoints that a guard's settings ask for; in an integration, by default, below `/auth`."""
    prefix = DEFAULT_PREFIX if guard.settings.endpoints is None else guard.settings.endpoints
    return Endpoints(guard.core, Gate(guard.core), prefix) if prefix else None


class _Inside(JWTGuardMiddleware):
    """The guard around an app's router: what is refused is raised, and what is for an endpoint goes to its route."""

    def __init__(
        self, app: Starlette, router: ASGIApp, guard: AsyncGuard, endpoints: Endpoints | None, ours: list[BaseRoute]
    ) -> None:
        super().__init__(router, guard, endpoints=endpoints)
        self._routes = app.router.routes
        self._router = router
        self._ours = ours
        self._checked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._checked:
            _check_for_collisions(self._routes, self._ours)
            self._checked = True
        await super().__call__(scope, receive, send)

    async def refuse(self, error: JWTGuardError, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        raise error

    async def serve(
        self,
        endpoints: Endpoints,
        found: tuple[Endpoint, str],
        authorization: list[bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        del endpoints, found, authorization
        await self._router(scope, receive, send)


class _Refusal(Response):
    """An answer to an HTTP request, or to a WebSocket that isn't accepted."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_answer(self._answer, scope, receive, send)


def _handler(guard: AsyncGuard) -> Callable[[HTTPConnection, Exception], Awaitable[Response]]:
    async def answer_error(connection: HTTPConnection, error: Exception) -> Response:
        del connection
        known = cast("JWTGuardError", error)  # the handler is registered for no other
        return _Refusal(answer_to(known, realm=guard.settings.realm, on_error=guard.core.hooks.on_error))

    return answer_error


def _view(guard: AsyncGuard, endpoints: Endpoints, endpoint: Endpoint) -> View:
    async def serve(request: Request) -> Response:
        found = (endpoint, request.path_params.get("id", ""))
        authorization = take_authorization(request.scope)
        return _Refusal(await serve_endpoint(guard, endpoints, found, authorization, request.scope, request.receive))

    return serve


def _check_for_collisions(routes: list[BaseRoute], ours: list[BaseRoute]) -> None:
    taken = {(method, _shape(route.path)) for route in ours if isinstance(route, Route) for method in route.methods or ()}
    for route in routes:
        if not isinstance(route, Route) or route in ours:
            continue
        if taken & {(method, _shape(route.path)) for method in route.methods or ()}:
            raise ConfigError(
                f"the app's route {route.path!r} takes the place of one of jwtguard's endpoints: move it, or set "
                "JWTGUARD_ENDPOINTS to another prefix or to off"
            )


def _shape(path: str) -> str:
    """A path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)
