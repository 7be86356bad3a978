"""Processes of peers, each with the interpreter of its own environment; spoken to by lines, and stopped by their ids."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from .environments import NODE, ROOT, python_of
from .peers import Peer

__all__ = ["Failed", "Spoken", "command_of", "environ", "serving", "worker"]

PATIENCE: Final = 60.0


class Failed(Exception):
    """A peer that can't be measured, and why."""


def environ() -> dict[str, str]:
    """Without settings of jwtguard's, so that they are the defaults; and without those of whoever runs this in a test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JWTGUARD_", "COV", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}


class Spoken:
    """A process that answers a line for each line that it is sent."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line)
            del self._errors[:-20]

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> Any:
        """The next line. Raises Failed if none comes in a minute, or the process is over."""
        assert self._process.stdout is not None
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._reader.join(1)
            raise Failed("".join(self._errors[-1:]).strip() or "no answer in time")
        return json.loads(line)

    def ask(self, line: str = "") -> Any:
        """Send a line, and hear the answer. Raises Failed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self.hear()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self._reader.join(1)


def command_of(peer: Peer, tool: str, *arguments: str, redis_url: str) -> list[str | Path]:
    if peer.environment == "node":
        program = NODE / peer.module
        program.write_bytes((ROOT / "benchmarks" / "peers" / "node" / peer.module).read_bytes())  # beside its packages
        return ["node", program, *arguments]
    return [python_of(peer.environment), "-m", f"benchmarks.peers.{tool}", peer.module, peer.variant, redis_url, *arguments]


@contextmanager
def worker(peer: Peer, redis_url: str, seconds: float) -> Iterator[Spoken]:
    """A peer that is ready to be timed. Raises Failed, FileNotFoundError."""
    spoken = Spoken(command_of(peer, "worker", str(seconds), redis_url=redis_url))
    try:
        spoken.hear()
        yield spoken
    finally:
        spoken.stop()


@contextmanager
def serving(peer: Peer, redis_url: str, server: str, which: str, port: int) -> Iterator[tuple[str, list[str]]]:
    """A peer behind a server: a token that is good, and those that it must refuse. Raises Failed, FileNotFoundError."""
    spoken = Spoken(command_of(peer, "serving", server, which, str(port), redis_url=redis_url))
    try:
        found = spoken.hear()
        yield found["good"], found["bad"]
    finally:
        spoken.stop()
