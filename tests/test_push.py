"""Announcements: what a process does with those that arrive, and with those that may not have."""

from __future__ import annotations

import gc
import logging
import os
import queue
import threading
from collections.abc import Generator
from typing import Any
from weakref import WeakMethod

import pytest
from rig import ALICE, DOWN, EVERYONE, ModelStore, Rig, always

from jwtguard.errors import SessionRevoked, StoreError, StoreUnavailable
from jwtguard.health import Health
from jwtguard.model import Coherence
from jwtguard.push import FIRST_PAUSE, LONGEST_PAUSE, Channel, Epoch, _Listener
from jwtguard.registry import LONGEST
from jwtguard.stores.base import Heard
from jwtguard.telemetry import Telemetry
from jwtguard.testing import FakeClock

PATIENCE = 60.0
TTL = 5.0


class Announcer(ModelStore):
    """A store whose announcements the test makes. `say` returns when what was said has been taken in."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.sayings: queue.Queue[Any] = queue.Queue()
        self.began = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self.listeners = 0

    def changes(self) -> Generator[bytes | Heard]:
        self.listeners += 1
        self.began.release()
        try:
            while (saying := self.sayings.get(timeout=PATIENCE)) is not None:
                if isinstance(saying, Exception):
                    raise saying
                yield saying
                self.sayings.task_done()
        finally:
            self.sayings.task_done()
            self.closed.release()

    def say(self, *sayings: Any) -> None:
        for saying in sayings:
            self.sayings.put(saying)
        self.sayings.join()

    def hear(self) -> None:
        """All that was said has arrived by now."""
        self.say(Heard(self.clock.monotonic()))

    def break_off(self, error: Exception | None = None) -> None:
        """What goes wrong has been noticed, and somebody listens anew, when this returns."""
        self.say(error)
        self.await_listener()

    def await_listener(self) -> None:
        assert self.began.acquire(timeout=PATIENCE)


class Told:
    """Who is told of endings."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []

    def ended(self, key: bytes | None) -> None:
        self.keys.append(key)


