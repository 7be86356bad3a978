"""Keys from files: what a JWK Set and a folder of PEM files give, and what is refused, each for its own reason."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from key_kit import ALGORITHMS, OLD, ed448_key, jwk, pem, private, put, rsa_key, write_pem, write_set
from rig import always

from jwtguard import keyfiles, keys
from jwtguard.errors import ConfigError
from jwtguard.keyfiles import KeyFiles
from jwtguard.keys import Key

ED, ES, RSA = private(), private("ES256"), private("RS256")


def read(path: Path, algorithm: str = "EdDSA") -> list[Key]:
    reading = KeyFiles(str(path), algorithm).read()
    assert reading.broken == {}
    return [each.key for each in reading.found]


def refusal(path: Path, algorithm: str = "EdDSA") -> str:
    """Why a set, or the one file of a folder that can't be used, is refused; with nothing of a key in it."""
    try:
        [why] = KeyFiles(str(path), algorithm).read().broken.values()
    except ConfigError as error:
        why = str(error)
    for key in (ED, ES, RSA):
        secret = jwk(key, "k")["d"]
        assert secret not in why
    assert "\n" not in why
    return why


# -- sets ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_a_set_signs_and_its_public_half_verifies(tmp_path: Path, algorithm: str) -> None:
    key = private(algorithm)
    [own] = read(write_set(tmp_path / "own.json", jwk(key, "k", alg=algorithm)))
    [theirs] = read(write_set(tmp_path / "theirs.json", own.jwk()))
    assert (own.id, own.algorithm, own.signs, theirs.signs) == ("k", algorithm, True, False)
    signature = own.sign(b"message")
    assert len(signature) == own.signature_bytes == theirs.signature_bytes
    for reader in (own, theirs):
        assert reader.verify(b"message", signature)
        assert not reader.verify(b"massage", signature)
        assert not reader.verify(b"message", signature[:-1])
        assert not reader.verify(b"message", b"")
    assert theirs.jwk() == own.jwk()
    assert own.jwk().keys() <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}, "nothing private"


def test_C03_a_key_without_an_algorithm_of_its_own_has_the_configured_one(tmp_path: Path) -> None:
    path = write_set(tmp_path / "k", jwk(RSA, "a"), jwk(RSA, "b", alg="PS384"))
    assert {key.id: key.algorithm for key in read(path, "RS256")} == {"a": "RS256", "b": "PS384"}
    assert "doesn't fit its algorithm" in refusal(path, "EdDSA")


def test_the_first_of_a_set_is_the_one_to_sign_with(tmp_path: Path) -> None:
    path = write_set(tmp_path / "k", jwk(ED, "first"), jwk(private(number=1), "second"))
    assert [key.id for key in read(path)] == ["second", "first"], "the one to sign with comes last"


def set_of(**members: Any) -> Callable[[Path], Path]:
    return lambda path: write_set(path, jwk(ED, "k") | members)


def without(name: str, key: Any = ED) -> Callable[[Path], Path]:
    return lambda path: write_set(path, jwk(key, "k", **{name: ...}))


def point_off_curve() -> dict[str, Any]:
    found = jwk(ES.public_key(), "k")
    y = bytearray(base64.urlsafe_b64decode(found["y"] + "="))
    y[-1] ^= 1
    return found | {"y": base64.urlsafe_b64encode(y).decode().rstrip("=")}


def public(key: Any = ED, **members: Any) -> Callable[[Path], Path]:
    return lambda path: write_set(path, jwk(key.public_key(), "k", **members))


