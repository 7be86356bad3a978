"""How large a document gets: at most 1,000 sessions and 64 KiB, whatever happens to it."""

from __future__ import annotations

import pytest
from documents import DAY, EMPTY, NOW, fresh, moment, open_one, saved, sid
from msgspec.structs import replace

from jwtguard.document import MAX_BYTES, MAX_SESSIONS, Document, Retired, decode, encode
from jwtguard.transitions import ROOM_TO_GROW, Denied, adopt, end_one, end_others, open_session, rotate, touch


def test_there_are_never_more_than_a_thousand_sessions() -> None:
    small = replace(open_one(EMPTY, 1, moment()).outcome, key_id="", device="", ip="")
    sessions = tuple(replace(small, id=sid(number)) for number in range(MAX_SESSIONS))
    document = replace(EMPTY, sessions=sessions, clock=NOW)
    assert len(encode(document)) < MAX_BYTES - ROOM_TO_GROW
    step = open_session(document, moment(NOW), session=replace(small, id=sid(5000)), limit=10**6)
    assert len(saved(step).sessions) == MAX_SESSIONS
    assert decode(encode(saved(step)), "alice") == saved(step)


def crowded() -> Document:
    """As many sessions as a login leaves room for, with long names."""
    document, number = EMPTY, 1
    while True:
        session = fresh(number, device="ẞ" * 64, ip="2001:db8:" + "f" * 55, scopes=("s" * 40,))
        step = open_session(document, moment(NOW), session=session, limit=1000)
        if step.evicted:
            return document
        document, number = saved(step), number + 1


@pytest.fixture(scope="module")
def full() -> Document:
    return crowded()


def test_a_login_makes_room_in_bytes_too(full: Document) -> None:
    session = fresh(9000, device="ẞ" * 64, ip="2001:db8:" + "f" * 55)
    step = open_session(full, moment(NOW + 1), session=session, limit=1000)
    assert step.evicted == (sid(1),)
    assert len(encode(saved(step))) <= MAX_BYTES - ROOM_TO_GROW
    used = replace(full, sessions=tuple(replace(one, used=True) for one in full.sessions))
    denied = open_session(used, moment(NOW + 1, on_limit="deny"), session=session, limit=1000)
    assert isinstance(denied.outcome, Denied)


def test_no_step_makes_a_document_too_long_to_be_saved(full: Document) -> None:
    """Four generations in grace, dates far apart: the least recently used give way, and never the one at hand."""
    retired = tuple(Retired(900_000_000 + index, NOW + 10 * DAY) for index in range(3))
    long = replace(full.sessions[0], generation=900_000_003, retired=retired)
    sessions = tuple(replace(long, id=one.id, key_id=f"{index:03d}" + "k" * 197) for index, one in enumerate(full.sessions))
    swollen = replace(full, sessions=sessions)
    assert len(encode(swollen)) > MAX_BYTES
    at = moment(NOW + 10 * DAY)
    rotated = rotate(swollen, at, session_id=sid(1), generation=900_000_003, key_id="k" * 200)
    touched = touch(swollen, at, session_id=sid(1), generation=900_000_003)
    adopted = adopt(swollen, at, session_id=sid(1), generation=900_000_004)
    for step in (rotated, touched, adopted):
        assert len(encode(saved(step))) <= MAX_BYTES
        assert saved(step).find(sid(1)) is not None
        assert step.evicted[0] == sid(2)
        assert step.ends
    ended = end_one(swollen, at, session_id=sid(3))
    assert len(encode(saved(ended))) <= MAX_BYTES
    assert ended.outcome is True
    others = end_others(swollen, at._replace(now=NOW - 1), keep=sid(1))
    assert len(encode(saved(others))) <= MAX_BYTES
    assert saved(others).find(sid(1)) is not None
