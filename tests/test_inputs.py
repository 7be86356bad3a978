"""What an app hands in: in its one form, or refused with what is wrong."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from forging import NOW, TOKENS
from hypothesis import given
from hypothesis import strategies as st
from rig import Rig

from jwtguard.inputs import LONGEST_SCOPES, checked_claims, checked_scopes, checked_subject, milliseconds
from jwtguard.jws import DEEPEST
from jwtguard.tokens import RESERVED_CLAIMS

# -- subjects --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("alice", "alice"),
        (42, "42"),
        (0, "0"),
        (-1, "-1"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("s" * 255, "s" * 255),
        ("é" * 127, "é" * 127),
        ("a b", "a b"),
        ("{alice}", "{alice}"),
    ],
)
def test_a_subject_is_kept_as_text(subject: object, text: str) -> None:
    assert checked_subject(subject) == text


def test_a_subject_is_never_normalised() -> None:
    alike = ["é", "e\u0301", "E\u0301", " é", "é "]
    assert [checked_subject(subject) for subject in alike] == alike


@pytest.mark.parametrize("subject", [None, True, False, 1.5, b"alice", ["alice"], object()])
def test_C27_a_subject_is_a_str_an_int_or_a_uuid(subject: object) -> None:
    with pytest.raises(TypeError, match=f"and not {type(subject).__name__}"):
        checked_subject(subject)


@pytest.mark.parametrize(
    "subject", ["", "s" * 256, "é" * 128, "s" * 2**20, "a\0", "a\nb", "\x7f", "\x85", "\ud800", 10**300]
)
def test_C27_C28_a_subject_is_bounded_and_printable(subject: object) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes of UTF-8 without control characters") as caught:
        checked_subject(subject)
    assert len(str(caught.value)) < 100


def test_a_number_that_python_will_not_write_is_refused_too() -> None:
    with pytest.raises(ValueError):
        checked_subject(10**5000)


# -- scopes ----------------------------------------------------------------------------------------------------------------


def test_scopes_keep_their_order_and_come_once() -> None:
    assert checked_scopes(["write", "read", "write"]) == ("write", "read")
    assert checked_scopes(()) == ()
    assert checked_scopes(["items:read", "https://api.example/x", "!#[]~"]) == (
        "items:read",
        "https://api.example/x",
        "!#[]~",
    )


@pytest.mark.parametrize("scope", ["", "a b", 'a"b', "a\\b", "a\tb", "a\n", "é", "\x7f", "\ud800", 5, None])
def test_a_scope_is_a_scope_token(scope: Any) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        checked_scopes(["read", scope])


@pytest.mark.parametrize("scopes", ["read", "read write", "", None, 5, [["read"]]])
def test_scopes_are_a_list_of_texts(scopes: Any) -> None:
    with pytest.raises(TypeError):
        checked_scopes(scopes)


def test_scopes_are_bounded_together() -> None:
    half = "s" * (LONGEST_SCOPES // 2)
    assert len(checked_scopes([half, half.upper()])) == 2
    with pytest.raises(ValueError, match="1024 characters at most"):
        checked_scopes([half, half.upper(), "x"])


@given(st.lists(st.text(st.characters(min_codepoint=0, max_codepoint=0x17F), max_size=6), max_size=4))
def test_scopes_come_back_from_a_token_as_they_were(scopes: list[str]) -> None:
    try:
        checked = checked_scopes(scopes)
    except ValueError:
        return
    assert tuple(" ".join(checked).split()) == checked


# -- claims ----------------------------------------------------------------------------------------------------------------


def minted_and_read(claims: dict[str, Any]) -> dict[str, Any]:
    key = TOKENS.keyring.signing.id
    token = TOKENS.mint_refresh("alice", (b"s" * 16, 1), key_id=key, issued_at=NOW, expires_at=NOW + 60, claims=claims)
    return TOKENS.read_refresh(token.encode()).claims


def test_claims_are_what_a_token_gives_back() -> None:
    claims = {"name": "Ålice", "tags": ("a", "b"), "n": {1: None, "x": [1.5, True]}}
    expected = {"name": "Ålice", "tags": ["a", "b"], "n": {"1": None, "x": [1.5, True]}}
    assert checked_claims(claims) == expected
    assert minted_and_read(checked_claims(claims)) == expected


def test_claims_may_be_any_mapping_and_are_a_copy() -> None:
    inner = ["a"]
    checked = checked_claims(MappingProxyType({"tags": inner}))
    inner.append("b")
    assert checked == {"tags": ["a"]}
    assert checked_claims({}) == {}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4) | st.integers(0, 9), json_values, max_size=3))
def test_claims_that_are_let_through_never_spoil_their_token(claims: dict[str, Any]) -> None:
    try:
        checked = checked_claims(claims)
    except ValueError:
        return
    assert minted_and_read(checked) == checked


@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
def test_no_claim_of_ours_is_the_apps_to_set(name: str) -> None:
    with pytest.raises(ValueError, match=f"not for an app to set: {name}$"):
        checked_claims({name: "x", "name": "Alice"})


def test_reserved_claims_cover_all_that_a_token_is_judged_by() -> None:
    assert {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "scope", "cnf"} <= RESERVED_CLAIMS


def circular() -> dict[str, Any]:
    claims: dict[str, Any] = {}
    claims["claims"] = claims
    return claims


def deep(levels: int) -> dict[str, Any]:
    claims: Any = {}
    for level in range(levels - 1):
        claims = {"a": claims} if level == levels - 2 or level % 2 else [claims]
    found: dict[str, Any] = claims
    return found


BAD_CLAIMS: dict[str, Callable[[], Any]] = {
    "NaN": lambda: {"x": float("nan")},
    "infinity": lambda: {"x": [float("inf")]},
    "a lone surrogate": lambda: {"x": "\ud800"},
    "a lone surrogate for a name": lambda: {"\ud800": 1},
    "two names that are one": lambda: {1: "a", "1": "b"},
    "two names that are one, deep down": lambda: {"x": [{None: "a", "null": "b"}]},
    "a circle": circular,
    "a well": lambda: deep(DEEPEST),
    "a deep well": lambda: deep(5000),
}


@pytest.mark.parametrize("make", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
def test_claims_that_are_not_json_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        checked_claims(make())


def test_claims_may_be_as_deep_as_tokens_can_carry() -> None:
    claims = deep(DEEPEST - 1)
    assert checked_claims(claims) == claims
    rig = Rig()
    pair = rig.refresh(rig.login(claims=claims))
    assert rig.authenticate(pair).to_dict()["claims"]["a"] == claims["a"]


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), datetime(2025, 1, 1, tzinfo=UTC), UUID(int=1)])
def test_claims_of_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        checked_claims({"x": value})


# -- times -----------------------------------------------------------------------------------------------------------------


def test_times_in_milliseconds() -> None:
    assert milliseconds(None) is None
    assert milliseconds(1.5) == 1500
    assert milliseconds(2) == 2000
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 1, 250_000, tzinfo=UTC)) == 1250
    assert milliseconds(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="could be any of 24 hours"):
        milliseconds(datetime(2025, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), float("-inf")])
def test_a_time_is_finite(moment: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        milliseconds(moment)
