"""Fixtures for tests with real servers."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers.serving import Server, Site, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Start = Callable[..., Server]
MakeSite = Callable[..., Site]

REMOTE = {"redis": "redis_server", "cluster": "redis_cluster", "postgresql": "postgres"}
"""Stores that are servers, and the fixtures that start them."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A secret and a place for a SQLite file."""
    return Site(tmp_path)


@pytest.fixture
def site_on(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSite:
    """Makes a site on a kind of store: `site_on(kind, **settings)`. Its issuer keeps it apart from what else is there."""

    def make(kind: str, **settings: str) -> Site:
        if kind in REMOTE:
            server = request.getfixturevalue(REMOTE[kind])
            url = server.url() if callable(server.url) else server.url
            settings |= {"store": url, "issuer": secrets.token_hex(8)}
        return Site(tmp_path, **settings)

    return make


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Starts servers of the site: `start(*command)`. They are stopped when the test is over."""
    with ExitStack() as stack:
        yield lambda *command: stack.enter_context(serving(site, *command))


@pytest.fixture(scope="module")  # Playwright's event loop counts as running meanwhile, so other modules' couldn't
def browser() -> Iterator[Browser]:
    """A real Chromium, by Playwright. A test takes a context of its own: `browser.new_context()`."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"there is no Chromium on this machine: none of {', '.join(CHROMIUM)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield found
        found.close()
