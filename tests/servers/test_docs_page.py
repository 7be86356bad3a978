"""FastAPI's OpenAPI page in a real browser: Authorize, then use what has a lock."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from servers.conftest import Start
from servers.serving import uvicorn

pytestmark = pytest.mark.servers


def operation(page: Page, path: str) -> str:
    """Open the GET operation of a path, and let it be tried out. Answers its id."""
    block = page.locator(".opblock-get").filter(has=page.locator(f"[data-path='{path}']"))
    name = block.get_attribute("id")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return f"#{name}"


def executed(page: Page, block: str) -> tuple[str, str]:
    """The status and the body that an operation comes to."""
    with page.expect_response(lambda response: response.request.resource_type == "fetch") as answered:
        page.locator(block).get_by_role("button", name="Execute").click()
    status = answered.value.status
    expect(page.locator(f"{block} .live-responses-table .response-col_status").nth(1)).to_contain_text(str(status))
    return str(status), answered.value.text()


def test_authorize_and_use_it(browser: Browser, start: Start) -> None:
    server = start(*uvicorn("servers.docs_app:app", workers=1))
    with server.client() as client:
        token = client.login()["access_token"]
    page = browser.new_page()
    page.goto(f"{server.url}/docs")
    locks = page.locator(".opblock:has(.authorization__btn) [data-path]")
    expect(locks).not_to_have_count(0)
    locked = {lock.get_attribute("data-path") for lock in locks.all()}
    assert locked == {"/me", "/admin", "/stream", "/auth/logout", "/auth/sessions", "/auth/sessions/{id}"}
    me = operation(page, "/me")
    assert executed(page, me)[0] == "401"
    page.locator(".auth-wrapper .authorize").click()
    dialog = page.locator(".dialog-ux")
    dialog.locator("input").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    status, body = executed(page, me)
    assert (status, json.loads(body)["sub"]) == ("200", "alice")
    assert executed(page, operation(page, "/admin"))[0] == "403"
    assert executed(page, operation(page, "/auth/sessions"))[0] == "200"
