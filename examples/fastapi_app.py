"""A guarded FastAPI app. Configured by the environment alone; run it with `uvicorn examples.fastapi_app:app`."""

import asyncio
import hmac
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from jwtguard import AsyncGuard
from jwtguard.fastapi import CurrentIdentity, install, require

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

app = FastAPI(title="jwtguard example")
guard = AsyncGuard.from_env(public="/, POST /login, /docs, /openapi.json")
install(app, guard)


class Credentials(BaseModel):
    username: str
    password: str


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
async def login(credentials: Credentials) -> dict[str, object]:
    password, scopes = USERS.get(credentials.username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), credentials.password.encode()):
        raise HTTPException(401, "wrong username or password")
    return (await guard.login(credentials.username, scopes=scopes)).to_dict()


@app.get("/me")
async def me(identity: CurrentIdentity) -> dict[str, object]:
    return {"sub": identity.subject, "sid": identity.session_id, "scopes": identity.scopes}


@app.get("/admin", dependencies=[require("admin")])
async def admin(identity: CurrentIdentity) -> dict[str, str]:
    return {"hello": identity.subject}


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(1)

    return StreamingResponse(events(), media_type="text/event-stream")
