"""Generations: one successor however often it is asked for, lost answers given again, and replays found out."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

from typing import Any

import pytest
from documents import DAY, HOUR, KEY_ID, MINUTE, NOW, SECOND, after, moment, saved, sid, with_sessions
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.document import Document, Reason, Retired, SessionRecord
from jwtguard.policy import Active, Ended, Moment, Superseded, judge
from jwtguard.transitions import Reused, Rotated, Step, adopt, end_one, rotate, touch

GRACE = 30 * SECOND


def refresh(document: Document, generation: int, at: Moment, **terms: Any) -> Step[Any]:
    return rotate(document, at, session_id=sid(1), generation=generation, **{"key_id": KEY_ID, **terms})


def use(document: Document, generation: int, at: Moment) -> Document:
    return touch(document, at, session_id=sid(1), generation=generation).document or document


def session_of(document: Document) -> SessionRecord:
    session = document.find(sid(1))
    assert session is not None
    return session


ONE = with_sessions(1)
TWO = saved(refresh(ONE, 1, moment(NOW + HOUR)))
"""At generation 2, of which nothing was seen yet."""
TWO_USED = use(TWO, 2, moment(NOW + HOUR + SECOND))


# -- the next generation ---------------------------------------------------------------------------------------------------


def test_C51_the_current_generation_is_raised() -> None:
    step = refresh(ONE, 1, moment(NOW + HOUR), key_id="another")
    session = session_of(saved(step))
    assert step.outcome == (session, False, False)  # neither a replay nor a store behind
    assert (step.ends, step.evicted) == (False, ())
    assert (session.generation, session.key_id, session.rotated_at) == (2, "another", NOW + HOUR)
    assert session.seen_at == NOW + HOUR
    assert session.retired == (Retired(1, NOW + HOUR),)
    assert not session.used


def test_a_rotation_notes_where_it_was_asked_from() -> None:
    assert session_of(TWO).device == "Firefox on Linux"
    moved = session_of(saved(refresh(ONE, 1, moment(NOW), device=("Firefox on macOS", "198.51.100.9"))))
    assert (moved.device, moved.ip) == ("Firefox on macOS", "198.51.100.9")


def test_C56_each_refresh_restarts_the_refresh_tokens_life() -> None:
    assert session_of(TWO).expires_at == NOW + HOUR + 30 * DAY
    assert refresh(ONE, 1, moment(NOW + 30 * DAY)).outcome == Ended(Reason.UNKNOWN)


def test_C42_C56_no_refresh_gets_past_SESSION_TTL() -> None:
    document, now, generation = ONE, NOW, 1
    while now + 20 * DAY < NOW + 90 * DAY:
        now += 20 * DAY
        document = saved(refresh(document, generation, moment(now)))
        generation += 1
        assert session_of(document).expires_at <= NOW + 90 * DAY
    assert session_of(document).expires_at == NOW + 90 * DAY
    assert refresh(document, generation, moment(NOW + 90 * DAY)).outcome == Ended(Reason.UNKNOWN)


def test_a_session_that_is_over_is_not_refreshed() -> None:
    ended = saved(end_one(TWO, moment(NOW + HOUR), session_id=sid(1)))
    assert refresh(ended, 2, moment(NOW + HOUR)) == Step(None, Ended(Reason.REVOKED))
    idle = moment(NOW + 3 * HOUR, idle_timeout=HOUR)
    assert refresh(TWO, 2, idle) == Step(None, Ended(Reason.EXPIRED))
    floored = moment(NOW + 3 * HOUR, everyone=NOW)
    assert refresh(TWO, 2, floored) == Step(None, Ended(Reason.REVOKED))


# -- lost answers ----------------------------------------------------------------------------------------------------------


def test_C55_within_grace_the_same_successor_is_answered() -> None:
    for late in (0, 1, GRACE - 1):
        step = refresh(TWO_USED, 1, moment(NOW + HOUR + late))
        assert step == Step(None, Rotated(session_of(TWO_USED), replayed=True))


def test_C55_after_the_grace_a_used_successor_proves_the_replay() -> None:
    assert refresh(TWO_USED, 1, moment(NOW + HOUR + GRACE)).outcome == Reused()


def test_an_answer_never_used_may_be_asked_for_at_any_time() -> None:
    step = refresh(TWO, 1, moment(NOW + 20 * DAY))
    assert step.outcome == Rotated(session_of(saved(step)), replayed=True)
    assert (step.outcome.session.generation, step.ends, step.evicted) == (2, False, ())


def test_what_is_answered_again_has_an_access_token_that_has_not_run_out() -> None:
    """Two tabs that come back after their last answer was lost: the first must not put a generation between."""
    ttl = moment(NOW).policy.access_ttl
    before = refresh(TWO, 1, moment(NOW + HOUR + ttl - SECOND - 1))
    assert (before.document, before.outcome) == (None, Rotated(session_of(TWO), replayed=True))
    late = NOW + HOUR + ttl - SECOND
    step = refresh(TWO, 1, moment(late), key_id="another")
    again = session_of(saved(step))
    assert step.outcome == Rotated(again, replayed=True)
    assert (again.generation, again.used, again.rotated_at, again.key_id) == (2, False, late, "another")
    second = refresh(saved(step), 1, moment(late + MINUTE))
    assert (second.document, second.outcome) == (None, Rotated(again, replayed=True))


def test_only_the_generation_before_the_current_may_ask_after_the_grace() -> None:
    three = saved(refresh(TWO, 2, moment(NOW + 2 * HOUR)))
    assert refresh(three, 2, moment(NOW + 2 * HOUR + MINUTE)).outcome == Rotated(session_of(three), replayed=True)
    assert refresh(three, 1, moment(NOW + DAY)).outcome == Reused()


def test_the_use_of_an_older_generation_is_not_the_use_of_the_current() -> None:
    seen = use(TWO, 1, moment(NOW + HOUR + 61 * SECOND))
    assert not session_of(seen).used
    assert session_of(seen).seen_at == NOW + HOUR + 61 * SECOND
    assert isinstance(refresh(seen, 1, moment(NOW + DAY)).outcome, Rotated)


def test_several_generations_in_grace_all_get_the_current_one() -> None:
    document, at = TWO_USED, NOW + 2 * HOUR
    for generation in (2, 3, 4):
        document = saved(refresh(document, generation, moment(at)))
        at += 5 * SECOND
    assert [retired.generation for retired in session_of(document).retired] == [2, 3, 4]
    for generation in (2, 3, 4):
        assert refresh(document, generation, moment(at)).outcome == Rotated(session_of(document), replayed=True)
    assert refresh(document, 1, moment(at)).outcome == Reused()


def test_with_four_in_grace_the_current_one_is_answered_again() -> None:
    document, at = ONE, NOW + HOUR
    for generation in (1, 2, 3, 4):
        document = saved(refresh(document, generation, moment(at)))
        at += SECOND
    step = refresh(document, 5, moment(at))
    assert step == Step(None, Rotated(session_of(document), replayed=True))
    rotated = saved(refresh(document, 5, moment(NOW + HOUR + GRACE)))  # the first of the four has left its grace
    assert [retired.generation for retired in session_of(rotated).retired] == [2, 3, 4, 5]
    assert session_of(rotated).generation == 6


def test_with_four_in_grace_no_access_token_runs_out() -> None:
    """Where refreshes follow each other faster than generations may: the same generation is answered with new times."""
    long_grace = {"rotation_grace": 10 * MINUTE, "access_ttl": MINUTE}
    document, at = ONE, NOW
    for generation in (1, 2, 3, 4):
        at += MINUTE
        document = saved(refresh(document, generation, moment(at, **long_grace)))
    assert refresh(document, 5, moment(at + 30 * SECOND - 1, **long_grace)).document is None
    step = refresh(document, 5, moment(at + 30 * SECOND, **long_grace), key_id="another")
    renewed = session_of(saved(step))
    assert step.outcome == Rotated(renewed)
    assert (renewed.generation, renewed.rotated_at, renewed.key_id) == (5, at + 30 * SECOND, "another")
    assert renewed.expires_at == at + 30 * SECOND + 30 * DAY
    assert renewed.retired == session_of(document).retired
    assert refresh(saved(step), 5, moment(at + MINUTE - 1, **long_grace)).document is None
    for older in (1, 2, 3, 4):
        assert isinstance(refresh(saved(step), older, moment(at + MINUTE, **long_grace)).outcome, Rotated)


def test_a_grace_of_nothing_forgives_only_lost_answers() -> None:
    none = {"rotation_grace": 0}
    document = saved(refresh(ONE, 1, moment(NOW + HOUR, **none)))
    assert isinstance(refresh(document, 1, moment(NOW + HOUR, **none)).outcome, Rotated)  # not seen yet
    used = use(document, 2, moment(NOW + HOUR, **none))
    assert refresh(used, 1, moment(NOW + HOUR, **none)).outcome == Reused()


# -- reuse -----------------------------------------------------------------------------------------------------------------


def test_C52_reuse_ends_the_session_with_all_its_generations() -> None:
    step = refresh(TWO_USED, 1, moment(NOW + DAY))
    assert (step.outcome, step.ends) == (Reused(), True)
    ended = saved(step)
    for generation in (1, 2, 3):
        assert judge(ended, moment(NOW + DAY), sid(1), generation) == Ended(Reason.REVOKED)
        assert refresh(ended, generation, moment(NOW + DAY)).outcome == Ended(Reason.REVOKED)


def test_C52_reuse_may_be_refused_only() -> None:
    step = refresh(TWO_USED, 1, moment(NOW + DAY, on_reuse="refuse"))
    assert step == Step(None, Superseded())


def test_C54_reuse_is_known_from_the_document_alone() -> None:
    """Whatever generation long gone: nothing but the current one's number is needed to know it for old."""
    document, at = ONE, NOW
    for generation in range(1, 30):
        at += HOUR
        document = use(saved(refresh(document, generation, moment(at))), generation + 1, moment(at + SECOND))
    for generation in range(1, 30):
        assert refresh(document, generation, moment(at + HOUR)).outcome == Reused()


