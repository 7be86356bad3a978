"""Keys that change under load, on two servers with two workers each: the honest notice nothing, and what is gone is."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from key_kit import private, write_pem

from jwtguard.rotation import LEAD, LOOK_EVERY
from servers.serving import Server, Site, Worker, gunicorn, serving, until, uvicorn, workers_of

pytestmark = pytest.mark.servers

USERS = 4
PAUSE = 0.01
SOON = LOOK_EVERY * 2.5
"""Seconds until the new key signs, in place of two minutes: long enough for every worker to have seen it."""


def kid(pair: dict[str, Any]) -> str:
    found: str = jwt.get_unverified_header(pair["access_token"])["kid"]
    return found


class KeySite(Site):
    """A site with a folder of keys in place of a secret."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keys=str(folder / "keys"), max_sessions="1000")
        del self.settings["secret"]
        self.keys = folder / "keys"
        self.keys.mkdir()
        write_pem(self.keys, "one", private())


@pytest.fixture
def site(tmp_path: Path) -> KeySite:
    return KeySite(tmp_path)


@pytest.fixture
def servers(site: KeySite) -> Iterator[list[Server]]:
    commands = (uvicorn("servers.fastapi_worker:app"), gunicorn("servers.flask_worker:app"))
    with ExitStack() as stack:
        yield [stack.enter_context(serving(site, *command)) for command in commands]


class Crowd:
    """Users, each a thread that logs in, uses the session on all workers, refreshes, and looks what it is answered."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.over = threading.Event()
        self.refused: list[str] = []
        self.requests = 0
        self.signed: dict[int, str] = {}
        """By user, the key of the pair that it has now."""
        self.seen: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(USERS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(60)

    def _live(self, number: int) -> None:
        with ExitStack() as stack:
            workers = [worker for server in self.servers for worker in stack.enter_context(workers_of(server))]
            while not self.over.is_set():
                pair = self._keep(number, workers[0].client.try_to_log_in())
                for turn in range(12):
                    worker = workers[turn % len(workers)]
                    if turn % 5 == 4:  # at another worker each time
                        pair = self._keep(number, worker.client.refresh(pair))
                    self._check(worker.me(pair))
                    time.sleep(PAUSE)

    def _keep(self, number: int, answer: Any) -> dict[str, Any]:
        self._check(answer)
        pair: dict[str, Any] = answer.json()
        self.signed[number] = kid(pair)
        self.seen[kid(pair)] += 1
        return pair

    def _check(self, answer: Any) -> None:
        self.requests += 1
        if answer.status_code != 200:
            self.refused.append(f"{answer.request.url}: {answer.status_code} {answer.text}")


def test_C80_a_rotation_under_load(site: KeySite, servers: list[Server]) -> None:
    with ExitStack() as stack:
        workers = [worker for server in servers for worker in stack.enter_context(workers_of(server))]
        crowd = stack.enter_context(Crowd(servers))
        old = workers[0].client.login()
        assert kid(old) == "one"
        for worker in workers:
            assert worker.me(old).status_code == 200
        write_pem(site.keys, "two", private(number=1), at=time.time() - LEAD + SOON)
        until("each worker signs with the new key", lambda: {kid(worker.client.login()) for worker in workers} == {"two"})
        for worker in workers:
            assert worker.me(old).status_code == 200, "the old one is still there"
        until(
            "each user has left the old key", lambda: len(crowd.signed) == USERS and set(crowd.signed.values()) == {"two"}
        )
        assert crowd.refused == []
        (site.keys / "one.pem").unlink()
        admitted = after_withdrawal(workers, old)
        before = crowd.requests
        until("the load goes on", lambda: crowd.requests > before + 100)
    assert admitted == []
    assert crowd.refused == []
    assert crowd.seen["one"] > 0


def after_withdrawal(workers: list[Worker], pair: dict[str, Any]) -> list[str]:
    """What workers answer to a token of a key that is gone, once they have looked, if they don't refuse it."""
    for worker in workers:
        until("the worker looks", partial(refuses, worker, pair))
    answers = [worker.me(pair) for _ in range(100) for worker in workers]
    return [answer.text for answer in answers if (answer.status_code, answer.json().get("code")) != (401, "token_invalid")]


def refuses(worker: Worker, pair: dict[str, Any]) -> bool:
    return worker.me(pair).status_code == 401
