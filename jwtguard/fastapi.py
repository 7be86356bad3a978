"""For FastAPI (and Starlette): `install`, and the identity as a dependency.

app = FastAPI()
guard = AsyncGuard.from_env(public="/login, /docs, /openapi.json")
install(app, guard)

@app.get("/me")
async def me(identity: CurrentIdentity): ...

@app.get("/admin", dependencies=[require("admin")])
async def admin(): ...

@app.get("/audit")
async def audit(identity: Annotated[Identity, Security(current_identity, scopes=["audit"])]): ...

The OpenAPI document says which operations need a token, and with which scopes: the dependencies', and those in RULES. So
its page has a lock on each of these, and sends what was entered under Authorize.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from . import starlette
from .context import IDENTITY
from .endpoints import Endpoint, Endpoints
from .errors import ConfigError
from .gate import check_user
from .guard import AsyncGuard
from .model import Identity
from .openapi import REQUIRED, SCHEME, SCHEME_OBJECT, describe

try:
    from fastapi import Depends, FastAPI, Security, routing
    from fastapi.openapi.models import HTTPBearer
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
except ImportError as error:
    raise ConfigError("jwtguard.fastapi needs FastAPI: pip install 'jwtguard-middleware[fastapi]'") from error

__all__ = ["CurrentIdentity", "current_identity", "install", "require"]

MakeDocument = Callable[[], dict[str, Any]]

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
            include_in_schema=not endpoint.is_form,
        )

    # Before FastAPI had this function, include_router copied the routes.
    endpoints = starlette.install_with(app, guard, add_route, getattr(routing, "iter_route_contexts", iter))
    app.openapi = _describing(app.openapi, guard, endpoints)  # type: ignore[method-assign]


def _describing(
    make: Callable[[], dict[str, Any]], guard: AsyncGuard, endpoints: Endpoints
) -> Callable[[], dict[str, Any]]:
    """An app's `openapi`, which makes its document once and gives it again, with what there is to say of the guard."""
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        nonlocal described
        document = make()
        if document is not described:
            describe(document, guard.core, endpoints.routes())
            described = document
        return document

    return openapi


def _described(endpoint: Endpoint) -> dict[str, Any]:
    """What the view of an endpoint doesn't tell OpenAPI by its signature."""
    found: dict[str, Any] = {"requestBody": _BODY} if endpoint.reads_body else {}
    return found | ({"parameters": _PARAMETERS[endpoint.name]} if endpoint.name in _PARAMETERS else {})


class _Scheme(SecurityBase):
    """A security scheme for the OpenAPI document; the guard has done its work already."""

    def __init__(self, name: str) -> None:
        self.scheme_name = name
        self.model = HTTPBearer(bearerFormat=SCHEME_OBJECT["bearerFormat"], description=SCHEME_OBJECT["description"])

    async def __call__(self) -> None: ...


_NO_SCOPES: Final = SecurityScopes()


async def current_identity(
    connection: HTTPConnection,
    asked: SecurityScopes = _NO_SCOPES,
    _scheme: Annotated[None, Depends(_Scheme(SCHEME))] = None,
) -> Identity:
    """The identity of this request; the anonymous one where no token is needed and none came.

    By `Security(current_identity, scopes=[...])` it asks for an authenticated request with all of these scopes, as
    `require` does. Raises ConfigError where no guard stands before the app: nobody was asked for a token.
    """
    # It awaits nothing, and neither does what `require` gives: FastAPI would send a plain function to a thread each time.
    identity = connection.scope.get(IDENTITY)
    if not isinstance(identity, Identity):
        raise ConfigError("this app is not guarded, so a request has no identity: call install(app, guard)")
    if asked.scopes:
        check_user(identity, asked.scopes)
    return identity


CurrentIdentity = Annotated[Identity, Depends(current_identity)]
"""For a view's parameter: whose the request is. In tests, `app.dependency_overrides[current_identity]` gives another."""


def require(*scopes: str) -> Any:
    """A dependency that asks for an authenticated request with all of these scopes: 401 or 403 otherwise."""

    async def check(identity: CurrentIdentity, _scheme: Annotated[None, Depends(_Scheme(REQUIRED))] = None) -> None:
        check_user(identity, scopes)  # also where a test gives another identity

    return Security(check, scopes=scopes)
