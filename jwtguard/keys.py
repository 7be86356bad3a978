"""The keys that sign and verify. A key has one algorithm, never taken from a token (RFC 8725 section 3.1).

The only module that uses PyJWT: its algorithms make and check the signatures, and its checks of a key are made once, when
the key is made. Invariants:
- A key's algorithm, and what it is made of, never change.
- Secrets and asymmetric keys are not in one ring: what verifies with a public key could be had to take it for a secret.
- A key that is withdrawn stays so: its `until` has passed for good. Whatever was verified by it asks that, each time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

from jwt.algorithms import get_default_algorithms, has_crypto
from jwt.exceptions import InvalidKeyError

from .errors import ConfigError
from .variables import KEY_ALGORITHMS, SECRET_BYTES

__all__ = ["Key", "Keyring", "require_cryptography"]

RSA_BITS: Final = (2048, 8192)
"""How long an RSA key is, at least (RFC 7518 section 3.3) and at most: a longer one only costs time."""

WITHDRAWN: Final = float("-inf")
ALWAYS: Final = float("inf")

_ALGORITHMS: Final = MappingProxyType(get_default_algorithms())


class Key:
    """One key, private, public or a secret.

    Arguments: `key_id`, the `kid` of its tokens; `algorithm` (RFC 7518 section 3.1); `material`, a secret's bytes, or a key
    of `cryptography`. Raises ConfigError if they don't go together, or the key is weak.
    """

    __slots__ = ("_algorithm", "_material", "_public", "algorithm", "id", "signs", "until")

    def __init__(self, key_id: str, algorithm: str, material: Any) -> None:
        self.id = key_id
        self.algorithm = algorithm
        _check_algorithm(algorithm, material)
        self._algorithm = _ALGORITHMS[algorithm]
        try:
            self._material = self._algorithm.prepare_key(material)
        except (InvalidKeyError, TypeError):
            raise ConfigError(_unfit(algorithm)) from None
        _check_strength(algorithm, self._material)
        private = hasattr(self._material, "public_key")
        self.signs = private or algorithm in SECRET_BYTES
        """Whether it can sign; a public key can't."""
        self._public = self._material.public_key() if private else self._material
        self.until = ALWAYS
        """When what it has verified needs another look at where it came from (monotonic): passed, if it is withdrawn."""

    def __repr__(self) -> str:
        return f"Key({self.id!r}, {self.algorithm!r})"

    @property
    def alive(self) -> bool:
        """Whether it hasn't been withdrawn."""
        return self.until > WITHDRAWN

    def is_same(self, other: Key) -> bool:
        """Whether the other one is this key, whatever else it can do."""
        named = (self.id, self.algorithm, self.signs) == (other.id, other.algorithm, other.signs)
        return named and bool(self._public == other._public)

    @property
    def signature_bytes(self) -> int:
        """How long each of its signatures is."""
        if self.algorithm in SECRET_BYTES:
            return SECRET_BYTES[self.algorithm]  # as long as the hash
        if self.algorithm == "EdDSA":
            return 64
        bits: int = self._public.key_size
        return bits // 4 if self.algorithm.startswith("ES") else -(-bits // 8)

    def sign(self, message: bytes) -> bytes:
        """The signature over a message."""
        return self._algorithm.sign(message, self._material)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this is the signature over a message."""
        return self._algorithm.verify(message, self._public, signature)

    def jwk(self) -> dict[str, Any]:
        """Its public half, for others to verify with (RFC 7517 section 4)."""
        members = self._algorithm.to_jwk(self._public, as_dict=True)
        members.pop("key_ops", None)  # it would say the same as `use`
        return {"kid": self.id, "alg": self.algorithm, "use": "sig", **members}


class Keyring:
    """The keys of one issuer: one signs, all verify.

    Arguments: `keys`, at least one; the same key may come twice. `signing`, which of them signs: if left out, the first
    that can. Raises ConfigError.
    """

    def __init__(self, keys: Iterable[Key], signing: Key | None = None) -> None:
        self._keys = _by_id(keys)
        self._signing = signing or next((key for key in self._keys.values() if key.signs), None)

    @classmethod
    def from_secrets(cls, secrets: Sequence[bytes], algorithm: str) -> Keyring:
        """HMAC keys: the first secret signs, the others only verify."""
        return cls(Key(_key_id(secret), algorithm, secret) for secret in secrets)

    @property
    def signing(self) -> Key:
        """The key that signs. Raises ConfigError if there are only public keys."""
        if self._signing is None:
            raise ConfigError("there is no private key to sign with: this guard only verifies, so nobody can log in")
        return self._signing

    def find(self, key_id: object, algorithm: object) -> Key | None:
        """The key with just this id and algorithm, both as a token's header claims them; None if there is none."""
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        return key if key is not None and key.algorithm == algorithm else None

    def has(self, key_id: str) -> bool:
        """Whether a key has this id."""
        return key_id in self._keys

    def key_for_reissue(self, key_id: str) -> Key:
        """The key that signed before, so that the same claims give the same token; the signing one if it is gone."""
        key = self._keys.get(key_id)
        return key if key is not None and key.signs else self.signing

    @property
    def is_public(self) -> bool:
        """Whether there are keys that others can verify with."""
        return not any(key.algorithm in SECRET_BYTES for key in self._keys.values())

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517 section 5)."""
        return {"keys": [key.jwk() for key in self._keys.values()]}

    def replace(self, keys: Iterable[Key], signing: Key | None, until: float) -> list[Key]:
        """These are the keys from here on, and nothing verified by another counts. Answers those that were withdrawn.

        A key that was there already stays the one it is. `until`: when they are to be looked at again. Raises ConfigError,
        and changes nothing.
        """
        before = self._keys
        kept = {key.id: key for key in before.values()}
        new = _by_id(kept[key.id] if key.id in kept and kept[key.id].is_same(key) else key for key in keys)
        for key in new.values():
            key.until = until
        self._keys = new
        self._signing = None if signing is None else new[signing.id]
        withdrawn = [key for key in before.values() if new.get(key.id) is not key]
        for key in withdrawn:
            key.until = WITHDRAWN
        return withdrawn


def _by_id(keys: Iterable[Key]) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for key in keys:
        if not found.setdefault(key.id, key).is_same(key):
            raise ConfigError(f"two keys have the same id, {key.id!r}")
    if not found:
        raise ConfigError("there is no key")
    if len({key.algorithm in SECRET_BYTES for key in found.values()}) > 1:
        raise ConfigError("secrets and asymmetric keys can't be in one ring")
    return found


def require_cryptography() -> None:
    """Raise ConfigError where it isn't installed."""
    if not has_crypto:
        raise ConfigError("asymmetric keys need cryptography: pip install 'jwtguard-middleware[crypto]'")


