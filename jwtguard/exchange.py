"""One request or WebSocket, as an ASGI app has it: its `receive` and `send`, and how it is ended when its session ends.

What stays open is live: a WebSocket from its acceptance, a response from the first part of its body that isn't the last. A
response with a Content-Length isn't: it is on its way, not open, and to end it early would break it.

When a live connection is ended, three things happen at once:
- The client is told: a WebSocket by a close frame, a response by its regular end.
- An app that waits in `receive` is told, as if the client had gone. It waits in the server, so its task is cancelled, and
  the cancellation ends in `receive`: the app sees the message.
- What the app sends is not passed on. Where it can't know better, `send` raises OSError (ASGI specification 2.4); an app
  that lets it through, or Starlette's word for it, has ended as it should.

The middleware returns only when the client has been told: the server takes its return for the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

from .context import WANTED, Wanted
from .guard import AsyncGuard
from .live import Closing
from .model import ANONYMOUS, Identity

__all__ = ["SUBPROTOCOL", "Exchange", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

SUBPROTOCOL: Final = "jwtguard.bearer"

_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"})
"""The messages with which an app begins its answer."""


class Exchange:
    """`receive` and `send` for the app. `line` is there once it is live.

    The app's answer gets the headers that are wanted on it. A WebSocket that was opened with the token's subprotocol has it
    selected where the app selects none.
    """

    __slots__ = (
        "_guard",
        "_has_received",
        "_head",
        "_readers",
        "_receive",
        "_scope",
        "_send",
        "identity",
        "line",
        "offered",
        "started",
    )

    def __init__(self, guard: AsyncGuard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._head: Message | None = None
        self.line: _Line | None = None
        self._has_received = False
        self._readers: list[asyncio.Task[Any]] = []
        self.started = False
        self.offered = False
        self.identity = ANONYMOUS

    def send(self, message: Message) -> Awaitable[None]:
        """`send` for the app."""
        if self.line is not None:
            return self.line.send(message)
        kind = message["type"]
        if kind in _STARTS:
            self.started = True
            if WANTED in self._scope and kind != "websocket.close":
                message = _with(self._scope[WANTED], message)
            if kind == "http.response.start":
                self._head = message
            elif kind == "websocket.accept":
                return self._accept(message)
        elif self._head is not None and message.get("more_body"):
            head, self._head = self._head, None
            if self.identity.is_authenticated and not _is_bounded(head):
                return self._become_live().send(message)
        return self._send(message)

    def receive(self) -> Awaitable[Message]:
        """`receive` for the app.

        The first is the server's own: all that a plain request needs. What tells an app that its client has gone is a later
        one, and a WebSocket is accepted after the first.
        """
        if not self._has_received and self.line is None:
            self._has_received = True
            return self._receive()
        return self._receive_if_open()

    async def _receive_if_open(self) -> Message:
        """A message, or the disconnection when the connection is ended, also while this waits."""
        if self._is_ended():
            return self._disconnection()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        before = task.cancelling()
        self._readers.append(task)
        message: Message = {}
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if not self._is_ended():
                raise
        finally:
            self._readers.remove(task)
        if not self._is_ended():
            return message
        if task.uncancel() > before:  # somebody else has cancelled it, too
            raise asyncio.CancelledError
        return self._disconnection()

    def _is_ended(self) -> bool:
        return self.line is not None and self.line.closing is not None

    def _disconnection(self) -> Message:
        return cast("_Line", self.line).disconnection()

    async def _accept(self, message: Message) -> None:
        if self.offered and not message.get("subprotocol"):
            message = {**message, "subprotocol": SUBPROTOCOL}
        await self._send(message)
        if self.identity.is_authenticated:
            self._become_live()

    def _become_live(self) -> _Line:
        self.line = _Line(self._guard, self.identity, self._scope["type"], self._send, self._readers)
        return self.line

    def explains(self, error: Exception) -> bool:
        """Whether an error is what the end of this connection comes to in an app that doesn't handle it."""
        if not self._is_ended():
            return False
        from starlette.requests import ClientDisconnect
        from starlette.websockets import WebSocketDisconnect

        expected = (_Ended, ClientDisconnect, WebSocketDisconnect)
        return isinstance(error, expected) or (isinstance(error, ExceptionGroup) and error.split(expected)[1] is None)


class _Ended(ConnectionError):
    """What an app's `send` raises."""


class _Line:
    """A live connection."""

    __slots__ = ("_guard", "_is_told", "_kind", "_readers", "_send", "_tenure", "_turn", "closing", "farewell")

    def __init__(
        self, guard: AsyncGuard, identity: Identity, kind: str, send: Send, readers: list[asyncio.Task[Any]]
    ) -> None:
        self._guard = guard
        self._kind = kind
        self._send = send
        self._readers = readers
        self._turn = asyncio.Lock()
        self._is_told = False
        self.closing: Closing | None = None
        self.farewell: asyncio.Task[None] | None = None
        self._tenure = guard.core.live.enter(identity, self, guard.perform)

    def leave(self) -> None:
        self._guard.core.live.leave(self._tenure)

    async def send(self, message: Message) -> None:
        """Pass on what the app sends, as long as the connection isn't ended."""
        is_last = message["type"] == "websocket.close" or not message.get("more_body", self._kind == "websocket")
        async with self._turn:
            if self.closing is None:
                if is_last:
                    self.leave()
                await self._send(message)
                return
        if not is_last and not self._is_told:
            raise _Ended(f"the connection was ended: {self.closing.reason}")
        await asyncio.sleep(0)  # an app that sends without waiting gets no chance to be cancelled otherwise

    def end(self, closing: Closing) -> None:
        self.closing = closing
        self.farewell = asyncio.get_running_loop().create_task(self._tell_client())
        for task in self._readers:
            task.cancel()
            self._is_told = self._kind == "http"

    async def part(self) -> None:
        """Wait until the client is told, if the connection was ended."""
        if self.farewell is not None:
            await self.farewell

    def disconnection(self) -> Message:
        """What the app is told."""
        if self._kind == "http":
            self._is_told = True
            return {"type": "http.disconnect"}
        return {"type": "websocket.disconnect", **self._terms()}

    async def _tell_client(self) -> None:
        last: Message = {"type": "http.response.body", "body": b"", "more_body": False}
        if self._kind == "websocket":
            last = {"type": "websocket.close", **self._terms()}
        async with self._turn:
            with suppress(Exception):  # whatever a server says to that: the client is gone
                await self._send(last)

    def _terms(self) -> dict[str, Any]:
        code, reason = cast("Closing", self.closing)
        return {"code": code, "reason": reason}


def _with(wanted: Wanted, head: Message) -> Message:
    """The beginning of an answer, with the headers that are wanted on it."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.get("headers", ())]
    return {
        **head,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in wanted.on(headers)],
    }


def _is_bounded(head: Message) -> bool:
    """Whether a response tells its length."""
    return any(name.lower() == b"content-length" for name, _ in head.get("headers", ()))
