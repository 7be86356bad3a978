"""The read side of the user document: what is active, why not, for how long, and when a use is to be written down."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

from documents import DAY, EMPTY, HOUR, MINUTE, NOW, POLICY, SECOND, moment, open_one, saved, sid, with_sessions
from msgspec.structs import replace

from jwtguard.document import Reason
from jwtguard.policy import (
    Active,
    Ended,
    Moment,
    active_sessions,
    end_of,
    is_active,
    judge,
    needs_touch,
    reason_inactive,
)
from jwtguard.transitions import end_one, touch

ONE = with_sessions(1)
SESSION = ONE.sessions[0]


def test_a_moment_is_never_before_the_documents_clock() -> None:
    assert moment(NOW - 1).not_before(ONE) == moment(NOW)
    later = moment(NOW + 1, everyone=5, repeated=True)
    assert later.not_before(ONE) is later
    assert moment(NOW - 1, everyone=5, repeated=True).not_before(ONE) == Moment(NOW, POLICY, 5, True)


def test_touch_after_is_a_minute_or_a_tenth_of_the_idle_timeout() -> None:
    assert POLICY.touch_after == MINUTE
    assert POLICY._replace(idle_timeout=HOUR).touch_after == MINUTE
    assert POLICY._replace(idle_timeout=5 * MINUTE).touch_after == 30 * SECOND


def test_a_session_is_over_by_the_first_of_its_ends() -> None:
    assert end_of(SESSION, POLICY) == SESSION.expires_at == NOW + 30 * DAY
    assert end_of(SESSION, POLICY._replace(session_ttl=DAY)) == NOW + DAY
    assert end_of(SESSION, POLICY._replace(idle_timeout=HOUR)) == NOW + HOUR
    assert end_of(SESSION, POLICY._replace(idle_timeout=60 * DAY)) == NOW + 30 * DAY


def test_C41_idleness_counts_from_the_last_use() -> None:
    idle = {"idle_timeout": HOUR}
    seen = saved(touch(ONE, moment(NOW + HOUR - 1, **idle), session_id=sid(1), generation=1))
    assert isinstance(judge(seen, moment(NOW + HOUR, **idle), sid(1), 1), Active)
    assert judge(seen, moment(NOW + 2 * HOUR - 1, **idle), sid(1), 1) == Ended(Reason.EXPIRED)


def test_a_session_is_over_at_its_end_and_not_later() -> None:
    assert is_active(SESSION, moment(NOW + 30 * DAY - 1))
    assert not is_active(SESSION, moment(NOW + 30 * DAY))
    assert reason_inactive(SESSION, moment(NOW + 30 * DAY)) is Reason.EXPIRED


def test_who_was_ended_with_everyone_was_revoked() -> None:
    assert is_active(SESSION, moment(NOW, everyone=NOW - 1))
    assert not is_active(SESSION, moment(NOW, everyone=NOW))
    assert reason_inactive(SESSION, moment(NOW, everyone=NOW)) is Reason.REVOKED


def test_sessions_are_listed_newest_first_in_one_millisecond_too() -> None:
    assert [one.id for one in active_sessions(with_sessions(3, 1, 2), moment())] == [sid(2), sid(1), sid(3)]
    apart = with_sessions(3, 1, 2, apart=SECOND)
    shuffled = replace(apart, sessions=apart.sessions[::-1])
    assert [one.id for one in active_sessions(shuffled, moment())] == [sid(2), sid(1), sid(3)]


def test_an_admission_lasts_until_the_session_is_over() -> None:
    assert judge(ONE, moment(NOW + DAY), sid(1), 1) == Active(SESSION, 29 * DAY)
    assert judge(ONE, moment(NOW + 30 * DAY - 1), sid(1), 1) == Active(SESSION, 1)


def test_nothing_is_known_of_a_session_never_opened() -> None:
    assert judge(EMPTY, moment(), sid(1), 1) == Ended(Reason.UNKNOWN)
    assert judge(ONE, moment(), sid(2), 1) == Ended(Reason.UNKNOWN)


def test_why_a_session_ended_is_told() -> None:
    evicted = saved(open_one(ONE, 2, moment(NOW + 1), limit=1))
    revoked = saved(end_one(evicted, moment(NOW + 2), session_id=sid(2)))
    assert judge(revoked, moment(NOW + 2), sid(1), 1) == Ended(Reason.EVICTED)
    assert judge(revoked, moment(NOW + 2), sid(2), 1) == Ended(Reason.REVOKED)


def test_the_first_use_of_a_generation_is_written_down_at_once() -> None:
    assert needs_touch(SESSION, moment(NOW), 1)
    assert not needs_touch(replace(SESSION, used=True), moment(NOW), 1)
    assert not needs_touch(replace(SESSION, generation=2), moment(NOW), 1)


def test_later_uses_are_written_down_once_in_a_while() -> None:
    used = replace(SESSION, used=True)
    assert not needs_touch(used, moment(NOW + MINUTE), 1)
    assert needs_touch(used, moment(NOW + MINUTE + 1), 1)
    assert needs_touch(used, moment(NOW + 7 * SECOND, idle_timeout=MINUTE), 1)
