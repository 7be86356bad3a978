"""InThreads, OnLoop and Within: the colours, the ends of calls, and forks."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from jwtguard._contract_kit import FAR, Reports, at_once, put
from jwtguard.errors import StoreError
from jwtguard.stores import Loaded, Watched, adapters
from jwtguard.stores.adapters import InThreads, OnLoop, Within
from jwtguard.stores.memory import MemoryStore

PATIENCE = 60.0


class Slow:
    """A blocking store whose loads wait until they are let go, and whose saves are counted."""

    def __init__(self, blocking: bool = True) -> None:
        self.blocking = blocking
        self.begun: Future[int] = Future()
        self.release = threading.Event()
        self.ended = threading.Event()
        self.loads = 0
        self.saves = 0
        self.closes = 0

    def load(self, key: bytes) -> Loaded:
        self.loads += 1
        if not self.begun.done():
            self.begun.set_result(threading.get_ident())
        assert self.release.wait(PATIENCE)
        self.ended.set()
        return Loaded(key, key, threading.get_ident())

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        self.saves += 1
        if data == b"fail":
            raise StoreError("as it was")
        return True

    def close(self) -> None:
        self.closes += 1


class Hanging:
    """An async store whose loads never answer, unless the key says how."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.adapter: OnLoop | None = None
        self.closed: list[int] = []

    async def load(self, key: bytes) -> Loaded:
        self.begun.set()
        if key == b"loop":
            return Loaded(None, None, threading.get_ident())
        if key == b"again":
            assert self.adapter is not None
            return self.adapter.load(b"loop")
        if key == b"close":
            assert self.adapter is not None
            self.adapter.close()
        if key == b"time":
            raise TimeoutError("its own")
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        return True

    async def close(self) -> None:
        self.closed.append(threading.get_ident())


async def save(store: InThreads, data: bytes = b"data") -> bool:
    return await store.save(b"k", data, expected=None, version=b"12345678", expires_at=FAR, ends=False)


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- InThreads -------------------------------------------------------------------------------------------------------------


def test_a_blocking_store_is_called_in_another_thread() -> None:
    store = Slow()
    store.release.set()
    adapter = InThreads(store)
    assert asyncio.run(adapter.load(b"k")).now != threading.get_ident()
    asyncio.run(adapter.close())
    assert store.closes == 1


def test_a_store_that_never_waits_is_called_inline() -> None:
    store = Slow(blocking=False)
    store.release.set()
    adapter = InThreads(store)
    assert asyncio.run(adapter.load(b"k")).now == threading.get_ident()
    asyncio.run(adapter.close())
    assert not adapter._executors
    assert store.closes == 1


def test_nothing_is_started_before_the_first_call() -> None:
    before = threading.active_count()
    InThreads(Slow())
    OnLoop(Hanging(), timeout=PATIENCE)
    assert threading.active_count() == before


def test_threads_are_bounded() -> None:
    store = Slow()
    adapter = InThreads(store, workers=2)

    async def many() -> set[int]:
        tasks = [asyncio.create_task(adapter.load(b"k")) for _ in range(20)]
        await asyncio.wrap_future(store.begun)
        store.release.set()
        return {(await task).now for task in tasks}

    assert len(asyncio.run(many())) <= 2
    asyncio.run(adapter.close())


def test_the_loop_goes_on_while_a_call_waits() -> None:
    store = Slow()
    adapter = InThreads(store)

    async def both() -> bool:
        task = asyncio.create_task(adapter.load(b"k"))
        await asyncio.wrap_future(store.begun)
        saved = await save(adapter)
        store.release.set()
        await task
        return saved

    assert asyncio.run(both())
    asyncio.run(adapter.close())


