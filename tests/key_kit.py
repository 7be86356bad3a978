"""Keys for tests, in the forms in which operators have them."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from jwtguard.keys import Key

ALGORITHMS = ("EdDSA", "ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
OLD = 0
"""A file's time that is long ago."""


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537, number: int = 0) -> Any:
    return rsa.generate_private_key(exponent, bits)


@cache
def private(algorithm: str = "EdDSA", number: int = 0) -> Any:
    """A private key; another one for each number."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
    return rsa_key(number=number)


def ed448_key() -> Any:
    return ed448.Ed448PrivateKey.generate()


def a_key(key_id: str, algorithm: str = "EdDSA", number: int = 0) -> Key:
    return Key(key_id, algorithm, private(algorithm, number))


def pem(key: Any, passphrase: bytes | None = None) -> bytes:
    """A private key in PEM, as openssl genpkey writes it; a public one as openssl pkey -pubout does."""
    if not hasattr(key, "public_key"):
        found: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return found
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    written: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return written


def jwk(key: Any, key_id: str, **members: Any) -> dict[str, Any]:
    """A key as a JWK; a member given as `...` is left out."""
    kind = type(key).__name__
    reader: Any = OKPAlgorithm if "Ed" in kind else ECAlgorithm if "Elliptic" in kind or "EC" in kind else RSAAlgorithm
    found: dict[str, Any] = reader.to_jwk(key, as_dict=True)
    found.pop("key_ops", None)
    return {name: value for name, value in {**found, "kid": key_id, **members}.items() if value is not ...}


def write_set(path: Path, *jwks: Any, at: float = OLD, **members: Any) -> Path:
    """A JWK Set, put in place in one step."""
    put(path, json.dumps({"keys": list(jwks), **members}).encode(), at)
    return path


def write_pem(folder: Path, key_id: str, key: Any, *, at: float = OLD) -> Path:
    return put(folder / f"{key_id}.pem", pem(key), at)


def put(path: Path, data: bytes, at: float) -> Path:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(data)
    draft.chmod(0o600)
    os.utime(draft, (at, at))
    draft.replace(path)
    return path
