"""Prometheus's figures are those of the load, with two workers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.serving import Client, Server, Site, bearer, gunicorn, serving, until, uvicorn

pytestmark = pytest.mark.servers

CLIENTS = 24
SERVERS = {"uvicorn": uvicorn("servers.measured:asgi"), "gunicorn": gunicorn("servers.measured:wsgi")}


class MeasuredSite(Site):
    def environ(self) -> dict[str, str]:
        folder = self.folder / "figures"
        folder.mkdir(exist_ok=True)
        return {**super().environ(), "PROMETHEUS_MULTIPROC_DIR": str(folder)}


class Load:
    """What clients ask, and what they count."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.decisions: Counter[str] = Counter()
        self.lookups = 0
        self.workers: set[str] = set()

    def run(self, number: int) -> None:
        """One user's visit, on a connection of its own."""
        with self.server.client() as client:
            pair = self.count("anonymous", client.try_to_log_in(f"user{number}")).json()
            self.ask(client, pair, "admitted", times=5)
            self.ask(client, {"access_token": pair["access_token"][:-4] + "AAAA"}, "token_invalid")
            self.count("token_missing", client.http.get("/me"))
            self.ask(client, pair, "scope_missing", path="/admin", times=2)
            newer = self.count("served", client.refresh(pair)).json()
            self.ask(client, newer, "admitted", times=3)
            self.lookups += 1
            self.count("served", client.try_to_log_out(newer))
            self.ask(client, newer, "session_revoked", times=2)
            self.count("session_revoked", client.refresh(newer))

    def ask(self, client: Client, pair: dict[str, Any], expected: str, *, path: str = "/me", times: int = 1) -> None:
        for _ in range(times):
            self.lookups += 1
            self.count(expected, client.http.get(path, headers=bearer(pair)))

    def count(self, expected: str, answer: httpx2.Response) -> httpx2.Response:
        code = answer.json()["code"] if answer.status_code >= 400 else expected
        assert code == expected, answer.text
        self.decisions[code] += 1
        self.workers |= {answer.headers["x-worker"]} if "x-worker" in answer.headers else set()
        return answer


def figures(server: Server) -> dict[str, Counter[tuple[str, ...]]]:
    """What /metrics says: by sample, then by the values of its labels."""
    found: dict[str, Counter[tuple[str, ...]]] = {}
    with server.client() as client:
        for family in text_string_to_metric_families(client.http.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, Counter())[tuple(sample.labels.values())] = int(sample.value)
    return found


@pytest.mark.parametrize("kind", SERVERS)
def test_figures_are_those_of_the_load(kind: str, tmp_path: Path) -> None:
    with serving(MeasuredSite(tmp_path), *SERVERS[kind]) as server:
        before = figures(server)
        load = Load(server)
        for number in range(CLIENTS):
            load.run(number)
        assert len(load.workers) == 2, "both have served"

        def grown(name: str) -> dict[tuple[str, ...], int]:
            now = figures(server)[name]
            now.subtract(before.get(name, {}))
            return {labels: count for labels, count in now.items() if count}

        expected = {(code,): count for code, count in load.decisions.items()}
        until("what was counted a second ago is written", lambda: grown("jwtguard_decisions_total") == expected)
        assert sum(grown("jwtguard_cache_lookups_total").values()) == load.lookups
        assert grown("jwtguard_sessions_opened_total") == {(): CLIENTS}
        assert grown("jwtguard_sessions_ended_total") == {("revoked",): CLIENTS}
        happened = {"opened": CLIENTS, "refreshed": CLIENTS, "revoked": CLIENTS}
        refused = {"token_invalid", "token_missing", "scope_missing", "session_revoked"}
        happened["rejected"] = sum(load.decisions[code] for code in refused)
        assert grown("jwtguard_events_total") == {(name,): count for name, count in happened.items()}
        last = figures(server)
        assert last["jwtguard_store_call_seconds_count"][("save", "ok")] >= 3 * CLIENTS
        assert last["jwtguard_connections"] == {(): 0}
        assert last["jwtguard_revocation_bound_seconds"] == {(): 0}, "SQLite is exact"
