"""Anything in any order: logins, refreshes, endings, uses, lost answers and races, clocks that jump; against a plain model.

The machine drives the transitions through a store, as the real driver does, and after every step the stored document must
be what the model says, field by field.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from documents import SECOND, fresh, sid
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_model import Model, as_plain

from jwtguard.document import MAX_BYTES, Document, SessionRecord, decode, encode
from jwtguard.policy import Active, Ended, Moment, Policy, Superseded, active_sessions, judge, keep_until
from jwtguard.stores.base import Loaded, Store
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock
from jwtguard.transitions import (
    Denied,
    Reused,
    Rotated,
    Transition,
    adopt,
    end_one,
    end_others,
    open_session,
    raise_floor,
    rotate,
    touch,
)

ALICE, EVERYONE = b"alice", b"everyone"
LIMIT = 3
MODES = st.sampled_from(["plain", "plain", "answer lost", "save failed", "race lost"])
RIVALS = st.sampled_from(["nobody", "a login", "an ending", "a refresh", "a use"])
DELAYS = st.sampled_from([0.0, 0.0, 0.5, -5.0])

Effect = Callable[[Model, int, bool], Any]
"""Applies to a model that has come to the moment: the model, when the call began, whether it is repeated."""


class PlainStore:
    """The least that the machine needs of a store."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.kept: dict[bytes, tuple[bytes, bytes, int]] = {}

    def load(self, key: bytes) -> Loaded:
        now = int(self.clock.time() * 1000)
        data, version, expires_at = self.kept.get(key, (None, None, 0))
        return Loaded(data, version, now) if expires_at > now else Loaded(None, None, now)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        if self.load(key).version != expected:
            return False
        self.kept[key] = (data, version, expires_at)
        return True


class Call(NamedTuple):
    """The same call twice: as a transition, and as what the model makes of it."""

    transition: Transition[Any]
    effect: Effect


def told(outcome: Any) -> Any:
    """An outcome in the model's terms."""
    if isinstance(outcome, SessionRecord):
        return "opened", int.from_bytes(outcome.id, "big")
    if isinstance(outcome, Rotated):
        return "rotated", outcome.session.generation
    if isinstance(outcome, Denied):
        return "denied", {int.from_bytes(one.id, "big") for one in outcome.sessions}
    if isinstance(outcome, Ended):
        return "ended", int(outcome.reason)
    if isinstance(outcome, Reused):
        return "reused"
    return "superseded" if isinstance(outcome, Superseded) else outcome


