"""Tokens whose form, header or encoding is wrong. All are signed with the right key where they can be."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import hashlib
import socket
import zlib
from typing import Any

import jwt.algorithms
import pytest
from forging import KEY, NOW, SECRETS, TOKENS, a_guard, access_claims, assert_refused, b64, dumped, forge, header, signature
from hypothesis import given
from hypothesis import strategies as st

from jwtguard import jws
from jwtguard.errors import RefreshInvalid, TokenInvalid
from jwtguard.tokens import token_bytes

GOOD = forge(header(), access_claims())
HEAD, BODY, MARK = GOOD.split(b".")


def refused(token: bytes) -> None:
    """Refused as an access token, and the same as a refresh token."""
    assert_refused(TOKENS.read_access, token, TokenInvalid)
    assert_refused(TOKENS.read_refresh, token, RefreshInvalid)
    assert_refused(TOKENS.read_ticket, token, TokenInvalid)


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of what each verification of a signature had to go through."""
    seen: list[int] = []
    verify = jwt.algorithms.HMACAlgorithm.verify

    def counting(self: Any, message: bytes, key: bytes, sig: bytes) -> bool:
        seen.append(len(message))
        return verify(self, message, key, sig)

    monkeypatch.setattr(jwt.algorithms.HMACAlgorithm, "verify", counting)
    return seen


@pytest.fixture
def nothing_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, no derivation of a key, no decompression."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a token started something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", refuse)
    monkeypatch.setattr(zlib, "decompress", refuse)
    monkeypatch.setattr(zlib, "decompressobj", refuse)


def test_the_sample_itself_is_good() -> None:
    assert TOKENS.read_access(GOOD).subject == "alice"


# -- algorithms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_C01_C03_a_key_has_one_algorithm(algorithm: str) -> None:
    """Signed with the very secret, by another algorithm of the same family."""
    secret = SECRETS["HS256"]
    refused(forge(header(alg=algorithm), access_claims(), algorithm=algorithm, secret=secret))
    refused(forge(header(), access_claims(), algorithm=algorithm, secret=secret))


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA", "PS256", "ES256K", "HS1", "HS257"])
def test_C01_what_is_not_on_the_list_is_refused(alg: str) -> None:
    refused(forge(header(alg=alg), access_claims()))


@pytest.mark.parametrize(
    "alg", ["nOnE", "hs256", "Hs256", ["HS256"], {}, {"HS256": 1}, None, True, 256, " HS256", "HS256 ", "HS256\0", "", ...]
)
def test_C02_alg_is_compared_exactly(alg: object) -> None:
    refused(forge({name: value for name, value in header(alg=alg).items() if value is not ...}, access_claims()))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_C04_none_is_never_accepted(alg: str) -> None:
    unsigned = b64(dumped(header(alg=alg))) + b"." + BODY
    for token in (
        unsigned + b".",
        unsigned,
        unsigned + b".x",
        unsigned + b"." + MARK,
        forge(header(alg=alg), access_claims()),
    ):
        refused(token)


# -- where keys come from --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_started")
@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "https://127.0.0.1/jwks.json"},
        {"x5u": "https://127.0.0.1/cert"},
        {"x5c": ["AAAA"]},
        {"x5t": "AAAA"},
        {"kid2": "x"},
        {"": ""},
        {"ALG": "none"},
    ],
    ids=lambda extra: next(iter(extra)) or "empty",
)
def test_C07_no_token_brings_its_key_along(extra: dict[str, Any]) -> None:
    """Neither a key, nor a place to find one, nor any name that we don't know."""
    refused(forge(header(**extra), access_claims()))
    refused(forge(header(**extra), access_claims(), secret=b"\0\0\0"))


KIDS = [
    "../../dev/null",
    "' OR 1=1 --",
    "k" * 5000,
    "a\0b",
    "a\r\nb",
    "\ud800",
    "",
    KEY.id + " ",
    KEY.id.upper(),
    KEY.id[:-1],
    None,
    0,
    True,
    [KEY.id],
    {KEY.id: 1},
    ...,
]


@pytest.mark.parametrize("kid", KIDS, ids=range(len(KIDS)))
def test_C08_kid_is_the_name_of_a_key_or_nothing(kid: object) -> None:
    refused(forge({name: value for name, value in header(kid=kid).items() if value is not ...}, access_claims()))


# -- the form of the text --------------------------------------------------------------------------------------------------

