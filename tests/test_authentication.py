"""From a token to an identity: when the store is asked, what is believed, and what is written down."""

# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from documents import SECOND
from msgspec.structs import replace
from rig import ALICE, DOWN, Rig, always

from jwtguard.document import encode
from jwtguard.errors import (
    AuthError,
    DocumentDamaged,
    SessionEvicted,
    SessionExpired,
    SessionRevoked,
    SessionUnknown,
    StoreUnavailable,
    TokenExpired,
    TokenInvalid,
    TokenSuperseded,
)
from jwtguard.flow import Save
from jwtguard.model import TokenPair
from jwtguard.recall import digest_of
from jwtguard.tokens import Tokens


@pytest.fixture
def rig() -> Rig:
    return Rig()


def quiet(rig: Rig) -> None:
    """What holds for everyone is known, and the calls so far are forgotten."""
    rig.do(rig.registry.know_everyone())
    rig.model.calls.clear()


def entry_of(rig: Rig, pair: TokenPair) -> Any:
    return rig.registry.table.get(digest_of(pair.access_token.encode()))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The tokens whose signatures were checked."""
    tokens: list[bytes] = []
    original = Tokens.read_access

    def read(self: Tokens, token: bytes) -> Any:
        tokens.append(token)
        return original(self, token)

    monkeypatch.setattr(Tokens, "read_access", read)
    return tokens


# -- believing -------------------------------------------------------------------------------------------------------------


def test_an_identity_is_what_the_token_and_the_session_say(rig: Rig) -> None:
    pair = rig.login(scopes=["read", "write"], claims={"name": "Alice"})
    identity = rig.authenticate(pair)
    assert identity.subject == "alice"
    assert identity.session_id == pair.session_id
    assert identity.token_id == pair.session_id + ".1"
    assert identity.scopes == ("read", "write")
    assert identity.display_name == "Alice"
    assert identity.expires_at == int(rig.clock.time()) + 1800
    with pytest.raises(TypeError):
        identity.claims["name"] = "Bob"  # type: ignore[index]


def test_the_scopes_are_those_of_the_token_that_the_session_still_has(rig: Rig) -> None:
    pair = rig.login(scopes=["read", "write", "admin"])
    document = rig.document()
    narrowed = replace(document, sessions=(replace(document.sessions[0], scopes=("other", "admin", "read")),))
    rig.model.documents[ALICE] = (encode(narrowed), b"version1")
    assert rig.authenticate(pair).scopes == ("read", "admin")
    recalled = rig.recall(pair)
    assert recalled is not None
    assert recalled.scopes == ("read", "admin")


def test_a_token_is_verified_once_whatever_becomes_of_its_leases(rig: Rig, verified: list[bytes]) -> None:
    pair = rig.login()
    for _ in range(20):
        rig.authenticate(pair)
        rig.clock.advance(6)
    rig.registry.ended(ALICE)
    rig.authenticate(pair)
    assert len(verified) == 1


def test_a_token_that_does_not_hold_asks_no_store(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.model.calls.clear()
    for token in (b"", b"a.b.c", pair.access_token.encode() + b"=", pair.refresh_token.encode()):
        with pytest.raises(TokenInvalid):
            rig.do(rig.authenticator.authenticate(token))
    assert rig.model.calls == []
    assert len(rig.registry.table) == 1


def test_an_expired_token_is_refused_without_the_store(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.clock.advance(1800)
    rig.model.calls.clear()
    assert rig.recall(pair) is None
    with pytest.raises(TokenExpired):
        rig.authenticate(pair)
    assert rig.model.calls == []


def test_leeway_counts_on_the_warm_path_too() -> None:
    rig = Rig(leeway=10.0, ttl=60.0)
    pair = rig.login()
    rig.clock.advance(1790)
    rig.authenticate(pair)
    rig.clock.advance(15)
    assert rig.recall(pair)
    assert rig.authenticate(pair)
    rig.clock.advance(5)
    assert rig.recall(pair) is None
    with pytest.raises(TokenExpired):
        rig.authenticate(pair)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda rig, pair: rig.revoke(pair), SessionRevoked),
        (lambda rig, _pair: rig.do(rig.operations.revoke_all("alice")), SessionRevoked),
        (lambda rig, _pair: rig.do(rig.operations.revoke_everyone()), SessionRevoked),
        (lambda rig, _pair: rig.login(limit=1), SessionEvicted),
        (lambda rig, _pair: rig.model.documents.clear() or rig.registry.ended(None), SessionUnknown),
    ],
)
def test_an_ended_session_is_refused_with_its_reason_by_the_next_request(
    rig: Rig, end: Callable[[Rig, TokenPair], object], error: type[AuthError]
) -> None:
    pair = rig.logged_in()
    assert rig.recall(pair)
    end(rig, pair)
    assert rig.recall(pair) is None
    for _ in range(2):
        with pytest.raises(error):
            rig.authenticate(pair)
    assert rig.recall(pair) is None


# -- how long an entry lasts -----------------------------------------------------------------------------------------------


def test_an_entry_never_outlives_its_session() -> None:
    rig = Rig(session_ttl=10 * SECOND, ttl=60.0)
    pair = rig.logged_in()
    rig.clock.advance(9.5)
    assert rig.recall(pair)
    rig.clock.advance(0.5)
    assert rig.recall(pair) is None
    with pytest.raises(AuthError):
        rig.authenticate(pair)


def test_an_entry_never_outlives_the_idle_timeout() -> None:
    rig = Rig(idle_timeout=10 * SECOND, ttl=60.0)
    pair = rig.logged_in()
    rig.model.on_save = always(DOWN)  # so that no later touch is written
    rig.clock.advance(9)
    assert rig.recall(pair)
    rig.clock.advance(1)
    assert rig.recall(pair) is None
    with pytest.raises(SessionExpired):
        rig.authenticate(pair)


def test_an_entry_never_outlives_the_grace_of_its_generation() -> None:
    rig = Rig(ttl=600.0)
    old = rig.logged_in()
    rig.refresh(old)
    rig.registry.ended(ALICE)
    rig.clock.advance(10)
    rig.authenticate(old)
    rig.clock.advance(19.5)
    assert rig.recall(old)
    rig.clock.advance(0.5)
    assert rig.recall(old) is None
    with pytest.raises(TokenSuperseded):
        rig.authenticate(old)


def test_what_remains_is_counted_from_before_the_verdict() -> None:
    rig = Rig(session_ttl=4000)
    pair = rig.login()
    quiet(rig)
    asked_at = rig.clock.monotonic()
    remaining = rig.document().sessions[0].expires_at - int(rig.clock.time() * 1000)
    rig.model.on_load = lambda _key: rig.clock.advance(1)
    rig.authenticate(pair)
    assert entry_of(rig, pair).until <= asked_at + remaining / 1000


# -- suspect documents -----------------------------------------------------------------------------------------------------


def test_a_session_opened_elsewhere_is_let_in_at_once_by_one_load(rig: Rig) -> None:
    rig.logged_in()
    pair = rig.another().logged_in()
    quiet(rig)
    assert rig.authenticate(pair).session_id == pair.session_id
    assert rig.model.calls == [("load", ALICE)]


def test_a_generation_raised_elsewhere_is_let_in_at_once_by_one_load(rig: Rig) -> None:
    pair = rig.logged_in()
    elsewhere = rig.another()
    successor = elsewhere.refresh(pair)
    elsewhere.authenticate(successor)
    quiet(rig)
    assert rig.authenticate(successor).token_id.endswith(".2")
    assert rig.model.calls == [("load", ALICE)]
    assert rig.authenticate(pair).token_id.endswith(".1"), "within its grace"
    assert rig.model.count("load") == 1


def forgotten(rig: Rig) -> None:
    """The session is gone from the document, and nothing is remembered of it."""
    document = rig.document()
    rig.model.documents[ALICE] = (encode(replace(document, sessions=(), tombstones=())), b"version1")


def test_an_unknown_session_is_looked_for_once_per_token(rig: Rig) -> None:
    pair = rig.login()
    forgotten(rig)
    other = rig.another().login()
    rig.authenticate(other)
    quiet(rig)
    for _ in range(10):
        with pytest.raises(SessionUnknown):
            rig.authenticate(pair)
    assert rig.model.calls == [("load", ALICE)]
    assert rig.recall(other) is None, "the newer document is the lease now"
    rig.authenticate(other)
    assert rig.model.count("load") == 1


def test_a_session_that_was_touched_elsewhere_has_not_expired() -> None:
    rig = Rig(idle_timeout=100 * SECOND, ttl=200.0)
    pair = rig.logged_in()
    elsewhere = rig.another(idle_timeout=100 * SECOND, ttl=10.0)
    for _ in range(5):
        rig.clock.advance(18)
        elsewhere.authenticate(pair)
    rig.clock.advance(15)
    quiet(rig)
    assert rig.authenticate(pair).subject == "alice"
    assert rig.model.count("load") <= 2


def test_a_session_that_has_expired_is_looked_for_once() -> None:
    rig = Rig(idle_timeout=10 * SECOND, ttl=60.0)
    pair = rig.logged_in()
    rig.clock.advance(11)
    quiet(rig)
    for _ in range(5):
        with pytest.raises(SessionExpired):
            rig.authenticate(pair)
    assert rig.model.calls == [("load", ALICE)]


def test_what_was_over_at_the_load_is_not_looked_for_again() -> None:
    rig = Rig(idle_timeout=10 * SECOND)
    pair = rig.login()
    rig.clock.advance(11)
    quiet(rig)
    with pytest.raises(SessionExpired):
        rig.authenticate(pair)
    assert rig.model.calls == [("load", ALICE)]


def test_many_with_the_same_new_token_cost_one_load(rig: Rig) -> None:
    pair = rig.logged_in()
    successor = rig.another().refresh(pair)
    quiet(rig)
    token = successor.access_token.encode()
    flows = [rig.authenticator.authenticate(token) for _ in range(5)]
    needs = [next(flow) for flow in flows]
    for flow, need in zip(flows, needs, strict=True):
        try:
            following = flow.send(need.perform(rig.model))
            assert rig.model.count("load") <= 2, "one, and one for the touch of the first"
            flow.close()
            assert following
        except StopIteration as stop:
            assert stop.value.subject == "alice"  # noqa: PT017 - that is the flow's result


# -- a store that is behind ------------------------------------------------------------------------------------------------


def restored_from_a_backup(rig: Rig) -> TokenPair:
    """A token of a generation that the store no longer knows of."""
    pair = rig.logged_in()
    backup = rig.model.documents[ALICE]
    for _ in range(3):
        rig.clock.advance(1)
        pair = rig.refresh(pair)
    rig.authenticate(pair)
    rig.model.documents[ALICE] = backup
    return pair


def test_a_generation_that_the_store_has_lost_is_taken_over(rig: Rig) -> None:
    pair = restored_from_a_backup(rig)
    rig.clock.advance(6)
    rig.events.clear()
    assert rig.authenticate(pair).token_id.endswith(".4")
    assert rig.events == [("store_behind", "alice")]
    assert rig.document().sessions[0].generation == 4
    assert rig.recall(pair)
    rig.authenticate(pair)
    assert rig.events == [("store_behind", "alice")]


def test_a_store_that_does_not_take_it_over_lets_nobody_in(rig: Rig) -> None:
    pair = restored_from_a_backup(rig)
    rig.clock.advance(6)
    backup = rig.model.documents[ALICE]
    rig.model.on_saved = lambda key: rig.model.documents.update({key: backup})
    with pytest.raises(StoreUnavailable, match="behind"):
        rig.authenticate(pair, may_be_stale=True)
    rig.model.on_save = always(DOWN)
    with pytest.raises(StoreUnavailable):
        rig.authenticate(pair)


def test_a_session_that_ends_while_it_is_taken_over_is_refused(rig: Rig) -> None:
    pair = restored_from_a_backup(rig)
    rig.clock.advance(6)
    elsewhere = rig.another()
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    need = next(flow)
    while not isinstance(need, Save):
        need = flow.send(rig.perform(need))
    elsewhere.revoke(pair)
    with pytest.raises(SessionRevoked):
        rig.do(continued(flow, False))


def continued(flow: Any, result: Any) -> Any:
    """The rest of a flow that was begun."""
    need = flow.send(result)
    while True:
        try:
            answer = yield need
        except BaseException as error:  # noqa: BLE001 - handed on
            need = flow.throw(error)
        else:
            need = flow.send(answer)


# -- damage ----------------------------------------------------------------------------------------------------------------


def test_a_damaged_document_is_an_error_about_that_user(rig: Rig) -> None:
    pair, other = rig.logged_in(), rig.logged_in("bob")
    rig.model.documents[ALICE] = (b"damage", b"version1")
    rig.clock.advance(6)
    for _ in range(2):
        with pytest.raises(DocumentDamaged):
            rig.authenticate(pair, may_be_stale=True)
    assert rig.authenticate(other).subject == "bob"
    assert rig.is_at_rest()


def test_C15_a_token_that_is_too_long_costs_not_even_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    monkeypatch.setattr(hashlib, "sha256", None)
    for token in (b"." * 8193, b"x" * 2**20):
        with pytest.raises(TokenInvalid):
            rig.do(rig.authenticator.authenticate(token))
    assert rig.model.calls == []
