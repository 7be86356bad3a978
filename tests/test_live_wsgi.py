"""Streamed bodies under WSGI end with their session, when their next part comes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, send_file
from rig import ModelStore, always

from jwtguard import Guard, Settings
from jwtguard.document import document_key
from jwtguard.errors import StoreError
from jwtguard.flask import JWTGuard
from jwtguard.model import TokenPair
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
ALICES = document_key("jwtguard", "alice")


class World:
    """A guard over a store, another one on the same, and a session of alice's."""

    def __init__(self, store: Callable[[FakeClock], Any] = MemoryStore, **settings: Any) -> None:
        self.clock = FakeClock()
        self.store = store(self.clock)
        self.settings = Settings(secret=SECRET, public="/public", **settings)
        self.guard, self.other = (Guard(self.settings, store=self.store, clock=self.clock) for _ in range(2))
        self.pair = self.other.login("alice")
        self.closed = 0

    def parts(self) -> Iterator[bytes]:
        try:
            for number in range(5):
                yield b"%d" % number
        finally:
            self.closed += 1

    def app(self, headers: list[tuple[str, str]] | None = None) -> Callable[..., Iterable[bytes]]:
        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            start_response("200 OK", headers or [])
            return self.parts()

        return app

    def late(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield from self.parts()

    def opened(self, app: Callable[..., Iterable[bytes]] | None = None, path: str = "/") -> Any:
        """The body of a request, as a server has it."""
        return self.guard.wrap(app or self.app())(environ_of(self.pair, path), lambda *_: None)


def environ_of(pair: TokenPair | None, path: str = "/") -> Environ:
    environ: Environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    return environ if pair is None else {**environ, "HTTP_AUTHORIZATION": f"Bearer {pair.access_token}"}


def rest_of(body: Any) -> list[bytes]:
    """As a server does with what is left of a body."""
    parts = list(body)
    assert next(body, None) is None
    body.close()
    return parts


@pytest.mark.parametrize("late", [False, True])
def test_a_streamed_body_ends_with_its_session(late: bool) -> None:
    world = World()
    body = world.opened(world.late if late else None)
    assert [next(body), next(body)] == [b"0", b"1"]
    world.pair = world.other.refresh(world.pair.refresh_token)
    world.other.revoke("alice", world.other.login("alice").session_id)
    assert next(body) == b"2"
    world.other.revoke_all("alice")
    assert rest_of(body) == []
    assert world.closed == 1


def test_one_that_isnt_ended_is_whole() -> None:
    world = World()
    assert rest_of(world.opened()) == [b"0", b"1", b"2", b"3", b"4"]
    assert world.closed == 1


def test_a_body_whose_length_was_told_is_on_its_way() -> None:
    world = World()
    body = world.opened(world.app([("Content-length", "5")]))
    assert next(body) == b"0"
    world.other.revoke_all("alice")
    assert rest_of(body) == [b"1", b"2", b"3", b"4"]


def test_an_empty_body_and_one_that_cant_be_closed() -> None:
    world = World()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return map(bytes, [])

    assert rest_of(world.opened(app)) == []


def test_the_store_is_asked_when_the_lease_has_run_out() -> None:
    world = World(ModelStore, cache_ttl=5)
    body = world.opened()
    next(body)
    world.store.calls.clear()
    next(body)
    world.clock.advance(4.9)
    next(body)
    assert world.store.calls == []
    world.other.revoke_all("alice")
    world.clock.advance(0.1)
    assert rest_of(body) == []


def test_sqlite_is_looked_at(tmp_path: Path) -> None:
    """For another process's endings."""

    def store(clock: FakeClock) -> SQLiteStore:
        return SQLiteStore(str(tmp_path / "sessions.db"), timeout=5, clock=clock)

    world = World(store)
    elsewhere = Guard(world.settings, store=store(world.clock), clock=world.clock)
    body = world.opened()
    assert [next(body), next(body)] == [b"0", b"1"]
    elsewhere.revoke_all("alice")
    assert rest_of(body) == []
    for guard in (world.guard, world.other, elsewhere):
        guard.close()


@pytest.mark.parametrize("damaged", [False, True])
def test_what_the_store_cant_say_isnt_assumed(damaged: bool) -> None:
    world = World(ModelStore, cache_ttl=5, stale_if_down=600)
    body = world.opened()
    next(body)
    if damaged:
        world.store.documents[ALICES] = (b"not a document", b"12345678")
    else:
        world.store.on_load = always(StoreError("down"))
    world.clock.advance(4.9)
    assert next(body) == b"1"
    world.clock.advance(0.1)
    assert rest_of(body) == []
    assert world.closed == 1


# -- Flask -----------------------------------------------------------------------------------------------------------------


def a_flask_app(world: World) -> Flask:
    app = Flask(__name__)
    JWTGuard(app, store=world.store, clock=world.clock, secret=SECRET, public="/public")

    def text() -> Iterator[str]:
        return (part.decode() for part in world.parts())

    @app.get("/")
    @app.get("/public")
    def stream() -> Response:
        return Response(world.parts(), mimetype="text/event-stream")

    @app.get("/text")
    def of_text() -> Response:
        return Response(text())

    @app.get("/bounded")
    def bounded() -> Response:
        return Response(world.parts(), headers={"Content-Length": "5"})

    @app.get("/file")
    def file() -> Response:
        return send_file(io.BytesIO(b"01234"), "text/plain")

    return app


@pytest.mark.parametrize(("path", "ends"), [("/", True), ("/text", True), ("/bounded", False), ("/public", False)])
def test_a_flask_stream(path: str, ends: bool) -> None:
    world = World()
    app = a_flask_app(world)
    pair = None if path == "/public" else world.pair
    serve: Any = app
    body: Any = iter(serve(environ_of(pair, path) | {"wsgi.url_scheme": "http", "HTTP_HOST": "x"}, lambda *_: None))
    assert next(body) == b"0"
    world.other.revoke_all("alice")
    assert list(body) == ([] if ends else [b"1", b"2", b"3", b"4"])
    body.close()
    assert world.closed == 1


def test_other_responses_of_a_flask_app_are_as_they_were() -> None:
    world = World()
    client = a_flask_app(world).test_client()
    headers = {"Authorization": f"Bearer {world.pair.access_token}"}
    assert client.get("/file", headers=headers).data == b"01234"
    assert client.get("/", headers=headers).data == b"01234"
    assert client.get("/none", headers=headers).status_code == 404