# -- a store that has lost writes ------------------------------------------------------------------------------------------


def test_a_newer_generation_than_the_stores_is_taken_over() -> None:
    step = refresh(TWO, 7, moment(NOW + 2 * HOUR))
    session = session_of(saved(step))
    assert step.outcome == Rotated(session, behind=True)
    assert (session.generation, session.retired, session.used) == (8, (Retired(7, NOW + 2 * HOUR),), False)


def test_adopt_takes_over_what_an_access_token_proves() -> None:
    assert judge(TWO, moment(NOW + 2 * HOUR), sid(1), 7) is None
    adopted = saved(adopt(TWO, moment(NOW + 2 * HOUR), session_id=sid(1), generation=7))
    assert isinstance(judge(adopted, moment(NOW + 2 * HOUR), sid(1), 7), Active)
    assert isinstance(judge(adopted, moment(NOW + 2 * HOUR), sid(1), 6), Superseded)
    assert refresh(adopted, 6, moment(NOW + 2 * HOUR)).outcome == Reused()


def test_adopt_changes_nothing_that_is_as_new_or_over() -> None:
    for session_id, generation in ((sid(1), 2), (sid(1), 1), (sid(2), 9)):
        step = adopt(TWO, moment(NOW + 2 * HOUR), session_id=session_id, generation=generation)
        assert step == Step(None, None)


