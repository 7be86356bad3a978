"""Minting, the claims of each kind of token, their dates, and that no kind is taken for another."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
import pytest
from forging import (
    HASHES,
    KEY,
    NOW,
    SECRET,
    SECRETS,
    SESSION,
    TOKENS,
    a_guard,
    access_claims,
    assert_refused,
    forge,
    header,
)
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.errors import AuthError, RefreshInvalid, TokenInvalid
from jwtguard.keys import Keyring
from jwtguard.testing import FakeClock
from jwtguard.tokens import ID_BYTES, Tokens, id_of_text, text_of_id, token_id_text

ALGORITHMS = list(HASHES)
ID = (SESSION, 3)


def minted(tokens: Tokens = TOKENS, subject: str = "alice", **fields: Any) -> str:
    terms = {"issued_at": NOW, "expires_at": NOW + 1800, "authenticated_at": NOW, "scopes": ("read", "write"), "claims": {}}
    return tokens.mint_access(subject, ID, **{"key_id": tokens.keyring.signing.id, **terms, **fields})


def minted_refresh(tokens: Tokens = TOKENS, **fields: Any) -> str:
    terms = {"issued_at": NOW, "expires_at": NOW + 86400, "claims": {"name": "Alice"}}
    return tokens.mint_refresh("alice", ID, **{"key_id": tokens.keyring.signing.id, **terms, **fields})


# -- minting ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_minted_is_read(algorithm: str) -> None:
    tokens = a_guard(algorithm=algorithm)
    access = tokens.read_access(minted(tokens, claims={"name": "Ålice", "n": [1, {"x": None}]}).encode())
    assert access[:5] == ("alice", SESSION, 3, ("read", "write"), NOW + 1800)
    assert access.claims["name"] == "Ålice"
    assert access.claims["n"] == [1, {"x": None}]
    refresh = tokens.read_refresh(minted_refresh(tokens).encode())
    assert refresh == ("alice", SESSION, 3, {"name": "Alice"})
    assert tokens.read_ticket(tokens.mint_ticket("alice", "f" * 32).encode()) == ("alice", "f" * 32)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_ordinary_library_can_read_them(algorithm: str) -> None:
    """RFC 9068 for the access token: typ, iss, exp, aud, sub, iat, jti, scope, auth_time."""
    token = minted(a_guard(algorithm=algorithm))
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    claims = jwt.decode(
        token,
        SECRETS[algorithm],
        [algorithm],
        audience="api",
        issuer="here",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == access_claims(auth_time=NOW)


def test_the_same_arguments_give_the_same_bytes() -> None:
    again = a_guard(clock=FakeClock(NOW + 1000))
    assert minted() == minted(again)
    assert minted_refresh() == minted_refresh(again)
    assert minted() == minted(claims={})
    assert minted(claims={"b": 1, "a": 2}) == minted(again, claims={"b": 1, "a": 2})
    assert len({minted(), minted(issued_at=NOW + 1), minted(scopes=()), minted(subject="bob"), minted_refresh()}) == 5


def test_a_token_without_scopes_has_none() -> None:
    assert TOKENS.read_access(minted(scopes=()).encode()).scopes == ()


def test_a_token_too_long_to_be_read_is_not_minted() -> None:
    with pytest.raises(ValueError, match="JWTGUARD_MAX_TOKEN allows 8192"):
        minted(claims={"name": "x" * 8000})
    with pytest.raises(ValueError, match="use fewer or shorter claims"):
        minted_refresh(a_guard(max_token=100))
    assert len(minted(claims={"name": "x" * 5000})) <= 8192


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_how_long_tokens_would_be_is_known_without_signing(algorithm: str) -> None:
    late, longest, claims = 253_402_300_799, 999_999_999, {"name": "Ålice" * 50}
    tokens = a_guard(algorithm=algorithm)
    terms: dict[str, Any] = {"key_id": "", "issued_at": late, "expires_at": late, "claims": claims}
    access = tokens.mint_access("alice", (SESSION, longest), authenticated_at=late, scopes=("read",), **terms)
    refresh = tokens.mint_refresh("alice", (SESSION, longest), **terms)
    for exact in (len(access), len(refresh)):
        assert len(refresh) < len(access), "so that each of the two is the one that doesn't fit"
        terms = {"claims": claims, "carried": claims} if exact == len(access) else {"claims": {}, "carried": claims}
        a_guard(algorithm=algorithm, max_token=exact).check_that_they_fit("alice", ("read",), **terms)
        with pytest.raises(ValueError, match=f"{exact} bytes long, and JWTGUARD_MAX_TOKEN allows {exact - 1}"):
            a_guard(algorithm=algorithm, max_token=exact - 1).check_that_they_fit("alice", ("read",), **terms)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_could_not_be_read_is_not_minted(value: object) -> None:
    with pytest.raises(ValueError):
        minted(claims={"x": value})


def test_C39_ids_are_sixteen_bytes_of_text_and_back() -> None:
    assert ID_BYTES == 16
    assert len(text_of_id(SESSION)) == 22
    assert id_of_text(text_of_id(SESSION)) == SESSION
    assert token_id_text(SESSION, 3) == f"{text_of_id(SESSION)}.3"


@pytest.mark.parametrize(
    "text",
    ["", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 21 + "=", "A" * 21 + "\n", "A" * 22 + "\n", "A" * 22 + ".1", "é" * 22],
)
def test_C28_what_is_no_id_is_none(text: str) -> None:
    """The fourth is base64url, and not as anybody would write it: its last bits are not zero."""
    assert id_of_text(text) is None


@given(st.text("AQgwB-_=.1\n", min_size=20, max_size=24))
def test_C28_an_id_has_one_text(text: str) -> None:
    found = id_of_text(text)
    assert found is None or text_of_id(found) == text


# -- keys ------------------------------------------------------------------------------------------------------------------


def test_C80_fallback_secrets_verify_and_never_sign() -> None:
    old, new = b"o" * 32, b"n" * 32
    before, during, behind = a_guard(old), a_guard(new, old), a_guard(old, new)
    after = a_guard(new)
    token = minted(before).encode()
    assert during.read_access(token).subject == "alice"
    assert jwt.get_unverified_header(minted(during))["kid"] == after.keyring.signing.id
    for reader in (during, behind, after):
        assert reader.read_access(minted(during).encode()).subject == "alice"
    assert_refused(after.read_access, token, TokenInvalid)
    assert_refused(before.read_access, minted(after).encode(), TokenInvalid)


def test_a_lost_answer_is_signed_again_by_the_key_that_signed_it() -> None:
    old, new = b"o" * 32, b"n" * 32
    first = minted(a_guard(old))
    assert minted(a_guard(new, old), key_id=a_guard(old).keyring.signing.id) == first
    assert minted(a_guard(new), key_id=a_guard(old).keyring.signing.id) == minted(a_guard(new))


def test_C03_C23_another_issuers_key_is_no_key() -> None:
    theirs = a_guard(b"t" * 32, issuer="there")
    assert_refused(TOKENS.read_access, minted(theirs).encode(), TokenInvalid)
    assert_refused(TOKENS.read_access, minted(a_guard(b"t" * 32)).encode(), TokenInvalid)
    assert_refused(TOKENS.read_access, forge(header(), access_claims(), secret=b"t" * 32), TokenInvalid)


# -- kinds ----------------------------------------------------------------------------------------------------------------

READERS: dict[str, tuple[Callable[[bytes], object], type[AuthError]]] = {
    "at+jwt": (TOKENS.read_access, TokenInvalid),
    "rt+jwt": (TOKENS.read_refresh, RefreshInvalid),
    "session-choice+jwt": (TOKENS.read_ticket, TokenInvalid),
}
MINTED = {
    "at+jwt": minted(),
    "rt+jwt": minted_refresh(),
    "session-choice+jwt": TOKENS.mint_ticket("alice", "l"),
}


@pytest.mark.parametrize("expected", READERS)
@pytest.mark.parametrize("kind", MINTED)
def test_C26_no_kind_is_taken_for_another(kind: str, expected: str) -> None:
    read, error = READERS[expected]
    if kind == expected:
        read(MINTED[kind].encode())
    else:
        assert_refused(read, MINTED[kind].encode(), error)


@pytest.mark.parametrize("expected", READERS)
@pytest.mark.parametrize("typ", ["JWT", "dpop+jwt", "csrf+jwt", "secevent+jwt"])
def test_C26_nor_another_use_of_the_same_key(typ: str, expected: str) -> None:
    """With all claims of all kinds in it, so that only its type tells."""
    claims = access_claims(claims={}, listing="l", nonce="n", htm="GET", htu="/", auth_time=NOW)
    read, error = READERS[expected]
    assert_refused(read, forge(header(typ=typ), claims), error)
    read(forge(header(typ=expected), claims | {"exp": NOW + 300}))


def test_the_sample_secret_is_long_enough_for_every_algorithm() -> None:
    assert KEY.is_same(Keyring.from_secrets([SECRET[:32]], "HS256").signing)
    assert all(len(SECRETS[algorithm]) == HASHES[algorithm]().digest_size for algorithm in ALGORITHMS)


def test_whoever_has_the_keys_is_told_which_check_fails() -> None:
    assert TOKENS.failed_check(minted().encode()) is None
    assert TOKENS.failed_check(minted(expires_at=NOW - 1, issued_at=NOW - 2).encode()) is None, "that is told otherwise"
    assert TOKENS.failed_check(minted_refresh().encode()) == "header"
    assert TOKENS.failed_check(minted().encode() + b"=") == "form"
    assert TOKENS.failed_check(b"A" + minted().encode()) == "encoding"
