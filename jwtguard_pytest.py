"""The pytest plugin: fixtures for tests of an app that jwtguard guards. See docs/testing.md.

pytest imports this in every run where jwtguard is installed, also in those of other projects. So it stands outside of the
package, which takes a sixth of a second to import, and imports that only for a test that asks for one of the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jwtguard import AsyncGuard, Guard
    from jwtguard.testing import MovableClock, User, World


@pytest.fixture(scope="session")
def jwtguard_world() -> World:
    """The store and the clock that the guard under test stands on: make the app with `jwtguard_world.arguments`, or inside
    `with jwtguard_world.patched():`."""
    from jwtguard.testing import World

    return World()


@pytest.fixture
def jwtguard_app() -> object:
    """The app under test: define a fixture of this name that returns it, of any scope."""
    raise pytest.UsageError(
        "which app? Define a fixture jwtguard_app that returns yours, with its guard made on the fixture jwtguard_world"
    )


@pytest.fixture
def jwtguard_guard(jwtguard_app: object) -> Guard | AsyncGuard:
    """The guard of the app under test. Define a fixture of this name where it can't be found in the app."""
    from jwtguard._world import guard_of

    return guard_of(jwtguard_app)


@pytest.fixture
def _jwtguard_here(jwtguard_world: World, jwtguard_guard: Guard | AsyncGuard) -> Iterator[World]:
    """The world, once it is known to be that of the app; empty again after the test."""
    jwtguard_world.check(jwtguard_guard)
    yield jwtguard_world
    jwtguard_world.reset()


@pytest.fixture
def jwtguard_as(_jwtguard_here: World, jwtguard_app: object, jwtguard_guard: Guard | AsyncGuard) -> Callable[..., User]:
    """Logs a user in: `jwtguard_as("alice", scopes=["read"])`, with the arguments of `Guard.login`. What it returns has
    `client`, `headers` and `pair`."""
    from jwtguard.testing import User

    def logged_in(subject: Any, **arguments: Any) -> User:
        return User.logged_in(jwtguard_guard, jwtguard_app, subject, **arguments)

    return logged_in


@pytest.fixture
def jwtguard_revoke(_jwtguard_here: World, jwtguard_guard: Guard | AsyncGuard) -> Callable[[Any], int]:
    """Ends all sessions of a user: `jwtguard_revoke("alice")`. Answers how many."""
    from jwtguard._world import apart, blocking

    return lambda subject: apart(lambda: blocking(jwtguard_guard).revoke_all(subject))


@pytest.fixture
def jwtguard_store_down(_jwtguard_here: World) -> Callable[[], AbstractContextManager[None]]:
    """Takes the store down: `with jwtguard_store_down(): ...`."""
    return _jwtguard_here.store_down


@pytest.fixture
def jwtguard_clock(_jwtguard_here: World) -> MovableClock:
    """The guard's clock: `jwtguard_clock.advance(31 * 60)`."""
    return _jwtguard_here.clock
