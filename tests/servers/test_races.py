"""Logins and refreshes of one user that race, in four processes with many threads each, on one store of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from jwtguard.model import TokenPair
from servers.conftest import REMOTE, MakeSite
from servers.crew import Crew, Outcome, crew, watching
from servers.serving import until

pytestmark = pytest.mark.servers

PROCESSES = 4
LOGINS = 64
REFRESHES = 32
LIMIT = 3

STORES = ("sqlite", *REMOTE)
ROUNDS = ("sqlite", *STORES)


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


def becomes_true(store: str, what: str, happened: Callable[[], bool]) -> None:
    """At once where a look tells of every ending; where endings are announced, as soon as that has arrived."""
    if store in REMOTE:
        until(what, happened)
    else:
        assert happened(), what


@pytest.mark.parametrize("store", ROUNDS)
def test_c48_the_limit_holds_at_every_moment(store: str, site_on: MakeSite) -> None:
    site = site_on(store, max_sessions=str(LIMIT))
    with crew(site, PROCESSES) as processes, watching(site, "alice") as stop:
        outcomes = log_in_at_once(processes)
        seen = stop()
        assert seen.most == LIMIT
        assert seen.states > LIMIT  # it has looked while they logged in
        assert errors(outcomes) == {"": LOGINS}
        pairs = values(outcomes)
        ids = {session.id for session in processes.one(0, "sessions", "alice").value}
        active = [pair for pair in pairs if pair.session_id in ids]
        assert_active(processes, active)
        for pair in pairs:
            # Why a session ended is remembered of the last 16 only.
            expected = {""} if pair in active else {"session_evicted", "session_unknown"}

            def as_expected(pair: TokenPair = pair, expected: set[str] = expected) -> bool:
                return {outcome.error for outcome in processes.each("authenticate", pair.access_token)} <= expected

            becomes_true(store, "every process knows who was evicted", as_expected)


@pytest.mark.parametrize("store", STORES)
def test_under_deny_exactly_as_many_as_allowed_get_in(store: str, site_on: MakeSite) -> None:
    site = site_on(store, max_sessions=str(LIMIT), on_limit="deny")
    with crew(site, PROCESSES) as processes, watching(site, "alice") as stop:
        outcomes = log_in_at_once(processes)
        assert stop().most == LIMIT
        assert errors(outcomes) == {"": LIMIT, "limit_reached": LOGINS - LIMIT}
        assert_active(processes, values(outcomes))


def test_under_choose_a_ticket_ends_one_session_once(site_on: MakeSite) -> None:
    site = site_on("sqlite", max_sessions=str(LIMIT), on_limit="choose")
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


@pytest.mark.parametrize("store", ROUNDS)
def test_c53_refreshes_with_one_token_get_one_pair_until_it_is_stale(store: str, site_on: MakeSite) -> None:
    site = site_on(store, rotation_grace="1s")
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
        everywhere = {"session_revoked": PROCESSES}
        becomes_true(store, "it is over", lambda: errors(processes.each("authenticate", access_token)) == everywhere)
        assert errors(processes.each("refresh", refresh_token)) == everywhere
        assert [outcome.value for outcome in processes.each("sessions", "alice")] == [[]] * PROCESSES
