"""For Starlette: the guard inside the app's CORS and error handling, and the endpoints as its routes.

    app = Starlette(routes=[...])
    guard = AsyncGuard.from_env(public="/login")
    install(app, guard)

The guard stands around the app's router, so it is inside every middleware that the app adds, before or after. A refusal is
raised there, and the app's exception handlers answer it: one that the app has for the error's class or, over HTTP, for its
status; else jwtguard's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from inspect import isawaitable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from .answers import Answer
from .asgi import POLICY_VIOLATION, JWTGuardMiddleware, can_deny, response_of, set_identity, take_authorization
from .context import WANTED
from .endpoints import Endpoint, Endpoints
from .errors import ConfigError, JWTGuardError
from .guard import AsyncGuard
from .model import ANONYMOUS

__all__ = ["View", "install", "install_with"]

View = Callable[[Request], Awaitable[Response]]
AddRoute = Callable[[Endpoint, str, View], None]
Flatten = Callable[[Sequence[BaseRoute]], Iterable[Any]]


def install(app: Starlette, guard: AsyncGuard) -> None:
    """Guard an app. Raises ConfigError at once if it is guarded already or has served a request, and when the app starts if
    a route of its own takes the place of an endpoint."""

    def add_route(endpoint: Endpoint, path: str, view: View) -> None:
        route = Route(path, view, methods=[endpoint.method], name=f"jwtguard.{endpoint.name}", include_in_schema=False)
        app.router.routes.append(route)

    install_with(app, guard, add_route, iter)


def install_with(app: Starlette, guard: AsyncGuard, add_route: AddRoute, flatten: Flatten) -> Endpoints:
    """Guard an app. Answers its endpoints.

    `add_route(endpoint, path, view)` adds an endpoint as a route of the app. `flatten(routes)` yields each single route;
    FastAPI yields contexts instead, which have `path`, `methods` and the route itself as `original_route`.
    """
    if not isinstance(app, Starlette) or not isinstance(guard, AsyncGuard):
        raise ConfigError(
            "install takes a Starlette or FastAPI app and an AsyncGuard, "
            f"not {type(app).__name__} and {type(guard).__name__}"
        )
    if hasattr(app.state, "jwtguard"):
        raise ConfigError("this app is guarded already: call install once")
    if app.middleware_stack is not None:
        raise ConfigError("this app has served a request already: call install before it does")
    app.state.jwtguard = guard
    routes = app.router.routes
    inside = _Inside(app, guard)
    for endpoint, path in inside.endpoints.routes():
        add_route(endpoint, path, inside.view(endpoint))
        inside.routes[endpoint.name] = routes[-1]
        routes.insert(0, routes.pop())  # before a catch-all of the app, for what looks a route up
    _check_when_it_starts(app, inside, flatten)
    app.exception_handlers.setdefault(JWTGuardError, inside.answer_error)
    return inside.endpoints


class _Inside(JWTGuardMiddleware):
    """The guard around an app's router: what is refused is raised, and what is for an endpoint goes to its route."""

    default_prefix = "/auth"

    def __init__(self, app: Starlette, guard: AsyncGuard) -> None:
        super().__init__(app.router.middleware_stack, guard)
        self._handlers = app.exception_handlers
        self.routes: dict[str, BaseRoute] = {}

    def view(self, endpoint: Endpoint) -> View:
        """The view of an endpoint's route."""

        async def serve(request: Request) -> Response:
            found = (endpoint, request.path_params.get("id", ""))
            authorization = take_authorization(request.scope)
            return response_of(await self.answer(found, authorization, request.scope, request.receive), request.scope)

        return serve

    async def answer_error(self, connection: HTTPConnection, error: Exception) -> Response | None:
        """The app's handler of jwtguard's errors, where it has none of its own for the class."""
        error = cast("JWTGuardError", error)  # it is registered for no other
        answer = self.endpoints.refuse(error)
        if (wanted := connection.scope.get(WANTED)) is not None:  # it goes out past the exchange
            answer = answer._replace(headers=tuple(wanted.on(answer.headers)))
        if isinstance(connection, WebSocket):
            await _close(connection, answer)
            return None
        handler = self._handlers.get(error.status)
        if handler is None:
            return response_of(answer, connection.scope)
        headers = {name: value for name, value in answer.headers if name != "Content-Type"}
        response = handler(connection, HTTPException(error.status, error.detail, headers))
        return cast("Response", await response if isawaitable(response) else response)

    async def refuse(self, error: JWTGuardError, scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        set_identity(scope, ANONYMOUS)  # for the app's error handlers
        raise error

    async def serve(
        self, found: tuple[Endpoint, str], authorization: list[bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """To the endpoint's own route, whatever order the app's routes are in: what came here has passed no gate."""
        del authorization
        route = self.routes[found[0].name]
        scope["route"] = route
        scope.update(route.matches(scope)[1])
        await route.handle(scope, receive, send)


async def _close(websocket: WebSocket, answer: Answer) -> None:
    """Refuse a WebSocket with an answer if it isn't accepted yet, or close it."""
    if websocket.application_state is WebSocketState.CONNECTING and can_deny(websocket.scope):
        await websocket.send_denial_response(response_of(answer, websocket.scope))
    elif websocket.application_state is not WebSocketState.DISCONNECTED:
        await websocket.close(POLICY_VIOLATION)


def _check_when_it_starts(app: Starlette, inside: _Inside, flatten: Flatten) -> None:
    """Put the guard around the app's router, after a check that waits until all of its routes are there."""
    router = app.router

    async def begin(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for path, methods in _paths([route for route in router.routes if route not in inside.routes.values()], flatten):
                inside.endpoints.check_collision(path, methods)
        except ConfigError as error:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        if router.middleware_stack is begin:
            router.middleware_stack = inside
        await inside(scope, receive, send)

    router.middleware_stack = begin


def _paths(routes: Sequence[BaseRoute], flatten: Flatten, prefix: str = "") -> Iterator[tuple[str, Iterable[str] | None]]:
    """The path and methods of each HTTP route. Catch-all routes (a `:path` parameter) are left out: they hide no endpoint,
    since endpoints come first."""
    for route in flatten(routes):
        path = prefix + re.sub(r"\{[^{}]*(?<!:path)\}", "x", getattr(route, "path", None) or "")
        original = getattr(route, "original_route", route)
        if isinstance(original, Mount):
            yield from _paths(route.routes, flatten, path)
        elif isinstance(original, Route) and "{" not in path:
            yield path, route.methods
