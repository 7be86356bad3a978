"""Every transition may be applied again: after a save without an answer, and after another writer came between."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest
from documents import KEY_ID, MINUTE, NOW, SECOND, after, fresh, moment, open_one, saved, sid, with_sessions
from msgspec.structs import replace

from jwtguard.document import Document, Reason, SessionRecord
from jwtguard.policy import Ended, Moment
from jwtguard.transitions import (
    Denied,
    Reused,
    Rotated,
    Step,
    Transition,
    adopt,
    end_all,
    end_listed,
    end_one,
    end_others,
    listing_of,
    open_session,
    raise_floor,
    rotate,
    touch,
)

LATER = NOW + 10 * MINUTE


def rotated(document: Document, number: int, generation: int, at: Moment) -> Document:
    return saved(rotate(document, at, session_id=sid(number), generation=generation, key_id=KEY_ID))


def touched(document: Document, number: int, generation: int, at: Moment) -> Document:
    return saved(touch(document, at, session_id=sid(number), generation=generation))


FOUR = with_sessions(1, 2, 3, 4, apart=SECOND)
REFRESHED = touched(rotated(FOUR, 1, 1, moment(NOW + MINUTE)), 1, 2, moment(NOW + 2 * MINUTE))
"""Session 1 is at generation 2, in use; generation 1 is long out of grace at LATER."""


class Case(NamedTuple):
    """A call: on which document, what it does, under which terms."""

    document: Document
    transition: Transition[Any]
    policy: dict[str, Any] = {}  # noqa: RUF012 - never changed


def rotating(generation: int) -> Transition[Any]:
    return partial(rotate, session_id=sid(1), generation=generation, key_id=KEY_ID)


CASES = {
    "open": Case(FOUR, partial(open_session, session=fresh(9), limit=100)),
    "open, evicting": Case(FOUR, partial(open_session, session=fresh(9), limit=4)),
    "open, replacing": Case(FOUR, partial(open_session, session=fresh(9), limit=4, replaces=sid(3))),
    "open, denied": Case(REFRESHED, partial(open_session, session=fresh(9), limit=1), {"on_limit": "deny"}),
    "open, in flight": Case(
        replace(FOUR, not_before=NOW), partial(open_session, session=fresh(9), limit=9, authenticated_at=NOW)
    ),
    "rotate": Case(REFRESHED, rotating(2)),
    "rotate, no grace": Case(REFRESHED, rotating(2), {"rotation_grace": 0}),
    "rotate, store behind": Case(REFRESHED, rotating(7)),
    "rotate, reuse": Case(REFRESHED, rotating(1)),
    "rotate, reuse refused": Case(REFRESHED, rotating(1), {"on_reuse": "refuse"}),
    "rotate, unknown": Case(FOUR, partial(rotate, session_id=sid(77), generation=1, key_id=KEY_ID)),
    "adopt": Case(REFRESHED, partial(adopt, session_id=sid(1), generation=5)),
    "end one": Case(FOUR, partial(end_one, session_id=sid(2))),
    "end one, unknown": Case(FOUR, partial(end_one, session_id=sid(77))),
    "end listed": Case(FOUR, partial(end_listed, session_id=sid(2), listing=listing_of(FOUR.sessions))),
    "end listed, not as listed": Case(FOUR, partial(end_listed, session_id=sid(2), listing="0" * 32)),
    "raise floor": Case(replace(FOUR, sessions=()), raise_floor),
    "end others": Case(FOUR, partial(end_others, keep=sid(2))),
    "end all": Case(FOUR, end_all),
    "touch": Case(FOUR, partial(touch, session_id=sid(1), generation=1)),
}
COUNTING = {"end others", "end all"}
"""Their outcome is what one attempt has ended."""

INTERVENERS: dict[str, Transition[Any]] = {
    "another login": partial(open_session, session=fresh(50), limit=100),
    "a touch": partial(touch, session_id=sid(4), generation=1),
    "a rotation": partial(rotate, session_id=sid(4), generation=1, key_id=KEY_ID),
    "a logout": partial(end_one, session_id=sid(4)),
}


def outcome_of(step_outcome: object) -> object:
    """An outcome without what may differ between the first answer and the same answer again."""
    if isinstance(step_outcome, Rotated):
        return step_outcome.session.id, step_outcome.session.generation, step_outcome.session.key_id
    if isinstance(step_outcome, Denied):
        return Denied, {session.id for session in step_outcome.sessions} - {sid(4), sid(50)}
    return step_outcome.id if isinstance(step_outcome, SessionRecord) else step_outcome


@pytest.mark.parametrize("name", CASES)
def test_again_after_a_save_that_succeeded(name: str) -> None:
    document, transition, policy = CASES[name]
    first = transition(document, moment(LATER, **policy))
    saved_once = after(document, first)
    again = transition(saved_once, moment(LATER, repeated=True, **policy))
    assert after(saved_once, again) == saved_once
    if name not in COUNTING:
        assert outcome_of(again.outcome) == outcome_of(first.outcome)


@pytest.mark.parametrize("name", CASES)
def test_again_after_a_save_that_failed(name: str) -> None:
    """It must not be taken for one that succeeded."""
    document, transition, policy = CASES[name]
    first = transition(document, moment(LATER, **policy))
    again = transition(document, moment(LATER, repeated=True, **policy))
    assert again == first


@pytest.mark.parametrize("between", INTERVENERS)
@pytest.mark.parametrize("name", [name for name in CASES if name not in COUNTING])
def test_again_when_another_writer_came_between(name: str, between: str) -> None:
    document, transition, policy = CASES[name]
    first = transition(document, moment(LATER, **policy))
    changed = after(document, first)
    changed = after(changed, INTERVENERS[between](changed, moment(LATER + 200)))
    again = transition(changed, moment(LATER, repeated=True, **policy))
    assert outcome_of(again.outcome) == outcome_of(first.outcome)
    kept = after(changed, again)
    assert [session.id for session in kept.sessions] == [session.id for session in changed.sessions]
    assert [session.generation for session in kept.sessions] == [session.generation for session in changed.sessions]


@pytest.mark.parametrize("between", INTERVENERS)
@pytest.mark.parametrize("name", ["end others", "end all"])
def test_ending_many_again_spares_what_came_between(name: str, between: str) -> None:
    document, transition, _ = CASES[name]
    first = saved(transition(document, moment(LATER)))
    changed = after(first, INTERVENERS[between](first, moment(LATER + 200)))
    assert transition(changed, moment(LATER, repeated=True)) == Step(None, 0)


# -- the cases that are more than a repetition -----------------------------------------------------------------------------


def test_evicted_between_attempts_stays_evicted() -> None:
    first = saved(open_one(FOUR, 9, moment(LATER)))
    evicted = saved(open_one(first, 10, moment(LATER + SECOND), limit=1))
    again = open_one(evicted, 9, moment(LATER, repeated=True))
    assert again.outcome == Ended(Reason.EVICTED)
    assert again.document is None


def test_revoked_between_attempts_stays_revoked() -> None:
    first = saved(open_one(FOUR, 9, moment(LATER)))
    revoked = saved(end_all(first, moment(LATER + SECOND)))
    assert open_one(revoked, 9, moment(LATER, repeated=True)).outcome == Ended(Reason.REVOKED)


def test_a_login_that_lost_its_race_against_revoke_all_opens_after_it() -> None:
    """Its first attempt wasn't saved; the second counts as a login after the revocation, and isn't caught by it."""
    revoked = saved(end_all(FOUR, moment(LATER + SECOND)))
    step = open_one(revoked, 9, moment(LATER))
    assert step.outcome.opened_at == revoked.not_before + 1
    assert end_all(saved(step), moment(LATER + SECOND, repeated=True)) == Step(None, 0)


def test_rotated_between_attempts_by_another_tab_answers_what_is_current() -> None:
    first = rotated(REFRESHED, 1, 2, moment(LATER))
    onwards = rotated(first, 1, 3, moment(LATER + SECOND))
    step = rotate(onwards, moment(LATER, repeated=True), session_id=sid(1), generation=2, key_id=KEY_ID)
    assert step.document is None
    assert isinstance(step.outcome, Rotated)
    assert step.outcome.session.generation == 4


def test_C55_a_repetition_answers_the_successor_without_any_grace_and_when_it_was_used() -> None:
    none = {"rotation_grace": 0}
    first = touched(rotated(REFRESHED, 1, 2, moment(LATER, **none)), 1, 3, moment(LATER + 5))
    again = rotate(first, moment(LATER, repeated=True, **none), session_id=sid(1), generation=2, key_id=KEY_ID)
    assert again == Step(None, Rotated(first.sessions[0], replayed=True))
    unrepeated = rotate(first, moment(LATER, **none), session_id=sid(1), generation=2, key_id=KEY_ID)
    assert unrepeated.outcome == Reused()


def test_C52_a_replay_whose_ending_was_not_saved_is_no_repetition_of_a_rotation() -> None:
    """The first attempt judged it reuse and its save failed: the second must not hand the thief the successor."""
    step = rotate(REFRESHED, moment(LATER, repeated=True), session_id=sid(1), generation=1, key_id=KEY_ID)
    assert step.outcome == Reused()
    assert step.ends
    assert saved(step).find(sid(1)) is None


def test_reuse_is_reported_again_but_a_plain_ending_is_not_taken_for_it() -> None:
    reused = saved(rotate(REFRESHED, moment(LATER), session_id=sid(1), generation=1, key_id=KEY_ID))
    revoked = saved(end_one(REFRESHED, moment(LATER), session_id=sid(1)))
    for document, repeated, outcome in (
        (reused, True, Reused()),
        (reused, False, Ended(Reason.REVOKED)),
        (revoked, True, Ended(Reason.REVOKED)),
    ):
        step = rotate(document, moment(LATER, repeated=repeated), session_id=sid(1), generation=1, key_id=KEY_ID)
        assert step == Step(None, outcome)


def test_a_revocation_is_not_undone_by_a_rotation_in_flight() -> None:
    rotated(REFRESHED, 1, 2, moment(LATER))  # computed, and its save lost the race
    revoked = saved(end_one(REFRESHED, moment(LATER + 1), session_id=sid(1)))
    step = rotate(revoked, moment(LATER), session_id=sid(1), generation=2, key_id=KEY_ID)
    assert step == Step(None, Ended(Reason.REVOKED))


def test_end_one_again_knows_its_own_ending_from_none_at_all() -> None:
    ended = saved(end_one(FOUR, moment(LATER), session_id=sid(2)))
    assert end_one(ended, moment(LATER, repeated=True), session_id=sid(2)) == Step(None, True)
    assert end_one(ended, moment(LATER), session_id=sid(2)) == Step(None, False)
    evicted = saved(open_one(with_sessions(2), 3, moment(LATER), limit=1))
    assert end_one(evicted, moment(LATER, repeated=True), session_id=sid(2)).outcome is False