NEAR_MISSES = {
    "padded": GOOD + b"=",
    "padded twice": GOOD + b"==",
    "padded header": HEAD + b"=." + BODY + b"." + MARK,
    "padded payload": HEAD + b"." + BODY + b"=." + MARK,
    "newline after": GOOD + b"\n",
    "newline before": b"\n" + GOOD,
    "space after": GOOD + b" ",
    "tab inside": HEAD + b".\t" + BODY + b"." + MARK,
    "NUL after": GOOD + b"\0",
    "quoted": b'"' + GOOD + b'"',
    "braces": b"{" + GOOD + b"}",
    "plus": HEAD + b"." + BODY + b"." + MARK[:-1] + b"+",
    "slash": HEAD + b"." + BODY + b"." + MARK[:-1] + b"/",
    "percent": GOOD.replace(b".", b"%2E"),
    "comma-joined": GOOD + b"," + GOOD,
    "two tokens": GOOD + b" " + GOOD,
    "one dot": HEAD + b"." + BODY,
    "two parts": BODY + b"." + MARK,
    "three dots": GOOD + b".",
    "four parts": GOOD + b"." + MARK,
    "no header": b"." + BODY + b"." + MARK,
    "no payload": HEAD + b".." + MARK,
    "no signature": HEAD + b"." + BODY + b".",
    "only dots": b"..",
    "nothing": b"",
    "not ASCII": GOOD + "é".encode(),
    "not UTF-8": GOOD + b"\xff",
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "short signature": GOOD[:-4],
    "one character": HEAD + b"." + BODY + b".A",
    "another signature": HEAD + b"." + BODY + b"." + b64(b"\0" * 32),
    "another payload": HEAD + b"." + b64(dumped(access_claims(sub="bob"))) + b"." + MARK,
    "lower case": GOOD.lower(),
}


@pytest.mark.parametrize("token", NEAR_MISSES.values(), ids=NEAR_MISSES.keys())
def test_C09_token_grammar(token: bytes) -> None:
    refused(token)


