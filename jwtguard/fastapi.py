"""For FastAPI (and Starlette): `install`, and the identity as a dependency.

app = FastAPI()
guard = AsyncGuard.from_env(public="/login, /docs, /openapi.json")
install(app, guard)

@app.get("/me")
async def me(identity: CurrentIdentity): ...

@app.get("/admin", dependencies=[require("admin")])
async def admin(): ...
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from . import starlette
from .context import IDENTITY
from .endpoints import Endpoint
from .errors import ConfigError, TokenMissing
from .gate import check_scopes
from .guard import AsyncGuard
from .model import Identity

try:
    from fastapi import Depends, FastAPI, routing
except ImportError as error:
    raise ConfigError("jwtguard.fastapi needs FastAPI: pip install 'jwtguard-middleware[fastapi]'") from error

__all__ = ["CurrentIdentity", "current_identity", "install", "require"]

_BODY: Final = {
    "content": {
        media_type: {"schema": {"type": "object", "properties": {"refresh_token": {"type": "string"}}}}
        for media_type in ("application/json", "application/x-www-form-urlencoded")
    }
}
_PARAMETERS: Final = {
    "end_many": [{"name": "keep", "in": "query", "required": True, "schema": {"enum": ["current", "none"]}}],
    "end_one": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
}


def install(app: Starlette, guard: AsyncGuard) -> None:
    """Guard an app. Raises ConfigError at once if it is guarded already or has served a request, and when the app starts if
    a route of its own takes the place of an endpoint."""
    if not isinstance(app, FastAPI):
        starlette.install(app, guard)
        return

    def add_route(endpoint: Endpoint, path: str, view: starlette.View) -> None:
        app.add_api_route(
            path,
            view,
            methods=[endpoint.method],
            name=f"jwtguard.{endpoint.name}",
            summary=endpoint.summary,
            tags=["sessions"],
            status_code=endpoint.status,
            openapi_extra=_described(endpoint),
            response_model=None,
        )

    # Before FastAPI had this function, include_router copied the routes.
    starlette.install_with(app, guard, add_route, getattr(routing, "iter_route_contexts", iter))


def _described(endpoint: Endpoint) -> dict[str, Any]:
    """What the view of an endpoint doesn't tell OpenAPI by its signature."""
    found: dict[str, Any] = {"requestBody": _BODY} if endpoint.reads_body else {}
    return found | ({"parameters": _PARAMETERS[endpoint.name]} if endpoint.name in _PARAMETERS else {})


async def current_identity(connection: HTTPConnection) -> Identity:
    """The identity of this request; the anonymous one where no token is needed and none came.

    Raises ConfigError where no guard stands before the app: nobody was asked for a token.
    """
    # It awaits nothing, and neither does what `require` gives: FastAPI would send a plain function to a thread each time.
    identity = connection.scope.get(IDENTITY)
    if not isinstance(identity, Identity):
        raise ConfigError("this app is not guarded, so a request has no identity: call install(app, guard)")
    return identity


CurrentIdentity = Annotated[Identity, Depends(current_identity)]
"""For a view's parameter: whose the request is. In tests, `app.dependency_overrides[current_identity]` gives another."""


def require(*scopes: str) -> Any:
    """A dependency that asks for an authenticated request with all of these scopes: 401 or 403 otherwise."""

    async def check(identity: CurrentIdentity) -> None:
        if not identity.is_authenticated:
            raise TokenMissing
        check_scopes(identity, scopes)

    return Depends(check)
