"""Whatever our stricter reader accepts, PyJWT and joserfc accept too, and read the same."""

# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import json
from typing import Any

import joserfc.jwk
import joserfc.jwt
import jwt
import pytest
from forging import (
    HASHES,
    KEY,
    LONGEST,
    NOW,
    SECRETS,
    SESSION,
    TOKENS,
    a_guard,
    access_claims,
    assert_refused,
    b64,
    dumped,
    forge,
    header,
    signature,
)
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from key_kit import ALGORITHMS, private

from jwtguard.errors import TokenExpired, TokenInvalid
from jwtguard.keys import Key, Keyring
from jwtguard.testing import FakeClock
from jwtguard.tokens import Tokens


def keyed_guard(algorithm: str) -> tuple[Tokens, dict[str, Any]]:
    """Tokens of an asymmetric key, and its public half."""
    key = Key("k", algorithm, private(algorithm))
    terms: dict[str, Any] = {"issuer": "here", "audience": "api", "leeway": 0, "max_token": 8192, "longest": LONGEST}
    return Tokens(Keyring([key]), clock=FakeClock(NOW), **terms), key.jwk()


GUARDS = {algorithm: a_guard(algorithm=algorithm) for algorithm in HASHES}
KEYED = {algorithm: keyed_guard(algorithm) for algorithm in ALGORITHMS}
ODD: list[Any] = [..., None, True, 0, -1, 1.5, 1e30, "", "x", "here", "api", "alice", [], ["api"], ["api", 5], {}, {"a": 1}]
ODD += [NOW, NOW + 29, NOW + 1800, NOW - 5, str(NOW), "at+jwt", "application/at+jwt", "HS256", "none", "é\0", KEY.id]
values = st.sampled_from(ODD) | st.integers(NOW - 100, NOW + 3000) | st.text(max_size=5)
claim_names = st.sampled_from([*access_claims(), "nbf", "name", "crit"])
header_names = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "jwk", "cty", "x"])


def without_missing(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}


def agree(token: bytes, algorithm: str = "HS256") -> str:
    """If ours accepts, so do PyJWT and joserfc. They have clocks of their own, so dates are left to ours."""
    tokens = GUARDS[algorithm]
    try:
        ours = tokens.read_access(token)
    except (TokenInvalid, TokenExpired) as error:
        return type(error).__name__
    theirs = jwt.decode(
        token,
        SECRETS[algorithm],
        algorithms=[algorithm],
        audience="api",
        issuer="here",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert theirs == ours.claims
    assert theirs["sub"] == ours.subject
    other = joserfc.jwt.decode(token, joserfc.jwk.OctKey.import_key(SECRETS[algorithm]), algorithms=[algorithm])
    assert other.claims == ours.claims
    return "accepted"


@settings(max_examples=300)
@given(st.dictionaries(header_names, values, max_size=1), st.dictionaries(claim_names, values, max_size=2))
@example({}, {})
@example({"typ": "application/at+jwt"}, {"aud": ["x", "api"]})
def test_odd_values_rightly_signed(head: dict[str, Any], claims: dict[str, Any]) -> None:
    event(agree(forge(without_missing(header(**head)), access_claims(**claims))))


@settings(max_examples=300)
@given(st.data())
def test_odd_bytes_rightly_signed(data: st.DataObject) -> None:
    """One byte of the JSON changed, or of the base64url that it is written as; then signed as it stands."""
    segments = [dumped(header()), dumped(access_claims())]
    which = data.draw(st.integers(0, 1))
    if data.draw(st.booleans()):
        segments[which] = changed(data, segments[which])
        signed = b".".join(map(b64, segments))
    else:
        texts = [*map(b64, segments)]
        texts[which] = changed(data, texts[which])
        signed = b".".join(texts)
    event(agree(signed + b"." + b64(signature(signed))))


@settings(max_examples=300)
@given(st.data())
def test_odd_bytes_not_signed_again(data: st.DataObject) -> None:
    token = forge(header(), access_claims())
    mutated = changed(data, token)
    event(agree(mutated))
    if mutated != token:
        assert_refused(TOKENS.read_access, mutated, TokenInvalid)


@settings(max_examples=300)
@given(st.data())
def test_odd_json_rightly_signed(data: st.DataObject) -> None:
    """Blanks, names written otherwise, names twice: what JSON readers differ in."""
    head = respelt(data, header())
    event(agree(forge(head, respelt(data, access_claims(n=[1.0, 10**30, -0.0, "\u2028"])))))


@pytest.mark.parametrize("algorithm", HASHES)
@pytest.mark.parametrize("texts", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_C09_each_last_character_of_each_part(algorithm: str, texts: tuple[int, ...]) -> None:
    """Of the four, sixteen or sixty-four last characters that mean the same bytes, one is accepted: that of the sample."""
    good = forge(header(alg=algorithm, kid=GUARDS[algorithm].keyring.signing.id), access_claims(), algorithm=algorithm)
    assert agree(good, algorithm) == "accepted"
    parts = good.split(b".")
    for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=":
        mutated = [part[:-1] + bytes([last]) if at in texts else part for at, part in enumerate(parts)]
        if mutated != parts:
            assert_refused(GUARDS[algorithm].read_access, b".".join(mutated), TokenInvalid)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # for a new name, which PyJWT doesn't have yet
@pytest.mark.parametrize("algorithm", KEYED)
def test_C09_each_last_character_and_each_byte_with_keys(algorithm: str) -> None:
    """What a key has signed is accepted by both others, and no change of a character by us."""
    tokens, public = KEYED[algorithm]
    terms: dict[str, Any] = {"key_id": "k", "issued_at": NOW, "expires_at": NOW + 1800, "authenticated_at": NOW}
    terms |= {"scopes": (), "claims": {"n": [1]}}
    good = tokens.mint_access("alice", (SESSION, 3), **terms).encode()
    ours = tokens.read_access(good)
    options: Any = {"verify_exp": False, "verify_iat": False}
    key = jwt.PyJWK(public)
    assert jwt.decode(good, key, algorithms=[algorithm], audience="api", options=options) == ours.claims
    other = joserfc.jwk.import_key(public)
    assert joserfc.jwt.decode(good, other, algorithms=[algorithm]).claims == ours.claims
    for at in range(0, len(good), 7):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert_refused(tokens.read_access, changed, TokenInvalid)
    for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=":
        if last != good[-1]:
            assert_refused(tokens.read_access, good[:-1] + bytes([last]), TokenInvalid)


def respelt(data: st.DataObject, fields: dict[str, Any]) -> bytes:
    """An object as another writer might put it, or nobody should."""
    pairs = list(fields.items())
    if data.draw(st.booleans()):
        pairs.append(data.draw(st.sampled_from(pairs)))
    blank = data.draw(st.sampled_from(["", " ", "\t\r\n ", "\f", "\u00a0"]))
    escape = data.draw(st.booleans())

    def named(name: str) -> str:
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"' if escape else json.dumps(name)

    members = f",{blank}".join(f"{named(name)}{blank}:{json.dumps(value)}" for name, value in pairs)
    return f"{blank}{{{members}}}{blank}".encode()


def changed(data: st.DataObject, text: bytes) -> bytes:
    index = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 2))
    return text[:index] + data.draw(st.binary(max_size=2)) + text[index + removed :]