BAD_SETS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "C05 a secret": (lambda path: write_set(path, {"kty": "oct", "k": "A" * 43, "kid": "k"}), '"kty" is none of'),
    "C05 a secret beside a key": (
        lambda path: write_set(path, jwk(ED, "e"), {"kty": "oct", "k": "A" * 43, "kid": "k", "alg": "HS256"}),
        'number 2: its "kty" is none of',
    ),
    "C01 no algorithm": (set_of(alg="none"), "expected its"),
    "C01 an algorithm of secrets": (set_of(alg="HS256"), "expected its"),
    "C01 an algorithm that isn't text": (set_of(alg=["EdDSA"]), "expected its"),
    "C06 RSA of 1024 bits": (lambda path: write_set(path, jwk(rsa_key(1024), "k", alg="RS256")), "1024 bits long"),
    "C17 an even exponent": (
        lambda path: write_set(path, jwk(RSA.public_key(), "k", alg="RS256", e="AQAA")),
        "exponent|malformed",
    ),
    "C17 an exponent of one": (
        lambda path: write_set(path, jwk(RSA.public_key(), "k", alg="RS256", e="AQ")),
        "exponent|malformed",
    ),
    "C17 an exponent of three": (public(RSA, alg="RS256", e="Aw"), "exponent"),
    "C17 a point off its curve": (lambda path: write_set(path, point_off_curve() | {"alg": "ES256"}), "not on the curve"),
    "C17 another curve": (lambda path: write_set(path, jwk(ES, "k", alg="ES384")), "curve is not that of ES384"),
    "C17 P-521": (
        lambda path: write_set(path, jwk(ec.generate_private_key(ec.SECP521R1()), "k", alg="ES256")),
        "curve is not",
    ),
    "C17 Ed448": (lambda path: write_set(path, jwk(ed448_key(), "k")), "Ed448"),
    "C17 a curve that isn't text": (lambda path: write_set(path, jwk(ES, "k", alg="ES256", crv=["P-256"])), "curve is not"),
    "a private half of another key": (set_of(d=jwk(private(number=1), "x")["d"]), "malformed"),
    "a private half of another EC key": (
        lambda path: write_set(path, jwk(ES, "k", alg="ES256", d=jwk(private("ES256", 1), "x")["d"])),
        "of another key",
    ),
    "a private half of another RSA key": (
        lambda path: write_set(path, jwk(rsa_key(number=1), "k", alg="RS256", n=jwk(RSA, "k")["n"])),
        "of another key",
    ),
    "a number that is no text": (set_of(x=5), "malformed"),
    "a number written otherwise": (set_of(x=jwk(ED, "k")["x"] + "="), "malformed"),
    "a member missing": (without("x"), "malformed"),
    "C18 for encryption": (set_of(use="enc"), '"use" is not'),
    "C18 a use that is no text": (set_of(use=None), '"use" is not'),
    "C18 a private key that may not sign": (set_of(key_ops=["verify"]), "key_ops"),
    "C18 a public key that may not verify": (
        lambda path: write_set(path, jwk(ED.public_key(), "k", key_ops=["sign"])),
        "key_ops",
    ),
    "C18 operations twice": (set_of(key_ops=["sign", "sign"]), "key_ops"),
    "C18 operations that are none": (set_of(key_ops="sign"), "key_ops"),
    "C18 operations that aren't text": (set_of(key_ops=["sign", 5]), "key_ops"),
    "C19 one id twice": (
        lambda path: write_set(path, jwk(ED, "k"), jwk(private(number=1), "k")),
        "two keys have the id 'k'",
    ),
    "C19 the same key twice": (lambda path: write_set(path, jwk(ED, "k"), jwk(ED, "k")), "the id 'k'"),
    "C08 no id": (without("kid"), '"kid"'),
    "C08 an id with a quote": (set_of(kid="' OR 1=1 --"), '"kid"'),
    "C08 an id with a line end": (set_of(kid="k\n"), '"kid"'),
    "C08 a long id": (set_of(kid="k" * 129), '"kid"'),
    "C08 an id that is no text": (set_of(kid=5), '"kid"'),
    "no key": (lambda path: write_set(path), "expected a JWK Set"),
    "too many keys": (lambda path: write_set(path, *(jwk(ED, f"k{n}") for n in range(33))), "with 1 to 32 keys"),
    "a key that is no object": (lambda path: write_set(path, "x"), '"kty" is none of'),
    "a kind that can't be looked up": (set_of(kty=["OKP"]), '"kty" is none of'),
    "no object": (lambda path: put(path, b"[]", OLD), "expected a JWK Set"),
    "no JSON": (lambda path: put(path, b"{", OLD), "expected a JWK Set"),
    "C14 names twice": (
        lambda path: put(path, b'{"keys":[],' + json.dumps({"keys": [jwk(ED, "k")]}).encode()[1:], OLD),
        "expected a JWK Set",
    ),
    "a single key": (lambda path: put(path, json.dumps(jwk(ED, "k")).encode(), OLD), "expected a JWK Set"),
    "too large": (lambda path: put(path, b" " * 70_000, OLD), "larger than 64 KiB"),
    "not there": (lambda path: path, "can't be read: No such file"),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_a_set_that_is_refused(tmp_path: Path, name: str) -> None:
    make, why = BAD_SETS[name]
    found = refusal(make(tmp_path / "keys.json"))
    assert any(part in found for part in why.split("|")), found
    assert str(tmp_path) in found


def test_C18_what_a_key_may_be_used_for_may_be_said(tmp_path: Path) -> None:
    own = jwk(ED, "a", use="sig", key_ops=["sign"])
    [theirs, mine] = read(write_set(tmp_path / "k", own, jwk(ED.public_key(), "b", key_ops=["verify"])))
    assert (mine.signs, theirs.signs) == (True, False)


