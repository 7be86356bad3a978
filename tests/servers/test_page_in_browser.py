"""The page "Your sessions" in a real Chromium: two devices, one of which signs the other out; what axe-core says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers.serving import Server, Site, gunicorn, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.servers

COMMANDS = {
    "asgi": ("uvicorn", "--factory", "--port", "{port}", "--no-access-log", "servers.pages:create_asgi"),
    "wsgi": gunicorn("servers.pages:create_wsgi()", workers=1),
}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1"
)
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 800, "height": 620}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 800, "height": 620}},
    "phone": {"color_scheme": "light", "viewport": {"width": 320, "height": 720}},
}
PICTURES = os.environ.get("JWTGUARD_PICTURES")
"""A folder, to draw the pictures of docs/page anew."""


@pytest.fixture(params=COMMANDS)
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[Server]:
    site.settings |= {"cookie": "silent"}
    with serving(site, *COMMANDS[request.param]) as found:
        yield found


Visit = Callable[..., "Page"]


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    """A page of a browser of its own, on the sessions page: `visit(user_agent=…)`."""
    contexts = []

    def begin(*, script: bool = False, **terms: object) -> Page:
        context = browser.new_context(base_url=f"http://localhost:{server.port}", java_script_enabled=script, **terms)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.goto("/")
        page.click("text=Log in")
        page.wait_for_url("**/home")
        page.goto("/auth/sessions")
        return page

    yield begin
    for context in contexts:
        context.close()


def names(page: Page) -> list[str]:
    return [button.text_content() or "" for button in page.get_by_role("button").all()]


def test_one_device_signs_the_other_out(visit: Visit) -> None:
    """Without any script, and the other is out at its next click."""
    phone = visit(user_agent=PHONE)
    desk = visit(user_agent=FIREFOX)
    devices = [heading.text_content() for heading in desk.get_by_role("heading", level=2).all()]
    assert devices == ["Firefox on Linux This device", "Safari on iPhone"]
    desk.get_by_role("button", name="Sign out Safari on iPhone, 127.0.0.1").click()
    desk.wait_for_url("**/auth/sessions")
    assert desk.get_by_role("heading", level=2).all_text_contents() == ["Firefox on Linux This device"]
    refused = phone.goto("/home")
    assert refused is not None
    assert (refused.status, refused.json()["code"]) == (401, "session_revoked")
    phone.goto("/auth/sessions")
    assert phone.get_by_role("heading", level=1).text_content() == "You are signed out"


def test_sign_out_the_others_then_everywhere(visit: Visit) -> None:
    first, second, third = visit(), visit(), visit()
    second.reload()
    second.get_by_role("button", name="Sign out all other devices").click()
    assert len(second.get_by_role("listitem").all()) == 1
    for other in (first, third):
        other.reload()
        assert other.get_by_role("heading", level=1).text_content() == "You are signed out"
    second.get_by_role("button", name="Sign out everywhere, here too").click()
    assert second.get_by_role("heading", level=1).text_content() == "You are signed out"
    assert second.context.cookies() == []
    second.get_by_role("link", name="Back to the site").click()
    assert second.url.endswith("/")
    assert second.title() == "login"


def test_a_click_on_what_is_gone_is_explained(visit: Visit) -> None:
    one, two = visit(), visit(user_agent=FIREFOX)
    one.reload()
    two.get_by_role("button", name="Sign out Firefox on Linux").click()
    one.get_by_role("button", name="Sign out Firefox on Linux").click()
    assert one.get_by_role("heading", level=1).text_content() == "This session is over"
    one.get_by_role("link", name="Your sessions").click()
    assert len(one.get_by_role("listitem").all()) == 1


def test_by_the_keyboard_alone(visit: Visit) -> None:
    one, two = visit(user_agent=PHONE), visit(user_agent=FIREFOX)
    two.keyboard.press("Tab")
    two.keyboard.press("Tab")
    assert "Safari on iPhone" in (two.locator(":focus").text_content() or "")
    with two.expect_navigation():
        two.keyboard.press("Enter")
    assert len(two.get_by_role("listitem").all()) == 1
    one.reload()
    assert one.get_by_role("heading", level=1).text_content() == "You are signed out"


@contextmanager
def watched(page: Page) -> Iterator[None]:
    """Nothing is told on the console meanwhile: a policy that keeps the page from its own style would be."""
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    yield
    assert told == []


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(visit: Visit, look: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    visit(user_agent=PHONE)
    page = visit(script=True, user_agent=FIREFOX, **LOOKS[look])  # which axe-core is
    with watched(page):
        page.reload()
    width = LOOKS[look]["viewport"]["width"]  # type: ignore[index]
    assert page.locator("html").evaluate("root => root.scrollWidth") <= width
    assert page.locator("main").evaluate("main => getComputedStyle(main).maxWidth") != "none"  # its style is applied
    assert len(set(names(page))) == len(names(page)) == 4
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{look}.png")
    for _ in range(2):
        found = Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        page.context.clear_cookies()
        page.reload()  # then the page of who is signed out
