"""The page as text, and who gets it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask

from jwtguard import AsyncGuard, ConfigError, Guard, Settings
from jwtguard.fastapi import install
from jwtguard.flask import JWTGuard
from jwtguard.model import Device, Session
from jwtguard.page import SessionsPage, page_answer, prefers_html, render
from jwtguard.stores.memory import MemoryStore

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
URL = "https://testserver"
HTML = {"Accept": "text/html"}


def session(name: str = "Firefox on Linux", ip: str | None = "192.0.2.1", **terms: Any) -> Session:
    times = {"created_at": 1_750_000_000, "last_seen_at": 1_750_000_060, "expires_at": 1_750_086_400}
    return Session("AAAAAAAAAAAAAAAAAAAAAA", "alice", Device(name, None, ip), (), **(times | terms))


class Outline(HTMLParser):
    """The tags of a page, and whether each that needs an end has one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_it_says_of_a_session() -> None:
    page = render(SessionsPage((session(current=True),)))
    assert "<bdi>Firefox on Linux</bdi>" in page
    assert "<bdi>192.0.2.1</bdi>" in page
    assert '<time datetime="2025-06-15T15:06:40Z">2025-06-15 15:06 UTC</time>' in page
    assert '<time datetime="2025-06-15T15:07:40Z">2025-06-15 15:07 UTC</time>' in page
    assert "Firefox on Linux, 192.0.2.1, signed in 2025-06-15 15:06 UTC</span></button>" in page
    assert "This device" in page
    assert 'value="current"' not in page  # there are no others


def test_what_is_not_known_is_said() -> None:
    page = render(SessionsPage((session("", None), session("curl"))))
    assert "<bdi>Unknown device</bdi>" in page
    assert "<bdi>unknown address</bdi>" in page
    assert 'value="current"' in page


@pytest.mark.parametrize("text", ["</style><script>x</script>", "\"' onclick=x", "{device} $title %s {0}", "&lt;", "<b>"])
def test_every_value_is_escaped(text: str) -> None:
    odd = session(text, text)
    plain = Outline(render(SessionsPage((session(),))))
    page = render(SessionsPage((odd,), home=text, action=text))
    found = Outline(page)
    assert (found.open, found.seen) == ([], plain.seen)
    assert text not in page or not re.search(r"[<>&\"']", text)


def test_the_policy_allows_its_own_style_and_nothing_else() -> None:
    answer = page_answer(SessionsPage())
    style = answer.body.decode().partition("<style>")[2].partition("</style>")[0]
    policy = dict(answer.headers)["Content-Security-Policy"]
    assert policy.endswith(f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'")
    assert "style=" not in answer.body.decode()


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        ("TEXT/HTML", True),
        ("text/html;level=1;q=0.4, application/json;q=0.3", True),
        ("text/html; charset=utf-8", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/html, application/json", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=0.5, application/json;q=0.6", False),
        ("text/htmlx", False),
    ],
)
def test_who_prefers_html(accept: str, preferred: bool) -> None:
    assert prefers_html(accept) is preferred


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_page_that_can_not_be_called_is_refused(kind: Any) -> None:
    async def awaits(page: SessionsPage) -> str:
        raise AssertionError

    for page, match in ((awaits, "page is an async function"), ("page.html", "page is of type str")):
        with pytest.raises(ConfigError, match=match):
            kind(Settings(secret=SECRET), page=page)


def page_of(page: SessionsPage) -> str:
    return f"<!doctype html>{len(page.sessions)}"


def test_flask() -> None:
    app = Flask(__name__)
    guard = JWTGuard(app, secret=SECRET, cookie="silent", public="/login", store=MemoryStore(), page=page_of)
    app.add_url_rule("/login", "login", lambda: guard.login("alice").session_id, methods=["POST"])
    with pytest.raises(ConfigError, match="'/auth/sessions' takes the place"):
        app.add_url_rule("/auth/sessions", "mine", lambda: "", methods=["POST"])
    client = app.test_client()
    client.post("/login", base_url=URL)
    assert client.get("/auth/sessions", base_url=URL, headers=HTML).text == "<!doctype html>1"
    done = client.post("/auth/sessions", base_url=URL, data={"keep": "none"})
    assert (done.status_code, done.headers["Location"]) == (303, "sessions")
    gone = client.get("/auth/sessions", base_url=URL, headers=HTML)
    assert (gone.status_code, gone.text) == (401, "<!doctype html>0")


def test_fastapi() -> None:
    app = FastAPI()
    guard = AsyncGuard(Settings(secret=SECRET, cookie="on", public="/login"), store=MemoryStore())

    @app.post("/login")
    async def login() -> str:
        return (await guard.login("alice")).session_id

    install(app, guard)
    assert app.openapi()["paths"]["/auth/sessions"].keys() == {"get", "delete"}
    client = TestClient(app, base_url=URL)
    session_id = client.post("/login").json()
    assert session_id in client.get("/auth/sessions", headers=HTML).text
    done = client.post("/auth/sessions", data={"end": session_id}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "sessions")
    gone = client.get("/auth/sessions", headers=HTML)
    assert (gone.status_code, gone.headers["content-type"]) == (401, "text/html; charset=utf-8")
