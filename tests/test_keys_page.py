"""The commands of docs/keys.md, one after the other: what they make is what a guard goes by."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import jwt
import pytest

from jwtguard import Guard
from jwtguard.errors import TokenInvalid
from jwtguard.rotation import LEAD, LOOK_EVERY
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

PAGE = (Path(__file__).parents[1] / "docs" / "keys.md").read_text(encoding="utf-8")
MAKE, OTHERS, ROTATE, WITHDRAW = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the commands are openssl's")


def run(commands: str, folder: Path) -> None:
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True, timeout=60)


def test_make_rotate_withdraw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(MAKE, tmp_path)
    clock = FakeClock((tmp_path / "keys" / "2026-05.pem").stat().st_mtime)
    guard = Guard.from_env(keys=str(tmp_path / "keys"), store=MemoryStore(clock), clock=clock)
    assert caplog.messages == [], "nobody else can read it"

    def kid() -> str:
        found: str = jwt.get_unverified_header(guard.login("alice").access_token)["kid"]
        return found

    old = guard.login("alice").access_token
    assert kid() == "2026-05"
    run(ROTATE, tmp_path)
    clock.advance(LOOK_EVERY)
    assert kid() == "2026-05"
    assert {key["kid"] for key in guard.core.keys.keyring.jwks()["keys"]} == {"2026-05", "2026-08"}
    clock.advance(LEAD + 60)
    assert kid() == "2026-08"
    assert guard.authenticate(old).subject == "alice"
    run(WITHDRAW, tmp_path)
    clock.advance(LOOK_EVERY)
    with pytest.raises(TokenInvalid):
        guard.authenticate(old)
    guard.authenticate(guard.login("alice").access_token)


@pytest.mark.parametrize("name", ["for-ES256", "for-ES384", "for-RS256-or-PS256"])
def test_the_other_algorithms(tmp_path: Path, name: str) -> None:
    run(OTHERS, tmp_path)
    for path in (tmp_path / "keys").iterdir():
        if path.stem != name:
            path.unlink()
    for algorithm in re.findall(r"[A-Z]S[0-9]+", name):
        guard = Guard.from_env(keys=str(tmp_path / "keys"), algorithm=algorithm, store="memory://")
        assert guard.authenticate(guard.login("alice").access_token).subject == "alice"
