"""Opening within the limit, ending, tombstones, floors, sizes. Rotation is in test_rotation, repetition in test_repeats."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import pytest
from documents import DAY, EMPTY, HOUR, MINUTE, NOW, POLICY, SECOND, ids, moment, open_one, saved, sid, with_sessions
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jwtguard.document import MAX_TOMBSTONES, Document, Reason, Tombstone
from jwtguard.policy import Active, Ended, active_sessions, judge, keep_until
from jwtguard.transitions import (
    Denied,
    Step,
    end_all,
    end_listed,
    end_one,
    end_others,
    listing_of,
    raise_floor,
    rotate,
    touch,
)


def in_use(document: Document, *numbers: int, at: int = NOW) -> Document:
    for number in numbers:
        document = saved(touch(document, moment(at), session_id=sid(number), generation=1))
    return document


# -- open ------------------------------------------------------------------------------------------------------------------


def test_a_session_opens_with_its_times_set() -> None:
    step = open_one(EMPTY, 1, moment(NOW))
    session = step.outcome
    assert (session.opened_at, session.seen_at, session.rotated_at) == (NOW, NOW, NOW)
    assert session.expires_at == NOW + 30 * DAY
    assert saved(step).sessions == (session,)
    assert saved(step).clock == NOW
    assert (step.ends, step.evicted) == (False, ())


def test_C42_a_session_never_outlives_SESSION_TTL_even_where_its_tokens_would() -> None:
    assert open_one(EMPTY, 1, moment(session_ttl=DAY)).outcome.expires_at == NOW + DAY
    assert open_one(EMPTY, 1, moment(refresh_ttl=MINUTE)).outcome.expires_at == NOW + 30 * MINUTE  # the access token's


def test_C48_evict_ends_the_least_recently_used() -> None:
    document = in_use(with_sessions(1, 2, 3, apart=SECOND), 1, at=NOW + MINUTE)
    step = open_one(document, 4, moment(NOW + 2 * MINUTE), limit=3)
    assert ids(saved(step)) == [1, 3, 4]
    assert step.evicted == (sid(2),)
    assert step.ends
    assert saved(step).remembered_reason(sid(2)) is Reason.EVICTED


def test_evict_breaks_ties_by_age() -> None:
    document = in_use(with_sessions(1, 2, apart=SECOND), 2, 1, at=NOW + MINUTE)
    assert open_one(document, 3, moment(NOW + 2 * MINUTE), limit=2).evicted == (sid(1),)


def test_a_lowered_limit_converges_at_the_next_login() -> None:
    step = open_one(with_sessions(*range(1, 21), apart=SECOND), 99, moment(NOW + MINUTE), limit=3)
    assert ids(saved(step)) == [19, 20, 99]
    assert len(step.evicted) == 18


def test_the_limit_is_that_of_the_login() -> None:
    document = with_sessions(1, 2, 3, apart=SECOND)
    assert len(saved(open_one(document, 4, moment(NOW + MINUTE), limit=10)).sessions) == 4
    assert ids(saved(open_one(document, 4, moment(NOW + MINUTE), limit=1))) == [4]


@pytest.mark.parametrize("on_limit", ["deny", "choose"])
def test_deny_and_choose_refuse_with_the_active_sessions(on_limit: str) -> None:
    document = in_use(with_sessions(1, 2, apart=SECOND), 1, 2, at=NOW + 2 * SECOND)
    step = open_one(document, 3, moment(NOW + DAY, on_limit=on_limit), limit=2)
    assert step.document is None
    assert isinstance(step.outcome, Denied)
    assert [session.id for session in step.outcome.sessions] == [sid(2), sid(1)]


@pytest.mark.parametrize("on_limit", ["deny", "choose"])
def test_under_deny_and_choose_a_login_never_seen_in_use_gives_way_after_a_minute(on_limit: str) -> None:
    document = in_use(with_sessions(1, 2), 1)
    early = open_one(document, 3, moment(NOW + MINUTE - 1, on_limit=on_limit), limit=2)
    assert isinstance(early.outcome, Denied)
    late = open_one(document, 3, moment(NOW + MINUTE, on_limit=on_limit), limit=2)
    assert ids(saved(late)) == [1, 3]
    assert late.evicted == (sid(2),)


def test_under_deny_a_login_that_refreshed_was_seen_in_use() -> None:
    document = saved(rotate(with_sessions(1), moment(NOW + 1), session_id=sid(1), generation=1, key_id="k"))
    assert isinstance(open_one(document, 2, moment(NOW + HOUR, on_limit="deny"), limit=1).outcome, Denied)


def test_under_evict_a_login_never_seen_in_use_has_no_lesser_right() -> None:
    document = in_use(with_sessions(1, 2, apart=SECOND), 1, at=NOW)
    document = replace(document, sessions=tuple(replace(one, seen_at=one.opened_at) for one in document.sessions))
    assert open_one(document, 3, moment(NOW + HOUR), limit=2).evicted == (sid(1),)


def test_deny_evicts_none_where_it_cannot_evict_enough() -> None:
    document = in_use(with_sessions(1, 2, 3), 1, 2)
    step = open_one(document, 4, moment(NOW + HOUR, on_limit="deny"), limit=2)
    assert step.document is None
    assert len(step.outcome.sessions) == 3


def test_C40_a_login_replaces_the_session_that_it_was_made_with() -> None:
    step = open_one(with_sessions(1, 2), 3, moment(NOW + 1), replaces=sid(1))
    assert ids(saved(step)) == [2, 3]
    assert saved(step).remembered_reason(sid(1)) is Reason.REVOKED
    assert (step.ends, step.evicted) == (True, ())


def test_a_replaced_session_makes_room_under_deny() -> None:
    document = in_use(with_sessions(1, 2), 1, 2)
    step = open_one(document, 3, moment(NOW + 1, on_limit="deny"), limit=2, replaces=sid(1))
    assert ids(saved(step)) == [2, 3]


def test_a_denied_login_replaces_nothing() -> None:
    document = in_use(with_sessions(1, 2, 3), 1, 2, 3)
    step = open_one(document, 4, moment(NOW + 1, on_limit="deny"), limit=2, replaces=sid(1))
    assert step.document is None
    assert len(step.outcome.sessions) == 3


def test_replacing_what_is_not_there_is_no_ending() -> None:
    step = open_one(with_sessions(1), 2, moment(NOW + 1), replaces=sid(77))
    assert ids(saved(step)) == [1, 2]
    assert not step.ends


def test_an_expired_session_takes_no_place() -> None:
    document = in_use(with_sessions(1), 1)
    step = open_one(document, 2, moment(NOW + 30 * DAY, on_limit="deny"), limit=1)
    assert ids(saved(step)) == [2]
    assert (step.ends, step.evicted) == (False, ())


# -- floors ----------------------------------------------------------------------------------------------------------------


def test_C45_a_login_in_flight_during_revoke_all_is_refused() -> None:
    revoked = saved(end_all(with_sessions(1), moment(NOW + SECOND)))
    for authenticated_at in (NOW, NOW + SECOND):
        step = open_one(revoked, 2, moment(NOW + MINUTE), authenticated_at=authenticated_at)
        assert step == Step(None, Ended(Reason.REVOKED))
    assert ids(saved(open_one(revoked, 2, moment(NOW + MINUTE), authenticated_at=NOW + SECOND + 1))) == [2]
    assert ids(saved(open_one(revoked, 2, moment(NOW + MINUTE)))) == [2]


def test_C46_a_login_in_flight_while_everyone_is_revoked_is_refused() -> None:
    at = moment(NOW + MINUTE, everyone=NOW + SECOND)
    assert open_one(EMPTY, 1, at, authenticated_at=NOW + SECOND).outcome == Ended(Reason.REVOKED)
    assert open_one(EMPTY, 1, at, authenticated_at=NOW + SECOND + 1).outcome.id == sid(1)


def test_a_session_opens_after_every_floor() -> None:
    """Also in the millisecond of the revocation, or with the clock behind it."""
    for at in (moment(NOW, everyone=NOW), moment(NOW, everyone=NOW + HOUR)):
        document = saved(open_one(EMPTY, 1, at))
        assert document.clock == document.sessions[0].opened_at == at.everyone + 1
        assert isinstance(judge(document, at, sid(1), 1), Active)
    revoked = saved(end_all(with_sessions(1), moment(NOW)))
    assert open_one(revoked, 2, moment(NOW)).outcome.opened_at == NOW + 1


def test_C46_everyones_floor_ends_what_was_opened_by_then() -> None:
    document = with_sessions(1, 2, apart=SECOND)
    later = moment(NOW + 2 * SECOND, everyone=NOW)
    assert [session.id for session in active_sessions(document, later)] == [sid(2)]
    assert judge(document, later, sid(1), 1) == Ended(Reason.REVOKED)
    assert isinstance(judge(document, later, sid(2), 1), Active)
    assert saved(touch(document, later, session_id=sid(2), generation=1)).remembered_reason(sid(1)) is Reason.REVOKED


def test_raising_the_floor_ends_what_was_opened_in_the_same_millisecond() -> None:
    everyone = Document.empty("")
    step = raise_floor(everyone, moment(NOW))
    assert (step.outcome, step.ends, saved(step).not_before) == (NOW + 1, True, NOW + 1)
    assert judge(with_sessions(1), moment(NOW, everyone=step.outcome), sid(1), 1) == Ended(Reason.REVOKED)


def test_the_floor_rises_at_every_call_with_the_clock_behind_it_too() -> None:
    """After a first revocation the clock is set back an hour; what was opened since must fall to the second."""
    everyone = saved(raise_floor(Document.empty(""), moment(NOW)))
    behind = NOW - HOUR
    user = saved(open_one(EMPTY, 1, moment(behind, everyone=everyone.not_before)))
    second = raise_floor(everyone, moment(behind + MINUTE).not_before(everyone))
    assert second.outcome > everyone.not_before
    assert judge(user, moment(behind + MINUTE, everyone=second.outcome), sid(1), 1) == Ended(Reason.REVOKED)


def test_a_floor_never_sinks_and_is_not_raised_twice_by_one_call() -> None:
    """Another call was faster, or this one is tried again."""
    later = saved(raise_floor(Document.empty(""), moment(NOW + SECOND)))
    assert raise_floor(later, moment(NOW)) == Step(None, NOW + SECOND + 1)
    assert raise_floor(later, moment(NOW + SECOND, repeated=True)) == Step(None, NOW + SECOND + 1)


# -- end -------------------------------------------------------------------------------------------------------------------


def test_end_one_ends_just_that_one() -> None:
    step = end_one(with_sessions(1, 2, 3), moment(NOW + 1), session_id=sid(2))
    assert ids(saved(step)) == [1, 3]
    assert (step.outcome, step.ends) == (True, True)
    assert saved(step).remembered_reason(sid(2)) is Reason.REVOKED
    assert judge(saved(step), moment(NOW + 1), sid(2), 1) == Ended(Reason.REVOKED)


def test_end_one_of_nothing_saves_nothing() -> None:
    assert end_one(with_sessions(1), moment(NOW), session_id=sid(2)) == Step(None, False)
    assert end_one(with_sessions(1), moment(NOW + 31 * DAY), session_id=sid(1)) == Step(None, False)


def test_C45_end_others_keeps_one_and_moves_the_floor() -> None:
    step = end_others(with_sessions(1, 2, 3), moment(NOW + 1), keep=sid(2))
    assert ids(saved(step)) == [2]
    assert (step.outcome, step.ends) == (2, True)
    assert saved(step).not_before == NOW + 1
    assert isinstance(judge(saved(step), moment(NOW + 1), sid(2), 1), Active)


def test_C44_end_all_ends_all() -> None:
    step = end_all(with_sessions(1, 2, 3), moment(NOW))
    assert saved(step).sessions == ()
    assert step.outcome == 3


def test_end_all_without_sessions_still_moves_the_floor() -> None:
    step = end_all(EMPTY, moment(NOW))
    assert (step.outcome, step.ends, saved(step).not_before) == (0, True, NOW)


@pytest.mark.parametrize("keep", [None, sid(1)])
def test_endings_spare_what_was_opened_after_they_began(keep: bytes | None) -> None:
    """The call began at NOW, lost a race against a login, and is applied again."""
    document = saved(open_one(with_sessions(1, 2), 3, moment(NOW + 5)))
    step = end_others(document, moment(NOW), keep=keep)
    assert ids(saved(step)) == ([3] if keep is None else [1, 3])
    assert saved(step).not_before == NOW


def test_end_others_where_a_later_call_was_first_still_ends_what_that_one_kept() -> None:
    first = saved(end_others(with_sessions(1, 2), moment(NOW + 5), keep=sid(1)))
    step = end_others(first, moment(NOW + 4), keep=sid(2))
    assert (saved(step).sessions, step.outcome, saved(step).not_before) == ((), 1, NOW + 5)


def test_an_emptied_document_is_kept_for_as_long_as_something_in_it_counts() -> None:
    document = with_sessions(1)
    ended = saved(end_one(document, moment(NOW + 1), session_id=sid(1)))
    assert keep_until(ended, POLICY) == document.sessions[0].expires_at
    everyone = saved(raise_floor(Document.empty(""), moment(NOW)))
    assert keep_until(everyone, POLICY) == NOW + 1 + POLICY.session_ttl
    assert keep_until(saved(end_all(document, moment(NOW))), POLICY) == NOW + POLICY.session_ttl


def test_a_document_is_kept_until_its_last_session_is_over() -> None:
    document = with_sessions(1, 2, apart=DAY)
    assert keep_until(document, POLICY) == NOW + 31 * DAY
    assert keep_until(EMPTY, POLICY) == 1  # a time in the past, and later than the document itself


# -- tickets ---------------------------------------------------------------------------------------------------------------


def test_a_listing_is_of_a_set() -> None:
    one, two = with_sessions(1).sessions, with_sessions(2).sessions
    assert listing_of(one + two) == listing_of(two + one)
    assert len({listing_of(()), listing_of(one), listing_of(two), listing_of(one + two)}) == 4


def test_a_ticket_ends_one_of_what_it_lists_once() -> None:
    document = with_sessions(1, 2)
    listing = listing_of(document.sessions)
    step = end_listed(document, moment(NOW + 1), session_id=sid(1), listing=listing)
    assert (step.outcome, step.ends, ids(saved(step))) == (True, True, [2])
    again = end_listed(saved(step), moment(NOW + 2), session_id=sid(2), listing=listing)
    assert again == Step(None, None)


def test_a_ticket_ends_nothing_else_and_stays_unused_by_that() -> None:
    document = with_sessions(1, 2)
    step = end_listed(document, moment(NOW + 1), session_id=sid(3), listing=listing_of(document.sessions))
    assert step == Step(None, False)


def test_a_ticket_is_out_of_date_when_the_sessions_have_changed() -> None:
    document = with_sessions(1, 2)
    listing = listing_of(document.sessions)
    changed = saved(open_one(document, 3, moment(NOW + 1)))
    assert end_listed(changed, moment(NOW + 2), session_id=sid(1), listing=listing).outcome is None


def test_the_listing_of_a_denial_is_the_listing_that_its_ticket_finds() -> None:
    """Though an expired session was still in the document when the login was denied."""
    document = in_use(with_sessions(1, 2, 3, apart=DAY), 1, 2, 3, at=NOW + 2 * DAY)
    at = moment(NOW + 30 * DAY, on_limit="choose")
    denied = open_one(document, 4, at, limit=2).outcome
    assert [session.id for session in denied.sessions] == [sid(3), sid(2)]
    assert end_listed(document, at, session_id=sid(3), listing=listing_of(denied.sessions)).outcome is True


# -- expiry, tombstones ----------------------------------------------------------------------------------------------------


def test_tombstones_tell_why_until_the_last_token_has_expired() -> None:
    ended = saved(end_one(with_sessions(1), moment(NOW + 1), session_id=sid(1)))
    until = NOW + 30 * DAY
    assert ended.tombstones == (Tombstone(sid(1), Reason.REVOKED, until),)
    before = saved(open_one(ended, 2, moment(until - 1)))
    assert before.remembered_reason(sid(1)) is Reason.REVOKED
    assert saved(open_one(before, 3, moment(until))).tombstones == ()


def test_there_are_at_most_sixteen_tombstones_and_the_last_ones_count() -> None:
    document = with_sessions(*range(1, 41), apart=SECOND)
    ended = saved(end_all(document, moment(NOW + MINUTE)))
    assert [stone.id for stone in ended.tombstones] == [sid(number) for number in range(25, 41)]
    assert len(ended.tombstones) == MAX_TOMBSTONES


def test_C41_an_unused_session_is_over_and_says_so() -> None:
    idle = {"idle_timeout": HOUR}
    document = with_sessions(1, 2)
    used = saved(touch(document, moment(NOW + HOUR - 1, **idle), session_id=sid(2), generation=1))
    later = saved(open_one(used, 3, moment(NOW + HOUR, **idle)))
    assert ids(later) == [2, 3]
    assert later.remembered_reason(sid(1)) is Reason.EXPIRED


def test_what_expires_with_its_tokens_displaces_no_tombstone() -> None:
    document = saved(end_one(with_sessions(1), moment(NOW + 1), session_id=sid(1)))
    short = {"refresh_ttl": HOUR}
    for number in range(2, 30):
        document = saved(open_one(document, number, moment(NOW + 2, **short)))
    later = saved(open_one(document, 99, moment(NOW + DAY)))
    assert ids(later) == [99]
    assert [stone.id for stone in later.tombstones] == [sid(1)]


# -- time ------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-10 * HOUR, 10 * HOUR), max_size=12))
def test_the_clock_of_a_document_never_goes_back(jumps: list[int]) -> None:
    document, now = EMPTY, NOW
    for number, jump in enumerate(jumps, 1):
        now += jump
        before = document.clock
        document = saved(open_one(document, number, moment(now)))
        assert document.clock == max(before, now)
        opened = document.sessions[-1]
        assert (opened.opened_at, opened.seen_at) == (document.clock, document.clock)


def test_what_was_over_stays_over_when_the_clock_goes_back() -> None:
    expired = saved(open_one(with_sessions(1), 2, moment(NOW + 31 * DAY)))
    assert judge(expired, moment(NOW), sid(1), 1) == Ended(Reason.UNKNOWN)
    unsaved = replace(with_sessions(1), clock=NOW + 31 * DAY)
    assert judge(unsaved, moment(NOW), sid(1), 1) == Ended(Reason.EXPIRED)
    assert active_sessions(unsaved, moment(NOW)) == ()
