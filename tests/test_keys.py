"""The ring of keys: one signs, all verify, and none can be weak, unknown or ambiguous."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import pytest
from forging import SECRETS
from key_kit import a_key, private, rsa_key

from jwtguard.errors import ConfigError
from jwtguard.keys import Key, Keyring
from jwtguard.variables import SECRET_BYTES

OLD, NEW = b"o" * 32, b"n" * 32


def ring(*secrets: bytes, algorithm: str = "HS256") -> Keyring:
    return Keyring.from_secrets(secrets, algorithm)


def test_the_first_secret_signs_and_all_are_found() -> None:
    keys = ring(NEW, OLD)
    assert keys.signing.is_same(ring(NEW).signing)
    for key in (ring(NEW).signing, ring(OLD).signing):
        found = keys.find(key.id, "HS256")
        assert found is not None
        assert found.is_same(key)
    assert ring(NEW).find(ring(OLD).signing.id, "HS256") is None


def test_a_secret_has_the_same_name_everywhere_and_another_than_any_other() -> None:
    assert ring(NEW).signing.id == ring(OLD, NEW).find(ring(NEW).signing.id, "HS256").id  # type: ignore[union-attr]
    assert ring(NEW).signing.id != ring(OLD).signing.id
    assert len(ring(NEW).signing.id) == 8


@pytest.mark.parametrize("algorithm", ["HS384", "hs256", "none", None, 256, ["HS256"], {}])
def test_C03_a_key_is_found_for_its_own_algorithm_only(algorithm: object) -> None:
    assert ring(NEW).find(ring(NEW).signing.id, algorithm) is None


@pytest.mark.parametrize("key_id", [None, 5, ["x"], {}, "", "x", b"x"])
def test_C08_a_key_is_found_by_its_name_only(key_id: object) -> None:
    assert ring(NEW).find(key_id, "HS256") is None


def test_what_a_withdrawn_key_signed_is_signed_again_by_the_present_one() -> None:
    keys = ring(NEW, OLD)
    assert keys.key_for_reissue(ring(OLD).signing.id).is_same(ring(OLD).signing)
    assert ring(NEW).key_for_reissue(ring(OLD).signing.id).is_same(ring(NEW).signing)


def test_the_same_secret_twice_is_one_key() -> None:
    assert ring(NEW, NEW).signing.is_same(ring(NEW).signing)


def test_C19_two_keys_with_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="same id, 'k'"):
        Keyring([Key("k", "HS256", NEW), Key("k", "HS256", OLD)])


def test_a_ring_has_a_key() -> None:
    with pytest.raises(ConfigError, match="no key"):
        Keyring([])


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "hs256", "HS256 ", "HS1", "RS256", "EdDSA"])
def test_C01_C04_C05_only_listed_algorithms_can_be_configured(algorithm: str) -> None:
    """None of the asymmetric ones is for a secret, so no ring can hold both sorts."""
    with pytest.raises(ConfigError, match="expected one of HS256, HS384, HS512"):
        ring(SECRETS["HS512"], algorithm=algorithm)


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_C06_a_secret_is_as_long_as_its_hash(algorithm: str, size: int) -> None:
    assert SECRET_BYTES[algorithm] == size
    assert ring(b"s" * size, algorithm=algorithm).signing.algorithm == algorithm
    for short in (b"", b"s" * 16, b"s" * (size - 1)):
        with pytest.raises(ConfigError, match=f"needs at least {size}"):
            ring(short, algorithm=algorithm)
        with pytest.raises(ConfigError, match=f"needs at least {size}"):
            ring(b"l" * size, short, algorithm=algorithm)


PUBLIC = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize(
    "secret", [PUBLIC, '{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}']
)
def test_C05_a_public_key_is_no_secret(secret: str) -> None:
    """Else who knows the public key of another issuer could sign as us."""
    with pytest.raises(ConfigError, match="looks like a public key, a certificate or a JWK"):
        ring(secret.encode())


def test_C05_secrets_and_other_keys_are_not_in_one_ring() -> None:
    with pytest.raises(ConfigError, match="can't be in one ring"):
        Keyring([Key("k", "HS256", NEW), a_key("e")])


@pytest.mark.parametrize("algorithm", ["HS256", "none", "ES512", "Ed25519", "ES256K"])
def test_C01_C04_only_listed_algorithms_are_for_keys(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="expected one of EdDSA, ES256"):
        Key("k", algorithm, private())


@pytest.mark.parametrize(("bits", "algorithm"), [(1024, "RS256"), (1024, "PS384")])
def test_C06_an_rsa_key_is_long_enough(bits: int, algorithm: str) -> None:
    with pytest.raises(ConfigError, match="1024 bits long: expected 2048 to 8192"):
        Key("k", algorithm, rsa_key(bits))


def test_no_message_and_no_repr_shows_a_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        ring(b"hunter2-hunter2")
    assert "hunter2" not in str(caught.value)
    assert "nnn" not in repr(ring(NEW).signing)
    assert "secret" not in repr(ring(NEW).signing)
