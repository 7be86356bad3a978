"""What an app sees and what a client gets when a live connection is ended, in all the ways in which apps use one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from wires import Message, Receive, Send, Wire, a_guard, settled

from jwtguard.live import Closing
from jwtguard.starlette import install
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"0", "more_body": True}
LAST = {"type": "http.response.body", "body": b"", "more_body": False}
REVOKED = {"type": "websocket.close", "code": 3000, "reason": "session_revoked"}
DISCONNECTED = {"type": "websocket.disconnect", "code": 3000, "reason": "session_revoked"}


class World:
    """A guard, and what happened."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.guard = a_guard(MemoryStore(clock), clock)
        self.log: list[Any] = []
        self.ended = asyncio.Event()
        """The test has ended the session, and the connection knows."""

    async def opened(self, app: Any, kind: str, *, wrapped: bool = False, first: int = 0, spec: str = "2.3") -> Wire:
        pair = await self.guard.login("alice")
        app = app if wrapped else self.guard.wrap(app)
        wire = Wire(app, kind, pair.access_token, spec=spec)
        await wire.until(first or {"websocket": 1, "http": 2}[kind])
        await settled(self.guard)
        return wire

    async def end(self) -> None:
        await self.guard.revoke_all("alice")
        await settled(self.guard)
        self.ended.set()


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


# -- apps by hand ----------------------------------------------------------------------------------------------------------


async def open_stream(receive: Receive, send: Send) -> None:
    await receive()
    await send(START)
    await send(PART)


def test_an_app_that_never_receives_is_told_by_send_and_ends_quietly() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            await world.ended.wait()
            try:
                await send(PART)
            except OSError as error:
                world.log.append(str(error))
                raise

        wire = await world.opened(app, "http")
        await world.end()
        await wire.done()
        assert wire.sent == [START, PART, LAST]
        assert world.log == ["the connection was ended: session_revoked"]

    play(scene)


def test_an_app_that_was_told_may_go_on_sending_into_the_void() -> None:
    """As with a server that drops what comes too late; but never so that nothing else gets a turn."""

    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            listening = asyncio.ensure_future(receive())
            while not listening.done():
                await send(PART)
            world.log.append(listening.result())
            await send(PART)
            await send(LAST)
            world.log.append(await receive())

        wire = await world.opened(app, "http")
        await world.end()
        await wire.done()
        assert wire.sent[-1] == LAST
        assert wire.sent.count(LAST) == 1
        assert world.log == [{"type": "http.disconnect"}] * 2

    play(scene)


def test_an_app_that_asks_only_afterwards_is_told_then() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            await world.ended.wait()
            world.log.append(await receive())
            await send(PART)
            await send(LAST)
            world.log.append("went on")

        wire = await world.opened(app, "http")
        await world.end()
        await wire.done()
        assert wire.sent == [START, PART, LAST]
        assert world.log == [{"type": "http.disconnect"}, "went on"]

    play(scene)


def test_an_app_that_ends_by_itself_at_that_moment_ends_once() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            await world.ended.wait()
            await send(LAST)

        wire = await world.opened(app, "http")
        await world.end()
        await wire.done()
        assert wire.sent == [START, PART, LAST]

    play(scene)


def test_a_websocket_that_is_ended() -> None:
    """A sender among several tasks ends too: what it sends raises, whoever else was told. Closing is no error."""

    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            await receive()
            world.log.append(await receive())
            try:
                await send({"type": "websocket.send", "text": "x"})
            except OSError:
                world.log.append("raised")
            await send({"type": "websocket.close"})
            world.log.append(await receive())

        wire = await world.opened(app, "websocket")
        await world.end()
        await wire.done()
        assert wire.sent[1:] == [REVOKED]
        assert world.log == [DISCONNECTED, "raised", DISCONNECTED]

    play(scene)


async def in_a_group(receive: Receive, send: Send) -> None:
    async def sender() -> None:
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(sender())


async def in_a_group_with_a_bug(receive: Receive, send: Send) -> None:
    async def sender() -> None:
        try:
            while True:
                await send({"type": "websocket.send", "text": "x"})
                await asyncio.sleep(0)
        except OSError as error:
            raise ExceptionGroup("both", [error, ZeroDivisionError()]) from None

    async with asyncio.TaskGroup() as group:
        group.create_task(sender())


