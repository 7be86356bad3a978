"""Every row of the table, through both faces, and through Django on each; and that they agree to the byte."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django_drivers import send_django_asgi, send_django_wsgi
from drivers import Reply, Request, View, send_asgi, send_wsgi
from jwt.algorithms import HMACAlgorithm
from rows import Row
from table import ROWS
from world import World

Send = Callable[[World, Request, View, int], list[Reply]]

FACES: dict[str, Send] = {
    "wsgi": send_wsgi,
    "asgi": send_asgi,
    "django, wsgi": send_django_wsgi,
    "django, asgi": send_django_asgi,
}
NOT_TO_DJANGO = {
    "the mount point itself is its root",  # a path that Django routes to nothing
    "no preflight: X_Method-Override",  # a header that Django drops, so that no view sees it
}
"""Rows that come to something else in Django's ASGI handler. A body that is cut, too: it answers nothing then."""
FORGED = {"remote-user", "jwtguard-identity"}
WORDS = re.compile(r"[A-Za-z0-9_./+~-]{8,}")
WITHOUT_THE_STORE = {
    "token_missing",
    "token_invalid",
    "token_expired",
    "refresh_invalid",
    "refresh_expired",
    "request_invalid",
    "csrf",
}
COMMON = {"testserver", "application", "refresh_token", "access_token", "grant_type", "wonderland", "/auth/sessions"}
COMMON |= {"__Host-jwtguard", "__Host-jwtguard-refresh", "__Secure-jwtguard-refresh", "__host-jwtguard"}


@pytest.fixture(autouse=True)
def _same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each world makes the same ids, so that both faces have the same to say."""
    monkeypatch.setattr("jwtguard.operations.secrets.token_bytes", _Ids())


class _Ids:
    def __init__(self) -> None:
        self.again()

    def again(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")


def replies(row: Row, send: Send, monkeypatch: pytest.MonkeyPatch) -> tuple[Request, list[Reply]]:
    monkeypatch.setattr("jwtguard.operations.secrets.token_bytes", _Ids())
    world = World(row.settings)
    request = row.request.filled(world)
    for name in row.made:
        world.made(name)
    world.store.down = row.down
    world.store.calls.clear()
    with counted_verifications(monkeypatch) as count:
        found = send(world, request, row.view, 2 if row.may_come_twice else 1)
    assert count["verified"] <= row.verifications * len(found)
    if row.code in WITHOUT_THE_STORE and not row.name.startswith(("a ticket, used", "end, ")):  # a good token came first
        assert world.store.calls == []
    return request, found


@contextmanager
def counted_verifications(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    count: Counter[str] = Counter()
    genuine = HMACAlgorithm.verify

    def verify(self: HMACAlgorithm, msg: bytes, key: bytes, sig: bytes) -> bool:
        count["verified"] += 1
        return genuine(self, msg, key, sig)

    with monkeypatch.context() as patched:
        patched.setattr(HMACAlgorithm, "verify", verify)
        yield count


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "jwtguard")
    caplog.set_level(logging.CRITICAL, "django.request")  # Django's own log has the paths of what is refused
    answers = {}
    for face, send in FACES.items():
        if face.startswith("django") and row.name.endswith("body: multipart"):
            continue  # which is a form to Django
        if face == "django, asgi" and (row.request.sent == "cut" or row.name in NOT_TO_DJANGO):
            continue
        request, (first, *again) = replies(row, send, monkeypatch)
        check(row, request, first, face)
        for reply in again:
            assert (reply.agreed(), reply.seen) == (first.agreed(), first.seen)
        check_for_echoes(request, first, caplog.text)
        answers[face] = first.agreed()
    assert list(answers.values()) == [answers["wsgi"]] * len(answers)


def check(row: Row, request: Request, reply: Reply, face: str) -> None:
    assert reply.status == row.status, reply
    assert reply.header("www-authenticate") == row.challenge
    if row.seen is None:
        assert reply.seen == []
    else:
        (seen,) = reply.seen
        assert seen.subject == row.seen
        assert not seen.names & FORGED
        assert seen.remote_user is None
    if row.code is not None:
        check_problem(row, request, reply)
    elif row.seen is None or row.view == "login":
        assert reply.header("cache-control") == "no-store"
        assert reply.header("content-type") == (
            None if reply.status in (204, 303) else "application/json" if row.seen is None else "text/plain"
        )
    if row.json is not None:
        assert row.json.items() <= reply.json().items()
    if reply.status in (204, 303):
        assert reply.body == b""


def check_problem(row: Row, request: Request, reply: Reply) -> None:
    """RFC 9457, and what all refusals have."""
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("retry-after") == ("1" if reply.status == 503 else None)
    assert (reply.status == 401) <= (row.challenge is not None)
    if request.method == "HEAD":
        assert reply.body == b""
        assert int(reply.header("content-length") or 0) > 100
        return
    assert reply.header("content-length") == str(len(reply.body))
    problem = reply.json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == row.status
    assert problem["code"] == row.code
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    own = {"limit_reached": {"sessions", "ticket"}}.get(row.code or "", set())
    grant = {"error"} if (request.method, request.path) == ("POST", "/auth/refresh") else set()
    assert problem.keys() - own - grant == {"type", "title", "status", "detail", "code"}
    assert problem.keys() >= grant


def check_for_echoes(request: Request, reply: Reply, logged: str) -> None:
    """C35, C74, C75: eight characters in a row that only the client can have said are in no refusal, and in no log."""
    said = (reply.body.decode() + json.dumps(reply.headers)) if reply.status >= 400 else ""
    assert "hunter2" not in said  # what the store said is for the operator
    known = Request().target + " ".join(COMMON)
    for word in words_of(request):
        if word not in known:
            assert word not in said
            assert word not in logged


def words_of(request: Request) -> Iterator[str]:
    texts = [value for name, value in request.headers if name.lower() != "content-type"]
    for text in (*texts, request.path, request.query, request.body.decode("latin-1")):
        for word in WORDS.findall(text[:3000]):
            if word not in COMMON:
                yield from (word[at : at + 8] for at in range(len(word) - 7))
