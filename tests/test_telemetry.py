"""What is told of what happens: by which event, to whom, once; and what no telling may change."""

from __future__ import annotations

import inspect
import io
import json
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rig import ModelStore, Rig, always, request
from watching import Notebook

import jwtguard.telemetry
from jwtguard import ConfigError, Event, Guard, JWTGuardError, Settings
from jwtguard.errors import StoreError
from jwtguard.gate import Gate
from jwtguard.health import Health
from jwtguard.model import Coherence, Device, Identity
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.telemetry import EVENTS, JSONFormatter, Observer, Tally, Telemetry
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PAGE = Path(__file__).parents[1] / "docs" / "telemetry.md"


class Told:
    """A guard, and what it tells."""

    def __init__(self, store: Any = None, clock: FakeClock | None = None, **settings: Any) -> None:
        self.clock = clock or FakeClock()
        self.store = store or ModelStore(self.clock)
        self.notebook = Notebook()
        self.guard = Guard(
            Settings(secret=SECRET, **settings), store=self.store, clock=self.clock, observers=[self.notebook]
        )

    def of(self, act: Callable[[Guard], object]) -> list[Event]:
        """The events of an act, whatever becomes of it."""
        before = len(self.notebook.events)
        with suppress(JWTGuardError):
            act(self.guard)
        return self.notebook.events[before:]


@pytest.fixture
def told() -> Told:
    return Told()


# -- which event, and what it says -----------------------------------------------------------------------------------------


def test_a_session_s_life(told: Told) -> None:
    with request(HTTP_USER_AGENT=FIREFOX, REMOTE_ADDR="192.0.2.1"):
        (opened,) = told.of(lambda guard: guard.login("alice"))
    sid = opened.session_id
    where = ("Firefox on Linux", "192.0.2.1")
    assert opened == Event("opened", "alice", sid, "", None, *where, count=1, time=told.clock.time())
    pair = told.guard.login("alice", device=Device("Phone", None, "192.0.2.2"))
    assert (told.notebook.events[-1].device, told.notebook.events[-1].ip) == ("Phone", "192.0.2.2")
    sid = pair.session_id
    told.clock.advance(1)
    assert told.of(lambda guard: guard.refresh(pair.refresh_token)) == [
        Event("refreshed", "alice", sid, time=told.clock.time())
    ]
    assert told.of(lambda guard: guard.refresh(pair.refresh_token)) == [
        Event("refresh_replayed", "alice", sid, time=told.clock.time())
    ]
    assert told.of(lambda guard: guard.revoke("alice", sid)) == [
        Event("revoked", "alice", sid, "one", count=1, time=told.clock.time())
    ]
    assert told.of(lambda guard: guard.revoke("alice", sid)) == []


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda guard, pair: guard.logout(guard.authenticate(pair.access_token)), ("revoked", "logout", 1)),
        (lambda guard, pair: guard.revoke_others(guard.authenticate(pair.access_token)), ("revoked", "others", 2)),
        (lambda guard, pair: guard.revoke_all("alice"), ("revoked", "all", 3)),
        (lambda guard, pair: guard.revoke_everyone(), ("revoked", "everyone", None)),
        (lambda guard, pair: guard.login("alice", replace=pair.session_id), ("revoked", "replaced", 1)),
        (lambda guard, pair: guard.login("alice", limit=3), ("evicted", "", 1)),
    ],
    ids=["logout", "others", "all", "everyone", "replaced", "evicted"],
)
def test_each_way_to_end_a_session_has_its_event(told: Told, end: Any, expected: tuple[str, str, int | None]) -> None:
    pair, *_ = [told.guard.login("alice") for _ in range(3)]
    events = [event for event in told.of(lambda guard: end(guard, pair)) if event.name != "opened"]
    assert [(event.name, event.code, event.count) for event in events] == [expected]
    if expected[1] not in ("others", "all", "everyone"):
        assert events[0].session_id == pair.session_id