def _check_algorithm(algorithm: str, material: object) -> None:
    """Raises ConfigError."""
    accepted = tuple(SECRET_BYTES) if isinstance(material, bytes) else KEY_ALGORITHMS
    if algorithm not in accepted:
        raise ConfigError(f"the algorithm is {algorithm!r}: expected one of {', '.join(accepted)}")
    if isinstance(material, bytes) and len(material) < SECRET_BYTES[algorithm]:
        least = SECRET_BYTES[algorithm]
        raise ConfigError(f"a secret is {len(material)} bytes long: {algorithm} needs at least {least}")
    if algorithm in KEY_ALGORITHMS:
        require_cryptography()


def _check_strength(algorithm: str, material: Any) -> None:
    """Raises ConfigError."""
    if algorithm[:2] in ("RS", "PS"):
        public = material.public_key() if hasattr(material, "public_key") else material
        exponent = public.public_numbers().e
        if not RSA_BITS[0] <= public.key_size <= RSA_BITS[1]:
            raise ConfigError(f"an RSA key is {public.key_size} bits long: expected {RSA_BITS[0]} to {RSA_BITS[1]}")
        if exponent < 2**16 or exponent.bit_length() > 256 or exponent % 2 == 0:  # FIPS 186-5, section 5.1
            raise ConfigError("an RSA key's public exponent is not an odd number between 2^16 and 2^256: expected 65537")
    elif algorithm == "EdDSA" and type(material).__name__.startswith("Ed448"):
        raise ConfigError("a key is on the curve Ed448: expected Ed25519")


def _unfit(algorithm: str) -> str:
    if algorithm in SECRET_BYTES:
        return "a secret looks like a public key, a certificate or a JWK: expected random bytes"
    kinds = {"Ed": "an Ed25519 key", "RS": "an RSA key", "PS": "an RSA key", "ES": f"an EC key on P-{algorithm[2:]}"}
    return f"a key doesn't fit its algorithm: {algorithm} needs {kinds[algorithm[:2]]}"


def _key_id(secret: bytes) -> str:
    """A name for a secret that doesn't help to guess it more than any token signed by it does."""
    digest = hmac.digest(secret, b"jwtguard key id", hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:6]).decode()
