"""Writing: turns, conflicts, saves without an answer, deadlines, and the invalidation that follows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from documents import fresh, saved, with_sessions
from rig import ALICE, DOWN, AsyncModel, Rig, always

from jwtguard.commits import LONGEST_PAUSE, Turns, _jitter
from jwtguard.document import Document, decode, encode
from jwtguard.errors import DocumentDamaged, StoreError, StoreUnavailable
from jwtguard.flow import Flow, Pause, Save, Wait, arun, run
from jwtguard.policy import Moment
from jwtguard.stores.base import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock
from jwtguard.transitions import Step, open_session


@pytest.fixture
def rig() -> Rig:
    return Rig()


def note(document: Document, moment: Moment, seen: list[Moment] | None = None) -> Step[str]:
    """A transition that changes something each time."""
    if seen is not None:
        seen.append(moment)
    return Step(saved(open_session(document, moment, session=fresh(len(document.sessions) + 1), limit=100)), "noted")


def noting(rig: Rig, *, insist: bool = True, seen: list[Moment] | None = None) -> Flow[Step[str]]:
    return rig.committer.commit(ALICE, "alice", partial(note, seen=seen), insist=insist)


def others_write(rig: Rig, times: int) -> Callable[[bytes], None]:
    """Others who come between, so many times."""
    left = list(range(times))

    def come_between(key: bytes) -> None:
        if left:
            number = left.pop()
            rig.model.documents[key] = (encode(with_sessions(*range(1, times - number + 1))), b"other%03d" % number)

    return come_between


# -- turns -----------------------------------------------------------------------------------------------------------------


def test_turns_are_taken_in_the_order_of_coming() -> None:
    turns = Turns()
    first, second, third = [turns.join(b"k") for _ in range(3)]
    other = turns.join(b"other")
    assert [turn.done() for turn in (first, second, third, other)] == [True, False, False, True]
    turns.leave(b"k", first)
    assert [turn.done() for turn in (second, third)] == [True, False]
    turns.leave(b"k", second)
    assert third.done()
    turns.leave(b"k", third)
    turns.leave(b"other", other)
    assert not turns._queues


def test_who_gives_up_waiting_is_passed_over() -> None:
    turns = Turns()
    first, second, third = [turns.join(b"k") for _ in range(3)]
    turns.leave(b"k", second)
    assert not third.done()
    turns.leave(b"k", first)
    assert third.done()
    assert not second.done()


def test_who_has_just_been_given_the_turn_and_gives_up_hands_it_on() -> None:
    turns = Turns()
    first, second, third = [turns.join(b"k") for _ in range(3)]
    second.cancel()
    turns.leave(b"k", first)
    assert not third.done(), "the second one still stands in the queue"
    turns.leave(b"k", second)
    assert third.done()


def test_turns_of_a_parent_process_are_forgotten() -> None:
    turns = Turns()
    turn = turns.join(b"k")
    turns._renew()
    turns.leave(b"k", turn)
    mine = turns.join(b"k")
    turns.leave(b"k", turn)
    assert mine.done()
    assert turns._queues


def test_turns_among_threads_are_exclusive() -> None:
    turns, inside, most = Turns(), [0], [0]

    def work(_number: int) -> None:
        turn = turns.join(b"k")
        turn.result(30)
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        turns.leave(b"k", turn)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(2_000)))
    assert most == [1]
    assert not turns._queues


def test_a_writer_waits_for_the_one_before(rig: Rig) -> None:
    first, second = noting(rig), noting(rig)
    next(first)
    waiting = next(second)
    assert isinstance(waiting, Wait)
    assert not waiting.future.done()
    first.close()
    assert waiting.future.done()
    second.close()
    assert rig.is_at_rest()


def test_a_writer_that_waits_too_long_gives_up(rig: Rig) -> None:
    first, second, third = noting(rig), noting(rig), noting(rig)
    next(first)
    waiting, next_waiting = next(second), next(third)
    assert isinstance(waiting, Wait)
    assert isinstance(next_waiting, Wait)
    assert waiting.timeout == 2.0
    with pytest.raises(StoreUnavailable):
        second.throw(StoreUnavailable("gave up"))
    first.close()
    assert next_waiting.future.done()
    third.close()
    assert rig.is_at_rest()


class _Counting(MemoryStore):
    """Counts the saves that lost their race."""

    conflicts = 0

    def save(self, *arguments: Any, **terms: Any) -> bool:
        saved = super().save(*arguments, **terms)
        self.conflicts += not saved
        return saved


class _Awaited:
    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner

    async def load(self, key: bytes) -> Loaded:
        await asyncio.sleep(0)
        return self._inner.load(key)

    async def save(self, *arguments: Any, **terms: Any) -> bool:
        await asyncio.sleep(0)
        return self._inner.save(*arguments, **terms)

    async def close(self) -> None: ...


def test_writers_of_several_loops_and_threads_take_turns() -> None:
    store = _Counting(FakeClock())
    rig = Rig(store, patience=30.0)

    async def loop() -> None:
        await asyncio.gather(*[arun(noting(rig), _Awaited(store)) for _ in range(10)])

    def blocking() -> None:
        for _ in range(10):
            run(noting(rig), store)

    threads = [threading.Thread(target=work) for work in (lambda: asyncio.run(loop()), blocking) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(decode(store.load(ALICE).data, "alice").sessions) == 40
    assert store.conflicts == 0
    assert rig.is_at_rest()


# -- cancellation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_writer_leaves_nothing_behind(rig: Rig, steps: int) -> None:
    pair = rig.logged_in()
    token = pair.access_token.encode()
    store = AsyncModel(rig.model)

    async def main() -> None:
        rig.clock.advance(120)  # so that there is a load, and a touch
        tasks = [
            asyncio.ensure_future(arun(rig.operations.revoke_all("alice"), store)),
            asyncio.ensure_future(arun(rig.operations.refresh(pair.refresh_token), store)),
            asyncio.ensure_future(arun(rig.authenticator.authenticate(token), store)),
            asyncio.ensure_future(arun(rig.authenticator.authenticate(token), store)),
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert rig.is_at_rest()
    assert rig.do(noting(rig)).outcome == "noted"


def test_one_cancelled_among_those_who_wait(rig: Rig) -> None:
    store = AsyncModel(rig.model)

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(arun(noting(rig), store)) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert [isinstance(outcome, Step) for outcome in outcomes] == [False, True, False, True, True]
    assert len(rig.document().sessions) == 3
    assert rig.is_at_rest()


# -- conflicts -------------------------------------------------------------------------------------------------------------


def test_what_loses_its_race_is_tried_again_on_the_newer_document(rig: Rig) -> None:
    rig.model.on_save = others_write(rig, 3)
    assert rig.do(noting(rig)).outcome == "noted"
    assert rig.model.count("save") == 4
    assert len(rig.document().sessions) == 4


def test_what_need_not_be_is_dropped_when_it_loses_its_race(rig: Rig) -> None:
    rig.model.on_save = others_write(rig, 1)
    rig.do(noting(rig, insist=False))
    assert rig.model.count("save") == 1
    assert len(rig.document().sessions) == 1


def test_what_need_not_be_is_dropped_when_the_store_fails(rig: Rig) -> None:
    rig.model.on_save = always(DOWN)
    rig.do(noting(rig, insist=False))
    assert rig.model.count("save") == 1
    assert rig.told == ["store_down"]


def test_the_moment_is_fixed_before_the_first_attempt(rig: Rig) -> None:
    seen: list[Moment] = []
    rig.model.on_save = others_write(rig, 2)
    rig.model.on_load = lambda _key: rig.clock.advance(0.125)
    rig.do(noting(rig, seen=seen))
    assert len(seen) == 3
    assert len({each.now for each in seen}) == 1


def test_the_moment_is_never_before_the_clock_of_the_document(rig: Rig) -> None:
    ahead = int(rig.clock.time() * 1000) + 60_000
    rig.model.documents[ALICE] = (encode(with_sessions(1, now=ahead)), b"version1")
    seen: list[Moment] = []
    rig.do(noting(rig, seen=seen))
    assert seen[0].now == ahead


def test_each_attempt_knows_what_holds_for_everyone_by_then(rig: Rig) -> None:
    seen: list[Moment] = []
    flow = noting(rig, seen=seen)
    need = next(flow)
    while not isinstance(need, Save):
        need = flow.send(need.perform(rig.model))
    rig.do(rig.operations.revoke_everyone())
    rig.do(rig.registry.know_everyone())
    assert isinstance(flow.send(False), Pause)
    need = flow.send(None)
    flow.send(need.perform(rig.model))
    assert [each.everyone for each in seen] == [0, rig.registry.everyone]
    flow.close()


def test_contention_without_end_is_given_up_at_the_deadline(rig: Rig) -> None:
    rig.model.on_load = lambda _key: rig.clock.advance(0.3)
    rig.model.swap = lambda *_: False  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="at every attempt"):
        rig.do(noting(rig))
    assert 5 <= rig.model.count("save") <= 8
    assert rig.is_at_rest()


def test_attempts_back_off_with_full_jitter_up_to_a_bound() -> None:
    bounds: list[tuple[float, float]] = []

    def record(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    for attempt in range(1, 12):
        _jitter(attempt, record)
    assert bounds[:3] == [(0, 0.002), (0, 0.004), (0, 0.008)]
    assert bounds[-1:] == [(0, LONGEST_PAUSE)]
    assert all(0 <= _jitter(attempt) <= LONGEST_PAUSE for attempt in (1, 5, 100, 5_000))


def test_a_damaged_document_is_never_written_over(rig: Rig) -> None:
    rig.model.documents[ALICE] = (b"damage", b"version1")
    with pytest.raises(DocumentDamaged):
        rig.do(noting(rig))
    assert rig.model.documents[ALICE] == (b"damage", b"version1")
    assert rig.is_at_rest()


def test_a_store_that_can_not_be_read_is_told_of_and_not_written(rig: Rig) -> None:
    rig.model.on_load = always(DOWN)
    with pytest.raises(StoreError):
        rig.do(noting(rig))
    assert rig.model.count("save") == 0
    assert (rig.reading.down, rig.writing.down) == (True, False)
