"""The examples of RFC 7515, RFC 7520 and RFC 8037, as far as jwtguard has their algorithms, typed in from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from key_kit import OLD, put

from jwtguard.jws import Reader, Refused, from_base64url, to_base64url
from jwtguard.keyfiles import KeyFiles
from jwtguard.keys import Key, Keyring

BILBO = "bilbo.baggins@hobbiton.example"
JOE = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
FRODO = (
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUg"
    "cm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0"
    "IGJlIHN3ZXB0IG9mZiB0by4"
)
N_A2 = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR"
    "T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB"
    "dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"
    "GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
N_BILBO = (
    "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRB"
    "SFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD"
    "1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_"
    "qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
)
A2 = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9"
    "uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB"
    "_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq"
    "Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
S41 = (
    "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi8"
    "4wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocS"
    "adnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJu"
    "shZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg"
)
S42 = (
    "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItl"
    "lVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0"
    "TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0"
    "uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"
)


class Example(NamedTuple):
    """A public key and what it has signed. `other`: more members of the key, so that it can sign."""

    jwk: dict[str, Any]
    signed: str
    signature: str
    header: dict[str, Any]
    payload: bytes
    other: dict[str, Any] = {}  # noqa: RUF012 - read only


JOE_SAYS = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
FRODO_HEARS = (
    "It\u2019s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your feet, "
    "there\u2019s no knowing where you might be swept off to."
).encode()
BILBO_KEY = {"kty": "RSA", "kid": BILBO, "use": "sig", "n": N_BILBO, "e": "AQAB"}
EXAMPLES = {
    "RFC 7515 A.2, RS256": Example(
        {"kty": "RSA", "n": N_A2, "e": "AQAB"}, f"eyJhbGciOiJSUzI1NiJ9.{JOE}", A2, {"alg": "RS256"}, JOE_SAYS
    ),
    "RFC 7515 A.3, ES256": Example(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        f"eyJhbGciOiJFUzI1NiJ9.{JOE}",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        {"alg": "ES256"},
        JOE_SAYS,
        {"d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"},
    ),
    "RFC 7520 4.1, RS256": Example(
        BILBO_KEY,
        f"eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO}",
        S41,
        {"alg": "RS256", "kid": BILBO},
        FRODO_HEARS,
    ),
    "RFC 7520 4.2, PS384": Example(
        BILBO_KEY,
        f"eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO}",
        S42,
        {"alg": "PS384", "kid": BILBO},
        FRODO_HEARS,
    ),
    "RFC 8037 A.4, EdDSA": Example(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        {"alg": "EdDSA"},
        b"Example of Ed25519 signing",
        {"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"},
    ),
}


def key_of(folder: Path, example: Example, **more: Any) -> Key:
    jwk = {"kid": "example", **example.jwk, **more}
    path = put(folder / "keys.json", json.dumps({"keys": [jwk]}).encode(), OLD)
    return KeyFiles(str(path), example.header["alg"]).read().found[0].key


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_signature_holds_and_no_other(tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]
    header, payload = example.signed.split(".")
    assert json.loads(from_base64url(header.encode())) == example.header
    assert from_base64url(payload.encode()) == example.payload
    key = key_of(tmp_path, example)
    signed, signature = example.signed.encode(), from_base64url(example.signature.encode())
    assert key.verify(signed, signature)
    assert len(signature) == key.signature_bytes
    for at in (0, len(signature) // 2, len(signature) - 1):
        changed = bytearray(signature)
        changed[at] ^= 1
        assert not key.verify(signed, bytes(changed))
    assert not key.verify(signed + b"A", signature)
    assert key.jwk().items() >= {**example.jwk, "alg": example.header["alg"], "use": "sig"}.items()


@pytest.mark.parametrize("name", EXAMPLES)
def test_they_are_no_tokens_of_ours(tmp_path: Path, name: str) -> None:
    """They have no type, and some name no key: RFC 8725 section 3.11 wants the one, and our rings the other."""
    example = EXAMPLES[name]
    reader = Reader(Keyring([key_of(tmp_path, example)]), 8192)
    with pytest.raises(Refused):
        reader.read(f"{example.signed}.{example.signature}".encode(), "at+jwt")


def test_ed25519_signs_the_same(tmp_path: Path) -> None:
    example = EXAMPLES["RFC 8037 A.4, EdDSA"]
    signature = key_of(tmp_path, example, **example.other).sign(example.signed.encode())
    assert to_base64url(signature).decode() == example.signature


def test_what_the_key_of_es256_signs_its_public_half_verifies(tmp_path: Path) -> None:
    """No signature of its is the same as another."""
    example = EXAMPLES["RFC 7515 A.3, ES256"]
    signatures = {key_of(tmp_path, example, **example.other).sign(example.signed.encode()) for _ in range(3)}
    assert len(signatures) == 3
    assert all(key_of(tmp_path, example).verify(example.signed.encode(), signature) for signature in signatures)


def test_rfc_7515_a1_hs256() -> None:
    secret = from_base64url(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    key = Key("a1", "HS256", secret)
    signed = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}".encode()
    assert to_base64url(key.sign(signed)) == b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert key.verify(signed, from_base64url(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))