def test_a_ticket_s_ending() -> None:
    told = Told(max_sessions=1, on_limit="choose")
    told.guard.authenticate(told.guard.login("alice").access_token)
    (refused,) = told.of(lambda guard: guard.login("alice"))
    assert (refused.name, refused.subject, refused.code, refused.status) == ("rejected", "alice", "limit_reached", 409)
    with pytest.raises(JWTGuardError) as caught:
        told.guard.login("alice")
    error: Any = caught.value
    (ended,) = told.of(lambda guard: guard.end_with_ticket(error.ticket, error.sessions[0].id))
    assert (ended.name, ended.code, ended.count) == ("revoked", "ticket", 1)


@pytest.mark.parametrize(("on_reuse", "code", "ended"), [("end", "refresh_reused", 1), ("refuse", "refresh_superseded", 0)])
def test_a_token_that_comes_back_too_late(on_reuse: str, code: str, ended: int) -> None:
    told = Told(on_reuse=on_reuse)
    first = told.guard.login("alice")
    told.guard.authenticate(told.guard.refresh(first.refresh_token).access_token)
    told.clock.advance(31)
    events = told.of(lambda guard: guard.refresh(first.refresh_token))
    assert [(event.name, event.session_id, event.code, event.count) for event in events] == [
        ("refresh_reused", first.session_id, code, ended),
        ("rejected", first.session_id, code, 0),
    ]


def test_a_session_that_has_expired_is_told_of_when_it_is_cleared_away(told: Told) -> None:
    first = told.guard.login("alice")
    told.clock.advance(31 * 86_400)
    assert [(event.name, event.session_id, event.count) for event in told.of(lambda guard: guard.login("alice"))] == [
        ("expired", first.session_id, 1),
        ("opened", told.notebook.events[-1].session_id, 1),
    ]


def test_what_was_ended_for_everyone_has_not_expired(told: Told) -> None:
    told.guard.login("alice")
    told.guard.revoke_everyone()
    assert [event.name for event in told.of(lambda guard: guard.login("alice"))] == ["opened"]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("nonsense", ("rejected", "", "token_invalid", 401)),
        ("over", ("rejected", "alice", "session_revoked", 401)),
        ("expired", ("rejected", "", "token_expired", 401)),
    ],
)
def test_a_refusal_says_whose_token_it_was_once_that_is_verified(
    told: Told, token: str, expected: tuple[str, str, str, int]
) -> None:
    pair = told.guard.login("alice")
    if token == "over":
        told.guard.revoke("alice", pair.session_id)
    elif token == "expired":
        told.clock.advance(3600)
    given = token if token == "nonsense" else pair.access_token
    (event,) = told.of(lambda guard: guard.authenticate(given))
    assert (event.name, event.subject, event.code, event.status) == expected
    assert event.session_id == (pair.session_id if expected[1] else None)


def test_a_store_that_is_down_is_an_event_and_so_are_its_refusals(told: Told) -> None:
    pair = told.guard.login("alice")
    told.store.on_load = always(StoreError("torn"))
    down, refused = told.of(lambda guard: guard.authenticate(pair.access_token))
    assert (down.name, down.code, down.detail) == ("store_down", "read", "the store can't be read: StoreError: torn")
    assert (refused.code, refused.status, refused.subject) == ("store_unavailable", 503, "alice")
    assert told.of(lambda guard: guard.authenticate(pair.access_token)) == [refused]
    told.store.on_load = lambda _key: None
    told.clock.advance(1)
    (up,) = told.of(lambda guard: guard.authenticate(pair.access_token))
    assert (up.name, up.code, up.detail) == ("store_up", "read", "the store can be read again")


