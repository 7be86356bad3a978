"""`jwtguard watch`: what happens, from a log and from a store."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_cli import environ, run

from jwtguard import AuthError, Guard
from jwtguard.cli import watching
from jwtguard.errors import StoreError
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.telemetry import JSONFormatter

if TYPE_CHECKING:
    from redis_kit import Redis

__all__ = ["environ"]

Step = Callable[[], object]


@pytest.fixture
def log() -> Any:
    """What an app has logged: a login, a refusal, and something of another party."""
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JSONFormatter())
    logger = logging.getLogger("jwtguard")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        guard = Guard.from_env(store="memory://")
        guard.login("alice")
        guard.login("bob")
        with pytest.raises(AuthError):
            guard.authenticate("x.y.z")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    return lines.getvalue() + "another line\n"


def meanwhile(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """Have these happen between two looks, one each; then Ctrl-C is pressed."""
    left = list(steps)

    def sleep(_seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    monkeypatch.setattr(watching, "time", SimpleTime(sleep))


class SimpleTime:
    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


def seen(*arguments: str, given: str | None = None) -> list[tuple[str, str]]:
    result = run("watch", "--json", *arguments, given=given)
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return [(event["name"], event["subject"]) for event in events]


def test_a_log_that_is_piped_in(log: str) -> None:
    assert seen("--log", "-", given=log) == [("opened", "alice"), ("opened", "bob"), ("rejected", "")]
    assert seen("bob", "--log", "-", given=log) == [("opened", "bob")]
    shown = run("watch", "--log", "-", given=log).stdout.splitlines()
    assert [line.split()[3] for line in shown] == ["opened", "opened", "rejected"]
    assert shown[2].split()[4:] == ["token_invalid", "401"]


def test_a_log_that_is_followed(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "app.log"
    file.write_text(log)

    def append() -> None:
        with file.open("a") as end:
            end.write(log.replace("alice", "carol"))

    meanwhile(monkeypatch, append)
    assert seen("--log", str(file)) == [("opened", "carol"), ("opened", "bob"), ("rejected", "")]
    gone = run("watch", "--log", "no.log")
    assert (gone.exit_code, gone.stderr) == (2, "jwtguard: 'no.log' can't be read: No such file or directory\n")


def test_a_store_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard.from_env()
    pair = guard.login("alice")
    meanwhile(
        monkeypatch,
        lambda: guard.login("bob"),
        lambda: guard.refresh(pair.refresh_token),
        lambda: guard.revoke_all("alice"),
    )
    assert seen() == [("opened", "bob"), ("refreshed", "alice"), ("revoked", "alice")]
    meanwhile(monkeypatch, lambda: guard.login("alice"), lambda: guard.login("bob"))
    assert seen("alice") == [("opened", "alice")]
    guard.close()


def test_a_store_that_is_down_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard.from_env()
    guard.login("alice")
    scan = SQLiteStore.scan

    def fail(_store: SQLiteStore) -> Any:
        raise StoreError("the disk is gone")

    meanwhile(
        monkeypatch,
        lambda: setattr(SQLiteStore, "scan", fail),
        lambda: guard.login("bob"),
        lambda: setattr(SQLiteStore, "scan", scan),
        lambda: None,
    )
    result = run("watch")
    assert result.stderr == "jwtguard: the store can't be asked, and will be again: the disk is gone\n"
    (line,) = result.stdout.splitlines()
    assert line.split()[3:5] == ["opened", "bob"]
    guard.close()


def test_stores_that_can_not_be_watched(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_STORE", "memory://")
    result = run("watch")
    assert (result.exit_code, "watch its log by --log" in result.stderr) == (2, True)
    monkeypatch.setenv("JWTGUARD_STORE", f"{redis_server.url}?prefix=watch:")
    result = run("watch")
    assert (result.exit_code, "name those to look at" in result.stderr) == (2, True)
    guard = Guard.from_env()
    meanwhile(monkeypatch, lambda: guard.login("alice"))
    assert seen("alice") == [("opened", "alice")]
    guard.close()


def test_the_program_ends_with_ctrl_c(log: str, tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.touch()
    command = [str(Path(sys.executable).with_name("jwtguard")), "watch", "--log", str(file)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As from a terminal: tests that run in a shell's background ignore Ctrl-C, and so would what they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    line = ""
    while not line:  # it follows from the end, so until it has begun, what is added is not seen
        with file.open("a") as end:
            end.write(log)
        time.sleep(0.05)
        line = first_line(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (line.split()[3:5], errors, process.returncode) == (["opened", "alice"], "", 0)


def first_line(process: subprocess.Popen[str]) -> str:
    import select

    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0.2)
    return process.stdout.readline() if ready else ""
