"""Each request is decided about once, and its refusal told once, whichever face it comes through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drivers import Reply, Request, send_asgi, send_wsgi
from watching import Notebook
from world import World

Send = Callable[[World, Request], list[Reply]]

FORM = ("Content-Type", "application/json")
GOOD = ("Authorization", "Bearer <good>")
CASES = {
    "admitted": (Request(headers=(GOOD,)), "admitted alice"),
    "public": (Request(target="/"), "anonymous"),
    "public, with a bad token": (Request(target="/", headers=(("Authorization", "Bearer <expired>"),)), "anonymous"),
    "no token": (Request(), "token_missing"),
    "not a token": (Request(headers=(("Authorization", "Bearer x"),)), "token_invalid"),
    "expired": (Request(headers=(("Authorization", "Bearer <expired>"),)), "token_expired"),
    "two tokens": (Request(headers=(("Authorization", "Bearer <good>, Bearer <good>"),)), "request_invalid"),
    "a scope is missing": (Request(target="/admin/users", headers=(GOOD,)), "scope_missing"),
    "an endpoint": (Request(target="/auth/sessions", headers=(GOOD,)), "served"),
    "an endpoint, without a token": (Request(target="/auth/sessions"), "token_missing"),
    "a refresh": (Request("POST", "/auth/refresh", (FORM,), b'{"refresh_token": "<refresh>"}'), "served"),
    "a bad refresh": (Request("POST", "/auth/refresh", (FORM,), b'{"refresh_token": "x"}'), "refresh_invalid"),
    "a body that is none": (Request("POST", "/auth/refresh", (FORM,), b"{"), "request_invalid"),
}


@pytest.mark.parametrize("send", [send_wsgi, send_asgi], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("case", CASES)
def test_a_request_is_decided_about_once(case: str, send: Send) -> None:
    notebook = Notebook()
    world = World(observers=[notebook])
    request, expected = CASES[case]
    (reply,) = send(world, request.filled(world))
    assert notebook.decisions == [expected]
    rejections = [(event.code, event.status) for event in notebook.events if event.name == "rejected"]
    assert rejections == ([(expected, reply.status)] if reply.status >= 400 else [])
    where = {(event.device, event.ip) for event in notebook.events}
    assert where <= {("", "203.0.113.7")}, "the address that the server reports"
