"""`GET /.well-known/jwks.json`: the public keys, through both faces and in the integrations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drivers import Reply, Request, call_asgi, call_wsgi, environ_of, scope_of
from flask import Flask
from key_kit import ALGORITHMS, jwk, private, write_set
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jwtguard import AsyncGuard, Guard, Settings
from jwtguard.errors import ConfigError
from jwtguard.flask import JWTGuard
from jwtguard.rotation import LOOK_EVERY
from jwtguard.starlette import install
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

WELL_KNOWN = "/.well-known/jwks.json"
SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.settings = Settings(**settings)
        self.arguments: dict[str, Any] = {"store": MemoryStore(self.clock), "clock": self.clock}
        self.apps: dict[str, Any] = {}

    def wsgi(self, request: Request) -> Reply:
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            return [b"the app's"]

        wrapped = self.apps.setdefault("wsgi", Guard(self.settings, **self.arguments).wrap(app))
        return call_wsgi(wrapped, environ_of(request))

    def asgi(self, request: Request) -> Reply:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("the app's")(scope, receive, send)

        wrapped = self.apps.setdefault("asgi", AsyncGuard(self.settings, **self.arguments).wrap(app))
        return asyncio.run(call_asgi(wrapped, scope_of(request), request))


Ask = Callable[[World, Request], Reply]
both = pytest.mark.parametrize("ask", [World.wsgi, World.asgi], ids=["wsgi", "asgi"])


@both
def test_all_public_keys_and_nothing_private(ask: Ask, tmp_path: Path) -> None:
    keys = [jwk(private(algorithm), f"key-{algorithm}", alg=algorithm) for algorithm in ALGORITHMS]
    world = World(keys=write_set(tmp_path / "keys.json", *keys), endpoints="/auth")
    reply = ask(world, Request("GET", WELL_KNOWN))
    assert (reply.status, reply.header("content-type")) == (200, "application/jwk-set+json")
    assert reply.header("cache-control") == "public, max-age=60"
    published = {key["kid"]: key for key in reply.json()["keys"]}
    assert {key["alg"] for key in published.values()} == set(ALGORITHMS)
    for key in keys:
        found = published[key["kid"]]
        assert found.items() <= (key | {"use": "sig"}).items()
        assert not {"d", "p", "q", "dp", "dq", "qi"} & found.keys()


@both
def test_a_new_key_is_seen_with_the_next_look(ask: Ask, tmp_path: Path) -> None:
    one, two = (jwk(private(number=number), str(number)) for number in range(2))
    path = write_set(tmp_path / "keys.json", one)
    world = World(keys=path, endpoints="/auth")
    assert len(ask(world, Request("GET", WELL_KNOWN)).json()["keys"]) == 1
    write_set(path, one, two, at=world.clock.time())
    assert len(ask(world, Request("GET", WELL_KNOWN)).json()["keys"]) == 1
    world.clock.advance(LOOK_EVERY)
    assert len(ask(world, Request("GET", WELL_KNOWN)).json()["keys"]) == 2


@both
@pytest.mark.parametrize(("method", "path"), [("POST", WELL_KNOWN), ("GET", WELL_KNOWN + "/"), ("GET", "/x" + WELL_KNOWN)])
def test_nothing_else_is_there(ask: Ask, tmp_path: Path, method: str, path: str) -> None:
    world = World(keys=write_set(tmp_path / "keys.json", jwk(private(), "k")), endpoints="/auth")
    assert ask(world, Request(method, path)).status == 401


@both
def test_it_is_the_apps_where_there_are_secrets_or_no_endpoints(ask: Ask, tmp_path: Path) -> None:
    path = write_set(tmp_path / "keys.json", jwk(private(), "k"))
    for settings in ({"secret": SECRET, "endpoints": "/auth"}, {"keys": path}, {"keys": path, "endpoints": "off"}):
        world = World(public=WELL_KNOWN, **settings)
        assert ask(world, Request("GET", WELL_KNOWN)).body == b"the app's"


def test_flask(tmp_path: Path) -> None:
    path = write_set(tmp_path / "keys.json", jwk(private(), "k"))
    app = Flask(__name__)
    JWTGuard(app, keys=str(path), secret=None, store="memory://")
    reply = app.test_client().get(WELL_KNOWN)
    assert reply.status_code == 200
    assert reply.content_type == "application/jwk-set+json"
    assert json.loads(reply.data)["keys"][0]["kid"] == "k"


def test_a_route_of_the_app_in_its_place(tmp_path: Path) -> None:
    path = write_set(tmp_path / "keys.json", jwk(private(), "k"))
    app = Flask(__name__)
    JWTGuard(app, keys=str(path), store="memory://")
    with pytest.raises(ConfigError, match="takes the place of one of jwtguard's endpoints"):
        app.add_url_rule(WELL_KNOWN, "mine", lambda: "mine")


def test_starlette(tmp_path: Path) -> None:
    path = write_set(tmp_path / "keys.json", jwk(private(), "k"))
    app = Starlette(routes=[Route("/", PlainTextResponse("x"))])
    install(app, AsyncGuard.from_env(keys=str(path), store="memory://"))
    reply = asyncio.run(call_asgi(app, scope_of(Request("GET", WELL_KNOWN))))
    assert (reply.status, reply.json()["keys"][0]["kid"]) == (200, "k")