# -- touch -----------------------------------------------------------------------------------------------------------------


def test_a_touch_tells_when_and_that_it_was_used() -> None:
    session = session_of(TWO_USED)
    assert (session.used, session.seen_at, session.rotated_at) == (True, NOW + HOUR + SECOND, NOW + HOUR)


def test_a_touch_never_brings_a_session_back() -> None:
    for document in (saved(end_one(ONE, moment(NOW), session_id=sid(1))), with_sessions(2)):
        assert touch(document, moment(NOW + 1), session_id=sid(1), generation=1) == Step(None, None)
    assert touch(ONE, moment(NOW + 30 * DAY), session_id=sid(1), generation=1) == Step(None, None)


def test_a_touch_outlasts_a_rotation_of_what_it_saw() -> None:
    assert session_of(use(TWO_USED, 1, moment(NOW + 2 * HOUR))).used


# -- all at once -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 90 * SECOND), st.booleans()), max_size=25))
def test_there_is_one_live_chain_whatever_is_asked(steps: list[tuple[int, int, bool]]) -> None:
    """Generations only rise, by one; what is answered is always the current one; at most four older are remembered."""
    document, now = ONE, NOW
    for generation, wait, used in steps:
        now += wait
        before = document.find(sid(1))
        if before is None or generation > before.generation:
            continue
        step = refresh(document, generation, moment(now))
        document = after(document, step)
        if not isinstance(step.outcome, Rotated):
            assert step.outcome == Reused()
            assert document.find(sid(1)) is None
            continue
        session = session_of(document)
        assert step.outcome.session == session
        assert session.generation - before.generation in ({0, 1} if generation == before.generation else {0})
        assert len(session.retired) <= 4
        document = use(document, session.generation, moment(now)) if used else document


@pytest.mark.parametrize("generation", [1, 2, 3, 4, 5])
def test_an_access_token_is_active_while_current_or_in_grace(generation: int) -> None:
    document, at = ONE, NOW
    for older in (1, 2, 3):
        at += 20 * SECOND
        document = saved(refresh(document, older, moment(at)))
    verdict = judge(document, moment(at), sid(1), generation)
    session = session_of(document)
    expected = {
        1: Superseded(),  # retired 40 s ago
        2: Active(session, GRACE - 20 * SECOND),
        3: Active(session, GRACE),
        4: Active(session, session.expires_at - at),
        5: None,
    }
    assert verdict == expected[generation]
