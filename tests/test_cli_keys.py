"""`jwtguard keys`: keys are made, listed and rotated, and a guard goes by them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli import environ, issued, run, said

from jwtguard.variables import KEY_ALGORITHMS

__all__ = ["environ"]

DAY = 86_400


@pytest.fixture(autouse=True)
def with_keys(environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWTGUARD_SECRET")
    monkeypatch.setenv("JWTGUARD_KEYS", "keys")


def aged(name: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(f"keys/{name}.pem", (then, then))


@pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
def test_a_new_key_serves(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_ALGORITHM", algorithm)
    made = said("keys", "new", "--name", "first")
    assert made == {"id": "first", "file": "keys/first.pem"}
    assert [path.stat().st_mode & 0o777 for path in (Path("keys"), Path("keys/first.pem"))] == [0o700, 0o600]
    assert [path.name for path in Path("keys").iterdir()] == ["first.pem"]
    found = said("token", "inspect", given=issued("alice"))
    assert (found["accepted"], found["header"]["kid"], found["header"]["alg"]) == (True, "first", algorithm)


def test_what_is_printed_is_no_key() -> None:
    result = run("keys", "new", "--keys", "keys")
    (path,) = Path("keys").iterdir()
    assert result.stdout == f"{path} is a new key for EdDSA. Only its owner can read it.\n"
    assert path.stem == time.strftime("%Y-%m-%d", time.gmtime())
    second = said("keys", "new")
    assert second["id"] == f"{path.stem}-2"


def test_the_list() -> None:
    for name, age in (("old", 90 * DAY), ("now", 5 * DAY), ("next", 10)):
        said("keys", "new", "--name", name)
        aged(name, age)
    keys = said("keys", "list")
    assert [(key["id"], key["signs"], key["private"]) for key in keys["keys"]] == [
        ("next", False, True),
        ("now", True, True),
        ("old", False, True),
    ]
    assert (keys["broken"], keys["readable_by_others"]) == ([], [])
    first, second, third = run("keys", "list").stdout.splitlines()[1:]
    assert "signs from" in first
    assert second.rstrip().endswith("signs")
    assert third.rstrip().endswith("verifies")


def test_the_list_of_what_can_not_be_used() -> None:
    said("keys", "new", "--name", "good")
    Path("keys/good.pem").chmod(0o644)
    exposed = run("keys", "list")
    assert (exposed.exit_code, "Not only its owner can read " in exposed.stdout) == (1, True)
    Path("keys/bad.pem").write_text("nothing")
    found: Any = said("keys", "list", code=1)
    assert [key["signs"] for key in found["keys"]] == [False]
    assert "found 0 PEM blocks" in found["broken"][0]
    assert "Broken: " in run("keys", "list").stdout
    for command in ("new", "rotate"):
        result = run("keys", command)
        assert (result.exit_code, "found 0 PEM blocks" in result.stderr) == (2, True)


def test_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("keys", "rotate").exit_code == 1
    for name, age in (("a", 90 * DAY), ("b", 60 * DAY), ("c", 5 * DAY)):
        said("keys", "new", "--name", name)
        aged(name, age)
    rotated = said("keys", "rotate", "--name", "d")
    assert rotated == {"id": "d", "file": "keys/d.pem", "old": ["keys/a.pem"], "removed": False}
    monkeypatch.setenv("JWTGUARD_REFRESH_TTL", "3d")
    result = run("keys", "rotate", "--name", "e", "--remove-old")
    assert "keys/a.pem is removed: its last tokens have expired." in result.stdout
    assert "keys/b.pem is removed" in result.stdout
    assert sorted(path.stem for path in Path("keys").iterdir()) == ["c", "d", "e"]
    assert "signs in two minutes" in run("keys", "rotate", "--name", "f").stdout
    monkeypatch.setenv("JWTGUARD_REFRESH_TTL", "long")
    assert "JWTGUARD_REFRESH_TTL: accepted: a duration" in run("keys", "rotate", "--name", "g").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--name", "../x"], 2, "'../x' is no name for a key"),
        (["--name", ".x"], 2, "is no name for a key"),
        (["--name", "taken"], 1, "'keys/taken.pem' exists already"),
        (["--algorithm", "HS256"], 2, "'HS256' is no algorithm for a key"),
        (["--keys", "set.json"], 2, "'set.json' is a file, and a JWK Set"),
        (["--keys", "set.json/x"], 2, "can't be written: Not a directory"),
        (["--keys", "other", "--algorithm", "none"], 2, "'none' is no algorithm for a key"),
    ],
)
def test_keys_that_are_not_made(arguments: list[str], code: int, why: str) -> None:
    said("keys", "new", "--name", "taken")
    Path("set.json").write_text("{}")
    before = Path("keys/taken.pem").read_bytes()
    result = run("keys", "new", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert why in result.stderr
    assert [path.read_bytes() for path in Path("keys").iterdir()] == [before]


def test_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JWTGUARD_KEYS")
    for command in ("new", "list", "rotate"):
        result = run("keys", command)
        assert (result.exit_code, "Set JWTGUARD_KEYS, or say --keys FOLDER" in result.stderr) == (2, True)


def test_check_finds_a_key_that_others_can_read() -> None:
    said("keys", "new", "--name", "first")
    assert said("check")["ok"]
    Path("keys/first.pem").chmod(0o644)
    (finding,) = said("check", code=1)["findings"]
    assert "holds a private key, and not only its owner can read it" in finding["message"]


def test_inspect_tells_which_key_a_token_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    said("keys", "new", "--name", "first")
    token = issued("alice")
    said("keys", "new", "--keys", "others", "--name", "second")
    monkeypatch.setenv("JWTGUARD_KEYS", "others")
    found = said("token", "inspect", given=token, code=1)
    assert found["why"] == 'its kid "first" is none of the keys here: another key or secret signed it'
