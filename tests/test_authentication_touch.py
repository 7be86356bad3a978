"""What authentication writes down, and what it lets pass while the store is down."""

from __future__ import annotations

from typing import Any

import pytest
from documents import SECOND
from rig import ALICE, DOWN, Rig, always, nothing, once, session_id

from jwtguard.errors import RefreshReused, SessionRevoked, StoreError, StoreUnavailable
from jwtguard.flow import Pause, Save, Wait
from jwtguard.health import QUIET
from jwtguard.model import Identity
from jwtguard.transitions import end_one


@pytest.fixture
def rig() -> Rig:
    return Rig()


# -- touches ---------------------------------------------------------------------------------------------------------------


def test_the_first_use_is_written_down_once(rig: Rig) -> None:
    pair = rig.login()
    rig.model.calls.clear()
    assert not rig.document().sessions[0].used
    for _ in range(3):
        rig.authenticate(pair)
        rig.registry.table.clear()
    assert rig.document().sessions[0].used
    assert rig.model.count("save") == 1


def test_later_uses_are_written_down_once_a_minute(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.model.calls.clear()
    for _ in range(61):
        rig.clock.advance(10)
        rig.authenticate(pair)
    assert rig.model.count("save") == 8  # 610 seconds, each time when more than 60 are over
    assert rig.document().sessions[0].seen_at == int(rig.clock.time() * 1000) - 50_000


def test_with_an_idle_timeout_they_are_written_down_more_often() -> None:
    rig = Rig(idle_timeout=100 * SECOND, ttl=10.0)
    pair = rig.logged_in()
    for _ in range(100):
        rig.clock.advance(11)
        rig.authenticate(pair)
    assert rig.document().sessions[0].seen_at >= int(rig.clock.time() * 1000) - 11_000


def test_what_another_process_has_written_down_lately_is_not_written_again() -> None:
    here = Rig(ttl=600.0)
    there = here.another(ttl=600.0)
    pair = here.logged_in()
    there.authenticate(pair)
    here.clock.advance(61)
    for rig in (here, there):
        rig.registry.ended(ALICE)
        rig.do(rig.registry.lease(ALICE))  # before the other has written
    here.model.calls.clear()
    here.authenticate(pair)
    there.authenticate(pair)
    assert here.model.count("save") == 1
    assert there.recall(pair)


def test_a_touch_leaves_the_lease_as_it_is(rig: Rig) -> None:
    pair = rig.login()
    lease = rig.do(rig.registry.lease(ALICE))
    rig.authenticate(pair)
    assert lease.alive
    assert rig.recall(pair)


def test_each_generation_has_its_first_use() -> None:
    """An older generation that is touched under the same lease doesn't keep the newer one's first use from being noted."""
    rig = Rig(rotation_grace=600 * SECOND, ttl=600.0)
    old = rig.logged_in()
    new = rig.refresh(old)
    rig.clock.advance(120)
    rig.registry.ended(ALICE)
    rig.authenticate(old)
    assert not rig.document().sessions[0].used
    rig.authenticate(new)
    assert rig.document().sessions[0].used
    rig.clock.advance(600)
    with pytest.raises(RefreshReused):
        rig.refresh(old)


def to_the_save(flow: Any, rig: Rig) -> Save:
    need = next(flow)
    while not isinstance(need, Save):
        need = flow.send(rig.perform(need))
    return need


def test_a_first_use_that_loses_its_race_is_tried_again(rig: Rig) -> None:
    pair = rig.login()
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    to_the_save(flow, rig)
    assert isinstance(flow.send(False), Pause)
    flow.close()


def test_a_later_use_that_loses_its_race_is_dropped(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.clock.advance(120)
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    to_the_save(flow, rig)
    with pytest.raises(StopIteration) as done:
        flow.send(False)
    assert isinstance(done.value.value, Identity)
    assert rig.is_at_rest()


def test_a_later_use_waits_for_no_other_writer(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.clock.advance(120)
    rig.do(rig.registry.know_everyone())
    writing = rig.operations.revoke_all("alice")
    next(writing)
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    need = next(flow)
    with pytest.raises(StopIteration) as done:
        flow.send(rig.perform(need))
    assert isinstance(done.value.value, Identity)
    writing.close()


def test_a_first_use_waits_for_its_turn(rig: Rig) -> None:
    pair = rig.login()
    rig.do(rig.registry.know_everyone())
    writing = rig.operations.revoke_all("alice")
    next(writing)
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    need = next(flow)
    assert isinstance(flow.send(rig.perform(need)), Wait)
    flow.close()
    writing.close()
    assert rig.is_at_rest()


@pytest.mark.parametrize("error", [DOWN, StoreUnavailable("gave up")])
def test_a_later_touch_that_fails_refuses_nobody_and_is_not_tried_for_each_request(rig: Rig, error: Exception) -> None:
    pair = rig.logged_in()
    rig.clock.advance(61)
    rig.model.on_save = always(error)
    rig.model.calls.clear()
    for _ in range(5):
        assert rig.authenticate(pair).subject == "alice"
        rig.registry.table.clear()
    assert rig.model.count("save") <= 2
    rig.model.on_save = nothing
    rig.clock.advance(6)
    now = int(rig.clock.time() * 1000)
    rig.authenticate(pair)
    assert rig.document().sessions[0].seen_at == now, "the next lease tries again"


def test_a_first_use_that_can_not_be_written_refuses_nobody_and_is_tried_again(rig: Rig) -> None:
    """Replays are judged by it: while it is not written down, a thief passes for a client that lost its answer."""
    pair = rig.login()
    rig.model.on_save = once(StoreUnavailable("gave up"))
    assert rig.authenticate(pair).subject == "alice"
    assert rig.recall(pair) is None
    assert not rig.document().sessions[0].used
    assert rig.authenticate(pair).subject == "alice"
    assert rig.document().sessions[0].used
    assert rig.recall(pair)


def test_a_store_that_can_not_be_written_is_left_alone_after_a_while(rig: Rig) -> None:
    pair = rig.login()
    rig.model.on_save = always(DOWN)
    for _ in range(10):
        assert rig.authenticate(pair).subject == "alice"
    rig.model.calls.clear()
    for _ in range(10):
        assert rig.authenticate(pair).subject == "alice"
    assert rig.model.calls == [], "and costs no request a call"
    rig.model.on_save = nothing
    rig.clock.advance(1)
    rig.authenticate(pair)
    assert rig.document().sessions[0].used


def test_a_first_use_whose_request_is_cancelled_is_written_by_the_next(rig: Rig) -> None:
    pair = rig.login()
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    to_the_save(flow, rig)
    flow.close()
    assert rig.is_at_rest()
    assert rig.recall(pair) is None
    rig.authenticate(pair)
    assert rig.document().sessions[0].used


def test_two_that_write_a_first_use_at_once_and_both_fail(rig: Rig) -> None:
    """Both may have looked before either left its mark; whoever fails last finds the mark gone."""
    pair = rig.login()
    flows = [rig.authenticator.authenticate(pair.access_token.encode()) for _ in range(2)]
    to_the_save(flows[0], rig)
    lease = rig.registry._leases.get(ALICE)
    assert lease is not None
    assert lease.touched is not None
    mark = dict(lease.touched)
    lease.touched.clear()  # as the second thread saw it
    wait = next(flows[1])
    assert isinstance(wait, Wait)
    assert lease.touched == mark
    flows[0].close()
    assert lease.touched == {}
    flows[1].close()
    rig.authenticate(pair)
    assert rig.document().sessions[0].used


def test_who_comes_while_a_first_use_is_written_is_not_recalled_before_it_is(rig: Rig) -> None:
    pair = rig.login()
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    save = to_the_save(flow, rig)
    assert rig.authenticate(pair).subject == "alice", "and it is not written twice"
    assert rig.recall(pair) is None
    with pytest.raises(StopIteration):
        flow.send(save.perform(rig.model))
    assert rig.recall(pair)


def test_a_touch_is_not_what_lets_in(rig: Rig) -> None:
    """Whoever ends the session while the touch waits: no token of it is good afterwards."""
    pair = rig.login()
    flow = rig.authenticator.authenticate(pair.access_token.encode())
    save = to_the_save(flow, rig)
    rig.another().revoke(pair)
    rig.registry.ended(ALICE)
    pause = flow.send(save.perform(rig.model))
    assert isinstance(pause, Pause)
    need = flow.send(None)
    with pytest.raises(StopIteration):
        flow.send(need.perform(rig.model))
    assert rig.document().find(session_id(pair)) is None
    assert rig.recall(pair) is None
    with pytest.raises(SessionRevoked):
        rig.authenticate(pair)


# -- STALE_IF_DOWN ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def down() -> tuple[Rig, Any]:
    """A store that went down after a session was last seen active; its lease has just expired."""
    rig = Rig(stale_if_down=60.0)
    pair = rig.logged_in()
    rig.model.on_load = rig.model.on_save = always(DOWN)
    rig.clock.advance(5)
    return rig, pair


def test_while_the_store_is_down_what_was_active_may_still_read(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    for _ in range(3):
        assert rig.authenticate(pair, may_be_stale=True).subject == "alice"
    assert rig.recall(pair) is None, "the warm path lets in nothing that is stale"
    assert rig.told == ["store_down"]
    with pytest.raises(StoreError):
        rig.authenticate(pair)


def test_and_not_for_longer_than_was_asked_for(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    rig.clock.advance(59.5)
    assert rig.authenticate(pair, may_be_stale=True)
    rig.clock.advance(0.5)
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_by_default_nothing_stale_is_served() -> None:
    rig = Rig()
    pair = rig.logged_in()
    rig.model.on_load = always(DOWN)
    rig.clock.advance(5)
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_what_has_ended_is_never_served_although_the_store_is_down(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    with pytest.raises(StoreError):
        rig.revoke(pair)  # nobody knows whether it was saved
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_an_ending_that_is_reported_counts_for_expired_leases_too(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    rig.registry.ended(ALICE)
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_a_token_that_was_never_let_in_is_not_served_stale(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    rig.registry.table.clear()
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_what_was_pushed_out_is_not_served_stale() -> None:
    rig = Rig(stale_if_down=60.0, size=2)
    pair = rig.logged_in()
    for user in ("bob", "carol"):
        rig.logged_in(user)
    rig.model.on_load = always(DOWN)
    with pytest.raises(StoreError):
        rig.authenticate(pair, may_be_stale=True)


def test_an_entry_ends_with_its_session_although_it_may_be_stale() -> None:
    rig = Rig(stale_if_down=600.0, session_ttl=20 * SECOND)
    pair = rig.logged_in()
    rig.model.on_load = always(DOWN)
    rig.clock.advance(19)
    assert rig.authenticate(pair, may_be_stale=True)
    rig.clock.advance(1)
    with pytest.raises(Exception, match=r"down|expired"):
        rig.authenticate(pair, may_be_stale=True)


def test_who_waits_for_a_load_that_fails_may_be_served_stale_too(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    token = pair.access_token.encode()
    rig.model.on_load = lambda _key: None
    rig.do(rig.registry.know_everyone())
    flows = [rig.authenticator.authenticate(token, may_be_stale=stale) for stale in (False, True, False)]
    _, second, third = [next(flow) for flow in flows]
    with pytest.raises(StoreError):
        flows[0].throw(DOWN)
    with pytest.raises(StopIteration) as done:
        flows[1].send(rig.perform(second))
    assert isinstance(done.value.value, Identity)
    with pytest.raises(StoreUnavailable):
        flows[2].send(rig.perform(third))


def test_when_the_store_is_back_it_decides(down: tuple[Rig, Any]) -> None:
    rig, pair = down
    assert rig.authenticate(pair, may_be_stale=True)
    rig.model.on_load = rig.model.on_save = lambda _key: None
    rig.clock.advance(QUIET)
    elsewhere = rig.another()
    elsewhere.do(
        elsewhere.committer.commit(
            ALICE, "alice", lambda document, moment: end_one(document, moment, session_id=session_id(pair))
        )
    )
    with pytest.raises(SessionRevoked):
        rig.authenticate(pair, may_be_stale=True)
    assert rig.told == ["store_down", "store_up"]
