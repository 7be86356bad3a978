"""The records that users see: frozen, complete as plain data, and shy of their tokens."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType
from typing import Any

import pytest

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
