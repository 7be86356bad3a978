"""Reading asymmetric keys: a JWK Set (RFC 7517), or a folder of PEM files. Each key is checked before it is one.

- A JWK has its own algorithm, or the configured one; a PEM file has the configured one. A token's header has no say.
- A key is named by its `kid`, or by its PEM file's name. Nothing else of a file locates a key: no URL in it is followed.
- What a file says in two ways (a name twice, an id twice, a private half that doesn't belong to the public one) is refused.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from .errors import ConfigError
from .jws import from_base64url, json_object
from .keys import Key, require_cryptography
from .variables import KEY_ALGORITHMS

__all__ = ["Found", "KeyFiles", "Reading"]

MOST_KEYS: Final = 32
LARGEST_FILE: Final = 64 * 1024

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._~@:+/=-]{1,128}")
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CURVES: Final = MappingProxyType({"P-256": "ES256", "P-384": "ES384"})
_PUBLIC: Final = MappingProxyType({"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)})
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi"})
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


class Found(NamedTuple):
    """A key, and since when it has been there (seconds since the epoch), as far as the files tell."""

    key: Key
    since: float


class Reading(NamedTuple):
    """What a look at the files gave: the keys, the one to sign with last; and of the files of a folder that can't be used,
    why."""

    found: list[Found]
    broken: Mapping[str, str]
    is_folder: bool


class KeyFiles:
    """Keys in files. Arguments: `path`, a file or a folder; `algorithm`, that of a key that doesn't say its own."""

    def __init__(self, path: str, algorithm: str) -> None:
        self.path = Path(path).absolute()
        self._algorithm = algorithm

    def fingerprint(self) -> object:
        """Something that is another when the files are. Raises ConfigError."""
        return sorted((str(path), *_state(path)) for path in self._files())

    def read(self) -> Reading:
        """The keys. Raises ConfigError if the file, or the whole folder, can't be used."""
        require_cryptography()
        files = self._files()
        if not self.path.is_dir():
            since = self.path.stat().st_mtime
            return Reading([Found(key, since) for key in reversed(self._keys_of(self.path))], {}, is_folder=False)
        found: list[Found] = []
        broken: dict[str, str] = {}
        for path in files:
            try:
                found.append(Found(self._key_of(path), path.stat().st_mtime))
            except (ConfigError, OSError) as error:
                broken[path.stem] = f"{path}: {_reason(error)}"
        return Reading(sorted(found, key=lambda each: (each.since, each.key.id)), broken, is_folder=True)

    def readable_by_others(self) -> list[Path]:
        """The files that not only their owner can read, and that hold a private key. Raises ConfigError."""
        return [path for path in self._files() if path.stat().st_mode & _READABLE_BY_OTHERS and _is_private(path)]

    def _files(self) -> list[Path]:
        """Raises ConfigError."""
        try:
            if not self.path.is_dir():
                self.path.stat()
                return [self.path]
            files = sorted(path for path in self.path.iterdir() if path.suffix == ".pem" and not path.name.startswith("."))
        except OSError as error:
            raise ConfigError(f"{self.path} can't be read: {error.strerror}") from error
        if not files:
            raise ConfigError(f"{self.path} has no file whose name ends with .pem")
        if len(files) > MOST_KEYS:
            raise ConfigError(f"{self.path} has {len(files)} keys: expected {MOST_KEYS} at most")
        return files

    def _key_of(self, path: Path) -> Key:
        """The key in a PEM file. Raises ConfigError, OSError."""
        if _FILE_NAME.fullmatch(path.stem) is None:
            raise ConfigError("its name is the key's id: expected 1 to 64 letters, digits and ._~- before .pem")
        text = _contents(path)
        kinds = _BEGIN.findall(text)
        if len(kinds) != 1:
            raise ConfigError(f"found {len(kinds)} PEM blocks: expected one, a private or a public key")
        if b"ENCRYPTED" in text:
            raise ConfigError("the key is encrypted: expected one without a passphrase")
        return Key(path.stem, self._algorithm, _loaded(text, private=kinds[0].endswith(b"PRIVATE KEY")))

    def _keys_of(self, path: Path) -> list[Key]:
        """The keys of a JWK Set, in its order. Raises ConfigError."""
        try:
            text = _contents(path)
        except OSError as error:
            raise ConfigError(f"{path}: {_reason(error)}") from error
        try:
            members = json_object(text).get("keys")
        except (ValueError, RecursionError):
            members = None
        if not isinstance(members, list) or not 1 <= len(members) <= MOST_KEYS:
            raise ConfigError(f'{path}: expected a JWK Set, {{"keys": [...]}}, with 1 to {MOST_KEYS} keys')
        return list(_each_once(path, (self._of_jwk(path, number, jwk) for number, jwk in enumerate(members, 1))))

    def _of_jwk(self, path: Path, number: int, jwk: object) -> Key:
        try:
            return _key_of_jwk(jwk, self._algorithm)
        except ConfigError as error:
            raise ConfigError(f"{path}, key number {number}: {error}") from None


