"""The keys that sign and verify. A key has one algorithm, never taken from a token (RFC 8725 section 3.1).

The only module that uses PyJWT: its algorithms make and check the signatures, and its checks of a key are made once, when
the key is put into a ring.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from .errors import ConfigError

__all__ = ["SHORTEST_SECRET", "Key", "Keyring"]

SHORTEST_SECRET: Final = MappingProxyType({"HS256": 32, "HS384": 48, "HS512": 64})
"""The algorithms that a key may have, and how long its secret is at least (RFC 7518 section 3.2), in bytes."""

_ALGORITHMS: Final = MappingProxyType(
    {
        "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
        "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
        "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
    }
)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `id` (the `kid` of its tokens), `algorithm` (RFC 7518 section 3.1), and the secret itself."""

    id: str
    algorithm: str
    secret: bytes = field(repr=False)

    @property
    def signature_bytes(self) -> int:
        """How long each of its signatures is."""
        return SHORTEST_SECRET[self.algorithm]  # as long as the hash: RFC 7518 section 3.2

    def sign(self, message: bytes) -> bytes:
        """The signature over a message."""
        return _ALGORITHMS[self.algorithm].sign(message, self.secret)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this is the signature over a message."""
        return _ALGORITHMS[self.algorithm].verify(message, self.secret, signature)


class Keyring:
    """The keys of one issuer: the first signs, all verify.

    Arguments: `keys`, at least one; the same key may come twice. Raises ConfigError.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            _check(key)
            if self._keys.setdefault(key.id, key) != key:
                raise ConfigError(f"two keys have the same id, {key.id!r}")
        if not self._keys:
            raise ConfigError("there is no key to sign with")
        self.signing = next(iter(self._keys.values()))

    @classmethod
    def from_secrets(cls, secrets: Sequence[bytes], algorithm: str) -> Keyring:
        """HMAC keys: the first secret signs, the others only verify."""
        return cls(Key(_key_id(secret), algorithm, secret) for secret in secrets)

    def find(self, key_id: object, algorithm: object) -> Key | None:
        """The key with just this id and algorithm, both as a token's header claims them; None if there is none."""
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        return key if key is not None and key.algorithm == algorithm else None

    def key_for_reissue(self, key_id: str) -> Key:
        """The key that signed before, so that the same claims give the same token; the signing one if it is gone."""
        return self._keys.get(key_id, self.signing)


def _check(key: Key) -> None:
    shortest = SHORTEST_SECRET.get(key.algorithm)
    if shortest is None:
        raise ConfigError(f"the algorithm is {key.algorithm!r}: expected one of {', '.join(SHORTEST_SECRET)}")
    if len(key.secret) < shortest:
        raise ConfigError(f"a secret is {len(key.secret)} bytes long: {key.algorithm} needs at least {shortest}")
    try:
        _ALGORITHMS[key.algorithm].prepare_key(key.secret)
    except InvalidKeyError:
        raise ConfigError("a secret looks like a public key, a certificate or a JWK: expected random bytes") from None


def _key_id(secret: bytes) -> str:
    """A name for a secret that doesn't help to guess it more than any token signed by it does."""
    digest = hmac.digest(secret, b"jwtguard key id", hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:6]).decode()
