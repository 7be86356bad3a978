"""Tokens that no honest client has, signed with the right key where that makes them worth refusing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from jwtguard.errors import AuthError
from jwtguard.keys import Keyring
from jwtguard.testing import FakeClock
from jwtguard.tokens import Tokens, text_of_id

NOW = 1_750_000_000
SECRET = b"0123456789abcdef" * 4
SECRETS = {"HS256": SECRET[:32], "HS384": SECRET[:48], "HS512": SECRET}
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
SESSION = bytes(range(16))
LONGEST = 90 * 24 * 3600


def a_guard(*secrets: bytes, algorithm: str = "HS256", clock: FakeClock | None = None, **changes: Any) -> Tokens:
    """Tokens of issuer `here` and audience `api`; without secrets, with the one that these helpers sign with."""
    terms: dict[str, Any] = {"issuer": "here", "audience": "api", "leeway": 0, "max_token": 8192, "longest": LONGEST}
    keyring = Keyring.from_secrets(secrets or [SECRETS[algorithm]], algorithm)
    return Tokens(keyring, clock=clock or FakeClock(NOW), **{**terms, **changes})


TOKENS = a_guard()
KEY = TOKENS.keyring.signing


def header(**fields: Any) -> dict[str, Any]:
    return {"alg": "HS256", "kid": KEY.id, "typ": "at+jwt", **fields}


def access_claims(**fields: Any) -> dict[str, Any]:
    """The claims of a good access token; a field given as `...` is left out."""
    claims = {
        "iss": "here",
        "aud": "api",
        "sub": "alice",
        "iat": NOW,
        "exp": NOW + 1800,
        "sid": text_of_id(SESSION),
        "scope": "read write",
        "jti": text_of_id(SESSION) + ".3",
        **fields,
    }
    return {name: value for name, value in claims.items() if value is not ...}


def refresh_claims(**fields: Any) -> dict[str, Any]:
    return access_claims(sid=..., scope=..., claims={"name": "Alice"}, **fields)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def dumped(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def signature(signed: bytes, algorithm: str = "HS256", secret: bytes | None = None) -> bytes:
    return hmac.digest(SECRETS[algorithm] if secret is None else secret, signed, HASHES[algorithm])


def forge(head: Any, claims: Any, *, algorithm: str = "HS256", secret: bytes | None = None) -> bytes:
    """A token of this header and payload (objects, or their bytes), with a right signature."""
    signed = b64(dumped(head)) + b"." + b64(dumped(claims))
    return signed + b"." + b64(signature(signed, algorithm, secret))


def forge_access(**fields: Any) -> bytes:
    return forge(header(), access_claims(**fields))


def assert_refused(read: Callable[[bytes], object], token: bytes, error: type[AuthError]) -> None:
    """Refused with just this class, and nothing of the token in the message, the cause or the context."""
    with pytest.raises(AuthError) as caught:
        read(token)
    assert type(caught.value) is error
    assert str(caught.value) == error.description
    assert caught.value.args == (error.description,)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
