"""A guarded Starlette app in a few lines: `uvicorn examples.starlette_app:app`."""

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jwtguard import AsyncGuard
from jwtguard.starlette import install


async def login(request: Request) -> Response:
    """Any name logs in: an app checks a password here."""
    pair = await guard.login((await request.json())["username"])
    return JSONResponse(pair.to_dict())


@requires("authenticated")
async def me(request: Request) -> Response:
    return JSONResponse({"sub": request.user.subject})


app = Starlette(routes=[Route("/login", login, methods=["POST"]), Route("/me", me)])
guard = AsyncGuard.from_env(public="POST /login")
install(app, guard)
