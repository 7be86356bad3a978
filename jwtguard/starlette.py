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

from .answers import Answer
from .asgi import JWTGuardMiddleware, response_of, send_answer, take_authorization
from .endpoints import Endpoint
from .errors import ConfigError, JWTGuardError
from .guard import AsyncGuard

__all__ = ["View", "install", "install_with"]

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
    before = list(app.router.routes)
    inside = _Inside(app, app.router.middleware_stack, guard)
    for endpoint, path in inside.endpoints.routes():
        add_route(endpoint, path, inside.view(endpoint))
    inside.ours = [route for route in app.router.routes if route not in before]
    app.router.routes[:] = [*inside.ours, *before]  # first, so that a catch-all of the app doesn't hide them
    app.router.middleware_stack = inside
    app.exception_handlers.setdefault(JWTGuardError, inside.answer_error)


class _Inside(JWTGuardMiddleware):
    """The guard around an app's router: what is refused is raised, and what is for an endpoint goes to its route."""

    default_prefix = "/auth"

    def __init__(self, app: Starlette, router: ASGIApp, guard: AsyncGuard) -> None:
        super().__init__(router, guard)
        self._routes = app.router.routes
        self._checked = False
        self.ours: list[BaseRoute] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._checked:
            _check_for_collisions(self._routes, self.ours)
            self._checked = True
        await super().__call__(scope, receive, send)

    def view(self, endpoint: Endpoint) -> View:
        """The view of an endpoint's route."""

        async def serve(request: Request) -> Response:
            found = (endpoint, request.path_params.get("id", ""))
            authorization = take_authorization(request.scope)
            return response_of(await self.answer(found, authorization, request.scope, request.receive))

        return serve

    async def answer_error(self, connection: HTTPConnection, error: Exception) -> Response:
        """The app's handler of jwtguard's errors, where it has none of its own."""
        del connection
        return _Refusal(self.answer_to(cast("JWTGuardError", error)))  # it is registered for no other

    async def refuse(self, error: JWTGuardError, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        raise error

    async def serve(
        self, found: tuple[Endpoint, str], authorization: list[bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        del found, authorization
        await self._app(scope, receive, send)


class _Refusal(Response):
    """An answer to an HTTP request, or to a WebSocket that isn't accepted."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_answer(self._answer, scope, receive, send)


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
