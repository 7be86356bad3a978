"""fastapi-users with its strategies for JWTs and for Redis; users come from a dict, so no database is measured.

In its best form: the secret's and Redis's getters are async functions, so none is sent to a thread.
"""

import secrets
import uuid
from dataclasses import dataclass

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy, RedisStrategy
from fastapi_users.db import BaseUserDatabase

from ..asking import Subject

SECRET = secrets.token_urlsafe(48)


@dataclass
class User:
    id: uuid.UUID
    email: str = "user-1@shop.example"
    hashed_password: str = ""
    is_active: bool = True
    is_verified: bool = True
    is_superuser: bool = False


USER = User(uuid.uuid4())


class Users(BaseUserDatabase):
    async def get(self, id):  # noqa: A002 - its interface
        return USER if id == USER.id else None


class Manager(UUIDIDMixin, BaseUserManager):
    reset_password_token_secret = verification_token_secret = SECRET


async def manager():
    yield Manager(Users())


def strategy_of(variant, redis_url):
    if variant == "jwt":
        return JWTStrategy(secret=SECRET, lifetime_seconds=3600)
    import redis.asyncio

    return RedisStrategy(redis.asyncio.from_url(redis_url, decode_responses=True), lifetime_seconds=3600)


def app(dependencies=()):
    made = FastAPI()

    @made.get("/me", dependencies=dependencies)
    async def me():
        return {"sub": "user-1"}

    return made


async def make(variant, redis_url):
    strategy = strategy_of(variant, redis_url)

    async def get_strategy():
        return strategy

    backend = AuthenticationBackend("bearer", BearerTransport("login"), get_strategy)
    users = FastAPIUsers(manager, [backend])
    guarded = app([Depends(users.current_user(active=True))])
    bad = {}
    if variant == "jwt":
        bad["forged"] = await JWTStrategy(secret="s" * 48, lifetime_seconds=3600).write_token(USER)
    else:
        bad["revoked"] = await strategy.write_token(USER)
        await strategy.destroy_token(bad["revoked"], USER)
    return Subject("asgi", app(), guarded, await strategy.write_token(USER), bad)
