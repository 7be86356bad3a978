"""Saves without an answer are safe to repeat; endings are followed by their invalidation, whatever became of the save."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from rig import ALICE, DOWN, Rig, always, once, session_id

from jwtguard.errors import RefreshReused, SessionRevoked, StoreError
from jwtguard.flow import Flow, Load, Need, Pause, Save
from jwtguard.health import QUIET
from jwtguard.model import TokenPair
from jwtguard.recall import Lease
from jwtguard.transitions import end_all, touch


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- the invalidation that follows -----------------------------------------------------------------------------------------


def to_the_save(flow: Flow[Any], rig: Rig) -> Save:
    need: Need = next(flow)
    while not isinstance(need, Save):
        need = flow.send(need.perform(rig.model))
    return need


def lease_of(rig: Rig) -> Lease:
    return rig.do(rig.registry.lease(ALICE))


@pytest.mark.parametrize("outcome", [True, False, DOWN, asyncio.CancelledError(), KeyError("a bug"), GeneratorExit()])
def test_a_save_that_may_end_something_is_followed_by_the_invalidation(rig: Rig, outcome: Any) -> None:
    rig.logged_in()
    flow = rig.committer.commit(ALICE, "alice", end_all)
    save = to_the_save(flow, rig)
    assert save.ends
    lease = lease_of(rig)
    with suppress(StopIteration, asyncio.CancelledError, KeyError, GeneratorExit):
        _ = flow.throw(outcome) if isinstance(outcome, BaseException) else flow.send(outcome)
    assert not lease.alive
    flow.close()
    assert rig.is_at_rest()


def test_a_save_that_ends_nothing_leaves_leases_alone(rig: Rig) -> None:
    pair = rig.logged_in()
    lease = lease_of(rig)
    rig.clock.advance(61)
    rig.do(rig.committer.commit(ALICE, "alice", partial(touch, session_id=session_id(pair), generation=1)))
    rig.clock.advance(61)
    rig.model.on_saved = once(DOWN)
    rig.do(rig.committer.commit(ALICE, "alice", partial(touch, session_id=session_id(pair), generation=1)))
    assert lease.alive
    assert rig.told == ["store_down"]
    rig.clock.advance(QUIET)
    rig.logged_in()
    assert rig.told == ["store_down", "store_up"]


# -- saves without an answer -----------------------------------------------------------------------------------------------


AMBIGUOUS = pytest.mark.parametrize("hook", ["on_save", "on_saved"])
"""The save failed before it took effect, or its answer was lost after it had."""


@AMBIGUOUS
def test_a_login_without_an_answer_opens_one_session(rig: Rig, hook: str) -> None:
    setattr(rig.model, hook, once(DOWN))
    pair = rig.login()
    assert [session.id for session in rig.document().sessions] == [session_id(pair)]
    assert rig.authenticate(pair).session_id == pair.session_id


@AMBIGUOUS
def test_a_login_without_an_answer_evicts_one_session(rig: Rig, hook: str) -> None:
    first, second = rig.logged_in(limit=2), rig.logged_in(limit=2)
    setattr(rig.model, hook, once(DOWN))
    third = rig.login(limit=2)
    assert [session.id for session in rig.document().sessions] == [session_id(second), session_id(third)]
    assert rig.recall(first) is None


@AMBIGUOUS
@pytest.mark.parametrize("grace", [0, 30_000])
def test_a_refresh_without_an_answer_answers_one_successor(hook: str, grace: int) -> None:
    rig = Rig(rotation_grace=grace)
    pair = rig.logged_in()
    setattr(rig.model, hook, once(DOWN))
    successor = rig.refresh(pair)
    assert rig.document().sessions[0].generation == 2
    assert rig.authenticate(successor).token_id.endswith(".2")


@AMBIGUOUS
def test_a_replay_whose_ending_got_no_answer_is_not_answered(rig: Rig, hook: str) -> None:
    stolen = rig.logged_in()
    rig.authenticate(rig.refresh(stolen))
    rig.clock.advance(60)
    setattr(rig.model, hook, once(DOWN))
    with pytest.raises(RefreshReused):
        rig.refresh(stolen)
    assert ("refresh_reused", "alice") in rig.events
    assert rig.document().sessions == ()


def _revoke(rig: Rig, pair: TokenPair) -> object:
    return rig.revoke(pair)


def _revoke_all(rig: Rig, pair: TokenPair) -> object:
    return rig.do(rig.operations.revoke_all("alice"))


@AMBIGUOUS
@pytest.mark.parametrize("revoke", [_revoke, _revoke_all])
def test_a_revocation_without_an_answer_revokes(rig: Rig, hook: str, revoke: Callable[[Rig, TokenPair], object]) -> None:
    pair = rig.logged_in()
    setattr(rig.model, hook, once(DOWN))
    assert revoke(rig, pair) in (True, 1) or hook == "on_saved"
    assert rig.recall(pair) is None
    with pytest.raises(SessionRevoked):
        rig.authenticate(pair)


def test_revoking_all_again_does_not_end_a_later_login(rig: Rig) -> None:
    rig.logged_in()
    flow = rig.operations.revoke_all("alice")
    to_the_save(flow, rig).perform(rig.model)
    rig.clock.advance(1)
    later = rig.another().login()
    pause = flow.throw(DOWN)
    assert isinstance(pause, Pause)
    load = flow.send(None)
    assert isinstance(load, Load)
    with pytest.raises(StopIteration):
        flow.send(load.perform(rig.model))
    assert rig.authenticate(later).session_id == later.session_id


def test_a_second_failure_is_told(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.model.calls.clear()
    rig.model.on_save = always(DOWN)
    with pytest.raises(StoreError):
        rig.revoke(pair)
    assert rig.model.count("save") == 2
    assert rig.recall(pair) is None, "it may have been saved"
    assert rig.told == ["store_down"]
    assert rig.is_at_rest()


def test_what_was_saved_is_found_done_although_no_save_is_ever_answered(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.model.calls.clear()
    rig.model.on_saved = always(DOWN)
    assert rig.revoke(pair) is True
    assert rig.model.count("save") == 1
    assert rig.recall(pair) is None


def test_an_ending_that_lands_after_its_invalidation_is_followed_by_another(rig: Rig) -> None:
    """The save is answered with an error, a fill reads the old document, and only then does the save take effect."""
    pair = rig.logged_in()
    flow = rig.operations.revoke("alice", pair.session_id)
    save = to_the_save(flow, rig)
    pause = flow.throw(DOWN)
    assert isinstance(pause, Pause)
    assert rig.authenticate(pair), "nothing is saved yet"
    save.perform(rig.model)
    load = flow.send(None)
    assert isinstance(load, Load)
    with pytest.raises(StopIteration) as done:
        flow.send(load.perform(rig.model))
    assert done.value.value is True
    assert rig.recall(pair) is None
