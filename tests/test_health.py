"""Whether the store answers is said once per change."""

from __future__ import annotations

import logging

import pytest

from jwtguard.errors import StoreError, StoreUnavailable
from jwtguard.health import PROBE, QUIET, TRIP, Access, Health
from jwtguard.telemetry import Telemetry
from jwtguard.testing import FakeClock


def caused(depth: int) -> StoreError:
    error = StoreError("level 0")
    inner: BaseException = error
    for level in range(1, depth):
        inner.__cause__ = OSError(f"level {level}")
        inner = inner.__cause__
    return error


def health_of(access: Access, clock: FakeClock | None = None, told: list[str] | None = None) -> Health:
    clock = clock or FakeClock()
    names = [] if told is None else told
    return Health(access, Telemetry(clock, [lambda event: names.append(event.name)]), clock.monotonic)


def test_each_change_is_logged_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    clock = FakeClock()
    health = health_of("read", clock, told)
    health.worked()
    for _ in range(3):
        health.failed(StoreError("full"))
    clock.advance(QUIET)
    for _ in range(3):
        health.worked()
    health.failed(StoreError("full again"))
    assert told == ["store_down", "store_up", "store_down"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "the store can't be read: StoreError: full"),
        (logging.WARNING, "the store can be read again"),
        (logging.ERROR, "the store can't be read: StoreError: full again"),
    ]


def test_what_works_in_part_has_not_changed(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    health = health_of("read", clock)
    for _ in range(10):
        health.failed(StoreError("torn"))
        health.worked()
        assert not health.down
        clock.advance(0.9 * QUIET)
    assert caplog.messages == ["the store can't be read: StoreError: torn"]
    clock.advance(QUIET)
    health.worked()
    assert caplog.messages[1:] == ["the store can be read again"]


def test_ways_of_using_a_store_fail_apart(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    reading = health_of("read", told=told)
    other = reading.beside("look")
    other.failed(StoreError("torn"))
    reading.worked()
    assert (reading.down, other.down) == (False, True)
    assert told == ["store_down"]
    assert caplog.messages == ["the store can't tell what has ended: StoreError: torn"]


def test_what_follows_is_said_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    health = health_of("read").beside("listen", quiet=0)
    health.failed(StoreError("torn"))
    health.worked()
    assert caplog.messages == [
        "the store can't be listened to, so endings elsewhere are only seen within the cache's TTL: StoreError: torn",
        "the store can be listened to again",
    ]


def test_the_cause_is_in_the_log_but_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    health_of("read").failed(caused(9))
    assert caplog.messages == [
        "the store can't be read: StoreError: level 0 <- OSError: level 1 <- OSError: level 2 <- OSError: level 3"
    ]


@pytest.mark.parametrize("separator", ["\n", "\r", "\x1b[31m", "\u2028", "\x00", "\x85", "\ud800"])
def test_C75_one_event_is_one_line(separator: str, caplog: pytest.LogCaptureFixture) -> None:  # noqa: N802 - its id
    health_of("read").failed(StoreError(f"no{separator}ERROR forged"))
    (message,) = caplog.messages
    assert message.isprintable()
    assert len(message.splitlines()) == 1


# -- the circuit breaker ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def health(clock: FakeClock) -> Health:
    return health_of("read", clock)


def fail(health: Health, times: int) -> None:
    for _ in range(times):
        health.check()
        health.failed(StoreError("dead"))


def is_open(health: Health) -> bool:
    try:
        health.check()
    except StoreUnavailable:
        return True
    return False


def test_a_store_that_fails_now_and_then_is_asked_each_time(health: Health) -> None:
    for _ in range(5):
        fail(health, TRIP - 1)
        assert not is_open(health)
        health.worked()


def test_a_dead_store_is_asked_once_in_a_while(health: Health, clock: FakeClock) -> None:
    fail(health, TRIP)
    asked = 0
    for _ in range(80):
        clock.advance(PROBE / 8)
        if not is_open(health):
            asked += 1
            health.failed(StoreError("still dead"))
    assert asked == 10


def test_a_probe_that_never_returns_does_not_keep_others_from_probing(health: Health, clock: FakeClock) -> None:
    fail(health, TRIP)
    for _ in range(3):
        assert is_open(health)
        clock.advance(PROBE)
        assert not is_open(health), "a probe, of which nothing is heard again"


def test_a_store_that_answers_is_asked_by_everyone_again(health: Health, clock: FakeClock) -> None:
    fail(health, TRIP)
    clock.advance(PROBE)
    assert not is_open(health)
    health.worked()
    assert not any(is_open(health) for _ in range(10))
    fail(health, TRIP - 1)
    assert not is_open(health), "counted anew"
