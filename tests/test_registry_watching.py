"""The registry and a store that reports endings; and what the warm path may do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rig import ALICE, Rig

from jwtguard.errors import StoreError
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- a store that reports --------------------------------------------------------------------------------------------------


class Reporter:
    """A store's power to report, whose first steps may fail."""

    def __init__(self) -> None:
        self.watches = 0
        self.looks = 0
        self.watch_error: StoreError | None = None
        self.look_error: StoreError | None = None
        self.while_beginning: Callable[[], None] = lambda: None
        self.ended: Callable[[bytes | None], None] = lambda _key: None

    def watch(self, ended: Callable[[bytes | None], None]) -> Callable[[], None]:
        self.watches += 1
        if self.watch_error:
            raise self.watch_error
        self.ended = ended
        self.while_beginning()
        return self.look

    def look(self) -> None:
        self.looks += 1
        if self.look_error:
            raise self.look_error


@pytest.fixture
def reporter() -> Reporter:
    return Reporter()


def test_a_first_look_that_fails_is_not_said_to_have_worked(reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch)
    reporter.look_error = StoreError("torn")
    for _ in range(3):
        rig.registry.look()
    assert rig.told == ["store_down"]
    reporter.look_error = None
    rig.registry.look()
    assert rig.told == ["store_down", "store_up"]


def test_a_store_that_can_not_report_is_not_looked_at(rig: Rig) -> None:
    rig.registry.look()
    assert rig.registry.recall(b"token") is None


def test_a_store_is_watched_at_first_use_and_looked_at_each_time(reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch)
    assert (reporter.watches, reporter.looks) == (0, 0)
    for number in range(1, 4):
        rig.registry.look()
        assert (reporter.watches, reporter.looks) == (1, number)


def test_a_token_that_is_not_known_is_not_worth_a_look(reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch)
    pair = rig.logged_in()
    looks = reporter.looks
    assert rig.registry.recall(b"garbage") is None
    assert reporter.looks == looks
    assert rig.recall(pair)
    assert reporter.looks == looks + 1


def test_a_store_that_reports_by_itself_is_watched_and_not_looked_at() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    here, there = Rig(store, clock, watch=store.watch), Rig(store, clock)
    pair = here.logged_in()
    assert here.recall(pair)
    assert here.registry._look is None
    assert there.revoke(pair)
    assert here.recall(pair) is None


def test_an_ending_that_is_reported_counts_at_once(reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch)
    pair = rig.logged_in()
    assert rig.recall(pair)
    reporter.ended(ALICE)
    assert rig.recall(pair) is None


def test_a_look_that_fails_leaves_the_leases_to_bound_it(reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(watch=reporter.watch)
    pair = rig.logged_in()
    reporter.look_error = StoreError("no descriptor")
    for _ in range(3):
        assert rig.recall(pair)
        rig.authenticate(pair)
        rig.do(rig.registry.lease(b"someone else"))
    rig.clock.advance(5)
    assert rig.recall(pair) is None
    reporter.look_error = None
    rig.registry.look()
    assert rig.told == ["store_down", "store_up"], "said once, although loads worked all the time"
    assert [record.getMessage() for record in caplog.records] == [
        "the store can't tell what has ended: StoreError: no descriptor",
        "the store can tell what has ended again",
    ]


def test_a_first_look_that_fails_is_tried_again(reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch)
    reporter.watch_error = StoreError("no such file")
    pair = rig.logged_in()
    assert rig.recall(pair)
    tries = reporter.watches
    assert tries > 1
    assert rig.told == ["store_down"]
    reporter.watch_error = None
    assert rig.recall(pair) is None, "it is from before the store began to report"
    rig.authenticate(pair)
    assert rig.recall(pair)
    assert reporter.watches == tries + 1
    assert rig.told == ["store_down", "store_up"]


def test_a_store_may_report_while_it_begins(reporter: Reporter) -> None:
    def report() -> None:
        for key in (None, ALICE):
            thread = threading.Thread(target=reporter.ended, args=(key,))
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
            reporter.ended(key)

    reporter.while_beginning = report
    rig = Rig(watch=reporter.watch)
    rig.registry.look()
    assert reporter.looks == 1


def test_threads_that_look_first_at_once_begin_once(reporter: Reporter) -> None:
    begun, gate = threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        gate.wait(30)

    reporter.while_beginning = begin
    rig = Rig(watch=reporter.watch)
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(rig.registry.look) for _ in range(4)]
        begun.wait(30)
        assert not any(look.done() for look in looks), "nobody goes on before the store reports"
        gate.set()
        for look in looks:
            look.result(30)
    assert (reporter.watches, reporter.looks) == (1, 4)


# -- the warm path ---------------------------------------------------------------------------------------------------------


class NoLock:
    def __enter__(self) -> None:
        raise AssertionError("the warm path takes a lock")

    def __exit__(self, *_: object) -> None: ...

    def acquire(self, *_: object) -> bool:
        raise AssertionError("the warm path takes a lock")

    perform = acquire


@pytest.mark.parametrize("reports", [False, True])
def test_c79_the_warm_path_takes_no_lock_asks_no_store_and_grows_nothing(reports: bool, reporter: Reporter) -> None:
    rig = Rig(watch=reporter.watch if reports else None)
    pair = rig.logged_in()
    rig.recall(pair)
    registry: Any = rig.registry
    registry._mutex = registry._watching = NoLock()
    rig.model.calls.clear()
    sizes = len(registry.table), len(registry._leases), len(registry._fills), registry.number
    for _ in range(1_000):
        identity = rig.recall(pair)
        assert identity is not None
        assert identity.session_id == pair.session_id
    assert rig.model.calls == []
    assert sizes == (len(registry.table), len(registry._leases), len(registry._fills), registry.number)
    with pytest.raises(AssertionError, match="takes a lock"):
        registry.ended(ALICE)


def test_each_answer_is_the_same_object_not_a_new_one(rig: Rig) -> None:
    pair = rig.logged_in()
    assert rig.recall(pair) is rig.recall(pair)


def test_a_registry_made_anew_knows_nothing(rig: Rig) -> None:
    pair = rig.logged_in()
    registry = rig.registry
    registry._mutex.__enter__()
    registry._renew()
    assert rig.recall(pair) is None
    assert (registry.number, registry.everyone) == (0, 0)
    assert rig.authenticate(pair).subject == "alice"