async def with_a_bug(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("rest", "raises"), [(in_a_group, None), (in_a_group_with_a_bug, ExceptionGroup), (with_a_bug, ZeroDivisionError)]
)
def test_only_what_the_end_comes_to_is_no_error(rest: Any, raises: type[Exception] | None) -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await rest(receive, send)

        wire = await world.opened(app, "websocket")
        await world.end()
        if raises is None:
            await wire.done()
        else:
            with pytest.raises(raises):
                await wire.done()
        assert REVOKED in wire.sent

    play(scene)


def test_an_error_on_an_open_connection_is_the_servers() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            raise ConnectionResetError

        wire = await world.opened(app, "http")
        with pytest.raises(ConnectionResetError):
            await wire.done()
        assert len(world.guard.core.live) == 0

    play(scene)


# -- cancellations ---------------------------------------------------------------------------------------------------------


def test_who_is_cancelled_by_another_is_cancelled() -> None:
    """Also at the very moment at which the connection is ended."""

    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            await receive()

        wire = await world.opened(app, "http")
        wire.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wire.done()
        wire = await world.opened(app, "http")
        (line,) = (
            c for patrol in world.guard.core.live._patrols.values() for u in patrol._tenures.values() for c in u.values()
        )
        wire.task.cancel()
        line.end(Closing(3000, ""))
        with pytest.raises(asyncio.CancelledError):
            await wire.done()

    play(scene)


def test_a_timeout_around_receive_still_works() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            try:
                async with asyncio.timeout(0.01):
                    await receive()
            except TimeoutError:
                world.log.append("timeout")
            async with asyncio.timeout(20):
                world.log.append(await receive())
            task = asyncio.current_task()
            assert task is not None
            world.log.append(task.cancelling())
            await asyncio.sleep(0)

        wire = await world.opened(app, "http")
        while not world.log:
            await asyncio.sleep(0.005)
        await world.end()
        await wire.done()
        assert world.log == ["timeout", {"type": "http.disconnect"}, 0]

    play(scene)


def test_a_server_that_keeps_cancellations_to_itself() -> None:
    async def scene() -> None:
        world = World()

        def between(app: Any) -> Any:
            async def outer(scope: Message, receive: Receive, send: Send) -> None:
                async def stubborn() -> Message:
                    try:
                        return await receive()
                    except asyncio.CancelledError:
                        return {"type": "http.request"}

                await app(scope, stubborn, send)

            return outer

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            world.log.append(await receive())
            await asyncio.sleep(0)

        wire = await world.opened(between(world.guard.wrap(app)), "http", wrapped=True)
        await world.end()
        await wire.done()
        assert world.log == [{"type": "http.disconnect"}]

    play(scene)


def test_two_that_receive_are_both_told() -> None:
    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            world.log += await asyncio.gather(receive(), receive())

        wire = await world.opened(app, "http")
        await world.end()
        await wire.done()
        assert world.log == [{"type": "http.disconnect"}] * 2

    play(scene)


# -- the client ------------------------------------------------------------------------------------------------------------


def test_a_client_that_reads_nothing_gets_no_further_part() -> None:
    """What was on its way comes first, then the end; and the middleware returns only then."""

    async def scene() -> None:
        world = World()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            listening = asyncio.ensure_future(receive())
            sending = asyncio.ensure_future(send(PART))
            world.log.append(await listening)
            sending.cancel()

        wire = await world.opened(app, "http", first=3)
        assert wire.sent == [START, PART, PART]
        wire = Wire(world.guard.wrap(app), "http", (await world.guard.login("alice")).access_token)
        await wire.until(2)
        wire.open.clear()
        await settled(world.guard)
        await world.end()
        assert not wire.task.done()
        wire.open.set()
        await wire.done()
        assert wire.sent == [START, PART, LAST]

    play(scene)


