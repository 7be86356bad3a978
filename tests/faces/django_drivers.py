"""A request, sent through Django: its WSGI and its ASGI handler, with the middleware and a view for every path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django_kit import site
from drivers import Reply, Request, Seen, View, call_asgi, call_wsgi, environ_of, scope_of, seen_of_environ
from world import World

from jwtguard.django import aguard, current_identity, guard

__all__ = ["send_django_asgi", "send_django_wsgi"]


def send_django_wsgi(world: World, request: Request, view: View = "echo", times: int = 1) -> list[Reply]:
    """The replies to a request that is sent so many times."""
    seen: list[Seen] = []

    def serve(asked: HttpRequest) -> HttpResponse:
        seen.append(_seen(asked))
        if isinstance(view, Exception):
            raise view
        return _answer(asked, guard.login("alice").to_dict() if view == "login" else None)

    with site(serve, jwtguard=_terms(world)):
        handler = WSGIHandler()
        return [_reply(lambda: call_wsgi(handler, environ_of(request)), seen) for _ in range(times)]


def send_django_asgi(world: World, request: Request, view: View = "echo", times: int = 1) -> list[Reply]:
    """The same, with an async view."""
    seen: list[Seen] = []

    async def serve(asked: HttpRequest) -> HttpResponse:
        seen.append(_seen(asked))
        if isinstance(view, Exception):
            raise view
        return _answer(asked, (await aguard.login("alice")).to_dict() if view == "login" else None)

    with site(serve, jwtguard=_terms(world)):
        handler = _in_lower_case(ASGIHandler())

        def ask() -> Coroutine[Any, Any, Reply]:
            return call_asgi(handler, scope_of(request), request)

        return [_reply(lambda: asyncio.run(ask()), seen) for _ in range(times)]


def _in_lower_case(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Django leaves the case of headers' names to the server."""

    async def app(scope: Any, receive: Any, send: Callable[[Any], Any]) -> None:
        async def sending(message: dict[str, Any]) -> None:
            lower = [(name.lower(), value) for name, value in message.get("headers", ())]
            await send({**message, "headers": lower})

        await handler(scope, receive, sending)

    return app


def _terms(world: World) -> dict[str, Any]:
    endpoints = world.given["endpoints"] or "off"  # what a bare `wrap` serves
    return {**world.given, "endpoints": endpoints, "store": world.store, "clock": world.clock, **world.hooks}


def _reply(call: Callable[[], Reply], seen: list[Seen]) -> Reply:
    seen.clear()
    reply = call()
    if seen:  # what Django's caches go by
        vary = reply.header("vary")
        assert vary in ("Authorization", "Authorization, Cookie")
        reply.headers.remove(("vary", vary))
    reply.headers = [(name, _in_our_order(value) if name == "set-cookie" else value) for name, value in reply.headers]
    reply.seen = list(seen)
    return reply


def _in_our_order(cookie: str) -> str:
    """A Set-Cookie value as the other faces write it: Django has its own order, and says twice when it expires."""
    value, *attributes = cookie.strip().split("; ")
    order = ("Max-Age", "Path", "Secure", "HttpOnly", "SameSite")
    kept = [attribute for attribute in attributes if not attribute.lower().startswith("expires=")]
    return "; ".join([value, *sorted(kept, key=lambda attribute: order.index(attribute.partition("=")[0]))])


def _seen(asked: HttpRequest) -> Seen:
    seen = seen_of_environ(asked.META)
    identity = current_identity(asked)
    assert (identity.subject, identity.scopes) == (seen.subject, seen.scopes)
    names = {name.lower() for name in asked.headers}
    names |= {name.decode("latin-1") for name, _ in getattr(asked, "scope", {}).get("headers", ())}
    return Seen(seen.subject, seen.scopes, seen.names | names, seen.remote_user)


def _answer(asked: HttpRequest, found: dict[str, Any] | None) -> HttpResponse:
    body = b"the app" if found is None else json.dumps(found).encode()
    response = HttpResponse(body, content_type="text/plain", headers={"Content-Length": str(len(body))})
    if asked.method == "HEAD":
        response.content = b""
    return response
