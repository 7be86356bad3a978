"""AuthX, with a set of revoked tokens."""

import secrets

from authx import AuthX, AuthXConfig
from fastapi import Depends, FastAPI

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)
REVOKED = set()


def auth(secret=SECRET):
    made = AuthX(AuthXConfig(JWT_SECRET_KEY=secret, JWT_ALGORITHM="HS256", JWT_TOKEN_LOCATION=["headers"]))
    made.set_token_blocklist(is_revoked)
    return made


async def is_revoked(token):
    return token in REVOKED


def app(dependencies=()):
    made = FastAPI()

    @made.get("/me", dependencies=dependencies)
    async def me():
        return {"sub": "user-1"}

    return made


def make(_variant, _redis_url):
    authx = auth()
    guarded = app([Depends(authx.access_token_required)])
    authx.handle_errors(guarded)
    revoked = authx.create_access_token("user-1")
    REVOKED.add(revoked)
    bad = {"forged": auth("s" * 48).create_access_token("user-1"), "revoked": revoked}
    return Subject("asgi", app(), guarded, authx.create_access_token("user-1"), bad)