class Channelled:
    """A channel alone."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Announcer(self.clock)
        self.told = Told()
        changed = self.changed = list[str]()
        telemetry = Telemetry(self.clock, [lambda event: changed.append(event.name)])
        health = Health("listen", telemetry, self.clock.monotonic, quiet=0)
        self.channel = Channel(self.store, self.told.ended, health)

    def begin(self) -> None:
        self.channel.begin()
        self.store.await_listener()

    def epoch(self) -> Epoch | None:
        return self.channel.epoch

    def close(self) -> None:
        self.store.sayings.put(Heard(0.0))
        self.channel.close()


@pytest.fixture
def alone() -> Generator[Channelled]:
    channelled = Channelled()
    yield channelled
    channelled.close()


# -- the channel -----------------------------------------------------------------------------------------------------------


def test_nothing_is_listened_to_before_the_first_use(alone: Channelled) -> None:
    before = threading.active_count()
    assert alone.epoch() is None
    assert (alone.store.listeners, threading.active_count()) == (0, before)
    alone.begin()
    alone.channel.begin()
    assert (alone.store.listeners, threading.active_count()) == (1, before + 1)


def test_an_epoch_begins_with_the_first_word_of_the_store(alone: Channelled) -> None:
    alone.begin()
    assert alone.epoch() is None, "who listens isn't yet heard"
    alone.store.say(Heard(7.0))
    epoch = alone.epoch()
    assert epoch is not None
    assert epoch.heard == 7.0
    alone.store.say(Heard(9.0), Heard(8.0))
    assert alone.epoch() is epoch
    assert epoch.heard == 9.0, "it never goes back"


def test_endings_are_passed_on_in_order(alone: Channelled) -> None:
    alone.begin()
    alone.store.say(Heard(1.0), b"a", b"b", Heard(2.0), b"a")
    assert alone.told.keys == [b"a", b"b", b"a"]


@pytest.mark.parametrize("error", [StoreError("cut"), None])
def test_after_a_gap_there_is_another_epoch(
    error: StoreError | None, alone: Channelled, caplog: pytest.LogCaptureFixture
) -> None:
    alone.begin()
    alone.store.say(Heard(1.0))
    before = alone.epoch()
    alone.store.break_off(error)
    assert alone.epoch() is None
    alone.store.say(Heard(2.0))
    assert alone.epoch() not in (None, before)
    assert before is not None
    assert before.heard == 1.0
    assert alone.changed == ["push_down", "push_up"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_store_that_stays_silent_is_said_once(alone: Channelled, caplog: pytest.LogCaptureFixture) -> None:
    alone.begin()
    for _ in range(4):
        alone.store.break_off(StoreError("refused"))
    listener = alone.channel._listener
    assert listener is not None
    assert FIRST_PAUSE < listener._pause <= LONGEST_PAUSE, "and asked less and less often"
    alone.store.say(Heard(1.0))
    assert listener._pause == FIRST_PAUSE
    assert alone.changed == ["push_down", "push_up"]
    assert caplog.messages[:1] == [
        "the store can't be listened to, so endings elsewhere are only seen within the cache's TTL: StoreError: refused"
    ]


def test_a_stores_own_mistake_is_logged_and_does_not_end_the_listening(
    alone: Channelled, caplog: pytest.LogCaptureFixture
) -> None:
    alone.begin()
    alone.store.break_off(ZeroDivisionError("a bug"))
    assert "a bug" in caplog.text
    assert "Traceback" in caplog.text
    alone.store.say(Heard(1.0), b"a")
    assert alone.told.keys == [b"a"]


def test_close_ends_the_thread_and_lets_go_of_the_store(alone: Channelled) -> None:
    before = threading.active_count()
    alone.begin()
    alone.store.say(Heard(1.0))
    alone.close()
    assert alone.epoch() is None
    assert alone.store.closed.acquire(timeout=PATIENCE)
    assert threading.active_count() == before
    alone.channel.close()
    alone.begin()
    alone.store.say(Heard(2.0), b"a")
    assert alone.told.keys == [b"a"], "and it may be used again"


def test_the_listening_may_be_ended_by_what_it_brings() -> None:
    class Closes(Told):
        def ended(self, key: bytes | None) -> None:
            super().ended(key)
            channel.close()

    clock, told = FakeClock(), Closes()
    store = Announcer(clock)
    channel = Channel(store, told.ended, Health("listen", Telemetry(clock), clock.monotonic))
    channel.begin()
    store.sayings.put(Heard(1.0))
    store.sayings.put(b"a")
    store.sayings.put(b"b")
    assert store.closed.acquire(timeout=PATIENCE)
    assert told.keys == [b"a"]


def test_who_is_dropped_is_listened_for_no_longer() -> None:
    channelled = Channelled()
    store = channelled.store
    channelled.begin()
    del channelled
    gc.collect()
    store.sayings.put(b"a")
    assert store.closed.acquire(timeout=PATIENCE)


def test_a_key_that_arrives_after_its_last_listener_is_nobodys() -> None:
    """Dropped between two looks of the thread."""

    class Dropping(Announcer):
        def changes(self) -> Generator[bytes | Heard]:
            yield Heard(1.0)
            yield b"a"

    clock = FakeClock()
    told = [Told()]
    health = Health("listen", Telemetry(clock), clock.monotonic)
    listener = _Listener(Dropping(clock), WeakMethod(told[0].ended), health)
    told.clear()
    gc.collect()
    listener._take(b"a")
    assert listener.epoch is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_listens_for_itself(alone: Channelled) -> None:
    alone.begin()
    alone.store.say(Heard(1.0))
    mutex = alone.channel._mutex
    listener = alone.channel._listener
    alone.channel._renew()  # what a fork does in the child
    assert alone.channel._mutex is not mutex
    assert alone.epoch() is None
    assert listener is not None
    alone.store.sayings.put(Heard(1.0))
    listener.stop()
    assert alone.store.closed.acquire(timeout=PATIENCE)


# -- what is cached under it -----------------------------------------------------------------------------------------------


class Pushing:
    """A guard's parts on a store that announces, and a user who is known here."""

    def __init__(self, **terms: Any) -> None:
        self.clock = FakeClock()
        self.store = Announcer(self.clock)
        self.rig = Rig(self.store, self.clock, pushed=self.store, ttl=TTL, **terms)
        self.rig.model = self.store

    def listen(self) -> None:
        """Announcements arrive from now on, and what was read before has run out."""
        self.rig.logged_in("somebody")
        self.store.await_listener()
        self.store.hear()
        self.clock.advance(2 * TTL)
        self.store.hear()

    def pass_time(self, seconds: float) -> None:
        """Time during which the store is heard."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            self.store.hear()
            seconds -= 1.0

    def close(self) -> None:
        self.store.sayings.put(Heard(0.0))
        self.rig.registry.close()


@pytest.fixture
def pushing() -> Generator[Pushing]:
    found = Pushing()
    yield found
    found.close()


def test_a_lease_lasts_as_long_as_announcements_arrive(pushing: Pushing) -> None:
    pushing.listen()
    pair = pushing.rig.logged_in()
    loads = pushing.store.count("load")
    pushing.pass_time(LONGEST - 1)
    assert pushing.rig.recall(pair)
    pushing.pass_time(1)
    assert pushing.rig.recall(pair) is None, "and a minute at most"
    assert pushing.store.count("load") == loads


def test_what_holds_for_everyone_is_not_read_again_either(pushing: Pushing) -> None:
    pushing.listen()
    pushing.rig.logged_in()
    loads = pushing.store.count("load", EVERYONE)
    for number in range(10):
        pushing.rig.logged_in(f"user {number}")
        pushing.pass_time(1)
    assert pushing.store.count("load", EVERYONE) == loads


def test_a_lease_is_over_a_ttl_after_the_last_word(pushing: Pushing) -> None:
    pushing.listen()
    pair = pushing.rig.logged_in()
    pushing.clock.advance(TTL / 2 - 0.001)
    assert pushing.rig.recall(pair), "half a TTL it lasts in any case"
    pushing.clock.advance(TTL / 2 + 0.001)
    assert pushing.rig.recall(pair) is None
    pushing.store.hear()
    assert pushing.rig.recall(pair), "the same channel: nothing was missed, it was only slow"


def test_leases_left_behind_are_not_all_over_at_once(pushing: Pushing) -> None:
    pushing.listen()
    pairs = [pushing.rig.logged_in(f"user {number}") for number in range(50)]
    left = []
    for _ in range(10):
        left.append(sum(pushing.rig.recall(pair) is not None for pair in pairs))
        pushing.clock.advance(TTL / 10)
    assert left[0] == 50
    assert len(set(left)) >= 4, left
    assert not any(pushing.rig.recall(pair) for pair in pairs)


def test_an_ending_that_is_announced_counts_at_once(pushing: Pushing) -> None:
    pushing.listen()
    pair = pushing.rig.logged_in()
    assert pushing.rig.another().revoke(pair)
    assert pushing.rig.recall(pair), "nothing has arrived yet"
    pushing.store.say(ALICE)
    assert pushing.rig.recall(pair) is None
    with pytest.raises(SessionRevoked):
        pushing.rig.authenticate(pair)


def test_an_ending_of_everyone_is_announced_too(pushing: Pushing) -> None:
    pushing.listen()
    pairs = [pushing.rig.logged_in(f"user {number}") for number in range(3)]
    other = pushing.rig.another()
    other.do(other.operations.revoke_everyone())
    pushing.store.say(EVERYONE)
    for pair in pairs:
        with pytest.raises(SessionRevoked):
            pushing.rig.authenticate(pair)


@pytest.mark.parametrize("late", [ALICE, EVERYONE], ids=["the user's", "everyone's"])
def test_a_load_that_began_before_the_epoch_does_not_rely_on_it(late: bytes, pushing: Pushing) -> None:
    """An ending between that load and the subscription is announced to nobody here."""
    pushing.listen()
    pushing.store.break_off(StoreError("cut"))

    def confirm(key: bytes) -> None:
        if key == late and pushing.rig.registry.coherence().state == "push_down":
            pushing.store.hear()
            if late == ALICE:
                pushing.rig.logged_in("another user")  # so what holds for everyone is known in the new epoch

    pair = pushing.rig.login()
    pushing.clock.advance(TTL)
    pushing.store.on_load = confirm
    pushing.rig.authenticate(pair)
    assert pushing.rig.registry.coherence().state == "pushed"
    pushing.pass_time(TTL)
    assert pushing.rig.recall(pair) is None
    pushing.rig.authenticate(pair)
    pushing.pass_time(TTL)
    assert pushing.rig.recall(pair), "the next load may rely on it"


def test_what_was_loaded_before_a_gap_is_not_revived_after_it(pushing: Pushing) -> None:
    pushing.listen()
    pair = pushing.rig.logged_in()
    pushing.rig.another().revoke(pair)
    pushing.store.break_off(StoreError("cut"))  # and the announcement was lost
    pushing.store.hear()
    pushing.pass_time(TTL)
    assert pushing.rig.recall(pair) is None
    with pytest.raises(SessionRevoked):
        pushing.rig.authenticate(pair)


def test_an_ending_during_a_load_throws_it_away(pushing: Pushing) -> None:
    pushing.listen()
    pair = pushing.rig.login()
    other = pushing.rig.another()
    arrived: list[bool] = []
    load = pushing.store.load

    def slow_load(key: bytes) -> Any:
        found = load(key)
        if key == ALICE and not arrived:
            arrived.append(True)
            other.revoke(pair)
            pushing.store.say(ALICE)
        return found

    pushing.store.load = slow_load  # type: ignore[method-assign]
    with pytest.raises(SessionRevoked):
        pushing.rig.authenticate(pair)


def test_everyone_known_from_another_epoch_makes_short_leases() -> None:
    """The cut falls between the two loads of a fill: what ended for everyone meanwhile is announced to nobody here."""
    pushing = Pushing()
    pushing.listen()
    pushing.clock.advance(2 * LONGEST)
    pushing.store.hear()
    pair = pushing.rig.login()
    cut: list[bool] = []

    def cut_between(key: bytes) -> None:
        if key == ALICE and not cut:
            cut.append(True)
            pushing.store.break_off(StoreError("cut"))
            pushing.store.hear()

    epoch = pushing.rig.registry._epoch()
    pushing.clock.advance(LONGEST)
    pushing.store.hear()
    original = pushing.rig.registry.know_everyone

    def know_then_cut() -> Any:
        yield from original()
        cut_between(ALICE)

    pushing.rig.registry.know_everyone = know_then_cut  # type: ignore[method-assign]
    pushing.rig.authenticate(pair)
    assert cut
    assert pushing.rig.registry._epoch() is not epoch
    pushing.pass_time(TTL)
    assert pushing.rig.recall(pair) is None
    pushing.close()


def test_stale_if_down_stretches_what_a_cut_channel_left() -> None:
    pushing = Pushing(stale_if_down=10.0)
    pushing.listen()
    pair = pushing.rig.logged_in()
    pushing.store.on_load = always(DOWN)
    pushing.clock.advance(TTL + 5)
    assert pushing.rig.recall(pair) is None
    assert pushing.rig.authenticate(pair, may_be_stale=True).subject == "alice"
    with pytest.raises(StoreUnavailable):
        pushing.rig.authenticate(pair)
    pushing.store.say(ALICE)
    with pytest.raises(StoreUnavailable):
        pushing.rig.authenticate(pair, may_be_stale=True)
    pushing.close()


def test_an_idle_session_is_not_kept_by_a_long_lease() -> None:
    pushing = Pushing(longest=2.0)
    pushing.listen()
    pair = pushing.rig.logged_in()
    pushing.pass_time(2)
    assert pushing.rig.recall(pair) is None
    pushing.close()


# -- what is said of it ----------------------------------------------------------------------------------------------------


def test_the_state_of_a_guard_on_a_store_that_announces(pushing: Pushing) -> None:
    registry = pushing.rig.registry
    assert registry.coherence() == Coherence("push_down", TTL)
    pushing.listen()
    assert registry.coherence() == Coherence("pushed", TTL)
    pushing.store.break_off(StoreError("cut"))
    assert registry.coherence() == Coherence("push_down", TTL)
    assert registry.coherence().to_dict() == {"state": "push_down", "bound": TTL}
    assert pushing.rig.told == ["push_down"]


def test_the_state_of_a_guard_on_other_stores() -> None:
    assert Rig(ttl=TTL).registry.coherence() == Coherence("cached", TTL)
    looks: list[Exception] = []

    def look() -> None:
        if looks:
            raise looks[0]

    rig = Rig(ttl=TTL, watch=lambda _ended: look)
    rig.registry.look()
    assert rig.registry.coherence() == Coherence("exact", 0.0)
    looks.append(StoreError("torn"))
    rig.registry.look()
    assert rig.registry.coherence() == Coherence("cached", TTL)
