"""Logins and refreshes of one user that race, in four processes with many threads each, on one SQLite file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jwtguard.model import TokenPair
from servers.crew import Crew, Outcome, crew, watching
from servers.serving import Site, until

pytestmark = pytest.mark.servers

PROCESSES = 4
LOGINS = 64
REFRESHES = 32
LIMIT = 3


def log_in_at_once(crew: Crew) -> list[Outcome]:
    return crew.at_once(LOGINS // PROCESSES, "login", ("alice",))


def errors(outcomes: list[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.error for outcome in outcomes))


def values(outcomes: list[Outcome]) -> list[Any]:
    return [outcome.value for outcome in outcomes if not outcome.error]


def assert_active(crew: Crew, pairs: list[TokenPair]) -> None:
    """That these are the active sessions of alice, to every process."""
    expected = {pair.session_id for pair in pairs}
    assert len(expected) == LIMIT
    for outcome in crew.each("sessions", "alice"):
        assert {session.id for session in outcome.value} == expected


@pytest.mark.parametrize("round_", range(3))
def test_c48_the_limit_holds_at_every_moment(round_: int, tmp_path: Path) -> None:
    site = Site(tmp_path, max_sessions=str(LIMIT))
    with crew(site, PROCESSES) as processes, watching(site, "alice") as stop:
        outcomes = log_in_at_once(processes)
        seen = stop()
        assert seen.most == LIMIT
        assert seen.states > LIMIT  # it has looked while they logged in
        assert errors(outcomes) == {"": LOGINS}
        pairs = values(outcomes)
        active = [pair for pair in pairs if processes.one(0, "authenticate", pair.access_token).error == ""]
        assert_active(processes, active)
        for pair in pairs:
            codes = {outcome.error for outcome in processes.each("authenticate", pair.access_token)}
            # Why a session ended is remembered of the last 16 only.
            assert codes == {""} if pair in active else codes <= {"session_evicted", "session_unknown"}


def test_under_deny_exactly_as_many_as_allowed_get_in(tmp_path: Path) -> None:
    site = Site(tmp_path, max_sessions=str(LIMIT), on_limit="deny")
    with crew(site, PROCESSES) as processes, watching(site, "alice") as stop:
        outcomes = log_in_at_once(processes)
        assert stop().most == LIMIT
        assert errors(outcomes) == {"": LIMIT, "limit_reached": LOGINS - LIMIT}
        assert_active(processes, values(outcomes))


def test_under_choose_a_ticket_ends_one_session_once(tmp_path: Path) -> None:
    site = Site(tmp_path, max_sessions=str(LIMIT), on_limit="choose")
    with crew(site, PROCESSES) as processes, watching(site, "alice") as stop:
        outcomes = log_in_at_once(processes)
        assert errors(outcomes) == {"": LIMIT, "limit_reached": LOGINS - LIMIT}
        pairs = values(outcomes)
        assert_active(processes, pairs)
        tickets = [outcome.ticket for outcome in outcomes if outcome.ticket]
        assert len(tickets) == LOGINS - LIMIT

        # One ticket, tried in all processes at once, and for two of the sessions: one ending.
        first, second, third = (pair.session_id for pair in pairs)
        endings = processes.at_once(8, "end_with_ticket", (tickets[0], first), (tickets[0], second))
        assert errors(endings) == {"": 1, "token_invalid": 8 * PROCESSES - 1}
        assert values(endings) == [True]
        # The others were given for the same sessions, which are no longer these.
        for ticket in tickets:
            assert processes.one(0, "end_with_ticket", ticket, third).error == "token_invalid"

        remaining = [session.id for session in processes.one(0, "sessions", "alice").value]
        assert len(remaining) == LIMIT - 1
        assert third in remaining
        assert errors(log_in_at_once(processes)) == {"": 1, "limit_reached": LOGINS - 1}
        assert stop().most == LIMIT


@pytest.mark.parametrize("round_", range(3))
def test_c53_refreshes_with_one_token_get_one_pair_until_it_is_stale(round_: int, tmp_path: Path) -> None:
    site = Site(tmp_path, rotation_grace="1s")
    with crew(site, PROCESSES) as processes:
        first = processes.one(0, "login", "alice").value
        outcomes = processes.at_once(REFRESHES // PROCESSES, "refresh", (first.refresh_token,))
        assert errors(outcomes) == {"": REFRESHES}
        successors = {(pair.access_token, pair.refresh_token) for pair in values(outcomes)}
        assert len(successors) == 1
        access_token, refresh_token = next(iter(successors))
        assert refresh_token != first.refresh_token

        assert errors(processes.each("authenticate", access_token)) == {"": PROCESSES}

        def refused() -> str:
            outcome = processes.one(1, "refresh", first.refresh_token)
            assert outcome.error or (outcome.value.access_token, outcome.value.refresh_token) in successors
            return outcome.error

        assert until("the grace is over", refused) == "refresh_reused"
        assert errors(processes.each("authenticate", access_token)) == {"session_revoked": PROCESSES}
        assert errors(processes.each("refresh", refresh_token)) == {"session_revoked": PROCESSES}
        assert [outcome.value for outcome in processes.each("sessions", "alice")] == [[]] * PROCESSES
