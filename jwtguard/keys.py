"""The keys that sign and verify. A key has one algorithm, never taken from a token (RFC 8725 section 3.1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Key", "Keyring"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `id` (the `kid` of its tokens), `algorithm` (RFC 7518 section 3.1), and the secret itself."""

    id: str
    algorithm: str
    secret: bytes = field(repr=False)


class Keyring:
    """The keys of one issuer: the first signs, all verify.

    Arguments: `keys`, at least one; those with the same id are one key, and the first counts.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: dict[str, Key] = {}
        for key in keys:
            self._keys.setdefault(key.id, key)
        self.signing = next(iter(self._keys.values()))

    @classmethod
    def from_secrets(cls, secrets: Sequence[bytes], algorithm: str) -> Keyring:
        """HMAC keys: the first secret signs, the others only verify."""
        return cls(Key(_key_id(secret), algorithm, secret) for secret in secrets)

    def find(self, key_id: object, algorithm: object) -> Key | None:
        """The key with just this id and algorithm, both as a token's header claims them; None if there is none."""
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        return key if key is not None and key.algorithm == algorithm else None

    def signing_again(self, key_id: str) -> Key:
        """The key that signed before, so that the same claims give the same token; the signing one if it is gone."""
        return self._keys.get(key_id, self.signing)


def _key_id(secret: bytes) -> str:
    """A name for a secret that doesn't help to guess it more than any token signed by it does."""
    digest = hmac.digest(secret, b"jwtguard key id", hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:6]).decode()
