"""The two drivers, and each need in both colours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import Any

import pytest
from rig import ALICE, AsyncModel, ModelStore

from jwtguard.errors import StoreError, StoreUnavailable
from jwtguard.flow import Call, Flow, Load, Need, Pause, Save, Wait, arun, run
from jwtguard.testing import FakeClock

Driver = Callable[[Flow[Any], ModelStore], Any]


def _arun(flow: Flow[Any], store: ModelStore) -> Any:
    return asyncio.run(arun(flow, AsyncModel(store)))


DRIVERS = pytest.mark.parametrize("drive", [run, _arun])


@pytest.fixture
def store() -> ModelStore:
    return ModelStore(FakeClock())


def just(need: Need) -> Flow[Any]:
    """A flow of one need."""
    return (yield need)


def save_of(data: bytes, expected: bytes | None = None) -> Save:
    return Save(ALICE, data, expected, b"version1", 0, ends=False)


@DRIVERS
def test_needs_are_performed_in_order_and_their_results_sent(drive: Driver, store: ModelStore) -> None:
    def flow() -> Flow[list[Any]]:
        before = yield Load(ALICE)
        saved = yield save_of(b"data")
        again = yield save_of(b"other")
        after = yield Load(ALICE)
        return [before.data, saved, again, after.data]

    assert drive(flow(), store) == [None, True, False, b"data"]


@DRIVERS
def test_a_flow_without_needs(drive: Driver, store: ModelStore) -> None:
    def flow() -> Flow[str]:
        yield from ()
        return "done"

    assert drive(flow(), store) == "done"


@DRIVERS
def test_errors_are_thrown_into_the_flow(drive: Driver, store: ModelStore) -> None:
    def fail(_key: bytes) -> None:
        raise StoreError("down")

    def flow() -> Flow[str]:
        try:
            yield Load(ALICE)
        except StoreError as error:
            store.on_load = lambda _key: None
            loaded = yield Load(ALICE)
            return f"{error}, then {loaded.data}"
        return "no error"

    store.on_load = fail
    assert drive(flow(), store) == "down, then None"
    store.on_load = fail
    with pytest.raises(StoreError, match="down"):
        drive(just(Load(ALICE)), store)


@DRIVERS
def test_a_stop_iteration_of_a_hook_is_no_result(drive: Driver, store: ModelStore) -> None:
    def hook() -> None:
        raise StopIteration("let me in")

    with pytest.raises(RuntimeError):
        drive(just(Call(hook, ())), store)


def test_store_calls_get_all_their_terms() -> None:
    terms: dict[str, Any] = {}

    class Recording(ModelStore):
        def save(self, key: bytes, data: bytes, **kwargs: Any) -> bool:
            terms.update(kwargs, key=key, data=data)
            return True

    store = Recording(FakeClock())
    need = Save(b"k", b"d", b"old", b"new", 77, ends=True)
    expected = {"key": b"k", "data": b"d", "expected": b"old", "version": b"new", "expires_at": 77, "ends": True}
    for drive in (run, _arun):
        terms.clear()
        assert drive(just(need), store) is True
        assert terms == expected


# -- waiting for another flow ----------------------------------------------------------------------------------------------


@DRIVERS
def test_waiting_gives_what_the_other_gives(drive: Driver, store: ModelStore) -> None:
    future: Future[str] = Future()
    future.set_result("done")
    assert drive(just(Wait(future, 1)), store) == "done"


@DRIVERS
def test_waiting_has_an_end(drive: Driver, store: ModelStore) -> None:
    with pytest.raises(StoreUnavailable, match="gave up") as caught:
        drive(just(Wait(Future(), 0)), store)
    assert isinstance(caught.value.__cause__, TimeoutError)


@DRIVERS
def test_waiting_for_another_thread(drive: Driver, store: ModelStore) -> None:
    future: Future[str] = Future()
    other = threading.Thread(target=future.set_result, args=("from a thread",))

    def flow() -> Flow[Any]:
        other.start()
        return (yield Wait(future, 10))

    assert drive(flow(), store) == "from a thread"
    other.join()


def test_waiting_for_another_event_loop(store: ModelStore) -> None:
    future: Future[str] = Future()

    async def give() -> None:
        future.set_result("from a loop")

    other = threading.Thread(target=lambda: asyncio.run(give()))

    async def wait() -> Any:
        task = asyncio.ensure_future(arun(just(Wait(future, 10)), AsyncModel(store)))
        await asyncio.sleep(0)
        other.start()
        return await task

    assert asyncio.run(wait()) == "from a loop"
    other.join()


def test_a_cancelled_wait_gives_up_its_place(store: ModelStore) -> None:
    future: Future[str] = Future()

    async def main() -> None:
        task = asyncio.ensure_future(arun(just(Wait(future, 10)), AsyncModel(store)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert future.cancelled()


def test_a_cancellation_is_not_lost_when_the_result_comes_with_it(store: ModelStore) -> None:
    future: Future[str] = Future()

    async def main() -> None:
        task = asyncio.ensure_future(arun(just(Wait(future, 10)), AsyncModel(store)))
        await asyncio.sleep(0)
        future.set_result("done")
        for _ in range(2):
            await asyncio.sleep(0)
            if not task.done():
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_cancelled_task_cancels_its_flow(store: ModelStore) -> None:
    seen: list[type[BaseException]] = []

    def flow() -> Flow[None]:
        try:
            yield Load(ALICE)
        except BaseException as error:
            seen.append(type(error))
            raise

    async def main() -> None:
        task = asyncio.ensure_future(arun(flow(), AsyncModel(store)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert seen == [asyncio.CancelledError]


# -- pauses and hooks ------------------------------------------------------------------------------------------------------


def test_pauses(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("jwtguard.flow.time.sleep", slept.append)
    run(just(Pause(0.25)), store)
    with monkeypatch.context() as patched:
        patched.setattr("jwtguard.flow.asyncio.sleep", sleep)
        asyncio.run(arun(just(Pause(0.5)), AsyncModel(store)))
    assert slept == [0.25, 0.5]


async def _async_hook(subject: str) -> str:
    return f"async {subject}"


class _Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[None, None, str]:
        yield
        return "later"


@DRIVERS
def test_a_plain_hook_is_called_under_both_drivers(drive: Driver, store: ModelStore) -> None:
    assert drive(just(Call("plain {}".format, ("alice",))), store) == "plain alice"


def test_an_async_hook_is_awaited_where_that_is_possible(store: ModelStore) -> None:
    assert _arun(just(Call(_async_hook, ("alice",))), store) == "async alice"
    assert _arun(just(Call(_Later, ())), store) == "later"


@pytest.mark.parametrize(("hook", "arguments"), [(_async_hook, ("alice",)), (_Later, ())])
def test_a_blocking_driver_says_that_it_can_not_await(
    hook: Callable[..., Awaitable[str]], arguments: tuple[str, ...], store: ModelStore
) -> None:
    with pytest.raises(TypeError, match="use a plain function"):
        run(just(Call(hook, arguments)), store)
