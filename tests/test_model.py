"""The records that users see: frozen, complete as plain data, and shy of their tokens."""

from __future__ import annotations

import dataclasses
import json
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.model import ANONYMOUS, Device, Event, Identity, Session, TokenPair, read_only

DEVICE = Device("Firefox on Linux", "Mozilla/5.0", "203.0.113.7")
SESSION = Session("A" * 22, "alice", DEVICE, ("read",), 1, 2, 3)
PAIR = TokenPair("access.token.text", "refresh.token.text", 1800, "A" * 22)
IDENTITY = Identity(
    "alice", "A" * 22, "A" * 22 + ".1", ("read",), "here", 3, MappingProxyType({"name": "Alice", "roles": ["x"]})
)
RECORDS: list[Any] = [DEVICE, SESSION, PAIR, IDENTITY]


@pytest.mark.parametrize("record", [*RECORDS, Event("opened")], ids=lambda record: type(record).__name__)
def test_records_are_frozen(record: Any) -> None:
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        record.another = 1


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_plain_data_on_demand(record: Any) -> None:
    plain = record.to_dict()
    assert set(plain) == {field.name for field in dataclasses.fields(record)}
    assert json.loads(json.dumps(plain)) == plain


def test_a_token_pair_has_the_names_of_rfc_6749() -> None:
    assert PAIR.to_dict() == {
        "access_token": "access.token.text",
        "refresh_token": "refresh.token.text",
        "token_type": "Bearer",
        "expires_in": 1800,
        "session_id": "A" * 22,
    }


def test_no_record_shows_a_token_or_a_claim_by_accident() -> None:
    assert "token.text" not in repr(PAIR)
    assert "Alice" not in repr(IDENTITY)


def test_a_session_is_marked_as_the_current_one() -> None:
    assert SESSION.as_current("A" * 22).current
    assert not SESSION.as_current("B" * 22).current
    assert not SESSION.as_current(None).current
    assert not SESSION.current


def test_an_identity_can_be_starlettes_user() -> None:
    assert (IDENTITY.identity, IDENTITY.is_authenticated, IDENTITY.display_name) == ("alice", True, "Alice")


@pytest.mark.parametrize("name", [None, "", 5, ["Alice"]])
def test_without_a_name_the_subject_is_displayed(name: object) -> None:
    assert dataclasses.replace(IDENTITY, claims={"name": name}).display_name == "alice"
    assert dataclasses.replace(IDENTITY, claims={}).display_name == "alice"


def test_claims_are_read_only_and_plain_data_is_a_copy() -> None:
    with pytest.raises(TypeError):
        IDENTITY.claims["name"] = "Mallory"  # type: ignore[index]
    plain = IDENTITY.to_dict()
    plain["claims"]["roles"].append("admin")
    plain["scopes"].append("admin")
    assert IDENTITY.claims["roles"] == ["x"]
    assert IDENTITY.scopes == ("read",)


def test_nobody_is_anonymous_with_rights() -> None:
    assert not ANONYMOUS.is_authenticated
    assert (ANONYMOUS.subject, ANONYMOUS.session_id, ANONYMOUS.scopes, dict(ANONYMOUS.claims)) == ("", "", (), {})
    assert ANONYMOUS.display_name == ""
    with pytest.raises(TypeError):
        ANONYMOUS.claims["sub"] = "alice"  # type: ignore[index]


def test_identities_without_claims_share_none_that_can_be_changed() -> None:
    assert Identity("a", "", "", (), "", 0).claims is Identity("b", "", "", (), "", 0).claims
    assert isinstance(Identity("a", "", "", (), "", 0).claims, MappingProxyType)


def test_identities_are_equal_by_what_they_stand_for() -> None:
    assert dataclasses.replace(IDENTITY, claims={}) == IDENTITY
    assert len({IDENTITY, dataclasses.replace(IDENTITY, claims={}), ANONYMOUS}) == 2
    assert dataclasses.replace(IDENTITY, subject="bob") != IDENTITY


def test_an_event_may_be_about_all_sessions_or_all_users() -> None:
    assert Event("revoked") == Event("revoked", "", None)


def test_what_is_read_only_stays_so_all_the_way_down() -> None:
    claims = read_only({"roles": ["x"], "org": {"units": [{"id": 1}]}, "level": 3})
    assert claims["roles"] == ("x",)
    with pytest.raises(TypeError):
        claims["org"]["units"][0]["id"] = 2
    shown = dataclasses.replace(IDENTITY, claims=claims).to_dict()["claims"]
    assert shown == {"roles": ["x"], "org": {"units": [{"id": 1}]}, "level": 3}


# -- what a token's identity makes when it is asked ------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = {
    "iss": "tests",
    "aud": "tests",
    "sub": "alice",
    "iat": 1_700_000_000,
    "exp": 1_700_001_800,
    "sid": "A" * 22,
    "jti": "A" * 22 + ".3",
    "scope": "read write",
}


@given(st.dictionaries(st.sampled_from(["iss", "aud", "exp", "scope", "name", "{", "roles"]), JSON, max_size=4))
def test_the_claims_of_a_token_are_exactly_those_that_it_had(other: dict[str, Any]) -> None:
    claims = CLAIMS | other | {"exp": CLAIMS["exp"]}
    identity = Identity.of_token(claims, ("read", "write"), "tests", "k")
    assert identity.to_dict()["claims"] == claims
    assert repr(identity.to_dict()["claims"]["aud"]) == repr(claims["aud"]), "of the same type, too"
    assert identity.with_scopes(("read",)).to_dict()["claims"] == claims


def test_a_fractional_expiry_is_kept_in_the_claims() -> None:
    identity = Identity.of_token(CLAIMS | {"exp": 1_700_001_800.0}, (), "tests", "k")
    assert identity.expires_at == 1_700_001_800
    assert repr(identity.claims["exp"]) == "1700001800.0"


def test_a_tokens_identity_is_like_any_other() -> None:
    identity = Identity.of_token(CLAIMS, ("read", "write"), "tests", "k")
    same = Identity("alice", "A" * 22, "A" * 22 + ".3", ("read", "write"), "tests", 1_700_001_800)
    assert identity == same
    assert hash(identity) == hash(same)
    assert repr(identity) == repr(same)
    assert replace(identity, scopes=()) == replace(same, scopes=())
    assert copy(identity) == same
    with pytest.raises(TypeError):
        identity.claims["sub"] = "bob"  # type: ignore[index]
    with pytest.raises(AttributeError, match="'Identity' object has no attribute 'subjekt'"):
        identity.subjekt  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError):
        same._token  # noqa: B018


def test_identities_share_what_is_equal() -> None:
    texts = json.dumps(CLAIMS), json.dumps(CLAIMS)  # so that nothing is shared before
    one, other = (
        Identity.of_token(claims, tuple(claims["scope"].split()), "tests", "k") for claims in map(json.loads, texts)
    )
    assert one.scopes is other.scopes
    assert one.expires_at is other.expires_at
