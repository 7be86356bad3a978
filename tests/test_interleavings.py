"""Every interleaving of fills, endings, rotations and evictions. Enumerated, not sampled.

Each actor is a flow that is driven step by step: one step performs a need against the store, the next hands the result to
the flow, so that what others do may fall between what was read and what becomes of it. All orders of all steps are run,
from the beginning each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from documents import fresh, moment, saved
from orders import CLOCK, FIRST, NOW, ONE_SESSION, SECOND, SID, Actor, Once, Scenario, World, every_order, used
from rig import ALICE, ModelStore, Rig

from jwtguard import registry as registry_module
from jwtguard.commits import Committer
from jwtguard.document import Document, decode, encode
from jwtguard.errors import StoreError, StoreUnavailable
from jwtguard.flow import Flow, Save
from jwtguard.push import Epoch
from jwtguard.recall import Lease, Leases
from jwtguard.registry import Registry
from jwtguard.stores.base import Loaded
from jwtguard.testing import FakeClock
from jwtguard.tokens import text_of_id
from jwtguard.transitions import end_one, open_session, rotate

pytestmark = pytest.mark.exhaustive

# -- the scenarios ---------------------------------------------------------------------------------------------------------


def revoke(rig: Rig) -> Flow[Any]:
    return rig.operations.revoke("alice", text_of_id(SID))


def revoke_all(rig: Rig) -> Flow[Any]:
    return rig.operations.revoke_all("alice")


def revoke_everyone(rig: Rig) -> Flow[Any]:
    return rig.operations.revoke_everyone()


def login_elsewhere(rig: Rig) -> Flow[Any]:
    """A login that takes the session's place, as there is room for one."""
    opening = partial(open_session, session=fresh(2), limit=1)
    return rig.committer.commit(ALICE, "alice", opening)


def replay(rig: Rig) -> Flow[Any]:
    """An old refresh token comes back: theft."""
    rotating = partial(rotate, session_id=SID, generation=0, key_id="keyid-01")
    return rig.committer.commit(ALICE, "alice", rotating)


def two_fills(ending: Callable[[Rig], Flow[Any]], **settings: Any) -> World:
    world = World(**settings)
    world.fill(after=world.fill())
    world.ending(ending)
    return world


def with_rotation(**settings: Any) -> World:
    world = World(size=1, **settings)
    world.fill()
    world.ending(revoke)
    world.rotation()
    world.push_out()
    return world


def with_push_out(**settings: Any) -> World:
    """Two fills, a lease pushed out, and an ending."""
    world = World(size=1, **settings)
    world.fill(after=world.fill())
    world.ending(revoke)
    world.push_out()
    return world


def of_everyone(**settings: Any) -> World:
    """What holds for everyone is too old to go by, so that every fill loads it first."""
    world = World(**settings)
    world.registry._everyone_at = float("-inf")
    world.fill()
    world.ending(revoke_everyone)
    return world


def two_endings(**settings: Any) -> World:
    world = World(**settings)
    world.fill()
    world.ending(revoke)
    world.ending(revoke_all)
    return world


def from_elsewhere(fills: int, reads: int, **settings: Any) -> World:
    """Another process ends the session, and the store reports it to whoever looks."""
    reports: list[bytes | None] = []

    def watch(ended: Callable[[bytes | None], None]) -> Callable[[], None]:
        def look() -> None:
            while reports:
                ended(reports.pop())

        return look

    world = World(watch=watch, **settings)
    world.sees_endings_at_once = False
    world.is_over = lambda: world.store.documents[ALICE][1] != b"version0"

    def end_it() -> None:
        document = saved(end_one(decode(ONE_SESSION, "alice"), moment(NOW), session_id=SID))
        world.store.swap(ALICE, encode(document), b"version0", b"version1")
        reports.append(ALICE)

    def read() -> None:
        assert world.registry.recall(FIRST) is None or not world.over, "an ended session was let in"

    twin: Actor | None = None
    for _ in range(fills):
        twin = world.fill(after=twin)
    world.actors += [Once(end_it), Once(world.registry.look), *[Once(read)] * reads]
    return world