def test_an_event_is_told_in_the_process_that_did_it_and_in_no_other(tmp_path: Path) -> None:
    clock = FakeClock()
    here, there = (Told(SQLiteStore(tmp_path / "sessions.db", clock=clock), clock) for _ in range(2))
    pair = here.guard.login("alice")
    there.guard.authenticate(pair.access_token)
    here.guard.revoke("alice", pair.session_id)
    there.of(lambda guard: guard.authenticate(pair.access_token))
    assert here.notebook.names == ["opened", "revoked"]
    assert there.notebook.names == ["rejected"]


def test_an_error_is_told_once_whoever_sees_it() -> None:
    notebook = Notebook()
    telemetry = Telemetry(FakeClock(), [], [notebook])
    error = JWTGuardError()
    for _ in range(3):
        telemetry.rejected(error)
    telemetry.rejected(ConfigError("the developer's own"))
    assert notebook.decisions == ["error"]
    assert notebook.names == ["rejected"]


def test_events_are_records(told: Told) -> None:
    (event,) = told.of(lambda guard: guard.login("alice"))
    assert Event(**event.to_dict()) == event
    with pytest.raises(AttributeError):
        event.name = "other"  # type: ignore[misc]


# -- to the log ------------------------------------------------------------------------------------------------------------


def test_the_page_s_tables_of_events_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (DEBUG|INFO|WARNING|ERROR) \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == [(name, logging.getLevelName(level)) for name, level in EVENTS.items()]


def test_the_event_s_own_words_name_them_all() -> None:
    told = re.search(r"`name`: (.*?)`session_id`", inspect.getdoc(Event) or "", re.DOTALL)
    assert told is not None
    assert re.findall(r"`(\w+)`", told[1]) == list(EVENTS)


def test_each_event_that_is_told_anywhere_is_in_the_table() -> None:
    package = Path(jwtguard.telemetry.__file__).parent  # the installed one, which may be a wheel
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py")]
    told = {name for text in texts for name in re.findall(r'tell\(\s*"(\w+)"', text)}
    replayed = {"refreshed", "refresh_replayed"}  # one of the two, by an expression
    of_health = {f"{what}_{state}" for what in ("store", "push") for state in ("down", "up")}
    assert told | replayed | of_health | {"rejected"} == set(EVENTS)


def test_c74_logins_and_refusals_are_logged_with_their_codes_and_without_tokens(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "jwtguard")
    pair = told.guard.login("alice")
    told.guard.authenticate(pair.access_token)
    told.of(lambda guard: guard.authenticate("nonsense"))
    told.guard.revoke_all("alice")
    told.guard.revoke_everyone()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "opened: a session of 'alice'"),
        ("DEBUG", "admitted: a session of 'alice'"),
        ("INFO", "refused: 401 token_invalid"),
        ("INFO", "revoked: 1 sessions of 'alice'"),
        ("INFO", "revoked: every session of every user"),
    ]
    said = "".join(json.dumps(record.__dict__, default=repr) for record in caplog.records)
    for token in (pair.access_token, pair.refresh_token):
        assert not any(segment in said for segment in token.split("."))
    assert SECRET not in said


