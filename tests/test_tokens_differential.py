"""Whatever our stricter reader accepts, PyJWT's own verification accepts too, and reads the same."""

from __future__ import annotations

from typing import Any

import jwt
from forging import KEY, NOW, TOKENS, access_claims, b64, dumped, forge, header, signature
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from jwtguard.errors import TokenExpired, TokenInvalid

ODD: list[Any] = [..., None, True, 0, -1, 1.5, 1e30, "", "x", "here", "api", "alice", [], ["api"], ["api", 5], {}, {"a": 1}]
ODD += [NOW, NOW + 29, NOW + 1800, NOW - 5, str(NOW), "at+jwt", "application/at+jwt", "HS256", "none", "é\0", KEY.id]
values = st.sampled_from(ODD) | st.integers(NOW - 100, NOW + 3000) | st.text(max_size=5)
claim_names = st.sampled_from([*access_claims(), "nbf", "name", "crit"])
header_names = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip", "jwk", "cty", "x"])


def without_missing(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}


def agree(token: bytes) -> None:
    """If ours accepts, so does PyJWT: signature, audience, issuer. It has its own clock, so dates are left to ours."""
    try:
        ours = TOKENS.read_access(token)
    except (TokenInvalid, TokenExpired) as error:
        event(type(error).__name__)
        return
    event("accepted")
    theirs = jwt.decode(
        token,
        KEY.secret,
        algorithms=["HS256"],
        audience="api",
        issuer="here",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert theirs == ours.claims
    assert theirs["sub"] == ours.subject


@settings(max_examples=300)
@given(st.dictionaries(header_names, values, max_size=1), st.dictionaries(claim_names, values, max_size=2))
@example({}, {})
@example({"typ": "application/at+jwt"}, {"aud": ["x", "api"]})
def test_odd_values_rightly_signed(head: dict[str, Any], claims: dict[str, Any]) -> None:
    agree(forge(without_missing(header(**head)), access_claims(**claims)))


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
    agree(signed + b"." + b64(signature(signed)))


@settings(max_examples=300)
@given(st.data())
def test_odd_bytes_not_signed_again(data: st.DataObject) -> None:
    token = forge(header(), access_claims())
    mutated = changed(data, token)
    agree(mutated)
    if mutated != token:
        assert_not_accepted(mutated)


def assert_not_accepted(token: bytes) -> None:
    try:
        TOKENS.read_access(token)
    except TokenInvalid:
        return
    raise AssertionError("a changed token was accepted")


def changed(data: st.DataObject, text: bytes) -> bytes:
    index = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 2))
    return text[:index] + data.draw(st.binary(max_size=2)) + text[index + removed :]
