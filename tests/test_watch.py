"""What happens, seen from outside: in a log, and in a store."""

from __future__ import annotations

import io
import json
import logging
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jwtguard import Event, Guard, Settings
from jwtguard.document import document_key, subject_of
from jwtguard.errors import RefreshReused
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import AT_ONCE, SQLiteStore
from jwtguard.telemetry import JSONFormatter
from jwtguard.testing import FakeClock
from jwtguard.watch import Looker, events_in, follow

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"


class Stop(Exception):
    """Raised in place of a pause, to end what has no end."""


# -- a log -----------------------------------------------------------------------------------------------------------------


def test_the_events_of_a_log_are_those_that_were_told() -> None:
    stream, told = io.StringIO(), list[Event]()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("jwtguard")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        guard = Guard(Settings(secret=SECRET), store=MemoryStore(), on_event=told.append)
        guard.authenticate(guard.login("alice").access_token)
        guard.revoke_everyone()
        logger.warning("something else")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert list(events_in(stream.getvalue().splitlines())) == told
    assert [event.name for event in told] == ["opened", "revoked"]


GOOD = Event("opened", "alice", "sid", count=1, time=1.5).to_dict()


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "3",
        "{}",
        json.dumps({"jwtguard": "text"}),
        json.dumps({"jwtguard": {**GOOD, "more": 1}}),
        json.dumps({"jwtguard": {**GOOD, "name": None}}),
        json.dumps({"jwtguard": {**GOOD, "count": "many"}}),
        json.dumps({"jwtguard": {**GOOD, "time": None}}),
        json.dumps({"jwtguard": {**GOOD, "time": 1e30}}),
        json.dumps({"jwtguard": {**GOOD, "time": -1}}),
        json.dumps({"jwtguard": {**GOOD, "time": float("nan")}}),
        json.dumps({"jwtguard": {**GOOD, "subject": ["alice"]}}),
    ],
)
def test_what_is_no_event_is_passed_over(line: str) -> None:
    good = json.dumps({"jwtguard": GOOD})
    assert list(events_in([line, good, line])) == [Event(**GOOD)]


def test_a_file_is_followed_from_its_end_also_when_it_is_rotated_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    steps = [
        ("a", "one\ntw"),
        ("a", "o\n"),
        ("rotate", ""),
        ("a", "three\n"),
        ("w", "4\n"),
    ]

    def sleep(_seconds: float) -> None:
        if not steps:
            raise Stop
        mode, text = steps.pop(0)
        if mode == "rotate":
            path.rename(tmp_path / "log.1")
            return
        with path.open(mode) as file:
            file.write(text)

    assert list(islice(follow(path, sleep=sleep), 4)) == ["one\n", "two\n", "three\n", "4\n"]


# -- a store ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Any:
    return MemoryStore(clock) if request.param == "memory" else SQLiteStore(tmp_path / "sessions.db", clock=clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def guard_on(store: Any, clock: FakeClock, **settings: Any) -> Guard:
    return Guard(Settings(secret=SECRET, **settings), store=store, clock=clock)


@pytest.fixture(params=["all", "named"])
def looker(request: pytest.FixtureRequest, store: Any) -> Looker:
    return Looker(store, "jwtguard", None if request.param == "all" else ["alice", "bob"])


def seen(looker: Looker) -> list[tuple[str, str, str | None]]:
    return [(event.name, event.subject, event.session_id) for event in looker.look()]


def test_each_thing_that_becomes_of_a_session_is_seen(store: Any, clock: FakeClock, looker: Looker) -> None:
    guard = guard_on(store, clock, max_sessions=2)
    first = guard.login("alice")
    guard_on(store, clock, issuer="another").login("mallory")
    assert seen(looker) == [], "the first look takes in what is there"
    clock.advance(1)
    second = guard.login("bob")
    assert seen(looker) == [("opened", "bob", second.session_id)]
    assert seen(looker) == []
    clock.advance(1)
    newer = guard.refresh(first.refresh_token)
    assert seen(looker) == [("refreshed", "alice", first.session_id)]
    guard.authenticate(newer.access_token)
    assert seen(looker) == [], "a use is none"
    guard.revoke("bob", second.session_id)
    assert seen(looker) == [("revoked", "bob", second.session_id)]
    third = guard.login("alice")
    clock.advance(1)
    fourth = guard.login("alice")
    names = seen(looker)
    assert set(names) == {
        ("opened", "alice", third.session_id),
        ("opened", "alice", fourth.session_id),
        ("evicted", "alice", first.session_id),
    }
    clock.advance(1)
    guard.revoke_everyone()
    assert seen(looker) == [("revoked", "", None)]


def test_theft_and_expiry_are_told_apart(store: Any, clock: FakeClock, looker: Looker) -> None:
    guard = guard_on(store, clock, idle_timeout=3600)
    first, idle = guard.login("alice"), guard.login("alice")
    guard.authenticate(guard.refresh(first.refresh_token).access_token)
    looker.look()
    clock.advance(60)
    with pytest.raises(RefreshReused):
        guard.refresh(first.refresh_token)
    assert seen(looker) == [("refresh_reused", "alice", first.session_id)]
    clock.advance(3600)
    last = guard.login("alice")
    assert sorted(seen(looker)) == sorted([("expired", "alice", idle.session_id), ("opened", "alice", last.session_id)]), (
        "idle, with a tombstone"
    )
    clock.advance(31 * 86_400)
    newest = guard.login("alice")
    assert sorted(seen(looker)) == sorted(
        [("expired", "alice", last.session_id), ("opened", "alice", newest.session_id)]
    ), "its document was forgotten meanwhile"


def test_a_document_that_can_not_be_read_has_not_changed(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    guard = guard_on(store, clock)
    guard.login("alice")
    looker = Looker(store, "jwtguard")
    looker.look()
    key = document_key("jwtguard", "alice")
    whole = store._documents[key]
    for damage in (b"", whole.data[:-1], whole.data + b"x", whole.data[:-1] + bytes([whole.data[-1] ^ 1])):
        store._documents[key] = whole._replace(data=damage)
        assert looker.look() == []
    store._documents[key] = whole
    assert looker.look() == []
    assert subject_of(whole.data) == "alice"


def test_a_store_that_can_not_list_its_users_is_told_them(clock: FakeClock) -> None:
    class Listless:
        blocking = False
        load = save = close = None

    with pytest.raises(ValueError, match="name those to look at"):
        Looker(Listless(), "jwtguard")  # type: ignore[arg-type]


def test_it_goes_on_without_end(store: Any, clock: FakeClock) -> None:
    guard = guard_on(store, clock)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        guard.login(f"user{len(pauses)}")

    events = Looker(store, "jwtguard").events(sleep=sleep, pause=0.25)
    assert [event.subject for event in islice(events, 3)] == ["user1", "user2", "user3"]
    assert set(pauses) == {0.25}


def test_all_of_a_large_store_is_scanned_and_nothing_that_has_expired(store: Any, clock: FakeClock) -> None:
    number = 2 * AT_ONCE
    for place in range(number):
        store.save(
            b"key%d" % place,
            b"data",
            expected=None,
            version=bytes(8),
            expires_at=int(clock.time() * 1000) + 1000 + place // AT_ONCE * 10_000,
            ends=False,
        )
    assert dict(store.scan()) == {b"key%d" % place: b"data" for place in range(number)}
    clock.advance(5)
    assert len(list(store.scan())) == AT_ONCE