class _LateStore(ModelStore):
    """A store whose first save is answered with an error, and lands later, or never."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.in_flight: list[tuple[Any, ...]] = []
        self.failed = False

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        if not self.failed:
            self.failed = True
            self.in_flight.append((key, data, expected, version))
            raise StoreError("no answer in time")
        return super().save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    def land(self) -> None:
        self.swap(*self.in_flight.pop())


def landing_late(ending: Callable[[Rig], Flow[Any]], **settings: Any) -> World:
    """A save without an answer takes effect at any later time, also when it has been tried again."""
    world = World(**settings)
    store = _LateStore(CLOCK)
    store.documents = world.store.documents
    world.store = world.rig.model = world.rig.store = store
    world.fill()
    world.ending(ending)
    world.actors.append(Once(store.land, when=lambda: bool(store.in_flight)))
    return world


def cancelled_fill(**settings: Any) -> World:
    """One of two fills is cancelled, at any time."""
    world = World(**settings)
    first = world.fill()
    world.fill()
    world.ending(revoke)
    world.actors.append(Once(first.cancel, when=lambda: first.running))
    return world


def failed_load(**settings: Any) -> World:
    """One load fails, whichever it is."""
    world = World(**settings)
    world.fill(after=world.fill(after=world.fill()))

    def fail_once(_key: bytes) -> None:
        world.store.on_load = lambda _key: None
        raise StoreError("down for a moment")

    def begin_to_fail() -> None:
        world.store.on_load = fail_once

    world.may_fail_with = (StoreUnavailable,)
    world.actors.append(Once(begin_to_fail))
    return world


def newer_generation(**settings: Any) -> World:
    """The session was rotated elsewhere; here the first generation is cached, and the second comes."""
    world = World(**settings)
    world.rig.do(world.rig.authenticator.authenticate(FIRST))
    rotating = partial(rotate, session_id=SID, generation=1, key_id="keyid-01")
    rotated = saved(rotating(decode(ONE_SESSION, "alice"), moment(NOW)))
    world.store.documents[ALICE] = (encode(used(rotated)), b"version1")
    world.fill(SECOND)
    world.fill()
    world.ending(revoke)
    return world


SCENARIOS: dict[str, Scenario] = {
    "two fills, revoke": partial(two_fills, revoke),
    "two fills, revoke all": partial(two_fills, revoke_all),
    "two fills, revoke everyone": partial(two_fills, revoke_everyone),
    "two fills, eviction by a login": partial(two_fills, login_elsewhere),
    "two fills, reuse": partial(two_fills, replay),
    "fill, revoke, rotate, push-out": with_rotation,
    "two fills, revoke, push-out": with_push_out,
    "fill of everyone, revoke everyone": of_everyone,
    "fill, revoke, revoke all": two_endings,
    "two fills, ended elsewhere, look": partial(from_elsewhere, 2, 0),
    "fill, ended elsewhere, look, two reads": partial(from_elsewhere, 1, 2),
    "fill, eviction that lands late": partial(landing_late, login_elsewhere),
    "fill, cancelled fill, revoke": cancelled_fill,
    "three fills, a failing load": failed_load,
    "two fills of two generations, revoke": newer_generation,
}


@pytest.fixture(autouse=True)
def _no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("jwtguard"), "disabled", True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_order_lets_an_ended_session_in_or_leaves_anything_behind(name: str) -> None:
    orders = every_order(SCENARIOS[name])
    assert orders > 30


# -- the check can fail ----------------------------------------------------------------------------------------------------


class PublishesStaleFills(Registry):
    def _kill(self, leases: list[bytes], flights: list[bytes]) -> None:
        super()._kill(leases, [])


class KeepsThemAlive(Leases):
    def push_out(self, leases: dict[bytes, Lease]) -> None: ...


class LetsPushedOutLeasesLive(Registry):
    def _renew(self) -> None:
        super()._renew()
        self._leases = KeepsThemAlive(self._size)


class LetsReplacedLeasesLive(Registry):
    def _publish(
        self, key: bytes, flight: registry_module._Fill, loaded: Loaded, began: float, epoch: Epoch | None
    ) -> Lease:
        self._leases.pop(key)
        return super()._publish(key, flight, loaded, began, epoch)


class TrustsOneInvalidation(Registry):
    def ended(self, key: bytes | None) -> None:
        if not getattr(self, "told", False):
            self.told = True
            super().ended(key)


class NeverLooks(Registry):
    def look(self) -> None: ...


class InvalidatesBeforeItSaves(Committer):
    def _save(self, key: bytes, expected: bytes | None, document: Document, ends: bool) -> Flow[bool]:
        self._registry.ended(key)
        saved: bool = yield Save(key, encode(document), expected=expected, version=b"version1", expires_at=0, ends=ends)
        return saved


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("two fills, revoke", {"registry": PublishesStaleFills}),
        ("two fills, revoke everyone", {"registry": PublishesStaleFills}),
        ("two fills, revoke, push-out", {"registry": LetsPushedOutLeasesLive}),
        ("two fills of two generations, revoke", {"registry": LetsReplacedLeasesLive}),
        ("fill, eviction that lands late", {"registry": TrustsOneInvalidation}),
        ("two fills, ended elsewhere, look", {"registry": NeverLooks}),
        ("fill, ended elsewhere, look, two reads", {"registry": NeverLooks}),
        ("two fills, eviction by a login", {"committer": InvalidatesBeforeItSaves}),
        ("two fills, reuse", {"committer": InvalidatesBeforeItSaves}),
    ],
)
def test_what_is_broken_is_found(name: str, broken: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"ended session|before the ending|after it all"):
        every_order(SCENARIOS[name], **broken)
