"""A guarded Starlette app. Configured by the environment alone; run it with `uvicorn examples.starlette_app:app`."""

import asyncio
import hmac
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from jwtguard import AsyncGuard
from jwtguard.starlette import install

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}


async def home(request: Request) -> Response:
    return JSONResponse({"hello": "world"})


async def login(request: Request) -> Response:
    credentials = await request.json()
    username, given = str(credentials.get("username")), str(credentials.get("password"))
    password, scopes = USERS.get(username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), given.encode()):
        raise HTTPException(401, "wrong username or password")
    return JSONResponse((await guard.login(username, scopes=scopes)).to_dict())


@requires("authenticated")
async def me(request: Request) -> Response:
    identity = request.user
    return JSONResponse({"sub": identity.subject, "sid": identity.session_id, "scopes": identity.scopes})


async def admin(request: Request) -> Response:
    """RULES asks for its scope. `@requires("admin")` would, too, but with a 403 in Starlette's own words."""
    return JSONResponse({"hello": request.user.subject})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(1)

    return StreamingResponse(events(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/", home),
        Route("/login", login, methods=["POST"]),
        Route("/me", me),
        Route("/admin", admin),
        Route("/stream", stream),
        WebSocketRoute("/ws", echo),
    ]
)
guard = AsyncGuard.from_env(public="/, POST /login", rules="/admin: admin")
install(app, guard)
