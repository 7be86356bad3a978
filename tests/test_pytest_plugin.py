"""The pytest plugin, as its users have it: these tests are of apps of each framework. More are run from docs/testing.md."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django_kit import site
from fastapi import FastAPI
from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from jwtguard import AsyncGuard, ConfigError, Guard, StoreUnavailable
from jwtguard.django import current_identity as current_identity_of
from jwtguard.errors import RefreshReused, SessionRevoked
from jwtguard.fastapi import CurrentIdentity
from jwtguard.fastapi import install as install_fastapi
from jwtguard.flask import JWTGuard, current_identity
from jwtguard.starlette import install
from jwtguard.testing import MovableClock, User, World

As = Callable[..., User]


def flask_app(**arguments: Any) -> Any:
    app = Flask(__name__)
    JWTGuard(app, **arguments)

    @app.get("/me")
    def me() -> dict[str, object]:
        return {"sub": current_identity().subject, "scopes": current_identity().scopes}

    return app


async def ask_me(connection: Any) -> JSONResponse:
    return JSONResponse({"sub": connection.user.subject, "scopes": connection.user.scopes})


def starlette_app(**arguments: Any) -> Any:
    app = Starlette(routes=[Route("/me", ask_me)])
    install(app, AsyncGuard.from_env(**arguments))
    return app


def fastapi_app(**arguments: Any) -> Any:
    app = FastAPI()
    install_fastapi(app, AsyncGuard.from_env(**arguments))

    @app.get("/me")
    def me(identity: CurrentIdentity) -> dict[str, object]:
        return {"sub": identity.subject, "scopes": identity.scopes}

    return app


def asgi_app(**arguments: Any) -> Any:
    return AsyncGuard.from_env(**arguments).wrap(Starlette(routes=[Route("/me", ask_me)]))


def wsgi_app(**arguments: Any) -> Any:
    app = Flask(__name__)
    app.add_url_rule(
        "/me",
        view_func=lambda: {
            "sub": request.environ["jwtguard.identity"].subject,
            "scopes": request.environ["jwtguard.identity"].scopes,
        },
    )
    return Guard.from_env(**arguments).wrap(app)


def view(asked: HttpRequest) -> JsonResponse:
    identity = current_identity_of(asked)
    return JsonResponse({"sub": identity.subject, "scopes": identity.scopes})


@contextmanager
def django_app(**arguments: Any) -> Iterator[Any]:
    with site({"me": view}, jwtguard=arguments):
        yield get_wsgi_application()


@pytest.fixture(params=[flask_app, starlette_app, fastapi_app, django_app, asgi_app, wsgi_app])
def jwtguard_app(request: pytest.FixtureRequest, jwtguard_world: World) -> Iterator[Any]:
    made = request.param(**jwtguard_world.arguments)
    with made if request.param is django_app else nullcontext(made) as app:
        yield app


def ask(user: User) -> tuple[int, Any]:
    answer = user.client.get("/me")
    return answer.status_code, answer.json() if callable(answer.json) else answer.json


def test_a_user_asks(jwtguard_as: As) -> None:
    alice, bob = jwtguard_as("alice", scopes=["read"], claims={"name": "Alice"}), jwtguard_as(7)
    assert ask(alice) == (200, {"sub": "alice", "scopes": ["read"]})
    assert ask(bob) == (200, {"sub": "7", "scopes": []})
    assert (bob.subject, bob.client is bob.client) == ("7", True)
    assert alice.headers == {"Authorization": f"Bearer {alice.pair.access_token}"}


def test_sessions_end(jwtguard_as: As, jwtguard_revoke: Callable[[Any], int]) -> None:
    laptop, phone, bob = jwtguard_as("alice"), jwtguard_as("alice"), jwtguard_as("bob")
    assert ask(phone)[0] == 200
    phone.revoke()
    assert (ask(phone)[1]["code"], ask(laptop)[0]) == ("session_revoked", 200)
    assert jwtguard_revoke("alice") == 1
    assert (ask(laptop)[1]["code"], ask(bob)[0]) == ("session_revoked", 200)


def test_a_session_goes_on(jwtguard_as: As, jwtguard_clock: MovableClock) -> None:
    first = jwtguard_as("alice")
    second = first.refresh()
    assert ask(second)[0] == 200
    jwtguard_clock.advance(31 * 60)
    assert ask(second)[1]["code"] == "token_expired"
    with pytest.raises(RefreshReused):
        first.refresh()
    with pytest.raises(SessionRevoked):
        second.refresh()


def test_the_store_is_down(jwtguard_as: As, jwtguard_store_down: Callable[[], AbstractContextManager[None]]) -> None:
    alice, bob = jwtguard_as("alice"), jwtguard_as("bob")
    assert ask(bob)[0] == 200
    with jwtguard_store_down():
        for _ in range(6):  # as many as make a guard stop asking
            assert ask(alice)[0] == 503
        assert ask(bob)[0] == 200
        with pytest.raises(StoreUnavailable):
            jwtguard_as("carol")
    assert ask(alice)[0] == 200


def test_an_async_test(jwtguard_as: As, jwtguard_revoke: Callable[[Any], int]) -> None:
    async def test() -> None:
        alice = jwtguard_as("alice")
        assert jwtguard_revoke("alice") == 1
        with pytest.raises(SessionRevoked):
            alice.refresh()

    asyncio.run(test())


class TestOneAppForManyTests:
    @pytest.fixture(scope="class")
    @classmethod
    def jwtguard_app(cls, jwtguard_world: World) -> Any:
        with jwtguard_world.patched():
            return flask_app(max_sessions=1, on_limit="deny")

    @pytest.mark.parametrize("test", ["first", "second", "third"])
    def test_each_begins_without_sessions(self, jwtguard_as: As, test: str) -> None:
        assert ask(jwtguard_as("alice"))[0] == 200


def test_an_app_that_makes_its_guard_at_import(jwtguard_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JWTGUARD_")]:
        monkeypatch.delenv(name)
    with jwtguard_world.patched():
        guard = Guard.from_env()
    jwtguard_world.check(guard)
    assert guard.core.settings.secret == jwtguard_world.arguments["secret"].encode()
    monkeypatch.setenv("JWTGUARD_SECRET", "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi")
    with jwtguard_world.patched():
        assert AsyncGuard.from_env().settings.secret == b"kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
    with pytest.raises(ConfigError, match="a store of its own"):
        jwtguard_world.check(Guard.from_env(store="memory://"))


def test_what_the_plugin_does_not_know(jwtguard_world: World, jwtguard_as: As) -> None:
    from jwtguard._world import guard_of

    with pytest.raises(ConfigError, match=r"no guard is found in SimpleNamespace: .* jwtguard_guard"):
        guard_of(SimpleNamespace(extensions={}, state=None))
    alice = User.logged_in(Guard.from_env(**jwtguard_world.arguments), SimpleNamespace(), "alice")
    with pytest.raises(TypeError, match="no test client is known for SimpleNamespace: send `headers`"):
        _ = alice.client
    with pytest.raises(ValueError, match="found -1"):
        jwtguard_world.clock.advance(-1)


def test_an_app_must_be_named() -> None:
    plugin: Any = import_module("jwtguard_pytest")
    with pytest.raises(pytest.UsageError, match="Define a fixture jwtguard_app"):
        plugin.jwtguard_app.__wrapped__()


def test_every_run_of_pytest_loads_it_and_none_but_its_users_pay_for_that() -> None:
    assert [plugin.value for plugin in entry_points(group="pytest11", name="jwtguard")] == ["jwtguard_pytest"]
    code = "import sys, jwtguard_pytest; print('jwtguard' in sys.modules, 'pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