def test_a_record_carries_what_the_event_says(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jwtguard")
    (event,) = told.of(lambda guard: guard.login("alice"))
    (record,) = caplog.records
    assert record.__dict__["jwtguard"] == event.to_dict()


def test_what_nobody_wants_to_know_is_not_even_looked_at(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "jwtguard")
    monkeypatch.setattr("jwtguard.telemetry.current_device", lambda: pytest.fail("it was"))
    Telemetry(FakeClock()).rejected(JWTGuardError())


def test_what_is_not_logged_is_told_all_the_same(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "jwtguard")
    assert told.of(lambda guard: guard.login("alice"))
    assert caplog.records == []


NASTY = ["a\r\nlevel=ERROR", "\x1b[31mred", "a\u2028b", "half \ud800", "\x00", "\x85", '"}', "ü雪"]


def lines_of(write: Callable[[logging.Logger], None], formatter: logging.Formatter) -> bytes:
    """What a handler writes, as UTF-8."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("jwtguard", logging.DEBUG)
    logger.addHandler(handler)
    write(logger)
    stream.flush()
    found: bytes = stream.detach().getvalue()
    return found


@pytest.mark.parametrize("value", NASTY)
def test_c75_an_event_is_one_line_of_json_whatever_is_in_it(value: str) -> None:
    event = Event("opened", value, value, value, device=value, ip=value, detail=value)
    written = lines_of(
        lambda logger: logger.info("%s", value, extra={"jwtguard": event.to_dict()}), JSONFormatter()
    ).decode("ascii")
    assert written.splitlines(keepends=True) == [written]
    assert written.isprintable() or written[:-1].isprintable()
    found = json.loads(written)
    assert Event(**found["jwtguard"]) == event
    assert (found["message"], found["level"], found["logger"]) == (value, "INFO", "jwtguard")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found["time"])


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("name", EVENTS)
def test_c75_the_plain_line_of_an_event_is_one_line(name: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "jwtguard")
    telemetry = Telemetry(FakeClock())
    telemetry.tell(name, value, bytes(16))
    telemetry.tell(name, value)
    telemetry.passed(Identity(value, value, value, (), "", 0))
    for message in caplog.messages:
        assert len((message + "x").splitlines()) == 1
        assert message.isprintable()


def test_an_exception_is_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    def write(logger: logging.Logger) -> None:
        try:
            raise ValueError("of\nthe app")
        except ValueError:
            logger.exception("failed", extra={"jwtguard": "another's"})

    (line,) = lines_of(write, JSONFormatter()).splitlines()
    found = json.loads(line)
    assert found["exception"].startswith("Traceback")
    assert "jwtguard" not in found


# -- to callbacks and observers --------------------------------------------------------------------------------------------


def test_several_callbacks_are_told_in_order(told: Told) -> None:
    calls: list[str] = []
    hooks = [lambda event: calls.append(f"first {event.name}"), lambda event: calls.append(f"second {event.name}")]
    guard = Guard(Settings(secret=SECRET), store=told.store, clock=told.clock, on_event=hooks)
    guard.login("alice")
    assert calls == ["first opened", "second opened"]


class Broken(Observer):
    """Every method raises."""

    counts = True
    each_request = True

    def __getattribute__(self, name: str) -> Any:
        if name in ("attach", "event", "decided", "recalled", "looked_up", "stored", "heard"):
            raise RuntimeError("the observer is broken")
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return "Broken()"


def test_what_goes_wrong_in_an_observer_is_logged_once_of_each_kind_and_changes_nothing(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(Settings(secret=SECRET), store=told.store, clock=told.clock, observers=[Broken(), told.notebook])
    for _ in range(3):
        pair = guard.login("alice")
        assert guard.authenticate(pair.access_token).subject == "alice"
        assert Gate(guard.core).recall(f"Bearer {pair.access_token}".encode()) is not None
    assert told.notebook.names == ["opened"] * 3, "the next one is told all the same"
    failures = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert failures == [
        f"Broken() failed for {what}; that is said once"
        for what in ("attach", "stored", "the event 'opened'", "looked_up", "decided", "recalled")
    ]


def test_an_observer_may_be_told_of_anything_and_need_not_care() -> None:
    observer = Observer()
    telemetry = Telemetry(FakeClock(), [], [observer])
    telemetry.attach(lambda: 0, lambda: Coherence("exact", 0.0))
    telemetry.tell("opened", "alice")
    telemetry.served()
    telemetry.looked_up(hit=True)
    telemetry.stored("load", 0.1, "ok")
    telemetry.heard(0.1)
    observer.recalled(Identity("alice", "", "", (), "", 0))


@pytest.mark.parametrize("hooks", [{"observers": [print]}, {"observers": [Notebook]}])
def test_what_is_no_observer_is_refused_at_once(hooks: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="observers has a"):
        Guard(Settings(secret=SECRET), store=MemoryStore(), **hooks)


def test_one_of_several_callbacks_that_can_not_be_called_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="on_event is of type str"):
        Guard(Settings(secret=SECRET), store=MemoryStore(), on_event=[print, "print"])  # type: ignore[list-item]


# -- the store's calls, and its signs --------------------------------------------------------------------------------------


def test_each_call_of_the_store_is_measured_by_the_guard_s_clock(told: Told) -> None:
    told.store.on_load = lambda _key: told.clock.advance(0.002)
    told.store.on_save = lambda _key: told.clock.advance(0.003)
    told.guard.login("alice")
    found = [(operation, round(seconds, 6), outcome) for operation, seconds, outcome in told.notebook.calls]
    assert found == [("load", 0.002, "ok"), ("load", 0.002, "ok"), ("save", 0.003, "ok")]
    told.store.on_load = always(StoreError("torn"))
    told.of(lambda guard: guard.sessions("alice"))
    assert told.notebook.calls[-1] == ("load", 0.0, "error")


def test_a_sign_of_life_says_how_late_an_announcement_is_at_most() -> None:
    clock, notebook = FakeClock(), Notebook()
    health = Health("listen", Telemetry(clock, [], [notebook]), clock.monotonic)
    asked = clock.monotonic()
    clock.advance(0.25)
    health.heard(asked)
    health.heard(asked + 1)  # a store's clock that is ahead by a hair
    assert notebook.signs == [0.25, 0.0]


# -- counting --------------------------------------------------------------------------------------------------------------


def test_no_count_is_lost_between_threads() -> None:
    tally, line = Tally(), threading.Barrier(8)

    def add(_: int) -> None:
        line.wait(60)
        for number in range(5_000):
            tally.add()
            if number % 500 == 0:
                tally.read()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert [tally.read(), tally.read()] == [40_000, 40_000]


@pytest.fixture
def warm(told: Told) -> tuple[Told, bytes]:
    pair = told.guard.login("alice")
    told.guard.authenticate(pair.access_token)
    return told, f"Bearer {pair.access_token}".encode()


def test_a_known_token_costs_nothing_where_nobody_counts(warm: tuple[Told, bytes]) -> None:
    told, _ = warm
    deaf = Guard(Settings(secret=SECRET), store=told.store, clock=told.clock, on_event=lambda event: None)
    assert "recall" not in vars(Gate(deaf.core)), "the class's own method, with nothing around it"
    assert "recall" in vars(Gate(told.guard.core))


def test_hits_are_counted_and_those_that_are_denied_are_not_admitted(warm: tuple[Told, bytes]) -> None:
    told, authorization = warm
    gate = Gate(told.guard.core)
    (readings,) = told.notebook.guards
    for _ in range(5):
        assert gate.recall(authorization) is not None
    assert gate.recall(authorization + b"x") is None
    assert (readings.hits(), readings.admitted()) == (5, 5)
    told.guard.core.telemetry.denied(JWTGuardError())
    assert (readings.hits(), readings.admitted()) == (5, 4)
    assert (readings.connections(), readings.coherence()) == (0, told.guard.coherence())


def test_who_asks_is_told_of_each_known_token(told: Told) -> None:
    notebook = Notebook(each_request=True)
    guard = Guard(Settings(secret=SECRET), store=told.store, clock=told.clock, observers=[notebook, told.notebook])
    pair = guard.login("alice")
    gate = Gate(guard.core)
    assert gate.recall(f"Bearer {pair.access_token}".encode()) is None
    guard.authenticate(pair.access_token)
    assert gate.recall(f"Bearer {pair.access_token}".encode()) is not None
    assert (notebook.recalls, told.notebook.recalls) == (["alice"], [])
    assert notebook.guards[0].hits() == 1


def test_a_rig_s_own_events_are_the_guard_s() -> None:
    """What other tests go by: `Rig.events` are what a guard tells."""
    rig = Rig()
    rig.revoke(rig.logged_in())
    assert rig.events == [("opened", "alice"), ("revoked", "alice")]
