"""A server's side of one ASGI connection, for tests of what is live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from jwtguard import AsyncGuard, Settings
from jwtguard.testing import FakeClock

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
PATIENCE = 20.0


class Wire:
    """An app that runs on a connection: what the client sends comes in by `incoming`, what it gets is `sent`."""

    def __init__(self, app: Any, kind: str, token: str | None, *, spec: str = "2.3", path: str = "/") -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.open = asyncio.Event()
        """While it isn't set, the client reads nothing."""
        self.open.set()
        self._news = asyncio.Event()
        headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
        self.scope: Message = {"type": kind, "path": path, "headers": headers, "asgi": {"spec_version": spec}}
        if kind == "http":
            self.scope |= {"method": "GET", "query_string": b""}
        self.incoming.put_nowait({"type": "websocket.connect" if kind == "websocket" else "http.request"})
        self.task = asyncio.ensure_future(app(self.scope, self.receive, self.send))

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        await self.open.wait()
        self.sent.append(message)
        self._news.set()

    async def until(self, count: int) -> None:
        """Wait until so many messages are sent."""
        async with asyncio.timeout(PATIENCE):
            while len(self.sent) < count:
                self._news.clear()
                await self._news.wait()

    async def done(self) -> None:
        """Wait until the app has returned. Raises what it raised."""
        async with asyncio.timeout(PATIENCE):
            await self.task


def a_guard(store: Any, clock: FakeClock, **settings: Any) -> AsyncGuard:
    return AsyncGuard(Settings(**{"secret": SECRET, "public": "/public", **settings}), store=store, clock=clock)


async def settled(guard: AsyncGuard) -> None:
    """Wait until all that is due is judged, and what was ended has had time to notice."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.sleep(0)
        while any(patrol._due or patrol._judges for patrol in list(guard.core.live._patrols.values())):
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)


async def go_round(guard: AsyncGuard) -> None:
    """A round of each patrol, as its timer would have it, to its end."""
    for patrol in list(guard.core.live._patrols.values()):
        patrol.go_round()
    await settled(guard)
