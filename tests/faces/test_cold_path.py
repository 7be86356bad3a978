"""What a request costs: nothing of ours on the warm path, and a known number of steps on the cold one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

import pytest
from drivers import Request, environ_of, scope_of
from jwt.algorithms import HMACAlgorithm
from world import World

Send = Callable[[Any], Awaitable[None]]


def never(*arguments: object, **named: object) -> NoReturn:
    raise AssertionError("the warm path came here")


class NoLock:
    __enter__ = __exit__ = acquire = release = never


@pytest.fixture
def world() -> World:
    return World({"rules": ""})


def request_of(world: World) -> Request:
    return Request(headers=(("Host", "x"), ("Authorization", f"Bearer {world.made('good')}"), ("User-Agent", "curl/8")))


def forbid(guard: Any, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """From now on nothing may be verified, driven, locked, or asked of the store."""
    for name in ("perform", "complete"):
        monkeypatch.setattr(guard, name, never, raising=False)
    monkeypatch.setattr(HMACAlgorithm, "verify", never)
    monkeypatch.setattr(guard.core.registry, "_mutex", NoLock())
    monkeypatch.setattr(world.store, "load", never)
    monkeypatch.setattr(world.store, "save", never)


def test_the_warm_path_of_wsgi(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    answer = [b"x"]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.append(environ["jwtguard.identity"].subject)
        start_response("200 OK", [])
        return answer

    guard = world.guard()
    wrapped = guard.wrap(app)
    wrapped(environ_of(request_of(world)), lambda *_: None)
    forbid(guard, monkeypatch, world)
    assert wrapped(environ_of(request_of(world)), lambda *_: None) is answer
    assert seen == ["alice", "alice"]


def test_the_warm_path_of_asgi(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middleware awaits the app, and nothing between."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        seen.append(scope["user"].subject)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        await Suspended()

    class Suspended:
        def __await__(self) -> Any:
            yield

    async def serve_once() -> None:
        async def nothing(message: Any) -> None: ...

        await wrapped(scope_of(request_of(world)), None, nothing)  # type: ignore[arg-type]

    guard = world.async_guard()
    wrapped = guard.wrap(app)
    asyncio.run(serve_once())
    forbid(guard, monkeypatch, world)
    call: Any = wrapped(scope_of(request_of(world)), None, send)  # type: ignore[arg-type]
    call.send(None)
    assert call.cr_await.cr_code is app.__code__
    assert call.cr_await.cr_await.cr_code is send.__code__
    with pytest.raises(StopIteration):
        call.send(None)
    assert seen == ["alice", "alice"]


def test_what_a_first_request_costs(world: World) -> None:
    """One verification (see the table), what holds for everyone, the user; and the first use is written down."""
    request = request_of(world)
    world.store.calls.clear()
    wrapped = world.guard().wrap(lambda environ, start_response: start_response("200 OK", []) or [])
    wrapped(environ_of(request), lambda *_: None)
    assert world.store.calls == ["load", "load", "load", "save"]
    wrapped(environ_of(request), lambda *_: None)
    assert world.store.calls == ["load", "load", "load", "save"]


def test_a_public_path_without_a_token_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = world.guard()
    monkeypatch.setattr(HMACAlgorithm, "verify", never)
    world.store.calls.clear()
    wrapped = guard.wrap(lambda environ, start_response: start_response("200 OK", []) or [])
    wrapped(environ_of(Request(target="/login")), lambda *_: None)
    assert world.store.calls == []


@pytest.mark.parametrize("value", [b"Bearer " + b"a" * 8193, b"Bearer " * 100_000, b"Basic " + b"a" * 9000, b"," * 100_000])
def test_c15_no_more_is_looked_at_than_a_token_may_have(
    world: World, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """Neither hashed nor searched: the length alone decides."""
    from jwtguard import bearer

    class Bounded:
        def __init__(self, pattern: Any) -> None:
            self._pattern = pattern

        def search(self, text: bytes) -> object:
            assert len(text) <= 8192 + len("Bearer ")
            return self._pattern.search(text)

        fullmatch = search

    monkeypatch.setattr(bearer, "_NAMES_BEARER", Bounded(bearer._NAMES_BEARER))
    monkeypatch.setattr(bearer, "_BEARER", Bounded(bearer._BEARER))
    monkeypatch.setattr("jwtguard.recall.sha256", never)
    monkeypatch.setattr("jwtguard.authentication.digest_of", never)
    statuses: list[str] = []
    environ = environ_of(Request(headers=(("Authorization", value.decode()),)))
    list(world.guard().wrap(never)(environ, lambda status, *_: statuses.append(status)))
    assert statuses[0][:3] in ("400", "401")


@pytest.mark.parametrize(("more", "status"), [(0, "200 OK"), (-1, "401 UNAUTHORIZED")])
def test_c15_the_longest_token_is_accepted_and_known_again(monkeypatch: pytest.MonkeyPatch, more: int, status: str) -> None:
    world = World({"rules": ""})
    object.__setattr__(world.settings, "max_token", len(world.made("good")) + more)
    statuses: list[str] = []
    guard = world.guard()
    wrapped = guard.wrap(lambda environ, start_response: start_response("200 OK", []) or [])
    for _ in range(2):
        list(wrapped(environ_of(request_of(world)), lambda status, *_: statuses.append(status)))
        if more == 0:
            forbid(guard, monkeypatch, world)
    assert statuses == [status] * 2
