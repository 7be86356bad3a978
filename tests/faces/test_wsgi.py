"""What only WSGI has: REMOTE_USER, bodies that are closed, apps that begin late."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from typing import Any

import pytest
from drivers import Request, call_wsgi, environ_of, send_wsgi
from world import World

from jwtguard.context import REQUEST, current_identity
from jwtguard.errors import ConfigError, LimitReached, ScopeMissing
from jwtguard.wsgi import JWTGuardMiddleware

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def request_of(token: str, target: str = "/me") -> Request:
    return Request(target=target, headers=(("Authorization", f"Bearer {token}"),))


def test_remote_user() -> None:
    world = World({"remote_user": "on"})
    assert send_wsgi(world, request_of(world.made("good")))[0].seen[0].remote_user == "alice"
    reply = send_wsgi(world, request_of(world.made("unicode")))[0]
    assert reply.seen[0].remote_user == "zoë·雪".encode().decode("latin-1")
    assert send_wsgi(world, Request(target="/login"))[0].seen[0].remote_user is None


@pytest.mark.parametrize(("setting", "seen"), [("on", None), ("off", "the server's")])
def test_c38_remote_user_is_the_servers_or_jwtguards(setting: str, seen: str | None) -> None:
    """Only a server can set it; with the setting on it is jwtguard's alone."""
    found = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        found.append(environ.get("REMOTE_USER"))
        start_response("200 OK", [])
        return []

    world = World({"remote_user": setting})
    environ = environ_of(Request(target="/login", headers=(("Remote-User", "mallory"), ("Remote_User", "mallory"))))
    call_wsgi(world.guard().wrap(app), {**environ, "REMOTE_USER": "the server's"})
    assert found == [seen]


def test_an_outer_guards_identity_does_not_get_in() -> None:
    world, outer = World(), World({"endpoints": "off", "public": "/*", "rules": "", "secret": "o" + world_secret()})
    seen: list[Any] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["jwtguard.identity"].subject)
        start_response("200 OK", [])
        return []

    both = outer.guard().wrap(world.guard().wrap(app))
    assert call_wsgi(both, environ_of(request_of(outer.made("good"), "/login"))).status == 200
    assert call_wsgi(both, environ_of(request_of(outer.made("good"), "/me"))).status == 401
    assert seen == [""]


def world_secret() -> str:
    from world import OTHER_SECRET

    return OTHER_SECRET


class Body:
    """A body that says what becomes of it."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts = parts
        self.closed = 0
        self.identities: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.identities.append(current_identity().subject)
            if isinstance(part, Exception):
                raise part
            yield part

    def close(self) -> None:
        self.closed += 1


class File(Body):
    """As a server's file wrapper."""


@pytest.mark.parametrize("body", [[b"x"], (b"x",), File(b"x")])
def test_a_body_that_is_there_is_the_apps_own(body: Iterable[bytes]) -> None:
    """So a server knows a file wrapper, and a list its length."""
    world = World()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return body

    environ = environ_of(request_of(world.made("good"))) | {"wsgi.file_wrapper": File}
    assert world.guard().wrap(app)(environ, lambda *_: None) is body


def test_a_body_that_is_nobodys_is_the_apps_own() -> None:
    world, body = World(), Body(b"x")

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return body

    assert world.guard().wrap(app)(environ_of(Request(target="/")), lambda *_: None) is body


def late(body: Body) -> Callable[..., Iterable[bytes]]:
    """An app that begins when its body is asked for, as PEP 3333's class of an app does."""

    class App:
        def __init__(self, environ: Environ, start_response: StartResponse) -> None:
            self._start_response = start_response
            self.close = body.close

        def __iter__(self) -> Iterator[bytes]:
            self._start_response("200 OK", [("Content-Type", "text/plain")])
            yield from body

    return App


def test_a_late_body_has_its_request_and_is_closed() -> None:
    world, body = World(), Body(b"a", b"b", b"")
    reply = call_wsgi(world.guard().wrap(late(body)), environ_of(request_of(world.made("good"))))
    assert (reply.status, reply.body) == (200, b"ab")
    assert body.identities == ["alice"] * 3
    assert body.closed == 1
    assert REQUEST.get() is None


def test_between_the_parts_of_a_late_body_nobodys_request_is_served() -> None:
    world, body = World(), Body(b"a", b"b")
    parts = iter(world.guard().wrap(late(body))(environ_of(request_of(world.made("good"))), lambda *_: None))
    assert next(parts) == b"a"
    assert REQUEST.get() is None
    assert list(parts) == [b"b"]


def test_a_late_body_that_is_never_asked_for_is_closed_too() -> None:
    world, body = World(), Body(b"a")
    returned: Any = world.guard().wrap(late(body))(environ_of(request_of(world.made("good"))), lambda *_: None)
    returned.close()
    assert body.closed == 1
    assert body.identities == []


def test_a_late_body_without_close() -> None:
    def begin(start_response: StartResponse) -> bytes:
        start_response("200 OK", [])
        return b"x"

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return starmap(begin, [(start_response,)])

    world = World({"public": "/me"})
    assert call_wsgi(world.guard().wrap(app), environ_of(Request())).body == b"x"


