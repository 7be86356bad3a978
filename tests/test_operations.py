"""Logging in and refreshing: what is checked before anything is saved, what is answered, and what is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from documents import MINUTE
from rig import DOWN, Rig, always, claims_of, request

from jwtguard.context import WANTED
from jwtguard.document import document_key
from jwtguard.errors import (
    LimitReached,
    RefreshExpired,
    RefreshInvalid,
    SessionEvicted,
    SessionRevoked,
    StoreError,
    TokenInvalid,
)
from jwtguard.model import Device
from jwtguard.tokens import RESERVED_CLAIMS


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- what login refuses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject", ["", "a" * 256, "é" * 128, "a\nb", "a\x00", "\x7f", "\x85", "\ud800", None, True, 1.5, b"alice", ["alice"]]
)
def test_a_bad_subject_saves_nothing(rig: Rig, subject: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="subject"):
        rig.login(subject)
    assert rig.model.calls == []


@pytest.mark.parametrize("subject", ["alice", "Алиса", "a" * 255, 7, UUID(int=5), "{alice}", "alice "])
def test_a_good_subject_is_kept_as_it_is(rig: Rig, subject: Any) -> None:
    pair = rig.logged_in(subject)
    identity = rig.recall(pair)
    assert identity is not None
    assert identity.subject == str(subject)
    assert document_key("tests", str(subject)) in rig.model.documents


@pytest.mark.parametrize(
    "arguments",
    [
        {"scopes": "read write"},
        {"scopes": ["read write"]},
        {"scopes": ['a"b']},
        {"scopes": [""]},
        {"scopes": [7]},
        {"scopes": ["x" * 1025]},
        {"claims": {"when": object()}},
        {"claims": {"not a number": float("nan")}},
        {"claims": {"lone": "\ud800"}},
        {"claims": {"long": "x" * 9000}},
        {"claims": {1: "a", "1": "b"}},
        {"limit": 0},
        {"limit": -1},
        {"limit": 1001},
        {"replace": "nobody"},
        {"replace": ""},
        {"authenticated_at": datetime(2025, 6, 15, 12)},  # noqa: DTZ001 - that is what is wrong with it
        {"authenticated_at": float("nan")},
        {"authenticated_at": float("inf")},
        *[{"claims": {name: "mine"}} for name in sorted(RESERVED_CLAIMS)],
    ],
    ids=lambda arguments: next(iter(arguments)) + "=" + repr(next(iter(arguments.values())))[:24],
)
def test_a_bad_argument_saves_nothing(rig: Rig, arguments: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        rig.login(**arguments)
    assert rig.model.count("save") == 0


def too_long(length: int) -> bool:
    """Whether a login with a claim of this length is refused; one that isn't can be refreshed for as long as it lives."""
    rig = Rig(max_token=512)
    try:
        pair = rig.login(claims={"x": "y" * length})
    except ValueError:
        return rig.model.count("save") == 0
    for _ in range(12):
        rig.clock.advance(60)
        pair = rig.refresh(pair)
        assert rig.authenticate(pair)
    return False


def test_a_token_that_would_be_too_long_later_is_refused_at_login() -> None:
    """The longest that the tokens of a session can get is what must fit."""
    longest = next(length for length in range(0, 300, 2) if too_long(length))
    assert 20 < longest < 200
    with pytest.raises(ValueError, match="JWTGUARD_MAX_TOKEN"):
        Rig(max_token=512).login(claims={"x": "y" * longest})


# -- what login answers ----------------------------------------------------------------------------------------------------


def test_a_pair_of_tokens(rig: Rig) -> None:
    with request(HTTP_USER_AGENT="curl/8.0", REMOTE_ADDR="203.0.113.9") as environ:
        pair = rig.login(scopes=["read"], claims={"team": "blue"})
    now = int(rig.clock.time())
    assert pair.to_dict().keys() == {"access_token", "refresh_token", "token_type", "expires_in", "session_id"}
    assert pair.expires_in == 1800
    access, refresh = claims_of(pair.access_token), claims_of(pair.refresh_token)
    assert (access["iat"], access["exp"], access["scope"], access["team"]) == (now, now + 1800, "read", "blue")
    assert (refresh["iat"], refresh["exp"], refresh["claims"]) == (now, now + 30 * 86_400, {"team": "blue"})
    assert environ[WANTED].headers == {"Cache-Control": "no-store"}
    (session,) = rig.do(rig.operations.sessions("alice"))
    assert (session.device, session.scopes) == (Device("curl", None, "203.0.113.9"), ("read",))
    assert rig.events == [("opened", "alice")]


def test_a_device_may_be_given(rig: Rig) -> None:
    rig.login(device=Device("x" * 100, "a user agent", "203.0.113.9" * 10))
    record = rig.document().sessions[0]
    assert (len(record.device), len(record.ip)) == (64, 64)
    rig.login(device=Device("fridge"))
    assert rig.document().sessions[1].ip == ""