def _each_once(path: Path, keys: Iterable[Key]) -> Iterator[Key]:
    ids: set[str] = set()
    for key in keys:
        if key.id in ids:
            raise ConfigError(f"{path}: two keys have the id {key.id!r}")
        ids.add(key.id)
        yield key


def _key_of_jwk(jwk: Any, configured: str) -> Key:
    """Raises ConfigError."""
    if not isinstance(jwk, dict) or str(jwk.get("kty")) not in _PUBLIC:
        raise ConfigError(
            'its "kty" is none of RSA, EC, OKP (a secret goes into JWTGUARD_SECRET, and not beside other keys)'
        )
    key_id, use, operations = jwk.get("kid"), jwk.get("use", "sig"), jwk.get("key_ops")
    if not isinstance(key_id, str) or _KEY_ID.fullmatch(key_id) is None:
        raise ConfigError('expected a "kid" of 1 to 128 letters, digits and ._~@:+/=-')
    if use != "sig":
        raise ConfigError('its "use" is not "sig"')
    if operations is not None and not _may_be_used(operations, "sign" if "d" in jwk else "verify"):
        raise ConfigError('its "key_ops" are not those of a key that signs or verifies')
    algorithm = jwk.get("alg", configured)
    if algorithm not in KEY_ALGORITHMS:
        raise ConfigError(f'expected its "alg" to be one of {", ".join(KEY_ALGORITHMS)}')
    if jwk["kty"] == "EC" and _CURVES.get(str(jwk.get("crv"))) != algorithm:
        raise ConfigError(f"its curve is not that of {algorithm}")
    return Key(key_id, algorithm, _material(jwk))


def _may_be_used(operations: object, needed: str) -> bool:
    """RFC 7517 section 4.3."""
    if not isinstance(operations, list) or not all(isinstance(each, str) for each in operations):
        return False
    return needed in operations and len(set(operations)) == len(operations)


def _material(jwk: dict[str, Any]) -> Any:
    """The key of a JWK, by PyJWT's reading of it; here is only checked that it is written in the one right way."""
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    readers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "RSA": RSAAlgorithm.from_jwk,
        "EC": ECAlgorithm.from_jwk,
        "OKP": OKPAlgorithm.from_jwk,
    }
    numbers = {name: value for name, value in jwk.items() if name in _PRIVATE or name in _PUBLIC[jwk["kty"]]}
    shape = {name: jwk[name] for name in ("kty", "crv", "oth") if name in jwk}
    try:
        for value in numbers.values():
            from_base64url(value.encode())
        return readers[jwk["kty"]](shape | numbers)
    except Exception:  # noqa: BLE001 - PyJWT's, OpenSSL's and our own errors, whose texts may hold parts of the key
        why = "a member is missing, malformed, not on the curve, or of another key"
        raise ConfigError(f"it can't be read as a key: {why}") from None


def _loaded(text: bytes, *, private: bool) -> Any:
    """Raises ConfigError."""
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_private_key(text, None) if private else serialization.load_pem_public_key(text)
    except Exception:  # noqa: BLE001 - it has many kinds, and their texts may hold parts of the key
        raise ConfigError("it can't be read as a private or public key in PEM") from None


def _contents(path: Path) -> bytes:
    """Raises ConfigError, OSError."""
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {LARGEST_FILE // 1024} KiB")
    return data


def _is_private(path: Path) -> bool:
    text = _contents(path)
    return b"PRIVATE KEY-----" in text or b'"d"' in text


def _state(path: Path) -> tuple[int, int, int]:
    """Raises ConfigError."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: ConfigError | OSError) -> str:
    return f"can't be read: {error.strerror}" if isinstance(error, OSError) else str(error)
