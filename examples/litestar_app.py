"""A guarded Litestar app. Configured by the environment alone; run it with `uvicorn examples.litestar_app:app`."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.params import JSONBody
from litestar.response import Stream

from jwtguard import AsyncGuard, JWTGuardError
from jwtguard.answers import error_answer

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

guard = AsyncGuard.from_env(public="/, POST /login", rules="/admin: admin", endpoints="/auth")


@get("/")
async def home() -> dict[str, str]:
    return {"hello": "world"}


@post("/login", status_code=200)
async def login(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
    username, given = str(data.get("username")), str(data.get("password"))
    password, scopes = USERS.get(username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), given.encode()):
        raise NotAuthorizedException("wrong username or password")
    return (await guard.login(username, scopes=scopes)).to_dict()


@get("/me")
async def me(request: Request[Any, Any, Any]) -> dict[str, Any]:
    identity = request.user
    return {"sub": identity.subject, "sid": identity.session_id, "scopes": list(identity.scopes)}


@get("/admin")
async def admin(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"hello": request.user.subject}


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


@get("/stream")
async def stream() -> Stream:
    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(1)

    return Stream(events(), media_type="text/event-stream")


def refuse(request: Request[Any, Any, Any], error: JWTGuardError) -> Response[bytes]:
    """Litestar answers every error of a handler itself: this is how it answers those of jwtguard (`LimitReached`, say)."""
    answer = error_answer(error, realm=guard.settings.realm)
    return Response(answer.body, status_code=answer.status, headers=dict(answer.headers), media_type=MediaType.TEXT)


unguarded = Litestar(
    [home, login, me, admin, echo, stream], exception_handlers={JWTGuardError: refuse}, logging_config=None
)
app = guard.wrap(unguarded)
