"""Cookie mode in a real Chromium: over plain http on this machine, in two tabs that race, against other sites' pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from servers.serving import Server, Site, gunicorn, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.servers

ROUNDS = 50
FETCH = "window.answers = Promise.all([1, 2, 3].map(() => fetch('/home').then(answer => answer.status))); 0"
ABORT = "const abort = new AbortController(); fetch('/home', {signal: abort.signal}).catch(() => 0); abort.abort(); 0"
COMMANDS = {
    "asgi": ("uvicorn", "--factory", "--port", "{port}", "--no-access-log", "servers.pages:create_asgi"),
    "wsgi": gunicorn("servers.pages:create_wsgi()", workers=1),
}


@pytest.fixture(params=COMMANDS)
def visit(request: pytest.FixtureRequest, site: Site) -> Iterator[Callable[..., Server]]:
    """Starts the site in this cookie mode: `visit("silent")`."""
    with ExitStack() as stack:

        def start(mode: str, **settings: str) -> Server:
            site.settings |= {"cookie": mode, **settings}
            return stack.enter_context(serving(site, *COMMANDS[request.param]))

        yield start


@contextmanager
def signed_in(browser: Browser, server: Server, host: str = "localhost") -> Iterator[Page]:
    """A page of a browser of its own, signed in."""
    context = browser.new_context(base_url=f"http://{host}:{server.port}")
    try:
        page = context.new_page()
        page.goto("/")
        page.click("text=Log in")
        page.wait_for_url("**/home")
        assert page.text_content("p") == "alice"
        yield page
    finally:
        context.close()


def later(server: Server) -> None:
    """All access tokens have run out."""
    with server.client() as client:
        assert client.http.post("/clock").status_code == 204


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1"])
def test_c63_a_browser_keeps_the_cookies_over_plain_http(visit: Callable[..., Server], browser: Browser, host: str) -> None:
    server = visit("on")
    with signed_in(browser, server, host) as page:
        kept = {cookie["name"]: cookie for cookie in page.context.cookies(f"http://{host}:{server.port}/auth/refresh")}
        assert kept.keys() == {"__Host-jwtguard", "__Secure-jwtguard-refresh"}
        assert all(cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Lax" for cookie in kept.values())
        assert page.evaluate("document.cookie") == ""
        later(server)
        assert page.evaluate("fetch('/home').then(answer => answer.status)") == 401
        told = page.evaluate("fetch('/auth/refresh', {method: 'POST'}).then(answer => answer.json())")
        assert told.keys() == {"expires_in", "session_id"}
        assert page.evaluate("fetch('/home').then(answer => answer.status)") == 200
        page.click("text=Log out")
        assert page.context.cookies() == []
    assert len(server.lines_with("cookies over plain http")) == 1


def test_two_tabs_race_a_renewal_and_nobody_is_signed_out(visit: Callable[..., Server], browser: Browser) -> None:
    server = visit("silent")
    with signed_in(browser, server) as one:
        two = one.context.new_page()
        two.goto("/home")
        for number in range(ROUNDS):
            later(server)
            if number % 10 == 9:
                one.evaluate(FETCH)
                two.goto("/home")
                assert two.text_content("p") == "alice"
                assert one.evaluate("window.answers") == [200, 200, 200]
            else:
                for tab in (one, two):
                    tab.evaluate(FETCH)
                assert [tab.evaluate("window.answers") for tab in (one, two)] == [[200, 200, 200]] * 2


def test_an_aborted_navigation_signs_nobody_out(visit: Callable[..., Server], browser: Browser) -> None:
    server = visit("silent")
    with signed_in(browser, server) as page:
        for _ in range(5):
            later(server)
            page.evaluate(ABORT)
            page.evaluate("location.href = '/home'; window.stop(); 0")
        tab = page.context.new_page()  # in its own, what was stopped may still stop what comes next
        tab.goto("/home")
        assert tab.text_content("p") == "alice"


@contextmanager
def another_site(action: str) -> Iterator[int]:
    """The port of a site whose page posts to another one."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><form method=post action={action}><button>Win</button></form>".encode())

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield other.server_address[1]
        finally:
            other.shutdown()
            thread.join()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("path", ["/auth/logout", "/login"])
def test_c65_c67_a_form_of_another_site_is_refused(
    visit: Callable[..., Server], browser: Browser, host: str, path: str
) -> None:
    """From another port of the same host the cookies come along: what refuses it is what the browser says of its origin."""
    server = visit("on")
    with signed_in(browser, server) as page, another_site(f"http://localhost:{server.port}{path}") as port:
        before = page.context.cookies()
        page.goto(f"http://{host}:{port}/")
        with page.expect_response(f"**{path}") as refused:
            page.click("text=Win")
        assert (refused.value.status, refused.value.json()["code"]) == (403, "csrf")
        sent = refused.value.request.all_headers()
        assert sent["sec-fetch-site"] == ("same-site" if host == "localhost" else "cross-site")
        assert ("__Host-jwtguard=" in sent.get("cookie", "")) == (host == "localhost")
        assert page.context.cookies() == before
        page.goto(f"http://localhost:{server.port}/home")
        assert page.text_content("p") == "alice"


def test_c65_a_form_of_a_trusted_origin_gets_through(visit: Callable[..., Server], browser: Browser) -> None:
    with another_site("/auth/logout") as port:
        server = visit("on", trusted_origins=f"http://localhost:{port}")
        with signed_in(browser, server) as page:
            page.goto(f"http://localhost:{port}/")
            page.evaluate(f"document.forms[0].action = 'http://localhost:{server.port}/auth/logout'")
            with page.expect_response("**/auth/logout") as done:
                page.click("text=Win")
            assert done.value.status == 204
            assert page.context.cookies() == []