# -- folders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_folder_of_private_and_public_keys(tmp_path: Path, algorithm: str) -> None:
    write_pem(tmp_path, "2026-05", private(algorithm), at=7)
    write_pem(tmp_path, "2026-01", private(algorithm, 1).public_key(), at=5)
    (tmp_path / ".2026-07.pem").write_text("a draft")
    (tmp_path / "README").write_text("not a key")
    older, newer = KeyFiles(str(tmp_path), algorithm).read().found
    assert (older.key.id, older.since, older.key.signs) == ("2026-01", 5, False)
    assert (newer.key.id, newer.since, newer.key.signs) == ("2026-05", 7, True)
    assert newer.key.algorithm == algorithm


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "encrypted": (lambda folder: put(folder / "k.pem", pem(ED, b"passphrase"), OLD), "encrypted"),
    "nothing": (lambda folder: put(folder / "k.pem", b"", OLD), "found 0 PEM blocks"),
    "two keys": (lambda folder: put(folder / "k.pem", pem(ED) * 2, OLD), "found 2 PEM blocks"),
    "a certificate": (
        lambda folder: put(folder / "k.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", OLD),
        "can't be read as a private or public key",
    ),
    "half a key": (lambda folder: put(folder / "k.pem", pem(ED)[:60], OLD), "can't be read as a private or public key"),
    "C03 another kind": (lambda folder: write_pem(folder, "k", RSA), "EdDSA needs an Ed25519 key"),
    "C17 Ed448": (lambda folder: write_pem(folder, "k", ed448_key()), "expected Ed25519"),
    "C08 a name that is no id": (lambda folder: write_pem(folder, "a b", ED), "its name is the key's id"),
    "a folder": (lambda folder: (folder / "k.pem").mkdir(), "can't be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_of_a_folder_that_is_refused(tmp_path: Path, name: str) -> None:
    make, why = BAD_FILES[name]
    make(tmp_path)
    assert why in refusal(tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "needs"), [("RS256", "an RSA key"), ("PS512", "an RSA key"), ("ES384", "an EC key on P-384")]
)
def test_C03_a_key_that_does_not_fit_its_algorithm(tmp_path: Path, algorithm: str, needs: str) -> None:
    write_pem(tmp_path, "k", ES)
    assert f"{algorithm} needs {needs}" in refusal(tmp_path, algorithm)


def test_a_folder_without_keys_and_one_with_too_many(tmp_path: Path) -> None:
    assert "no file whose name ends with .pem" in refusal(tmp_path)
    for number in range(33):
        write_pem(tmp_path, f"k{number}", ED)
    assert "has 33 keys" in refusal(tmp_path)


def test_a_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    write_pem(tmp_path, "a", ED)
    files = KeyFiles(str(tmp_path), "EdDSA")
    seen = [files.fingerprint()]
    for change in (
        lambda: write_pem(tmp_path, "b", private(number=1)),
        lambda: write_pem(tmp_path, "b", private(number=2)),
        (tmp_path / "b.pem").unlink,
    ):
        change()
        seen.append(files.fingerprint())
    assert seen[0] == seen[3]
    assert len({str(each) for each in seen}) == 3
    (tmp_path / "c.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"c\.pem can't be read"):
        files.fingerprint()


def test_private_keys_that_others_can_read(tmp_path: Path) -> None:
    for key_id, key, mode in (("a", ED, 0o600), ("b", ED, 0o640), ("c", ED, 0o604), ("d", ED.public_key(), 0o644)):
        write_pem(tmp_path, key_id, key).chmod(mode)
    assert [path.stem for path in KeyFiles(str(tmp_path), "EdDSA").readable_by_others()] == ["b", "c"]
    path = write_set(tmp_path / "set.json", jwk(ED, "k"))
    assert KeyFiles(str(path), "EdDSA").readable_by_others() == []
    path.chmod(0o644)
    assert KeyFiles(str(path), "EdDSA").readable_by_others() == [path]
    write_set(path, jwk(ED.public_key(), "k")).chmod(0o644)
    assert KeyFiles(str(path), "EdDSA").readable_by_others() == []


def test_a_set_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_set(tmp_path / "keys.json", jwk(ED, "k"))
    monkeypatch.setattr(keyfiles, "_contents", always(PermissionError(13, "Permission denied")))
    assert refusal(path) == f"{path}: can't be read: Permission denied"


def test_without_cryptography_there_are_no_such_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "has_crypto", False)
    assert "jwtguard-middleware[crypto]" in refusal(write_set(tmp_path / "keys.json", jwk(ED, "k")))
    with pytest.raises(ConfigError, match="crypto"):
        Key("k", "EdDSA", ED)


def test_without_cryptography_the_extra_is_named(tmp_path: Path) -> None:
    write_pem(tmp_path, "k", ED)
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import jwtguard\n"
        f"jwtguard.Guard.from_env(store='memory://', keys={str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'jwtguard-middleware[crypto]'" in done.stderr.splitlines()[-1]
