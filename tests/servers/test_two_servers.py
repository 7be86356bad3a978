"""One set of sessions under real servers, two worker processes each: what one of them does, all others know at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from servers.conftest import Start
from servers.serving import Server, Site, Worker, bearer, granian, gunicorn, hypercorn, serving, uvicorn, workers_of

pytestmark = pytest.mark.servers

ROTATIONS = 40

FLASK = {
    "gunicorn": gunicorn("servers.flask_worker:app"),
    "gunicorn --preload": gunicorn("servers.flask_worker:app", more=("--preload",)),
}
LOGINS = {"gunicorn": 200, "gunicorn --preload": 40}
"""The second is about what a fork leaves behind, which shows at once."""
PLAIN = {
    "uvicorn": uvicorn("examples.fastapi_app:app", workers=1),
    "hypercorn": hypercorn("examples.fastapi_app:app"),
    "granian": granian("examples.fastapi_app:app"),
}


class Fleet:
    """Flask under gunicorn and FastAPI under uvicorn, and a connection to each of their workers."""

    def __init__(self, servers: list[Server], workers: list[list[Worker]], logins: int) -> None:
        self.servers = servers
        self.logins = logins
        self.sides = workers
        self.workers = [worker for side in workers for worker in side]


@pytest.fixture(scope="module", params=FLASK)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    site = Site(tmp_path_factory.mktemp("site"))
    with ExitStack() as stack:
        commands = (FLASK[request.param], uvicorn("servers.fastapi_worker:app"))
        servers = [stack.enter_context(serving(site, *command)) for command in commands]
        workers = [stack.enter_context(workers_of(server)) for server in servers]
        yield Fleet(servers, workers, LOGINS[request.param])


def test_a_logout_is_known_to_every_worker_at_the_next_request(fleet: Fleet) -> None:
    assert len({worker.pid for worker in fleet.workers}) == 4
    late: list[str] = []
    turns = cycle([(login, logout) for login in fleet.workers for logout in fleet.workers])
    for number in range(fleet.logins):
        login, logout = next(turns)
        pair = login.client.login()
        for worker in fleet.workers * 2:
            answer = worker.me(pair)
            assert answer.status_code == 200, answer.text
            assert answer.json()["sid"] == pair["session_id"]
        logout.client.logout(pair)
        # The very next request is one to another process, each time to the one whose turn it is.
        others = [worker for worker in fleet.workers if worker is not logout]
        shift = number % len(others)
        for worker in [*others[shift:], *others[:shift], logout]:
            answer = worker.me(pair)
            if (answer.status_code, answer.json().get("code")) != (401, "session_revoked"):
                late.append(f"login {number}: {answer.status_code} {answer.text}")
    assert late == []


def test_the_same_over_new_connections(fleet: Fleet) -> None:
    for number in range(fleet.logins // 10):
        login, logout = (fleet.servers[(number + side) % 2] for side in range(2))
        with login.client() as client:
            pair = client.login()
        for server in fleet.servers * 3:
            with server.client() as client:
                assert client.me(pair).status_code == 200
        with logout.client() as client:
            client.logout(pair)
        for server in [login, logout] * 3:
            with server.client() as client:
                answer = client.me(pair)
            assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")


def test_a_token_just_refreshed_is_accepted_by_every_worker_at_once(fleet: Fleet) -> None:
    turns = cycle(fleet.workers)
    for number in range(ROTATIONS):
        older, refreshing = next(turns).client.login(), next(turns)
        for worker in fleet.workers:
            assert worker.me(older).status_code == 200
        answer = refreshing.own(refreshing.client.refresh(older))
        assert answer.status_code == 200, answer.text
        pair = answer.json()
        assert pair["access_token"] != older["access_token"]
        shift = number % len(fleet.workers)
        for worker in [*fleet.workers[shift:], *fleet.workers[:shift]]:
            answer = worker.me(pair)
            assert answer.status_code == 200, answer.text
        next(turns)
        assert next(turns).me(older).status_code == 200  # in its grace


def test_a_user_sees_the_sessions_of_both_apps_and_ends_them_from_either(fleet: Fleet) -> None:
    flask, fastapi = (side[0] for side in fleet.sides)
    mine, other = flask.client.login(), fastapi.client.login()
    for worker in fleet.workers:
        found = worker.client.http.get("/auth/sessions", headers=bearer(mine)).json()
        assert {mine["session_id"], other["session_id"]} <= {session["id"] for session in found}
        assert [session["id"] for session in found if session["current"]] == [mine["session_id"]]
    assert fastapi.client.http.delete("/auth/sessions?keep=current", headers=bearer(mine)).status_code == 204
    for worker in fleet.workers:
        assert worker.me(mine).status_code == 200
        assert worker.me(other).json()["code"] == "session_revoked"


# -- other servers, WebSockets, streams ------------------------------------------------------------------------------------


def test_hypercorn_granian_and_uvicorn_share_sessions(start: Start) -> None:
    servers = [start(*command) for command in PLAIN.values()]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        for number in range(12):
            login, logout, other = (clients[(number + place) % 3] for place in range(3))
            pair = login.login()
            for client in clients:
                assert client.me(pair).status_code == 200
            newer = other.refresh(pair).json()
            for client in clients:
                assert client.me(newer).status_code == 200
            logout.logout(pair)
            for client in (other, login, logout):
                answer = client.me(newer)
                assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")


@pytest.mark.parametrize("name", PLAIN)
def test_a_websocket_and_a_stream(name: str, start: Start) -> None:
    server = start(*PLAIN[name])
    url = server.url.replace("http", "ws") + "/ws"
    with server.client() as client:
        pair = client.login()
        with connect(url, additional_headers=bearer(pair), proxy=None) as socket:
            socket.send("by header")
            assert socket.recv() == "by header"
            assert socket.subprotocol is None
        with connect(url, subprotocols=in_subprotocols(pair), proxy=None) as socket:
            socket.send("by subprotocol")
            assert socket.recv() == "by subprotocol"
            assert socket.subprotocol == "jwtguard.bearer"
        with client.http.stream("GET", "/stream", headers=bearer(pair)) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert next(answer.iter_lines()) == "data: 0"
        client.logout(pair)
        assert client.http.get("/stream", headers=bearer(pair)).json()["code"] == "session_revoked"
    ended, missing = "session_revoked", "token_missing"
    for headers, subprotocols, code in (
        (bearer(pair), None, ended),
        (None, in_subprotocols(pair), ended),
        (None, None, missing),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, additional_headers=headers, subprotocols=subprotocols, proxy=None)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body)["code"] == code


def in_subprotocols(pair: dict[str, Any]) -> list[Subprotocol]:
    return [Subprotocol("jwtguard.bearer"), Subprotocol(pair["access_token"])]
