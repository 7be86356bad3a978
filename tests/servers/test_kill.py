"""`kill -9` at any moment loses no session whose answer was sent."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jwtguard import Guard, Settings
from jwtguard.errors import TokenSuperseded
from servers.serving import ROOT, Client, Server, Site, gunicorn, serving, until, uvicorn

pytestmark = pytest.mark.servers

ANSWERS = 1000
LIVES = 20
KILLINGS = 10

Pair = dict[str, Any]


def live(site: Site, name: str, enough: int) -> list[tuple[str, Pair]]:
    """What a process reported until it was killed, somewhere after its `enough`th answer."""
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.diary", name], cwd=ROOT, env=site.environ(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(enough)]
        threading.Event().wait(random.uniform(0, 0.02))  # to be in the middle of whatever it does now
    finally:
        process.kill()
    with process:
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return [(session, pair) for session, pair in map(json.loads, lines)]


def survives(guard: Guard, pair: Pair) -> str:
    """How a pair that was answered still lets its user in: by itself, or by its successor, whose answer was lost."""
    try:
        assert guard.authenticate(pair["access_token"]).session_id == pair["session_id"]
    except TokenSuperseded:
        successor = guard.refresh(pair["refresh_token"])
        assert guard.authenticate(successor.access_token).session_id == pair["session_id"]
        return "by its successor"
    return "by itself"


def test_a_process_that_logs_in_and_refreshes(tmp_path: Path) -> None:
    # Without grace, a pair has no other right to be accepted than that it is the last one, or that its successor was lost.
    site = Site(tmp_path, rotation_grace="0s")
    last: dict[str, Pair] = {}
    answers = 0
    lives = 0
    while answers < ANSWERS or lives < LIVES:
        reported = live(site, f"life{lives}", random.randrange(20, 2 * ANSWERS // LIVES))
        last.update(reported)
        answers += len(reported)
        lives += 1
    guard = Guard(Settings(**site.settings))
    survivors = Counter(survives(guard, pair) for pair in last.values())
    guard.close()
    assert survivors.total() == len(last)
    assert survivors["by itself"] >= len(last) - lives  # each killing can have lost one answer
    print(f"{answers} answers, {lives} killings, {dict(survivors)}")


def test_workers_of_a_server(tmp_path: Path) -> None:
    site = Site(tmp_path, max_sessions="400")
    with (
        serving(site, *gunicorn("servers.flask_worker:app")) as flask,
        serving(site, *uvicorn("examples.fastapi_app:app", workers=1)) as fastapi,
        ThreadPoolExecutor(2) as pool,
    ):
        over = threading.Event()
        users = [pool.submit(use, flask, over) for _ in range(2)]
        try:
            for _ in range(KILLINGS):
                pid = until("a worker answers", lambda: attempt(flask, Client.home))["worker"]
                os.kill(int(pid), signal.SIGKILL)
        finally:
            over.set()
        pairs = [pair for user in users for pair in user.result()]
        with fastapi.client() as client:
            for pair in pairs:
                answer = client.me(pair)
                assert answer.status_code == 200, answer.text
        assert len(flask.lines_with("Booting worker")) >= KILLINGS


def use(server: Server, over: threading.Event) -> list[Pair]:
    """Log in and refresh until `over`, and for 50 times at least. Answers the last pair of each session."""
    last: list[Pair] = []
    while len(last) < 50 or not over.is_set():
        if (pair := attempt(server, Client.try_to_log_in)) is not None:
            last.append(pair)
            if (successor := attempt(server, partial(Client.refresh, pair=pair))) is not None:
                last[-1] = successor
    return last


def attempt(server: Server, ask: Callable[[Client], httpx2.Response]) -> Pair | None:
    """What a server answers over a new connection; None if the connection broke before the answer."""
    with server.client() as client:
        try:
            answer = ask(client)
        except httpx2.TransportError:
            return None
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "worker": answer.headers["x-worker"]}
