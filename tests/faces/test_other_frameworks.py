"""Frameworks without a module of their own here: wrapped, Litestar and Quart route no path past PUBLIC and RULES.

They take a mount point off the path in other ways than Starlette does, and servers deliver it in two.
"""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any
from urllib.parse import unquote

import pytest
from drivers import Request, call_asgi, scope_of
from litestar import Litestar, get
from quart import Quart
from world import World

SETTINGS = {"public": "/static/*, /login", "rules": "/admin/*: admin"}
PIECES = ("", "/api", "/static", "/admin", "/", "/..", "%2f")
ROOTS = ("", "/api", "/api/", "api", "/static", "/static/", "/admin")


def a_litestar_app() -> Any:
    @get("/admin/users", sync_to_thread=False, media_type="text/plain")
    def users() -> str:
        return "secret"

    @get("/static/x", sync_to_thread=False, media_type="text/plain")
    def static() -> str:
        return "static"

    return Litestar([users, static], logging_config=None)


def a_quart_app() -> Any:
    app = Quart("app", static_folder=None)

    @app.get("/admin/users")
    async def users() -> str:
        return "secret"

    @app.get("/static/x")
    async def static() -> str:
        return "static"

    return app


@pytest.fixture(params=[a_litestar_app, a_quart_app])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


def scope_for(raw: str, root: str, token: str | None) -> dict[str, Any]:
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    path = {"path": unquote(raw, errors="replace"), "raw_path": raw.encode(), "root_path": root}
    return {**scope_of(Request()), **path, "headers": headers}


def test_a_wrapped_app_works(app: Any) -> None:
    world = World(SETTINGS)
    guarded = world.async_guard().wrap(app)
    tokens = {None: None, "alice": world.login().access_token, "bob": world.login("bob", scopes=["admin"]).access_token}
    for path, who, status in (
        ("/static/x", None, 200),
        ("/admin/users", None, 401),
        ("/admin/users", "alice", 403),
        ("/admin/users", "bob", 200),
    ):
        assert asyncio.run(call_asgi(guarded, scope_for(path, "", tokens[who]))).status == status


def test_no_spelling_of_a_path_or_a_mount_point_leads_past_the_rules(app: Any) -> None:
    world = World(SETTINGS)
    guarded = world.async_guard().wrap(app)
    token = world.login().access_token

    async def ask_all() -> None:
        for pieces in product(PIECES, PIECES, ("/admin/users", "/users", "/static/x")):
            for root in ROOTS:
                raw = "".join(pieces)
                for who in (None, token):
                    try:
                        reply = await call_asgi(guarded, scope_for(raw, root, who))
                    except IndexError:  # Quart's own, for an empty path
                        continue
                    assert b"secret" not in reply.body, (raw, root, who and "alice")

    asyncio.run(ask_all())
