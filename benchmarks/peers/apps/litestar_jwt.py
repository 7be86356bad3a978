"""Litestar's JWTAuth, with its handler for revoked tokens."""

import secrets

from litestar import Litestar, get
from litestar.security.jwt import JWTAuth

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)
REVOKED = set()


async def user_of(token, _connection):
    return token.sub


async def is_revoked(token, _connection):
    return token.jti in REVOKED


def app(*, guarded):
    @get("/me")
    async def me() -> dict[str, str]:
        return {"sub": "user-1"}

    return Litestar([me], on_app_init=[auth().on_app_init] if guarded else [])


def auth(secret=SECRET):
    return JWTAuth[str](token_secret=secret, retrieve_user_handler=user_of, revoked_token_handler=is_revoked)


def make(_variant, _redis_url):
    def token(secret=SECRET, jti=None):
        return auth(secret).create_token("user-1", token_unique_jwt_id=jti or secrets.token_urlsafe(16))

    REVOKED.add("ended")
    bad = {"forged": token("s" * 48), "revoked": token(jti="ended")}
    return Subject("asgi", app(guarded=False), app(guarded=True), token(), bad)