def generator(*parts: bytes | Exception, begin: bool = True) -> Callable[..., Iterator[bytes]]:
    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        if begin:
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1000")])
        for part in parts:
            if isinstance(part, Exception):
                raise part
            yield part

    return app


@pytest.mark.parametrize(("parts", "begin"), [((), False), ((), True), ((b"",), True)])
def test_an_error_of_a_generator_becomes_its_answer_until_something_is_sent(parts: tuple[bytes, ...], begin: bool) -> None:
    world = World({"public": "/me"})
    reply = call_wsgi(world.guard().wrap(generator(*parts, LimitReached(), begin=begin)), environ_of(Request()))
    assert (reply.status, reply.json()["code"]) == (409, "limit_reached")
    assert reply.header("content-length") == str(len(reply.body))


def test_an_error_of_a_generator_after_something_is_sent_is_let_out() -> None:
    world = World({"public": "/me"})
    with pytest.raises(LimitReached):
        call_wsgi(world.guard().wrap(generator(b"x", LimitReached())), environ_of(Request()))


def test_an_error_after_start_response_replaces_the_answer() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-Secret", "1")])
        raise ScopeMissing(["x"])

    reply = call_wsgi(World({"public": "/me"}).guard().wrap(app), environ_of(Request()))
    assert reply.status == 403
    assert reply.header("x-secret") is None


@pytest.mark.parametrize("error", [ConfigError("mend this"), ZeroDivisionError("other")])
@pytest.mark.parametrize("begin", [False, True])
def test_c76_other_errors_are_the_servers(error: Exception, begin: bool) -> None:
    world = World({"public": "/me"})
    with pytest.raises(type(error), match=str(error)):
        call_wsgi(world.guard().wrap(generator(error, begin=begin)), environ_of(Request()))
    assert REQUEST.get() is None


def test_start_response_as_apps_call_it() -> None:
    """With `exc_info` by name, and with what it returns, `write`."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [], exc_info=None)
        write(b"written, ")
        return [b"returned"]

    reply = call_wsgi(World({"public": "/me"}).guard().wrap(app), environ_of(Request()))
    assert reply.body == b"written, returned"


def test_a_generator_that_logs_in_is_not_stored() -> None:
    world = World()
    guard = world.guard()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        token = guard.login("alice").access_token
        start_response("200 OK", [("Cache-Control", "public"), ("X-Y", "1"), ("cache-control", "max-age=5")])
        yield token.encode()

    reply = call_wsgi(guard.wrap(app), environ_of(Request(target="/login")))
    assert reply.headers == [("x-y", "1"), ("cache-control", "no-store")]


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "+5", "\xb2"])
def test_a_length_that_is_none(length: str) -> None:
    """Then nothing is read, unless the server says that the body ends."""
    world = World()
    environ = environ_of(Request("POST", "/auth/refresh", (("Content-Type", "application/json"),)))
    environ |= {"wsgi.input": io.BytesIO(b'{"refresh_token": "x"}'), "CONTENT_LENGTH": length}
    assert call_wsgi(world.guard().wrap(generator()), dict(environ)).json()["code"] == "request_invalid"
    environ |= {"wsgi.input": io.BytesIO(b'{"refresh_token": "x"}'), "wsgi.input_terminated": True}
    assert call_wsgi(world.guard().wrap(generator()), environ).json()["code"] == "refresh_invalid"


class Broken(io.RawIOBase):
    """A body that a server can't read to its end."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise self._error


class Misread(Exception):
    """As gunicorn raises for a chunk without a size."""


@pytest.mark.parametrize("error", [OSError("203.0.113.7"), ValueError("closed"), Misread("zz")])
@pytest.mark.parametrize("ends", [{"CONTENT_LENGTH": "20"}, {"wsgi.input_terminated": True}])
def test_a_body_that_breaks_off(error: Exception, ends: dict[str, Any]) -> None:
    environ = environ_of(Request("POST", "/auth/logout", (("Content-Type", "application/json"),)))
    reply = call_wsgi(World().guard().wrap(generator()), {**environ, "wsgi.input": Broken(error), **ends})
    assert (reply.status, reply.json()["code"]) == (400, "request_invalid")


def test_servers_that_give_less() -> None:
    """PATH_INFO may be absent, and text beyond Latin-1 is no server's."""
    guard = World().guard()
    environ = environ_of(Request(target="/login"))
    del environ["PATH_INFO"]
    assert call_wsgi(guard.wrap(_hello), environ).status == 200  # the root
    assert call_wsgi(guard.wrap(_hello), {**environ, "PATH_INFO": "/login\u96ea"}).status == 401
    assert (
        call_wsgi(guard.wrap(_hello), {**environ, "PATH_INFO": "/me", "HTTP_AUTHORIZATION": "Bearer \u96ea"}).status == 401
    )


def _hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def test_the_middleware_takes_a_guard() -> None:
    middleware = JWTGuardMiddleware(app=_hello, guard=World().guard())
    assert call_wsgi(middleware, environ_of(Request())).status == 401
