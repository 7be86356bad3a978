"""The registry: fills, endings, how long a lease lasts, and what the warm path may do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from rig import ALICE, DOWN, EVERYONE, AsyncModel, ModelStore, Rig, always

from jwtguard.document import document_key
from jwtguard.errors import DocumentDamaged, SessionEnded, StoreError, StoreUnavailable
from jwtguard.flow import Flow, Load, Need, Wait, arun, run
from jwtguard.recall import Lease
from jwtguard.registry import wake
from jwtguard.testing import FakeClock
from jwtguard.transitions import raise_floor

BOB = document_key("tests", "bob")


T = TypeVar("T")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def know_everyone(rig: Rig) -> None:
    rig.do(rig.registry.know_everyone())
    rig.model.calls.clear()


def leasing(rig: Rig, key: bytes = ALICE, newer_than: int = -1) -> Flow[Lease]:
    return rig.registry.lease(key, newer_than)


def assert_(true: bool) -> None:
    assert true


def to_the_load(flow: Flow[Any]) -> Load:
    need = next(flow)
    assert isinstance(need, Load)
    return need


def finish(flow: Flow[Lease], rig: Rig, need: Load | Wait) -> Lease:
    try:
        following = flow.send(need.perform(rig.model))
    except StopIteration as stop:
        lease: Lease = stop.value
        return lease
    raise AssertionError(following)


def rest(flow: Flow[T], rig: Rig, need: Need) -> T:
    """Run a flow that was begun by hand to its end, as the drivers do."""
    try:
        while True:
            try:
                result = need.perform(rig.model)
            except StoreUnavailable as error:
                need = flow.throw(error)
            else:
                need = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value


# -- single flight ---------------------------------------------------------------------------------------------------------


def test_however_many_ask_the_store_is_asked_once(rig: Rig) -> None:
    know_everyone(rig)
    leader, *followers = [leasing(rig) for _ in range(10)]
    load = to_the_load(leader)
    waits = [next(follower) for follower in followers]
    lease = finish(leader, rig, load)
    for follower, wait in zip(followers, waits, strict=True):
        assert isinstance(wait, Wait)
        assert finish(follower, rig, wait) is lease
    assert rig.model.calls == [("load", ALICE)]
    assert rig.is_at_rest()


def test_what_holds_for_everyone_is_asked_once_too(rig: Rig) -> None:
    """However many users are not known yet, as after a start or an outage."""
    leader, *followers = [rig.registry.know_everyone() for _ in range(10)]
    load = next(leader)
    waits = [next(follower) for follower in followers]
    rest(leader, rig, load)
    for follower, wait in zip(followers, waits, strict=True):
        assert isinstance(wait, Wait)
        rest(follower, rig, wait)
    assert rig.model.calls == [("load", EVERYONE)]
    assert rig.is_at_rest()


def test_who_waits_for_what_holds_for_everyone_hears_that_it_failed(rig: Rig) -> None:
    leader, follower = rig.registry.know_everyone(), rig.registry.know_everyone()
    load, wait = next(leader), next(follower)
    rig.model.on_load = always(DOWN)
    with pytest.raises(StoreError):
        rest(leader, rig, load)
    with pytest.raises(StoreUnavailable, match="that this request waited for"):
        rest(follower, rig, wait)
    assert rig.is_at_rest()


def test_an_ending_of_everyone_while_it_is_read_has_it_read_again(rig: Rig) -> None:
    leader, follower = rig.registry.know_everyone(), rig.registry.know_everyone()
    load, wait = next(leader), next(follower)
    rig.registry.ended(EVERYONE)
    rest(leader, rig, load)
    rest(follower, rig, wait)
    assert rig.model.calls == [("load", EVERYONE), ("load", EVERYONE)]


@pytest.mark.parametrize("threads", [8])
def test_threads_share_one_load(threads: int) -> None:
    gate, store = threading.Event(), ModelStore(FakeClock())
    rig = Rig(store, patience=30.0)
    run(rig.registry.know_everyone(), store)
    store.calls.clear()
    store.on_load = lambda _key: assert_(gate.wait(30))

    with ThreadPoolExecutor(threads) as pool:
        answers = [pool.submit(lambda: run(leasing(rig), store)) for _ in range(threads)]
        while len(store.calls) + sum(len(flight.waiting) for flight in rig.registry._fills.values()) < threads:
            pass
        gate.set()
        leases = {answer.result(30) for answer in answers}
    assert store.calls == [("load", ALICE)]
    assert len(leases) == 1


def test_tasks_of_one_loop_share_one_load(rig: Rig) -> None:
    know_everyone(rig)
    store = AsyncModel(rig.model)

    async def main() -> set[Lease]:
        return set(await asyncio.gather(*[arun(leasing(rig), store) for _ in range(10)]))

    assert len(asyncio.run(main())) == 1
    assert rig.model.calls == [("load", ALICE)]


def test_different_users_do_not_wait_for_each_other(rig: Rig) -> None:
    know_everyone(rig)
    assert to_the_load(leasing(rig)).key == ALICE
    assert to_the_load(leasing(rig, BOB)).key == BOB


def test_if_the_load_fails_all_who_wait_fail_with_its_cause(rig: Rig) -> None:
    know_everyone(rig)
    leader, *followers = [leasing(rig) for _ in range(5)]
    to_the_load(leader)
    waits = [next(follower) for follower in followers]
    with pytest.raises(StoreError) as first:
        leader.throw(DOWN)
    errors: list[BaseException] = []
    for follower, wait in zip(followers, waits, strict=True):
        with pytest.raises(StoreUnavailable) as caught:
            follower.send(wait.perform(rig.model))
        assert caught.value.__cause__ is first.value
        errors.append(caught.value)
    assert len(set(map(id, errors))) == len(followers), (
        "each has an exception of its own, whose traceback nobody else extends"
    )
    assert rig.is_at_rest()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), KeyError("a bug of a driver")])
def test_if_the_leader_is_gone_a_follower_takes_over(rig: Rig, error: BaseException) -> None:
    know_everyone(rig)
    leader, second, third = [leasing(rig) for _ in range(3)]
    to_the_load(leader)
    waits = [next(second), next(third)]
    with pytest.raises(type(error)):
        leader.throw(error)
    load = second.send(waits[0].perform(rig.model))
    assert isinstance(load, Load)
    again = third.send(waits[1].perform(rig.model))
    assert isinstance(again, Wait)
    assert finish(second, rig, load) is finish(third, rig, again)
    assert rig.is_at_rest()


def test_a_follower_gives_up_when_its_time_is_over(rig: Rig) -> None:
    know_everyone(rig)
    leader, follower = leasing(rig), leasing(rig)
    load = to_the_load(leader)
    wait = next(follower)
    assert isinstance(wait, Wait)
    assert wait.timeout == 2.0
    with pytest.raises(StoreUnavailable):
        follower.throw(StoreUnavailable("gave up waiting"))
    finish(leader, rig, load)
    assert rig.is_at_rest()


def test_a_follower_that_was_cancelled_is_passed_over(rig: Rig) -> None:
    know_everyone(rig)
    leader, follower = leasing(rig), leasing(rig)
    load, wait = to_the_load(leader), next(follower)
    assert isinstance(wait, Wait)
    wait.future.cancel()
    follower.close()
    assert finish(leader, rig, load).alive


def test_waking_who_has_stopped_waiting_is_no_error() -> None:
    waiting: Future[None] = Future()
    waiting.cancel()
    wake(waiting, None)
    assert waiting.cancelled()


# -- stale fills -----------------------------------------------------------------------------------------------------------


def test_what_was_read_before_an_ending_is_thrown_away(rig: Rig) -> None:
    know_everyone(rig)
    flow = leasing(rig)
    load = to_the_load(flow)
    old = load.perform(rig.model)
    rig.registry.ended(ALICE)
    again = flow.send(old)
    assert isinstance(again, Load)
    assert finish(flow, rig, again).number == rig.registry.number
    assert rig.model.count("load") == 2


def test_nobody_joins_a_stale_fill(rig: Rig) -> None:
    know_everyone(rig)
    stale, early, late = [leasing(rig) for _ in range(3)]
    first = to_the_load(stale)
    waiting = next(early)
    rig.registry.ended(ALICE)
    load = to_the_load(late)
    lease = finish(late, rig, load)
    assert finish(stale, rig, first) is lease, "its own load is thrown away, and there is a good lease"
    assert isinstance(waiting, Wait)
    assert finish(early, rig, waiting) is lease
    assert rig.is_at_rest()


def test_a_stale_fill_that_lands_leaves_the_next_one_in_the_air(rig: Rig) -> None:
    know_everyone(rig)
    stale, later = leasing(rig), leasing(rig)
    to_the_load(stale)
    rig.registry.ended(ALICE)
    to_the_load(later)
    with pytest.raises(StoreError):
        stale.throw(DOWN)
    assert isinstance(next(leasing(rig)), Wait)


def test_endings_without_end_are_given_up(rig: Rig) -> None:
    def end(_key: bytes) -> None:
        rig.clock.advance(0.3)
        rig.registry.ended(ALICE)

    rig.model.on_load = end
    with pytest.raises(StoreUnavailable, match="faster than they can be read"):
        rig.do(leasing(rig))
    assert rig.clock.monotonic() <= 1_003
    assert rig.is_at_rest()


def test_an_ending_kills_the_lease_once_and_for_all(rig: Rig) -> None:
    lease = rig.do(leasing(rig))
    lives = []
    for key in (BOB, ALICE, ALICE):
        rig.registry.ended(key)
        lives.append(lease.alive)
    other = rig.do(leasing(rig))
    assert [*lives, other.alive, lease.alive] == [True, False, False, True, False]


@pytest.mark.parametrize("key", [None, EVERYONE])
def test_an_ending_of_all_kills_every_lease_and_every_fill(rig: Rig, key: bytes | None) -> None:
    alice, bob = rig.do(leasing(rig)), rig.do(leasing(rig, BOB))
    flow = leasing(rig, b"carol")
    load = to_the_load(flow)
    rig.registry.ended(key)
    assert not alice.alive
    assert not bob.alive
    again = flow.send(load.perform(rig.model))
    assert isinstance(again, Load)
    assert again.key == EVERYONE, "what holds for everyone is loaded again, too"


# -- how long a lease lasts ------------------------------------------------------------------------------------------------


def test_a_lease_counts_from_before_its_load(rig: Rig) -> None:
    know_everyone(rig)
    before = rig.clock.monotonic()
    rig.model.on_load = lambda _key: rig.clock.advance(2)
    lease = rig.do(leasing(rig))
    assert (lease.began, lease.until) == (before, before + 5)


def test_a_lease_counts_from_before_the_load_of_what_holds_for_everyone(rig: Rig) -> None:
    before = rig.clock.monotonic()
    rig.model.on_load = lambda key: rig.clock.advance(0.5 if key == EVERYONE else 0)
    first = rig.do(leasing(rig))
    assert (first.began, first.until) == (before + 0.5, before + 5)
    rig.clock.advance(0.25)
    second = rig.do(leasing(rig, BOB))
    assert second.until == before + 5


def test_a_lease_is_used_until_it_is_over_and_not_longer(rig: Rig) -> None:
    lease = rig.do(leasing(rig))
    rig.clock.advance(4.9)
    assert rig.do(leasing(rig)) is lease
    rig.clock.advance(0.1)
    assert rig.do(leasing(rig)) is not lease
    assert not lease.alive, "what is replaced is dead"


def test_a_load_that_takes_longer_than_the_ttl_is_of_no_use_to_others(rig: Rig) -> None:
    pair = rig.login()
    rig.do(rig.registry.know_everyone())
    rig.model.on_load = lambda _key: rig.clock.advance(6)
    assert rig.authenticate(pair).subject == "alice"
    assert rig.recall(pair) is None


def test_who_needs_a_newer_lease_gets_one(rig: Rig) -> None:
    lease = rig.do(leasing(rig))
    assert rig.do(leasing(rig, newer_than=lease.number - 1)) is lease
    newer = rig.do(leasing(rig, newer_than=lease.number))
    assert newer.number > lease.number
    assert not lease.alive


def test_who_needs_a_newer_lease_is_not_content_with_a_fill_that_began_before(rig: Rig) -> None:
    know_everyone(rig)
    leader = leasing(rig)
    load = to_the_load(leader)
    follower = leasing(rig, newer_than=rig.registry.number)
    wait = next(follower)
    finish(leader, rig, load)
    assert isinstance(follower.send(wait.perform(rig.model)), Load)


def test_the_least_recently_used_lease_is_pushed_out_and_dies() -> None:
    rig = Rig(size=2)
    pair = rig.logged_in()
    alice, bob = rig.do(leasing(rig)), rig.do(leasing(rig, BOB))
    assert rig.do(leasing(rig)) is alice
    rig.do(leasing(rig, b"carol"))
    assert (alice.alive, bob.alive) == (True, False)
    assert rig.recall(pair)
    rig.do(leasing(rig, BOB))
    assert not alice.alive
    assert rig.recall(pair) is None
    assert rig.authenticate(pair).subject == "alice"


# -- what holds for everyone -----------------------------------------------------------------------------------------------


def test_what_holds_for_everyone_costs_one_load_in_a_fifth_of_the_ttl(rig: Rig) -> None:
    for number in range(100):
        rig.do(leasing(rig, b"user %d" % number))
        rig.clock.advance(0.0625)
    assert rig.model.count("load", EVERYONE) == 7  # 6.25 seconds, with a TTL of five
    assert len(rig.model.calls) == 107


def floor_raised_elsewhere(rig: Rig) -> None:
    rig.do(rig.another().committer.commit(EVERYONE, "", raise_floor))


def test_the_end_of_everyone_is_known_within_the_ttl(rig: Rig) -> None:
    pair = rig.logged_in()
    rig.clock.advance(1)
    floor_raised_elsewhere(rig)
    rig.clock.advance(4)
    with pytest.raises(SessionEnded) as caught:
        rig.authenticate(pair)
    assert caught.value.code == "session_revoked"


def test_a_raised_floor_ends_all_leases_and_begins_fills_again(rig: Rig) -> None:
    lease = rig.do(leasing(rig))
    rig.clock.advance(1)
    floor_raised_elsewhere(rig)
    fill = leasing(rig, BOB)
    again = fill.send(to_the_load(fill).perform(rig.model))
    assert again.key == BOB  # type: ignore[attr-defined]
    assert not lease.alive
    assert isinstance(fill.send(again.perform(rig.model)), Load), "it had begun before the floor was known"
    assert rig.registry.everyone > 0


def test_the_floor_never_goes_back(rig: Rig) -> None:
    floor_raised_elsewhere(rig)
    know_everyone(rig)
    floor = rig.registry.everyone
    del rig.model.documents[EVERYONE]
    rig.clock.advance(2)
    know_everyone(rig)
    assert rig.registry.everyone == floor


def test_an_ending_of_all_during_its_load_has_it_loaded_again(rig: Rig) -> None:
    flow = rig.registry.know_everyone()
    loaded = to_the_load(flow).perform(rig.model)
    rig.registry.ended(None)
    with pytest.raises(StopIteration):
        flow.send(loaded)
    rig.model.calls.clear()
    rig.do(rig.registry.know_everyone())
    assert rig.model.calls == [("load", EVERYONE)]


def test_a_damaged_document_of_everyone_lets_nobody_in(rig: Rig) -> None:
    pair = rig.login()
    rig.clock.advance(2)
    rig.model.documents[EVERYONE] = (b"damage", b"version1")
    with pytest.raises(DocumentDamaged):
        rig.authenticate(pair)
    assert rig.is_at_rest()


def test_a_damaged_document_is_logged_once_a_minute_and_not_once_a_request(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def read(subject: str) -> None:
        with pytest.raises(DocumentDamaged):
            rig.registry.read(b"nonsense", subject)

    for _ in range(3):
        read("al\nice")
    read("bob")
    assert [record.getMessage().split(" can't")[0] for record in caplog.records] == [
        "the sessions of 'al\\nice'",
        "the sessions of 'bob'",
    ]
    rig.clock.advance(61)
    read("bob")
    assert len(caplog.records) == 3
