"""The app that `jwtguard demo` serves: one user, a login, and what is guarded."""

from __future__ import annotations

import hmac

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from ..fastapi import CurrentIdentity
from ..guard import AsyncGuard

__all__ = ["create_app"]

USER, PASSWORD = "alice", "wonderland"
PUBLIC = "/, POST /login, /docs, /openapi.json"


class Credentials(BaseModel):
    username: str
    password: str


def create_app(guard: AsyncGuard) -> FastAPI:
    """The app, not guarded yet. Its public paths are PUBLIC."""
    app = FastAPI(title="jwtguard demo")

    @app.get("/")
    async def home() -> dict[str, str]:
        return {"hello": "world"}

    @app.post("/login")
    async def login(credentials: Credentials) -> dict[str, object]:
        right = hmac.compare_digest(PASSWORD.encode(), credentials.password.encode())
        if credentials.username != USER or not right:
            raise HTTPException(401, "wrong username or password")
        return (await guard.login(USER)).to_dict()

    @app.get("/me")
    async def me(identity: CurrentIdentity) -> dict[str, object]:
        return {"sub": identity.subject, "sid": identity.session_id, "scopes": identity.scopes}

    return app
