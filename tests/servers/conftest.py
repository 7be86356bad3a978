"""Fixtures for tests with real servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.serving import Server, Site, serving

Start = Callable[..., Server]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A secret and a place for a SQLite file."""
    return Site(tmp_path)


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Starts servers of the site: `start(*command)`. They are stopped when the test is over."""
    with ExitStack() as stack:
        yield lambda *command: stack.enter_context(serving(site, *command))
