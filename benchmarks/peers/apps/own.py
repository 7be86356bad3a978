"""jwtguard, around the same apps as its peers. The settings are the defaults, but for the store."""

import asyncio
import inspect
import secrets
import tempfile
import time
from pathlib import Path

from jwtguard import AsyncGuard, Guard

from ..asking import Subject
from .floor import asgi_app, wsgi_app

SECRET = secrets.token_urlsafe(48)
FOLDER = tempfile.TemporaryDirectory(prefix="jwtguard-bench-")
PATIENCE = 10.0
ASGI = ("ASGI", "Starlette", "FastAPI", "FastAPI+require", "Litestar")


def url_of(store, redis_url):
    return {"memory": "memory://", "redis": redis_url, "sqlite": f"sqlite:///{Path(FOLDER.name) / 'sessions.db'}"}[store]


def starlette_pair(guard):
    from jwtguard.starlette import install

    from .naive import starlette_app

    guarded = starlette_app()
    install(guarded, guard)
    return starlette_app(), guarded


def fastapi_app(*dependencies):
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/me", dependencies=dependencies)
    async def me():
        return {"sub": "user-1"}

    return app


def fastapi_pair(guard, depends):
    from jwtguard.fastapi import install, require

    guarded = fastapi_app(*[require("read")] if depends else [])
    install(guarded, guard)
    return fastapi_app(), guarded


def litestar_app():
    from litestar import Litestar, get

    @get("/me")
    async def me() -> dict[str, str]:
        return {"sub": "user-1"}

    return Litestar([me])


def asgi_pair(family, guard):
    if family == "Starlette":
        return starlette_pair(guard)
    if family.startswith("FastAPI"):
        return fastapi_pair(guard, depends=family.endswith("require"))
    make_app = litestar_app if family == "Litestar" else lambda: asgi_app
    return make_app(), guard.wrap(make_app())


def flask_app():
    from flask import Flask

    app = Flask(__name__)

    @app.get("/me")
    def me():
        return {"sub": "user-1"}

    return app


def flask_pair(settings):
    from jwtguard.flask import JWTGuard

    app = flask_app()
    JWTGuard(app, **settings)
    return flask_app().wsgi_app, app.wsgi_app, app.extensions["jwtguard"]


def wsgi_pair(family, settings):
    if family == "Flask":
        return flask_pair(settings)
    guard = Guard.from_env(**settings)
    if family == "WSGI":
        return wsgi_app, guard.wrap(wsgi_app), guard
    from .simplejwt_ import bare_app

    return bare_app(), guard.wrap(bare_app()), guard


async def done(result):
    """What a guard's method gives, of either colour."""
    return await result if inspect.isawaitable(result) else result


async def tokens_of(guard):
    good = (await done(guard.login("user-1", scopes=["read", "write"]))).access_token
    ended = await done(guard.login("user-2", scopes=["read", "write"]))
    await done(guard.authenticate(ended.access_token))
    await done(guard.revoke("user-2", ended.session_id))
    await done(guard.authenticate(good))
    stranger = Guard.from_env(secret=secrets.token_urlsafe(48), store="memory://", issuer=guard.core.settings.issuer)
    return good, {"forged": stranger.login("user-1").access_token, "revoked": ended.access_token}


async def make(variant, redis_url):
    family, store = variant.rsplit(" ", 1)
    settings = {
        "secret": SECRET,
        "store": url_of(store, redis_url),
        "store_timeout": "5s",
        "access_ttl": "12h",
        "issuer": secrets.token_hex(8),
    }
    if family in ASGI:
        guard = AsyncGuard.from_env(**settings)
        bare, guarded = asgi_pair(family, guard)
    else:
        bare, guarded, guard = wsgi_pair(family, settings)
    good, bad = await tokens_of(guard)

    async def warm():
        """Where endings are announced, until they are heard, and until what was loaded before is over."""
        deadline = time.monotonic() + PATIENCE
        while store == "redis" and guard.coherence().state != "pushed":
            assert time.monotonic() < deadline, guard.coherence()
            await asyncio.sleep(0.05)

    return Subject("asgi" if family in ASGI else "wsgi", bare, guarded, good, bad, warm)
