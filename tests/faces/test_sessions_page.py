"""The page "Your sessions" and its forms; through both faces and through Django."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from cookie_table import ACCESS, CLICK, OWN
from django_drivers import send_django_asgi, send_django_wsgi
from drivers import Reply, Request, send_asgi, send_wsgi
from world import World

from jwtguard.model import Device
from jwtguard.page import ENGLISH, SessionsPage, Text, render

Send = Callable[..., list[Reply]]

HTML = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
COOKIE = ("Cookie", f"{ACCESS}=<good>")
POLICY = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; style-src "

everywhere = pytest.mark.parametrize(
    "send",
    [send_wsgi, send_asgi, send_django_wsgi, send_django_asgi],
    ids=["wsgi", "asgi", "django-wsgi", "django-asgi"],
)


def world(mode: str = "on", **hooks: Any) -> World:
    found = World({"cookie": mode}, **hooks)
    found.made("second")
    found.made("bob")
    return found


def ask(send: Send, world: World, *headers: tuple[str, str], body: str = "") -> Reply:
    request = Request("POST" if body else "GET", "/auth/sessions", (HTML, *headers), body.encode())
    return send(world, request.filled(world))[0]


def post(send: Send, world: World, body: str, *headers: tuple[str, str]) -> Reply:
    return ask(send, world, COOKIE, FORM, *(headers or OWN), body=body)


def left(world: World, *users: str) -> list[str]:
    return [session.id for user in users for session in world.past.sessions(user)]


@everywhere
@pytest.mark.parametrize("mode", ["on", "silent"])
def test_a_browser_is_shown_the_page(send: Send, mode: str) -> None:
    known = world(mode)
    reply = ask(send, known, COOKIE, *CLICK)
    assert reply.status == 200
    assert re.findall(r'name="(end|keep)" value="([^"]+)"', reply.body.decode()) == [
        ("end", known.made("second-sid")),
        ("end", known.made("sid")),
        ("keep", "current"),
        ("keep", "none"),
    ]
    assert reply.body.count(b"This device") == 1
    assert reply.body.index(b"This device") > reply.body.index(known.made("second-sid").encode())
    assert known.made("bob-sid").encode() not in reply.body
    assert re.fullmatch(re.escape(POLICY) + r"'sha256-[A-Za-z0-9+/]{43}='", reply.header("content-security-policy") or "")
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("referrer-policy") == "same-origin"


@everywhere
def test_a_program_gets_json_and_so_does_a_site_without_cookies(send: Send) -> None:
    known = world()
    for request in (
        Request("GET", "/auth/sessions", (COOKIE,)),
        Request("GET", "/auth/sessions", (COOKIE, ("Accept", "application/json, text/html"))),
    ):
        assert len(send(known, request.filled(known))[0].json()) == 2
    plain = World()
    bearer = ("Authorization", "Bearer <good>")
    assert len(ask(send, plain, bearer).json()) == 1
    assert ask(send, plain, bearer, FORM, body="keep=none").seen[0].subject == "alice"
    assert ask(send, plain).json()["code"] == "token_missing"


@everywhere
@pytest.mark.parametrize(
    ("body", "names", "is_out"),
    [
        ("end=<second-sid>", ["sid", "bob-sid"], False),
        ("end=<sid>", ["second-sid", "bob-sid"], True),
        ("keep=current", ["sid", "bob-sid"], False),
        ("keep=none", ["bob-sid"], True),
    ],
)
def test_c47_the_forms(send: Send, body: str, names: list[str], is_out: bool) -> None:
    known = world()
    reply = post(send, known, body)
    assert (reply.status, reply.header("location"), reply.body) == (303, "sessions", b"")
    assert reply.header("cache-control") == "no-store"
    assert left(known, "alice", "bob") == [known.made(name) for name in names]
    removed = [value for name, value in reply.headers if name == "set-cookie" and "max-age=0" in value.lower()]
    assert len(removed) == (2 if is_out else 0)


@everywhere
@pytest.mark.parametrize("body", ["end=<bob-sid>", "end=<revoked-sid>", "end=x", "end=%E2%98%83", "end=%ff"])
def test_c45_what_is_not_theirs_is_not_there(send: Send, body: str) -> None:
    known = world()
    reply = post(send, known, body)
    assert reply.status == 404
    assert b"This session is over" in reply.body
    assert len(left(known, "alice", "bob")) == 3


@everywhere
@pytest.mark.parametrize(
    "body",
    ["end=", "end", "keep=all", "keep=", "x=1", "end=<sid>&end=<second-sid>", "keep=none&x=1", "end=\xe9", "keep=none;"],
)
def test_a_form_that_is_not_the_pages_ends_nothing(send: Send, body: str) -> None:
    known = world()
    reply = post(send, known, body)
    assert (reply.status, reply.json()["code"]) == (400, "request_invalid")
    assert len(left(known, "alice")) == 2


@everywhere
def test_only_a_form_is_read(send: Send) -> None:
    known = world()
    for kind in ("text/plain", "application/json", ""):
        reply = ask(send, known, COOKIE, ("Content-Type", kind), *OWN, body="keep=none")
        assert (reply.status, reply.json()["code"]) == (400, "request_invalid")
    assert post(send, known, "x=" + "y" * 20_000).json()["code"] == "body_too_large"
    assert len(left(known, "alice")) == 2


@everywhere
@pytest.mark.parametrize("headers", [(("Sec-Fetch-Site", "cross-site"),), (("Origin", "https://evil.example"),)], ids=str)
def test_c65_a_form_of_another_site_ends_nothing(send: Send, headers: tuple[tuple[str, str], ...]) -> None:
    known = world()
    for body in ("keep=none", "keep=current", "end=<sid>"):
        reply = post(send, known, body, *headers)
        assert (reply.status, reply.json()["code"]) == (403, "csrf")
    assert len(left(known, "alice")) == 2


@everywhere
def test_whoever_is_signed_out_is_told(send: Send) -> None:
    """With the status and the challenge of the refusal, on a page."""
    known = world()
    for cookie, error in ((), ""), ((("Cookie", f"{ACCESS}=<revoked>"),), ', error="invalid_token"'):
        reply = ask(send, known, *cookie)
        assert (reply.status, reply.header("www-authenticate")) == (401, f'Bearer realm="jwtguard"{error}')
        assert reply.header("content-type") == "text/html; charset=utf-8"
        assert reply.header("cache-control") == "no-store"
        assert b"<h1>You are signed out</h1>" in reply.body
        assert b'<a href="../">' in reply.body
    assert ask(send, known, FORM, *OWN, body="keep=none").status == 401


@everywhere
def test_a_store_that_is_down_is_told(send: Send) -> None:
    known = world()
    known.made("good")
    known.store.down = True
    reply = ask(send, known, COOKIE)
    assert (reply.status, reply.header("content-type")) == (503, "text/html; charset=utf-8")
    assert reply.header("retry-after") is not None
    assert b"Try again later" in reply.body
    assert b"hunter2" not in reply.body


@everywhere
def test_nothing_of_a_device_becomes_html(send: Send) -> None:
    known = World({"cookie": "on"})
    known.login(device=Device("<script>alert(1)</script>", None, "\"><img src=x onerror='alert(1)'>"))
    reply = ask(send, known, COOKIE)
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in reply.body
    assert not re.search(rb"<(script|img)", reply.body)


GERMAN = Text(lang="de", title="Ihre Sitzungen", end="Abmelden", time="%d.%m.%Y, %H:%M UTC")


def in_their_language(page: SessionsPage) -> str:
    return render(page, GERMAN if page.languages.startswith("de") else ENGLISH)


@everywhere
def test_another_page(send: Send) -> None:
    known = world(page=in_their_language)
    reply = ask(send, known, COOKIE, ("Accept-Language", "de-AT, de;q=0.9"))
    assert b'<html lang="de">' in reply.body
    assert b"<h1>Ihre Sitzungen</h1>" in reply.body
    assert reply.header("content-security-policy") == POLICY + "'self'; img-src 'self'; font-src 'self'"
    assert b'<html lang="en">' in ask(send, known, COOKIE).body


def broken(page: SessionsPage) -> str:
    raise RuntimeError("the template is broken")


@everywhere
@pytest.mark.parametrize("hook", [broken, lambda page: None, lambda page: "\ud800", lambda page: ""])
def test_where_another_page_fails_there_is_the_usual_one(send: Send, hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    known = world(page=hook)
    reply = ask(send, known, COOKIE)
    assert b"<h1>Your sessions</h1>" in reply.body
    assert "'sha256-" in (reply.header("content-security-policy") or "")
    assert ask(send, known).status == 401


@everywhere
def test_the_way_home_from_deeper_down(send: Send) -> None:
    known = World({"cookie": "on", "endpoints": "/account/auth"})
    request = Request("GET", "/account/auth/sessions", (HTML, COOKIE))
    assert b'<a href="../../">' in send(known, request.filled(known))[0].body