def test_tokens_do_not_outlive_their_session() -> None:
    rig = Rig(session_ttl=10 * MINUTE)
    pair = rig.login()
    assert pair.expires_in == 600
    assert claims_of(pair.refresh_token)["exp"] == int(rig.clock.time()) + 600
    rig.clock.advance(400)
    pair = rig.refresh(pair)
    assert pair.expires_in == 200
    rig.clock.advance(200)
    with pytest.raises(RefreshExpired):
        rig.refresh(pair)


def test_nothing_is_answered_that_is_not_saved(rig: Rig) -> None:
    rig.model.on_save = always(DOWN)
    with pytest.raises(StoreError):
        rig.login()
    assert rig.events == []


# -- the session that came with the login ----------------------------------------------------------------------------------


def test_C40_the_session_that_was_presented_is_replaced(rig: Rig) -> None:  # noqa: N802 - its id
    old = rig.logged_in()
    with request(rig.authenticate(old)):
        new = rig.login()
    assert rig.recall(old) is None
    with pytest.raises(SessionRevoked):
        rig.authenticate(old)
    assert rig.authenticate(new)


def test_C40_the_session_of_another_user_is_ended_too(rig: Rig) -> None:  # noqa: N802 - its id
    old = rig.logged_in("bob")
    with request(rig.authenticate(old)):
        new = rig.login("alice")
    with pytest.raises(SessionRevoked):
        rig.authenticate(old)
    assert rig.authenticate(new)
    assert rig.events == [("opened", "bob"), ("opened", "alice"), ("revoked", "bob")]


def test_a_session_may_be_named_to_be_replaced(rig: Rig) -> None:
    first, second = rig.logged_in(), rig.logged_in()
    rig.login(replace=first.session_id)
    assert rig.authenticate(second)
    with pytest.raises(SessionRevoked):
        rig.authenticate(first)


def test_a_session_of_another_user_can_not_be_named(rig: Rig) -> None:
    others = rig.logged_in("bob")
    rig.login(replace=others.session_id)
    assert rig.authenticate(others)


# -- the limit -------------------------------------------------------------------------------------------------------------


def test_evict(rig: Rig) -> None:
    pairs = [rig.logged_in(limit=2) for _ in range(3)]
    assert rig.events[-2:] == [("evicted", "alice"), ("opened", "alice")]
    with pytest.raises(SessionEvicted):
        rig.authenticate(pairs[0])


def test_deny() -> None:
    rig = Rig(on_limit="deny", max_sessions=2)
    pairs = [rig.logged_in() for _ in range(2)]
    with pytest.raises(LimitReached) as caught:
        rig.login()
    assert {session.id for session in caught.value.sessions} == {pair.session_id for pair in pairs}
    assert caught.value.ticket is None
    assert all(map(rig.authenticate, pairs))


def test_a_ticket_ends_one_of_the_listed_sessions_once() -> None:
    rig = Rig(on_limit="choose", max_sessions=2)
    first, second = rig.logged_in(), rig.logged_in()
    with pytest.raises(LimitReached) as caught:
        rig.login()
    ticket = caught.value.ticket
    assert ticket is not None
    for wrong in ("", "A" * 22, "not an id"):
        assert rig.do(rig.operations.end_with_ticket(ticket, wrong)) is False
    assert rig.do(rig.operations.end_with_ticket(ticket, first.session_id)) is True
    assert rig.events[-1] == ("revoked", "alice")
    with pytest.raises(SessionRevoked):
        rig.authenticate(first)
    third = rig.logged_in()
    for target in (second, third, first):
        with pytest.raises(TokenInvalid):
            rig.do(rig.operations.end_with_ticket(ticket, target.session_id))
    assert rig.authenticate(second)
    assert rig.authenticate(third)


def test_c50_a_ticket_is_no_other_token_and_no_other_token_is_a_ticket() -> None:
    rig = Rig(on_limit="choose", max_sessions=1)
    pair = rig.logged_in()
    with pytest.raises(LimitReached) as caught:
        rig.login()
    ticket = caught.value.ticket or ""
    with pytest.raises(TokenInvalid):
        rig.do(rig.authenticator.authenticate(ticket.encode()))
    with pytest.raises(RefreshInvalid):
        rig.do(rig.operations.refresh(ticket))
    for other in (pair.access_token, pair.refresh_token):
        with pytest.raises(TokenInvalid):
            rig.do(rig.operations.end_with_ticket(other, pair.session_id))


# -- authenticated_at ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["revoke_all", "revoke_others", "revoke_everyone"])
def test_a_login_that_was_under_way_is_refused(rig: Rig, end: str) -> None:
    pair = rig.logged_in()
    proved_at = rig.clock.time()
    rig.clock.advance(5)
    operations = rig.operations
    flow: Any = {
        "revoke_all": lambda: operations.revoke_all("alice"),
        "revoke_others": lambda: operations.revoke_others(rig.authenticate(pair)),
        "revoke_everyone": operations.revoke_everyone,
    }[end]()
    rig.do(flow)
    for when in (proved_at, datetime.fromtimestamp(proved_at, UTC), rig.clock.time()):
        with pytest.raises(SessionRevoked):
            rig.login(authenticated_at=when)
    assert rig.authenticate(rig.login(authenticated_at=rig.clock.time() + 0.01))
    assert rig.authenticate(rig.login())