def test_the_end_does_not_overtake_what_is_on_its_way() -> None:
    async def scene() -> None:
        world = World()
        taken, given = asyncio.Event(), asyncio.Event()

        def slowly(app: Any) -> Any:
            async def outer(scope: Message, receive: Receive, send: Send) -> None:
                async def slow(message: Message) -> None:
                    if message.get("body") == b"slow":
                        given.set()
                        await taken.wait()
                    await send(message)

                await app(scope, receive, slow)

            return outer

        slow_part: Message = {**PART, "body": b"slow"}

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await open_stream(receive, send)
            await send(slow_part)

        wire = await world.opened(slowly(world.guard.wrap(app)), "http", wrapped=True)
        await given.wait()
        await world.end()
        for _ in range(5):
            await asyncio.sleep(0)
        assert wire.sent == [START, PART]
        taken.set()
        await wire.done()
        assert wire.sent == [START, PART, slow_part, LAST]

    play(scene)


def test_a_client_that_is_gone() -> None:
    async def scene() -> None:
        world = World()

        def breaking(app: Any) -> Any:
            async def outer(scope: Message, receive: Receive, send: Send) -> None:
                async def fail(message: Message) -> None:
                    if message["type"] == "websocket.close":
                        raise RuntimeError("the transport is closed")
                    await send(message)

                await app(scope, receive, fail)

            return outer

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            world.log.append(await receive())

        wire = await world.opened(breaking(world.guard.wrap(app)), "websocket", wrapped=True)
        await world.end()
        await wire.done()
        assert world.log == [DISCONNECTED]

    play(scene)


# -- Starlette -------------------------------------------------------------------------------------------------------------


def an_app(world: World, *, middleware: bool, kept: bool = True) -> Starlette:
    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"0"
            await asyncio.Event().wait() if kept else await world.ended.wait()
            yield b"1"
        finally:
            world.log.append("closed")

    async def stream(request: Request) -> Response:
        return StreamingResponse(parts(), background=BackgroundTask(world.log.append, "background"))

    async def push(websocket: WebSocket) -> None:
        """Only sends, and has no handler for a client that goes."""
        await websocket.accept()
        await world.ended.wait()
        await websocket.send_text("x")

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()

    async def passing(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    routes = [Route("/", stream), WebSocketRoute("/", echo), WebSocketRoute("/push", push)]
    return Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)] if middleware else [])


@pytest.mark.parametrize("middleware", [False, True], ids=["plain", "BaseHTTPMiddleware"])
@pytest.mark.parametrize("inside", [False, True], ids=["around the app", "inside the app"])
def test_a_streaming_response_ends_and_its_background_task_runs(middleware: bool, inside: bool) -> None:
    async def scene() -> None:
        world = World()
        app: Any = an_app(world, middleware=middleware)
        if inside:
            install(app, world.guard)
        wire = await world.opened(app, "http", wrapped=inside)
        await world.end()
        await wire.done()
        assert wire.sent[1]["body"] == b"0"
        assert [message.get("more_body") for message in wire.sent] == [None, True, False]
        assert sorted(world.log) == ["background", "closed"]

    play(scene)


@pytest.mark.parametrize("inside", [False, True], ids=["around the app", "inside the app"])
def test_a_streaming_response_of_asgi_2_4_is_told_by_send(inside: bool) -> None:
    async def scene() -> None:
        world = World()
        app: Any = an_app(world, middleware=False, kept=False)
        if inside:
            install(app, world.guard)
        wire = await world.opened(app, "http", wrapped=inside, spec="2.4")
        await world.end()
        await wire.done()
        assert [message.get("more_body") for message in wire.sent] == [None, True, False]

    play(scene)


@pytest.mark.parametrize("path", ["/", "/push"])
@pytest.mark.parametrize("inside", [False, True], ids=["around the app", "inside the app"])
def test_a_websocket_endpoint_that_handles_no_disconnection_ends_quietly(path: str, inside: bool) -> None:
    async def scene() -> None:
        world = World()
        app: Any = an_app(world, middleware=True)
        if inside:
            install(app, world.guard)
        target = app if inside else world.guard.wrap(app)
        wire = Wire(target, "websocket", (await world.guard.login("alice")).access_token, path=path)
        await wire.until(1)
        await settled(world.guard)
        await world.end()
        await wire.done()
        assert wire.sent[1:] == [REVOKED]

    play(scene)