def test_C09_another_text_for_the_same_bytes_is_another_token() -> None:
    """The last character of a segment has bits that no byte uses; who ignores them takes 4 or 16 texts for one."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [GOOD[:-1] + bytes([character]) for character in alphabet if character != GOOD[-1]]
    for token in others:
        refused(token)


def test_C09_signed_segments_are_canonical_too() -> None:
    """Signed as they stand, so that the signature holds."""
    for claims in (access_claims(), access_claims(sub="alicex"), access_claims(sub="alicexy")):
        body = b64(dumped(claims))
        if len(body) % 4 == 0:
            continue
        for last in b"BCDEFGH_":
            if bytes([last]) != body[-1:]:
                signed = HEAD + b"." + body[:-1] + bytes([last])
                refused(signed + b"." + b64(signature(signed)))


@pytest.mark.usefixtures("nothing_started")
def test_C10_only_compact_signed_tokens() -> None:
    encrypted = b64(dumped({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 10**9, "p2s": "AA", "zip": "DEF"}))
    refused(b".".join([encrypted, BODY, BODY, BODY, MARK]))
    refused(b".".join([encrypted, b"", BODY, BODY, MARK]))
    refused(dumped({"protected": HEAD.decode(), "payload": BODY.decode(), "signature": MARK.decode()}))
    refused(dumped({"payload": BODY.decode(), "signatures": [{"protected": HEAD.decode(), "signature": MARK.decode()}]}))


@given(st.binary(max_size=300))
def test_C09_noise_is_refused(noise: bytes) -> None:
    refused(noise)


@given(st.text(max_size=60))
def test_C09_text_that_is_not_ascii_is_refused_as_a_token_not_as_a_mistake(text: str) -> None:
    refused(token_bytes(text))
    assert token_bytes(GOOD) == GOOD
    assert token_bytes(GOOD.decode()) == GOOD
    refused(token_bytes(GOOD.decode() + "\ud800"))


# -- the header ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crit", [["x"], [], "x", [1], ["exp"], ["b64"], ["alg"], None, True, {}, 0])
def test_C11_crit_is_refused(crit: object) -> None:
    refused(forge(header(crit=crit), access_claims()))
    refused(forge(header(crit=crit, x=1, exp=NOW), access_claims()))


@pytest.mark.parametrize("b64_value", [False, True, 0, "false"])
def test_C12_b64_is_refused(b64_value: object) -> None:
    refused(forge(header(b64=b64_value), access_claims()))
    refused(forge(header(b64=b64_value, crit=["b64"]), access_claims()))


def test_C12_an_unencoded_payload_is_refused() -> None:
    signed = b64(dumped(header(b64=False, crit=["b64"]))) + b"." + dumped(access_claims())
    refused(signed + b"." + b64(signature(signed)))


@pytest.mark.usefixtures("nothing_started")
@pytest.mark.parametrize("zip_value", ["DEF", "", None])
def test_C16_compression_is_refused(zip_value: object) -> None:
    refused(forge(header(zip=zip_value), access_claims()))
    refused(forge(header(zip=zip_value), zlib.compress(dumped(access_claims()))))


NOT_OBJECTS = [b"[]", b'"a"', b"1", b"null", b"true", b"", b"{", b"{}x", b"{} {}", b"[" * 3000, b'{"a":' * 900, b"NaN"]


@pytest.mark.parametrize("data", NOT_OBJECTS, ids=range(len(NOT_OBJECTS)))
def test_header_and_payload_are_objects(data: bytes) -> None:
    refused(forge(header(), data))
    refused(forge(data, access_claims()))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"])
def test_C13_only_utf_8(encoding: str) -> None:
    text = dumped(access_claims(name="é{}")).decode("unicode-escape")
    refused(forge(header(), ("+AHs-" + text[1:] if encoding == "utf-7" else text).encode(encoding)))
    refused(forge(dumped(header()).decode().encode("utf-16"), access_claims()))


@pytest.mark.parametrize("bytes_", [b"\xc0\xaf", b"\xff", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"])
def test_C13_only_valid_utf_8(bytes_: bytes) -> None:
    refused(forge(header(), dumped(access_claims())[:-1] + b',"name":"' + bytes_ + b'"}'))


@pytest.mark.parametrize("name", ["sub", "exp", "jti", "iss", "aud", "sid", "scope", "iat"])
def test_C14_duplicate_claims_are_refused(name: str) -> None:
    body = dumped(access_claims())
    value = dumped(access_claims()[name])
    for doubled in (
        body[:-1] + b',"%s":%s}' % (name.encode(), value),
        b'{"%s":%s,' % (name.encode(), value) + body[1:],
        b'{"\\u%04x%s":%s,' % (ord(name[0]), name[1:].encode(), value) + body[1:],
    ):
        refused(forge(header(), doubled))


def test_C14_duplicates_are_refused_in_the_header_and_deep_down() -> None:
    head = dumped(header())
    refused(forge(b'{"alg":"none",' + head[1:], access_claims()))
    refused(forge(head[:-1] + b',"kid":"%s"}' % KEY.id.encode(), access_claims()))
    refused(forge(header(), dumped(access_claims())[:-1] + b',"a":{"b":[{"c":1,"c":1}]}}'))


@pytest.mark.parametrize("levels", [64, 1000, 2000])
def test_a_payload_that_is_nested_too_deeply_is_refused(levels: int) -> None:
    """Signed or not: what is accepted must not depend on how deep this Python can go."""
    refused(forge(header(), dumped(access_claims())[:-1] + b',"n":' + b"[" * levels + b"]" * levels + b"}"))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1" * 5000, b"01", b"0x1", b".5", b"1_0"])
def test_what_is_no_json_number_is_refused_anywhere(number: bytes) -> None:
    refused(forge(header(), dumped(access_claims())[:-1] + b',"n":' + number + b"}"))


# -- what a bad token costs ------------------------------------------------------------------------------------------------


def test_C15_a_long_token_is_refused_before_anything_is_made_of_it(verifications: list[int]) -> None:
    signed_and_long = forge(header(), access_claims(name="x" * 100_000))
    for token in (signed_and_long, b"A" * 8193, b"A." * 500_000, b"." * 1_000_000, GOOD + b"A" * 100_000):
        refused(token)
    assert verifications == []


def test_C15_the_longest_token_is_max_token_bytes() -> None:
    exact = a_guard(max_token=len(GOOD))
    assert exact.read_access(GOOD).subject == "alice"
    assert_refused(a_guard(max_token=len(GOOD) - 1).read_access, GOOD, TokenInvalid)


@pytest.mark.parametrize("token", NEAR_MISSES.values(), ids=NEAR_MISSES.keys())
def test_C15_no_bad_token_costs_more_than_one_verification(token: bytes, verifications: list[int]) -> None:
    assert_refused(TOKENS.read_access, token, TokenInvalid)
    assert len(verifications) <= 1
    assert all(length <= len(token) for length in verifications)


def test_C15_what_the_header_says_is_judged_before_the_signature(verifications: list[int]) -> None:
    wrong: list[dict[str, Any]] = [
        {"alg": "HS512"},
        {"kid": "x"},
        {"typ": "JWT"},
        {"crit": ["x"]},
        {"zip": "DEF"},
        {"b64": False},
    ]
    for fields in wrong:
        assert_refused(TOKENS.read_access, forge(header(**fields), access_claims()), TokenInvalid)
    assert verifications == []


def test_no_payload_is_read_before_the_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    real = jws.json_object

    def reading(data: bytes) -> dict[str, Any]:
        read.append(data)
        return real(data)

    monkeypatch.setattr(jws, "json_object", reading)
    assert_refused(a_guard().read_access, forge(header(), access_claims(sub="bob"), secret=b"another"), TokenInvalid)
    assert read == [dumped(header())]
