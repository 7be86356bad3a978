"""`jwtguard keys`: a folder of PEM files, made, looked at and rotated. What is never printed is a key."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..clock import SystemClock
from ..environment import given_in
from ..errors import ConfigError
from ..keyfiles import Found, KeyFiles
from ..keys import require_cryptography
from ..rotation import LEAD, Rotation
from ..values import Wrong
from ..variables import KEY_ALGORITHMS, VARIABLES
from .output import AsJSON, Exit, fail, moment, print_json, print_table, print_text

__all__ = ["new", "rotate", "show"]

RSA_BITS: Final = 3072
"""Good for 128 bits (NIST SP 800-57 part 1, table 2)."""

KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")

Folder = Annotated[
    Path | None, typer.Option("--keys", envvar="JWTGUARD_KEYS", metavar="FOLDER", help="The folder of PEM files.")
]
Algorithm = Annotated[
    str,
    typer.Option(envvar="JWTGUARD_ALGORITHM", help=f"What all keys of the folder are for: {', '.join(KEY_ALGORITHMS)}."),
]
Name = Annotated[str | None, typer.Option(help="The new key's id; by default the date.")]


def new(folder: Folder = None, algorithm: Algorithm = "EdDSA", name: Name = None, as_json: AsJSON = False) -> None:
    """Make a private key. It signs once it has been published for two minutes; a first one at once."""
    path = _make(_folder(folder), algorithm, name)
    if as_json:
        print_json({"id": path.stem, "file": str(path)})
    else:
        print_text(f"{path} is a new key for {algorithm}. Only its owner can read it.")


def show(folder: Folder = None, algorithm: Algorithm = "EdDSA", as_json: AsJSON = False) -> None:
    """List the keys: which one signs, and which only verify. A JWK Set too."""
    files = KeyFiles(str(_named(folder)), _known(algorithm))
    reading = files.read()
    able = any(found.key.signs for found in reading.found) and not reading.broken
    signing = Rotation(files, SystemClock()).keyring.signing.id if able else None
    keys = [_plain(found, signing) for found in reversed(reading.found)]
    exposed = list(map(str, files.readable_by_others()))
    if as_json:
        print_json({"keys": keys, "broken": list(reading.broken.values()), "readable_by_others": exposed})
    else:
        print_table(("id", "algorithm", "kind", "since", ""), map(_row, keys))
        for why in reading.broken.values():
            print_text(f"Broken: {why}", "red")
        for path in exposed:
            print_text(f"Not only its owner can read {path}: chmod 600 it", "yellow")
    raise typer.Exit(Exit.NO if reading.broken or exposed else Exit.YES)


def _plain(found: Found, signing: str | None) -> dict[str, Any]:
    key = found.key
    what = {"private": key.signs, "since": int(found.since), "signs": key.id == signing}
    return {"id": key.id, "algorithm": key.algorithm, **what}


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    kind = "private" if key["private"] else "public"
    waits = key["private"] and not key["signs"] and time.time() < key["since"] + LEAD
    what = "signs" if key["signs"] else f"signs from {moment(key['since'] + LEAD)}" if waits else "verifies"
    return (key["id"], key["algorithm"], kind, moment(key["since"]), what)


def rotate(
    folder: Folder = None,
    algorithm: Algorithm = "EdDSA",
    name: Name = None,
    remove_old: Annotated[bool, typer.Option("--remove-old", help="Delete keys whose last tokens have expired.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Make the next key, and tell which old ones nothing needs any more."""
    where = _folder(folder)
    if not _found(where, algorithm):
        fail(f"{str(where)!a} has no key to rotate: jwtguard keys new", Exit.NO)
    path = _make(where, algorithm, name)
    old = [where / f"{found.key.id}.pem" for found in _over(_found(where, algorithm))]
    if remove_old:
        for each in old:
            each.unlink()
    if as_json:
        print_json({"id": path.stem, "file": str(path), "old": list(map(str, old)), "removed": remove_old})
        return
    print_text(f"{path} is a new key for {algorithm}. It signs in two minutes, when it has been published for long enough.")
    for each in old:
        print_text(f"{each} is {'removed' if remove_old else 'not needed any more'}: its last tokens have expired.")


def _over(found: list[Found]) -> Iterator[Found]:
    """The keys whose last tokens have expired: their successor has signed for longer than a refresh token lives."""
    given = given_in(VARIABLES["refresh_ttl"], os.environ)
    try:
        lives: float = VARIABLES["refresh_ttl"].value(given.value)
    except Wrong as why:
        raise ConfigError(f"{given.name}: accepted: {why.accepted}") from None
    for key, successor in pairwise(each for each in found if each.key.signs):
        if time.time() > successor.since + 2 * LEAD + lives:
            yield key


# -- the folder ------------------------------------------------------------------------------------------------------------


def _named(folder: Path | None) -> Path:
    if folder is None:
        fail("where are the keys? Set JWTGUARD_KEYS, or say --keys FOLDER", Exit.WRONG)
    return folder


def _known(algorithm: str) -> str:
    if algorithm not in KEY_ALGORITHMS:
        fail(f"{algorithm!a} is no algorithm for a key: expected one of {', '.join(KEY_ALGORITHMS)}", Exit.WRONG)
    return algorithm


def _folder(folder: Path | None) -> Path:
    where = _named(folder)
    if where.is_file():
        fail(f"{str(where)!a} is a file, and a JWK Set is changed by what made it: name a folder of PEM files", Exit.WRONG)
    return where


def _found(folder: Path, algorithm: str) -> list[Found]:
    """The keys of a folder, the newest last. Raises ConfigError if one is broken, or for another algorithm."""
    if not folder.is_dir() or not any(folder.glob("[!.]*.pem")):
        return []
    reading = KeyFiles(str(folder), _known(algorithm)).read()
    if reading.broken:
        raise ConfigError("; ".join(reading.broken.values()))
    return reading.found


def _make(folder: Path, algorithm: str, name: str | None) -> Path:
    """A new key in its file, put there in one step, and never over another. Raises ConfigError."""
    require_cryptography()
    taken = {found.key.id for found in _found(folder, algorithm)}
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    free = (each for each in (today, *(f"{today}-{number}" for number in range(2, 100))) if each not in taken)
    chosen = next(free) if name is None else name
    if KEY_NAME.fullmatch(chosen) is None:
        fail(f"{chosen!a} is no name for a key: expected 1 to 64 letters, digits and ._~-", Exit.WRONG)
    path = folder / f"{chosen}.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _put(path, _pem(_known(algorithm)))
    except FileExistsError:
        fail(f"{str(path)!a} exists already, and is left as it is: choose another --name", Exit.NO)
    except OSError as error:
        fail(f"{str(path)!a} can't be written: {error.strerror}", Exit.WRONG)
    return path


def _put(path: Path, data: bytes) -> None:
    hidden = path.with_name(f".{path.stem}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.link(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def _pem(algorithm: str) -> bytes:
    """A new private key as PKCS #8 (RFC 5208)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    makers: dict[str, Callable[[], Any]] = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }
    make = makers.get(algorithm, lambda: rsa.generate_private_key(65537, RSA_BITS))
    pem: bytes = make().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem
