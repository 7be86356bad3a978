"""What follows a login: refreshing, claims that change, endings, and the list of sessions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from documents import MINUTE
from rig import ALICE, DOWN, AsyncModel, Rig, always, claims_of, request

from jwtguard.errors import (
    RefreshReused,
    RefreshSuperseded,
    SessionEvicted,
    SessionExpired,
    SessionRevoked,
    SessionUnknown,
    StoreError,
    TokenInvalid,
    TokenSuperseded,
)
from jwtguard.flow import arun
from jwtguard.model import ANONYMOUS, Device


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- refresh ---------------------------------------------------------------------------------------------------------------


def test_a_refresh_gives_the_next_pair_and_the_same_again(rig: Rig) -> None:
    pair = rig.logged_in(scopes=["read"], claims={"team": "blue"})
    rig.clock.advance(100)
    first = rig.refresh(pair)
    rig.clock.advance(10)
    again = rig.refresh(pair)
    assert (first.access_token, first.refresh_token) == (again.access_token, again.refresh_token)
    assert claims_of(first.access_token)["team"] == "blue"
    assert rig.authenticate(first).scopes == ("read",)
    assert [name for name, _ in rig.events] == ["opened", "refreshed", "refresh_replayed"]


def test_without_a_grace_the_older_access_token_is_over_at_once() -> None:
    """Here; elsewhere it is when the lease is."""
    rig = Rig(rotation_grace=0, ttl=600.0)
    pair = rig.logged_in()
    rig.clock.advance(1)
    successor = rig.refresh(pair)
    with pytest.raises(TokenSuperseded):
        rig.authenticate(pair)
    assert rig.authenticate(successor).subject == "alice"


def test_a_clock_that_was_ahead_and_is_set_right_locks_nobody_out(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.clock.jump(3600)
    ahead = rig.refresh(pair)
    rig.clock.jump(-3600)
    rig.registry.ended(None)
    assert rig.authenticate(rig.login()).subject == "alice", "a new login in the document whose time is ahead"
    successor = rig.refresh(pair)
    assert rig.authenticate(successor).subject == "alice"
    assert claims_of(successor.access_token)["iat"] == int(rig.clock.time())
    with pytest.raises(TokenInvalid):
        rig.authenticate(ahead)


def test_claims_that_have_grown_too_long_are_refused_before_anything_changes() -> None:
    found: dict[str, Any] = {}
    rig = Rig(claims_loader=lambda _subject: found)
    pair = rig.logged_in()
    found["roles"] = "x" * 8192
    before = rig.document()
    with pytest.raises(ValueError, match="the token would be"):
        rig.refresh(pair)
    assert rig.document() == before
    found.clear()
    rig.authenticate(rig.refresh(pair))


def test_an_old_refresh_token_ends_the_session(rig: Rig) -> None:
    pair = rig.logged_in()
    successor = rig.refresh(pair)
    rig.authenticate(successor)
    rig.clock.advance(31)
    with pytest.raises(RefreshReused):
        rig.refresh(pair)
    assert rig.events[-1] == ("refresh_reused", "alice")
    assert rig.recall(successor) is None
    for refused in (pair, successor):
        with pytest.raises(SessionRevoked):
            rig.refresh(refused)


def test_or_is_only_refused() -> None:
    rig = Rig(on_reuse="refuse")
    pair = rig.logged_in()
    successor = rig.refresh(pair)
    rig.authenticate(successor)
    rig.clock.advance(31)
    with pytest.raises(RefreshSuperseded):
        rig.refresh(pair)
    assert rig.events[-1] == ("refresh_reused", "alice")
    assert rig.authenticate(successor)


def test_a_refresh_tells_where_the_session_is_now(rig: Rig) -> None:
    pair = rig.login(device=Device("fridge", None, "203.0.113.1"))
    pair = rig.refresh(pair)
    assert (rig.document().sessions[0].device, rig.document().sessions[0].ip) == ("fridge", "203.0.113.1")
    with request(HTTP_USER_AGENT="curl/8.0", REMOTE_ADDR="203.0.113.2"):
        rig.refresh(pair)
    assert (rig.document().sessions[0].device, rig.document().sessions[0].ip) == ("curl", "203.0.113.2")


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda rig, pair: rig.revoke(pair), SessionRevoked),
        (lambda rig, _pair: rig.login(limit=1), SessionEvicted),
        (lambda rig, _pair: rig.do(rig.operations.revoke_everyone()), SessionRevoked),
        (lambda rig, _pair: rig.model.documents.clear(), SessionUnknown),
        (lambda rig, _pair: rig.clock.advance(90 * 60), SessionExpired),
    ],
)
@pytest.mark.parametrize("use", ["refresh", "logout_by_refresh_token"])
def test_c59_an_ended_session_is_refused_with_its_reason(end: Any, error: type[Exception], use: str) -> None:
    rig = Rig(idle_timeout=60 * MINUTE)
    pair = rig.logged_in()
    end(rig, pair)
    with pytest.raises(error):
        rig.do(getattr(rig.operations, use)(pair.refresh_token))


def test_a_refresh_of_a_generation_that_the_store_has_lost(rig: Rig) -> None:
    pair = rig.logged_in()
    backup = rig.model.documents[ALICE]
    pair = rig.refresh(rig.refresh(pair))
    rig.model.documents[ALICE] = backup
    successor = rig.refresh(pair)
    assert claims_of(successor.access_token)["jti"].endswith(".4")
    assert ("store_behind", "alice") in rig.events
    assert rig.authenticate(successor)


# -- claims_loader ---------------------------------------------------------------------------------------------------------


def test_the_hook_is_asked_at_login_and_at_each_rotation() -> None:
    given: dict[str, Any] = {"role": "admin", "team": "red"}
    asked: list[str] = []

    def load(subject: str) -> dict[str, Any]:
        asked.append(subject)
        return given

    rig = Rig(claims_loader=load)
    pair = rig.login(claims={"team": "blue", "tenant": 7})
    assert rig.authenticate(pair).claims["role"] == "admin"
    assert rig.authenticate(pair).claims["team"] == "red"
    given.clear()
    pair = rig.refresh(pair)
    claims = rig.authenticate(pair).claims
    assert "role" not in claims, "what the hook gives no longer is gone"
    assert (claims["team"], claims["tenant"]) == ("blue", 7)
    assert asked == ["alice", "alice"]
    assert claims_of(pair.refresh_token)["claims"] == {"team": "blue", "tenant": 7}


@pytest.mark.parametrize("given", [{"sub": "bob"}, {"long": "x" * 9000}, {"x": object()}, None, "text"])
def test_what_the_hook_gives_is_checked_before_anything_is_saved(given: Any) -> None:
    rig = Rig(claims_loader=lambda _subject: given)
    with pytest.raises((ValueError, TypeError)):
        rig.login()
    assert rig.model.count("save") == 0


def test_a_hook_that_fails_saves_nothing() -> None:
    def fail(_subject: str) -> dict[str, Any]:
        raise LookupError("no such user")

    rig = Rig(claims_loader=fail)
    with pytest.raises(LookupError):
        rig.login()
    assert rig.model.calls == []


def test_an_async_hook_is_awaited() -> None:
    async def load(subject: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"name": subject.title()}

    rig = Rig(claims_loader=load)
    pair = asyncio.run(arun(rig.operations.login("alice"), AsyncModel(rig.model)))
    assert rig.authenticate(pair).display_name == "Alice"
    with pytest.raises(TypeError, match="use a plain function"):
        rig.login()


# -- endings and listing ---------------------------------------------------------------------------------------------------


def test_logging_out_ends_this_session_and_no_other(rig: Rig) -> None:
    mine, other = rig.logged_in(), rig.logged_in()
    identity = rig.authenticate(mine)
    for _ in range(2):
        rig.do(rig.operations.logout(identity))
        assert rig.recall(mine) is None
    with pytest.raises(SessionRevoked):
        rig.authenticate(mine)
    assert rig.authenticate(other)
    assert rig.events.count(("revoked", "alice")) == 1
    calls = len(rig.model.calls)
    rig.do(rig.operations.logout(ANONYMOUS))
    assert len(rig.model.calls) == calls


def test_logging_out_by_a_refresh_token_of_any_generation(rig: Rig) -> None:
    pair = rig.logged_in()
    successor = rig.refresh(pair)
    rig.do(rig.operations.logout_by_refresh_token(pair.refresh_token))
    with pytest.raises(SessionRevoked):
        rig.authenticate(successor)
    assert rig.events[-1] == ("revoked", "alice")


def test_a_session_is_ended_for_its_own_user_only(rig: Rig) -> None:
    pair = rig.logged_in()
    assert rig.revoke(pair, user="bob") is False
    assert rig.authenticate(pair)
    for wrong in ("", "x", pair.session_id + "A", pair.session_id[:-1] + "=", "é" * 22):
        assert rig.do(rig.operations.revoke("alice", wrong)) is False
    assert rig.revoke(pair) is True
    assert rig.revoke(pair) is False


@pytest.mark.parametrize("store_is_down", [False, True])
def test_what_was_ended_elsewhere_is_known_here_once_it_is_ended_here_too(rig: Rig, store_is_down: bool) -> None:
    """The store reports nothing, so here the session is cached as active for a while; but not after `revoke` was called."""
    pair = rig.logged_in()
    assert rig.another().revoke(pair)
    assert rig.recall(pair)
    if store_is_down:
        rig.model.on_load = always(DOWN)
        with pytest.raises(StoreError):
            rig.revoke(pair)
    else:
        assert rig.revoke(pair) is False
    assert rig.recall(pair) is None


def test_ending_the_others(rig: Rig) -> None:
    pairs = [rig.logged_in() for _ in range(3)]
    identity = rig.authenticate(pairs[1])
    assert rig.do(rig.operations.revoke_others(identity)) == 2
    assert rig.authenticate(pairs[1])
    for ended in (pairs[0], pairs[2]):
        with pytest.raises(SessionRevoked):
            rig.authenticate(ended)
    with pytest.raises(TokenInvalid):
        rig.do(rig.operations.revoke_others(ANONYMOUS))


def test_ending_all(rig: Rig) -> None:
    pairs = [rig.logged_in() for _ in range(3)]
    other = rig.logged_in("bob")
    assert rig.do(rig.operations.revoke_all("alice")) == 3
    assert not any(map(rig.recall, pairs))
    assert rig.authenticate(other)
    with pytest.raises(ValueError, match="subject"):
        rig.do(rig.operations.revoke_all(""))


def test_ending_everyone(rig: Rig) -> None:
    pairs = [rig.logged_in(user) for user in ("alice", "bob")]
    rig.model.calls.clear()
    rig.do(rig.operations.revoke_everyone())
    assert [verb for verb, _ in rig.model.calls].count("save") == 1
    assert rig.events[-1] == ("revoked", "")
    assert not any(map(rig.recall, pairs))
    for pair in pairs:
        with pytest.raises(SessionRevoked):
            rig.authenticate(pair)
        with pytest.raises(SessionRevoked):
            rig.refresh(pair)
    assert rig.do(rig.operations.sessions("alice")) == []
    assert rig.authenticate(rig.login())


def test_the_list_is_of_the_active_sessions_newest_first(rig: Rig) -> None:
    pairs = []
    for _ in range(3):
        pairs.append(rig.logged_in())
        rig.clock.advance(10)
    rig.revoke(pairs[1])
    with request(rig.authenticate(pairs[0])):
        sessions = rig.do(rig.operations.sessions("alice"))
    assert [(session.id, session.current) for session in sessions] == [
        (pairs[2].session_id, False),
        (pairs[0].session_id, True),
    ]
    assert [session.created_at for session in sessions] == [int(rig.clock.time()) - 10, int(rig.clock.time()) - 30]
    assert rig.do(rig.operations.sessions("nobody")) == []


def test_a_pair_that_is_asked_for_again_is_the_same_to_the_last_member(rig: Rig) -> None:
    first = rig.logged_in()
    pair = rig.refresh(first)
    rig.clock.advance(29)
    assert rig.refresh(first) == pair
    assert pair.expires_in == 1800
    rig.clock.advance(600)
    assert rig.refresh(first).expires_in == 1800 - 629, "its answer was lost, so it may ask for long"


# -- arguments that are no such thing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("device", "phone", TypeError, "device is a jwtguard.Device, and not str"),
        ("device", Device(name=5), TypeError, "strings, and not int"),  # type: ignore[arg-type]
        ("limit", "3", TypeError, "limit is an int, and not str"),
        ("limit", True, TypeError, "limit is an int, and not bool"),
        ("limit", 0, ValueError, "limit is 0: expected 1 to 1000"),
        ("limit", 1001, ValueError, "limit is 1001"),
        ("replace", 5, ValueError, "replace is not a session id"),
        ("authenticated_at", "now", TypeError, "a time is a number of seconds or a datetime, and not str"),
        ("authenticated_at", True, TypeError, "and not bool"),
    ],
)
def test_a_login_says_what_is_wrong_with_its_arguments(name: str, value: Any, error: Any, match: str) -> None:
    asked: list[str] = []

    def load(subject: str) -> dict[str, Any]:
        asked.append(subject)
        return {}

    rig = Rig(claims_loader=load)
    with pytest.raises(error, match=match):
        rig.login(**{name: value})
    assert asked == [], "and the app's hook is not asked for nothing"


@pytest.mark.parametrize("method", ["logout", "revoke_others"])
def test_a_subject_is_no_identity(method: str, rig: Rig) -> None:
    with pytest.raises(TypeError, match=r"an Identity is expected .* and not str"):
        rig.do(getattr(rig.operations, method)("alice"))


@pytest.mark.parametrize("token", [None, 5])
def test_what_is_no_token_at_all(token: Any, rig: Rig) -> None:
    with pytest.raises(TypeError, match="a token is a str, and not"):
        rig.do(rig.operations.refresh(token))


def test_a_device_is_kept_as_what_can_be_shown(rig: Rig) -> None:
    rig.login(device=Device(name="Ali\ud800ce's\n\x1b[31m phone" + "!" * 99, ip="10.0.0.1\r\nx"))
    (session,) = rig.do(rig.operations.sessions("alice"))
    assert session.device.name.startswith("Alice's[31m phone!!")
    assert len(session.device.name) <= 64
    assert session.device.ip == "10.0.0.1x"