class PureMachine(RuleBasedStateMachine):
    """Subclasses put another store under it."""

    def make_store(self) -> Any:
        return PlainStore(self.clock)

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store: Store = self.make_store()
        self.opened = 0
        self.seen_over: set[int] = set()
        self.last_clock = 0

    @initialize(
        on_limit=st.sampled_from(["evict", "deny", "choose"]),
        on_reuse=st.sampled_from(["end", "end", "refuse"]),
        idle=st.sampled_from([None, 120 * SECOND]),
        grace=st.sampled_from([30 * SECOND, 30 * SECOND, 0]),
    )
    def begin(self, on_limit: Any, on_reuse: Any, idle: int | None, grace: int) -> None:
        self.policy = Policy(20 * SECOND, 200 * SECOND, 600 * SECOND, idle, LIMIT, on_limit, grace, on_reuse)
        self.model = Model(self.policy)

    # -- the driver --------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return self.store.load(ALICE).now

    def document(self) -> Document:
        return decode(self.store.load(ALICE).data, "alice")

    def save(self, document: Document, expected: bytes | None, ends: bool) -> bool:
        assert len(encode(document)) <= MAX_BYTES
        until = keep_until(document, self.policy)
        data, version = encode(document), secrets.token_bytes(8)
        return self.store.save(ALICE, data, expected=expected, version=version, expires_at=until, ends=ends)

    def attempt(self, call: Call, moment: Moment, *, lands: bool) -> tuple[Any, bool]:
        """Load, apply, save: the outcome, and whether anything was to be saved. Without `lands` the save is lost."""
        loaded = self.store.load(ALICE)
        step = call.transition(decode(loaded.data, "alice"), moment)
        later = self.model.at(moment.now)
        outcome = call.effect(later, moment.now, moment.repeated)
        assert told(step.outcome) == outcome
        if step.document is not None and lands:
            assert self.save(step.document, loaded.version, step.ends)
            self.over(set(self.model.sessions) - set(later.sessions))
            self.model = later
        return outcome, step.document is not None

    def over(self, numbers: set[int]) -> None:
        self.seen_over |= numbers

    def perform(self, call: Call, mode: str, rival: str, delay: float) -> None:
        loaded = self.store.load(ALICE)
        moment = Moment(loaded.now, self.policy, self.model.everyone).not_before(decode(loaded.data, "alice"))
        first, tried_to_save = self.attempt(call, moment, lands=mode in ("plain", "answer lost"))
        if mode == "plain" or not tried_to_save:
            return
        self.move(delay)
        self.rival(rival)
        changed = self.store.load(ALICE).version != loaded.version
        if mode == "race lost" and changed:
            assert not self.save(Document.empty("alice"), loaded.version, ends=False)
        moment = moment._replace(repeated=mode != "race lost")
        again, _ = self.attempt(call, moment, lands=True)
        if rival == "nobody" and not isinstance(first, int):
            assert again == first

    def rival(self, name: str) -> None:
        """Another writer, whose own call goes through at once."""
        newest = max(self.model.sessions, default=0)
        generation = self.model.sessions[newest]["generation"] if newest else 1
        calls: dict[str, Callable[[], Call]] = {
            "a login": self.opening,
            "an ending": lambda: self.ending_others(None),
            "a refresh": lambda: self.rotating(newest, generation),
            "a use": lambda: self.touching(newest, generation),
        }
        if name in calls:
            self.perform(calls[name](), "plain", "nobody", 0.0)

    # -- calls -------------------------------------------------------------------------------------------------------------

    def opening(self, limit: int = LIMIT, replaces: int | None = None, authenticated_at: int | None = None) -> Call:
        self.opened += 1
        number = self.opened
        terms: dict[str, Any] = {"limit": limit, "authenticated_at": authenticated_at}
        terms["replaces"] = None if replaces is None else sid(replaces)
        transition = partial(open_session, session=fresh(number), **terms)
        return Call(transition, lambda model, *_: model.open(number, limit, replaces, authenticated_at))

    def rotating(self, number: int, generation: int) -> Call:
        transition = partial(rotate, session_id=sid(number), generation=generation, key_id="key")
        return Call(transition, lambda model, began, repeated: model.rotate(number, generation, began, repeated))

    def touching(self, number: int, generation: int) -> Call:
        transition = partial(touch, session_id=sid(number), generation=generation)
        return Call(transition, lambda model, *_: model.touch(number, generation))

    def ending_others(self, keep: int | None) -> Call:
        transition = partial(end_others, keep=None if keep is None else sid(keep))
        return Call(transition, lambda model, began, _: model.end_others(keep, began))

    # -- rules -------------------------------------------------------------------------------------------------------------

    numbers = st.integers(0, 12)
    generations = st.integers(-3, 2)
    ways: ClassVar[dict[str, Any]] = {"mode": MODES, "rival": RIVALS, "delay": DELAYS}

    def known(self, number: int) -> int:
        """One of the sessions ever opened, rather a later one."""
        return max(0, self.opened - number)

    def relative(self, number: int, offset: int) -> int:
        """A generation about the current one of a session."""
        entry = self.model.sessions.get(number)
        return max(1, (entry["generation"] if entry else 1) + offset)

    @rule(limit=st.integers(1, LIMIT), replaces=st.none() | numbers, ago=st.none() | st.integers(-9, 200), **ways)
    def login(self, limit: int, replaces: int | None, ago: int | None, **way: Any) -> None:
        replaced = None if replaces is None else self.known(replaces)
        authenticated_at = None if ago is None else self.now() - ago * 1000
        self.perform(self.opening(limit, replaced, authenticated_at), **way)

    @rule(**ways)
    def simple_login(self, **way: Any) -> None:
        self.perform(self.opening(), **way)

    @rule(number=numbers, offset=generations, **ways)
    def refresh(self, number: int, offset: int, **way: Any) -> None:
        known = self.known(number)
        self.perform(self.rotating(known, self.relative(known, min(offset, 1))), **way)

    @precondition(lambda self: self.model.sessions)
    @rule(index=st.integers(0, LIMIT - 1), offset=st.sampled_from([0, 0, 0, -1]), used=st.booleans(), **ways)
    def honest_refresh(self, index: int, offset: int, used: bool, **way: Any) -> None:
        number = list(self.model.sessions)[index % len(self.model.sessions)]
        if used:
            self.perform(self.touching(number, self.relative(number, 0)), "plain", "nobody", 0.0)
        self.perform(self.rotating(number, self.relative(number, offset)), **way)

    @precondition(lambda self: self.model.sessions)
    @rule(index=st.integers(0, LIMIT - 1), seconds=st.sampled_from([1, 31]))
    def live_on(self, index: int, seconds: int) -> None:
        """A client refreshes and uses what it got; after a while the older tokens are out of grace."""
        number = list(self.model.sessions)[index % len(self.model.sessions)]
        self.perform(self.rotating(number, self.relative(number, 0)), "plain", "nobody", 0.0)
        self.perform(self.touching(number, self.relative(number, 0)), "plain", "nobody", 0.0)
        self.move(seconds)

    @rule(number=numbers, offset=generations, **ways)
    def use(self, number: int, offset: int, **way: Any) -> None:
        known = self.known(number)
        self.perform(self.touching(known, self.relative(known, offset)), **way)

    @rule(number=numbers, offset=generations, **ways)
    def take_over(self, number: int, offset: int, **way: Any) -> None:
        known = self.known(number)
        generation = self.relative(known, offset)
        transition = partial(adopt, session_id=sid(known), generation=generation)
        self.perform(Call(transition, lambda model, *_: model.adopt(known, generation)), **way)

    @rule(number=numbers, **ways)
    def log_out(self, number: int, **way: Any) -> None:
        known = self.known(number)
        transition = partial(end_one, session_id=sid(known))
        self.perform(Call(transition, lambda model, _, repeated: model.end_one(known, repeated)), **way)
        self.over({known})

    @rule(keep=st.none() | numbers, **ways)
    def revoke_others(self, keep: int | None, **way: Any) -> None:
        before = set(self.model.sessions)
        kept = None if keep is None else self.known(keep)
        self.perform(self.ending_others(kept), **way)
        self.over(before - {kept})

    @rule()
    def revoke_everyone(self) -> None:
        loaded = self.store.load(EVERYONE)
        document = decode(loaded.data, "")
        step = raise_floor(document, Moment(loaded.now, self.policy).not_before(document))
        assert step.outcome > self.model.everyone
        assert step.document is not None
        until = keep_until(step.document, self.policy)
        terms: Any = {"expected": loaded.version, "version": secrets.token_bytes(8), "expires_at": until, "ends": True}
        assert self.store.save(EVERYONE, encode(step.document), **terms)
        self.model.everyone = step.outcome
        assert all(session.opened_at > loaded.now for session in active_sessions(self.document(), self.moment()))
        self.over({number for number, entry in self.model.sessions.items() if entry["authenticated"] <= step.outcome})

    @rule(seconds=st.sampled_from([0.001, 1, 5, 11, 31, 61, 130, 250]))
    def time_passes(self, seconds: float) -> None:
        self.move(seconds)

    @rule(seconds=st.sampled_from([-0.001, -3, -40, -300, 45, 700]))
    def clock_jumps(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Move the clock; never back over the moment at which a store has forgotten the document."""
        forgotten = self.store.load(ALICE).data is None or self.store.load(EVERYONE).data is None
        if seconds < 0 and forgotten:
            return
        self.clock.jump(seconds)
        if self.now() >= self.model.kept_until():
            assert not any(self.model.is_live(entry, self.now()) for entry in self.model.sessions.values())
            assert self.document() == Document.empty("alice")
            self.over(set(self.model.sessions))
            self.model = Model(self.policy, everyone=self.model.everyone)
            self.last_clock = 0

    # -- what always holds -------------------------------------------------------------------------------------------------

    def moment(self) -> Moment:
        return Moment(self.now(), self.policy, self.model.everyone)

    @invariant()
    def the_store_holds_what_the_model_says(self) -> None:
        document = self.document()
        plain = as_plain(document)
        model = {name: getattr(self.model, name) for name in plain}
        assert plain == model
        assert list(plain["sessions"]) == list(model["sessions"])
        assert decode(encode(document), "alice") == document
        assert document == Document.empty("alice") or keep_until(document, self.policy) == self.model.kept_until()

    @invariant()
    def the_limit_holds(self) -> None:
        assert len(active_sessions(self.document(), self.moment())) <= LIMIT

    @invariant()
    def the_clock_never_goes_back(self) -> None:
        assert self.document().clock >= self.last_clock
        self.last_clock = self.document().clock

    @invariant()
    def every_token_is_told_what_the_model_says(self) -> None:
        document, moment = self.document(), self.moment()
        for number in range(max(1, self.opened - 12), self.opened + 1):
            for generation in range(1, self.relative(number, 2)):
                verdict = judge(document, moment, sid(number), generation)
                word, detail = self.model.verdict(number, generation, moment.now)
                expected = {"ended": Ended(detail), "superseded": Superseded(), "behind": None}  # type: ignore[arg-type]
                if isinstance(verdict, Active):
                    assert (word, detail) == ("admitted", verdict.remaining)
                    assert number not in self.seen_over
                else:
                    assert verdict == expected[word]


class MemoryMachine(PureMachine):
    def make_store(self) -> Any:
        return MemoryStore(self.clock)


class SQLiteMachine(PureMachine):
    def make_store(self) -> Any:
        self.folder = tempfile.TemporaryDirectory()
        return SQLiteStore(Path(self.folder.name) / "jwtguard.db", clock=self.clock)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


def terms(examples: int) -> settings:
    too_slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=too_slow)


@pytest.mark.exhaustive
class TestPureTransitions(PureMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = terms(150)


@pytest.mark.exhaustive
class TestMemoryStore(MemoryMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = terms(40)


@pytest.mark.exhaustive
class TestSQLiteStore(SQLiteMachine.TestCase):  # type: ignore[misc, valid-type]
    settings = terms(15)