def test_loads_that_wait_leave_threads_for_saves() -> None:
    store = Slow()
    adapter = InThreads(store, workers=2)

    async def many() -> bool:
        tasks = [asyncio.create_task(adapter.load(b"k")) for _ in range(10)]
        await asyncio.wrap_future(store.begun)
        saved = await save(adapter)
        store.release.set()
        await asyncio.gather(*tasks)
        return saved

    assert asyncio.run(many())
    asyncio.run(adapter.close())


def test_a_cancelled_call_that_runs_runs_to_its_end() -> None:
    store = Slow()
    adapter = InThreads(store)

    async def cancel() -> None:
        task = asyncio.create_task(adapter.load(b"k"))
        await asyncio.wrap_future(store.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not store.ended.is_set()
        store.release.set()

    asyncio.run(cancel())
    assert store.ended.wait(PATIENCE)
    asyncio.run(adapter.close())


def test_a_cancelled_call_that_has_not_begun_is_never_made() -> None:
    store = Slow()
    adapter = InThreads(store, workers=1)

    async def cancel() -> None:
        first = asyncio.create_task(adapter.load(b"k"))
        await asyncio.wrap_future(store.begun)
        second = asyncio.create_task(adapter.load(b"k"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        store.release.set()
        await first
        await adapter.close()

    asyncio.run(cancel())
    assert store.loads == 1


def test_several_loops_side_by_side() -> None:
    store = MemoryStore()
    adapter = InThreads(store)
    store.blocking = True
    assert len(at_once(4, lambda _: asyncio.run(adapter.load(b"k")))) == 4
    asyncio.run(adapter.close())


def test_an_exception_passes_through_threads() -> None:
    adapter = InThreads(Slow())
    with pytest.raises(StoreError, match=r"^as it was$"):
        asyncio.run(save(adapter, b"fail"))
    asyncio.run(adapter.close())


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    with pytest.raises(StoreError, match="can't start new thread"):
        asyncio.run(InThreads(Slow()).load(b"k"))


def test_close_lets_calls_end_and_can_be_followed_by_more() -> None:
    store = Slow()
    adapter = InThreads(store)

    async def close() -> None:
        task = asyncio.create_task(adapter.load(b"k"))
        await asyncio.wrap_future(store.begun)
        closing = asyncio.create_task(adapter.close())
        await asyncio.sleep(0)
        assert store.closes == 0
        store.release.set()
        await closing
        assert task.done() or await task
        assert await save(adapter)
        await adapter.close()
        await adapter.close()

    asyncio.run(close())
    assert store.closes == 3


def test_threads_after_a_fork() -> None:
    run("""
import asyncio, os
from jwtguard.stores import adapters
from jwtguard.stores.adapters import InThreads
from jwtguard.stores.memory import MemoryStore
store = MemoryStore()
MemoryStore.blocking = True
adapter = InThreads(store)
asyncio.run(adapter.load(b"k"))
adapter._executors["load"].shutdown()  # a fork with threads about is deprecated; the executor is inherited all the same
children = []
for _ in range(4):
    if (child := os.fork()) == 0:
        asyncio.run(adapter.load(b"k"))
        asyncio.run(adapter.close())
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
""")


# -- OnLoop ----------------------------------------------------------------------------------------------------------------


def on_loop(timeout: float = PATIENCE) -> tuple[Hanging, OnLoop]:
    store = Hanging()
    store.adapter = OnLoop(store, timeout=timeout)
    return store, store.adapter


def test_calls_share_one_thread() -> None:
    _, adapter = on_loop()
    threads = {adapter.load(b"loop").now for _ in range(3)} | {
        loaded.now for loaded in at_once(4, lambda _: adapter.load(b"loop"))
    }
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert put(adapter) is not None
    adapter.close()


def test_an_answer_that_does_not_come() -> None:
    store, adapter = on_loop(0.01)
    with pytest.raises(StoreError, match=r"within 0\.01 s"):
        adapter.load(b"k")
    assert store.cancelled.wait(PATIENCE)
    OnLoop.close(adapter)


def test_its_own_timeout_passes_through() -> None:
    _, adapter = on_loop()
    with pytest.raises(TimeoutError, match="its own"):
        adapter.load(b"time")
    adapter.close()


@pytest.mark.parametrize("key", [b"again", b"close"])
def test_a_call_from_its_own_thread(key: bytes) -> None:
    store, adapter = on_loop()
    with pytest.raises(RuntimeError, match="from the thread of its own event loop"):
        adapter.load(key)
    assert store.closed == []
    adapter.close()


def test_close_stops_the_loop_and_what_waits_there() -> None:
    store, adapter = on_loop()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(adapter.load, b"k")
        assert store.begun.wait(PATIENCE)
        adapter.close()
        with pytest.raises(StoreError, match="closed before it answered"):
            waiting.result(PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name == "jwtguard-loop"]
    assert len(store.closed) == 1
    assert adapter.load(b"loop").now != threading.get_ident()
    adapter.close()
    adapter.close()


def test_two_closes_at_once() -> None:
    _, adapter = on_loop()

    def close(_: int) -> None:
        adapter.load(b"loop")
        adapter.close()

    for _ in range(10):
        try:
            at_once(4, close)
        except StoreError as error:
            assert "closed before" in str(error)  # noqa: PT017 - either is right
    adapter.close()


@pytest.mark.parametrize(
    ("place", "error"), [("Thread.start", RuntimeError("can't start new thread")), ("run", OSError("no descriptors"))]
)
def test_no_loop_to_be_had(place: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(coroutine: Any) -> None:
        if asyncio.iscoroutine(coroutine):
            coroutine.close()
        raise error

    monkeypatch.setattr(f"{'threading' if '.' in place else 'asyncio'}.{place}", refuse)
    _, adapter = on_loop()
    with pytest.raises(StoreError, match=str(error)):
        adapter.load(b"k")


def test_loop_after_a_fork() -> None:
    run("""
import asyncio, os, warnings
from jwtguard.stores import adapters
from jwtguard.stores.adapters import InThreads, OnLoop, Within
from jwtguard.stores.memory import MemoryStore
adapter = OnLoop(InThreads(MemoryStore()), timeout=60)
adapter.load(b"k")
warnings.simplefilter("ignore", DeprecationWarning)  # the loop's thread is about: that is what this is for
children = []
for _ in range(4):
    if (child := os.fork()) == 0:
        adapter.load(b"k")
        adapter.close()
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
for _ in range(20):
    adapter.load(b"k")
adapter.close()
""")


def test_a_child_leaves_its_parents_loop_alone() -> None:
    _, adapter = on_loop()
    thread = adapter.load(b"loop").now
    inherited = adapter._runner
    assert inherited is not None
    adapter._renew()
    assert adapter.load(b"loop").now != thread
    adapter.close()
    assert inherited in adapters._abandoned
    inherited.stop(PATIENCE)
    adapters._abandoned.clear()


def test_closing_what_was_never_called_starts_nothing() -> None:
    before = threading.active_count()
    store, adapter = on_loop()
    adapter.close()
    assert (store.closed, threading.active_count()) == ([], before)


# -- Within ----------------------------------------------------------------------------------------------------------------


class Stuck:
    """An async store that answers when it is told to."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.answer: asyncio.Future[Any] | None = None
        self.entered = asyncio.Event()

    async def load(self, key: bytes) -> Loaded:
        found: Loaded = await self._wait()
        return found

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        return bool(await self._wait())

    async def close(self) -> None: ...

    async def _wait(self) -> Any:
        self.answer = asyncio.get_running_loop().create_future()
        self.entered.set()
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def call(store: Any, verb: str) -> Any:
    if verb == "load":
        return await store.load(b"k")
    return await store.save(b"k", b"", expected=None, version=b"12345678", expires_at=FAR, ends=True)


@pytest.mark.parametrize("verb", ["load", "save"])
def test_a_store_that_does_not_answer_in_time_has_failed(verb: str) -> None:
    store = Stuck()
    with pytest.raises(StoreError, match=r"within 0\.01 s"):
        asyncio.run(call(Within(store, 0.01), verb))
    assert store.cancelled == 1


@pytest.mark.parametrize("error", [StoreError("as it was"), None])
def test_an_answer_in_time_is_given_as_it_is(error: StoreError | None) -> None:
    store = Stuck()

    async def drive() -> Any:
        task = asyncio.create_task(call(Within(store, PATIENCE), "load"))
        await store.entered.wait()
        assert store.answer is not None
        if error is None:
            store.answer.set_result("found")
        else:
            store.answer.set_exception(error)
        return await task

    if error is None:
        assert asyncio.run(drive()) == "found"
    else:
        with pytest.raises(StoreError, match="as it was"):
            asyncio.run(drive())


def test_an_answer_that_a_busy_loop_has_not_seen_yet_counts() -> None:
    """The time is up and the answer is there in the same turn of the loop: it was the loop that was late."""
    store = Stuck()

    async def drive() -> Any:
        task = asyncio.create_task(call(Within(store, 0.01), "load"))
        await store.entered.wait()
        loop, answer = asyncio.get_running_loop(), store.answer
        assert answer is not None
        loop.call_soon_threadsafe(answer.set_result, "found")
        time.sleep(0.05)  # what a view that computes does to its loop
        return await task

    assert asyncio.run(drive()) == "found"


def test_a_call_that_is_cancelled_from_within_has_failed() -> None:
    store = Stuck()

    async def drive() -> Any:
        task = asyncio.create_task(call(Within(store, PATIENCE), "load"))
        await store.entered.wait()
        assert store.answer is not None
        store.answer.cancel()
        return await task

    with pytest.raises(StoreError, match="didn't answer"):
        asyncio.run(drive())


@pytest.mark.parametrize("late", ["an error", "a cancellation"])
def test_who_stops_waiting_cancels_the_call_and_hears_no_more_of_it(late: str) -> None:
    class Stubborn(Stuck):
        async def load(self, key: bytes) -> Loaded:
            try:
                return await super().load(key)
            except asyncio.CancelledError:
                if late == "an error":
                    raise StoreError("too late for anybody") from None
                raise

    store = Stubborn()
    unheard: list[Any] = []

    async def drive() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
        task = asyncio.create_task(call(Within(store, PATIENCE), "load"))
        await store.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not store.cancelled:
            await asyncio.sleep(0)

    asyncio.run(drive())
    gc.collect()
    assert unheard == []


# -- both ------------------------------------------------------------------------------------------------------------------


def test_watched_only_if_the_inner_store_is() -> None:
    assert not isinstance(InThreads(Slow()), Watched)
    assert not isinstance(OnLoop(Hanging(), timeout=PATIENCE), Watched)
    assert isinstance(InThreads(MemoryStore()), Watched)
    assert isinstance(OnLoop(InThreads(MemoryStore()), timeout=PATIENCE), Watched)


def test_within_is_watched_if_the_inner_store_is() -> None:
    assert not isinstance(Within(Stuck(), 1), Watched)
    assert isinstance(Within(InThreads(MemoryStore()), 1), Watched)
    asyncio.run(Within(InThreads(MemoryStore()), 1).close())


def test_watch_is_passed_on() -> None:
    adapter = OnLoop(InThreads(MemoryStore()), timeout=60)
    reports = Reports()
    assert adapter.watch(reports.ended) is None
    adapter.save(b"k", b"", expected=None, version=b"12345678", expires_at=FAR, ends=True)
    assert reports.keys == [b"k"]
    adapter.close()


@pytest.mark.parametrize("renew", [lambda: InThreads(Slow())._renew, lambda: OnLoop(Hanging(), timeout=PATIENCE)._renew])
def test_a_child_of_a_process_that_never_called(renew: Callable[[], Callable[[], None]]) -> None:
    renew()()
