"""A guarded Quart app. Configured by the environment alone; run it with `hypercorn examples.quart_app:app`."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import Any, cast

from quart import Quart, Response, abort, request, websocket

from jwtguard import AsyncGuard, Identity, JWTGuardError
from jwtguard.answers import error_answer

USERS = {"alice": ("wonderland", []), "bob": ("builder", ["admin"])}

app = Quart(__name__)
guard = AsyncGuard.from_env(public="/, POST /login", rules="/admin: admin", endpoints="/auth")


def current_identity() -> Identity:
    return cast("Identity", cast("Any", request.scope)["user"])


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/login")
async def login() -> dict[str, Any]:
    credentials = await request.get_json()
    username, given = str(credentials.get("username")), str(credentials.get("password"))
    password, scopes = USERS.get(username, ("", []))
    if not password or not hmac.compare_digest(password.encode(), given.encode()):
        abort(401, "wrong username or password")
    return (await guard.login(username, scopes=scopes)).to_dict()


@app.get("/me")
async def me() -> dict[str, Any]:
    identity = current_identity()
    return {"sub": identity.subject, "sid": identity.session_id, "scopes": list(identity.scopes)}


@app.get("/admin")
async def admin() -> dict[str, str]:
    return {"hello": current_identity().subject}


@app.websocket("/ws")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())


@app.get("/stream")
async def stream() -> Response:
    async def events() -> AsyncIterator[bytes]:
        number = 0
        while True:
            yield f"data: {number}\n\n".encode()
            number += 1
            await asyncio.sleep(1)

    response = Response(events(), mimetype="text/event-stream")
    response.timeout = None  # Quart would end it after a minute
    return response


@app.errorhandler(JWTGuardError)
async def refuse(error: JWTGuardError) -> Response:
    """Quart answers every error of a view itself: this is how it answers those of jwtguard (`LimitReached`, say)."""
    answer = error_answer(error, realm=guard.settings.realm)
    return Response(answer.body, answer.status, dict(answer.headers))


app.asgi_app = guard.wrap(app.asgi_app)  # type: ignore[method-assign, assignment]
