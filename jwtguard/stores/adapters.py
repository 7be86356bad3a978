"""Adapters: a blocking store for async callers (`InThreads`), an async store for blocking callers (`OnLoop`), and an async
store that is not waited for too long (`Within`).

Invariants:
- Nothing is started before the first call, and nothing crosses a fork: a child makes its own threads and its own loop.
- A call is handed over under the lock, so it never meets an executor or a loop that `close` has already stopped.
- Who stops waiting (a cancelled task, a timeout) leaves alone what runs in a thread: it runs to its end.
- An exception of the inner store passes through as it is. Only what an adapter itself can't do is its own StoreError.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from typing import Any, Final, TypeVar

from ..errors import StoreError
from ..forks import renew_after_fork
from .base import AsyncStore, Heard, Loaded, Pushed, Store, Watched

__all__ = ["InThreads", "OnLoop", "Within", "pass_powers_on", "within"]

T = TypeVar("T")

Look = Callable[[], None]
Watch = Callable[[Callable[[bytes | None], None]], Look | None]
Changes = Callable[[], Generator[bytes | Heard]]

_abandoned: Final[list[object]] = []
"""Event loops of a parent process. Closing one here would take its descriptors out of the parent's epoll set."""


def pass_powers_on(store: object, adapter: Any) -> None:
    """Give an adapter the powers that its inner store has."""
    if isinstance(store, Watched):
        adapter.watch = store.watch
    if isinstance(store, Pushed):
        adapter.changes = store.changes


LATE: Final = 50
"""Turns of the event loop that an answer has beyond its time: a loop that was busy may have it and not know it yet."""


class Within:
    """An AsyncStore, each of whose calls is given up after `timeout` seconds: then StoreError, and the call is cancelled.

    A call whose answer is there is never given up, however long the event loop was busy with something else.
    """

    watch: Watch
    changes: Changes

    def __init__(self, store: AsyncStore, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        pass_powers_on(store, self)

    async def load(self, key: bytes) -> Loaded:
        return await _answer(self._timeout, self._store.load(key))

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        save = self._store.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
        return await _answer(self._timeout, save)

    async def close(self) -> None:
        await self._store.close()


async def _answer(timeout: float, answer: Awaitable[T]) -> T:
    try:
        return await within(timeout, answer)
    except TimeoutError as error:
        raise StoreError(f"the store didn't answer within {timeout:g} s") from error


async def within(timeout: float, answer: Awaitable[T]) -> T:
    """What an awaitable gives, in a task of its own, if it does in so many seconds. Raises TimeoutError, and cancels it.

    An answer that is there counts, however late the event loop comes to see it.
    """
    task = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({task}, timeout=timeout)
        for _ in range(LATE):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done() or task.cancelled():
            raise TimeoutError
        return task.result()
    finally:
        if task.cancel():
            task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    """What becomes of a call that nobody waits for any more is nobody's error."""
    if not task.cancelled():
        task.exception()


class InThreads:
    """A blocking store as an AsyncStore: its calls run in threads. One that never waits is called where it is awaited.

    It has the powers of the inner store. A call whose task is cancelled before a thread has picked it up is never made.

    How long a call may take is the store's own matter; waiting for a thread comes on top.

    Arguments: `workers`, the most threads at a time for loads, and again for saves, made as they are needed. (Saves
    take turns at one lock or disk; with threads of their own they keep no load waiting.) `patience`, seconds for a call
    with its wait for a thread; then StoreError.
    """

    watch: Watch
    changes: Changes

    def __init__(self, store: Store, *, workers: int = 8, patience: float = 60.0) -> None:
        self._store = store
        self._workers = workers
        self._patience = patience
        pass_powers_on(store, self)
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._executors: dict[str, ThreadPoolExecutor] = {}

    async def load(self, key: bytes) -> Loaded:
        return await self._call("load", partial(self._store.load, key))

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        return await self._call(
            "save",
            partial(self._store.save, key, data, expected=expected, version=version, expires_at=expires_at, ends=ends),
        )

    async def close(self) -> None:
        """Let calls that have begun end, then let go of the threads and of what the store holds."""
        if not self._store.blocking:
            return self._store.close()
        with self._mutex:
            executors, self._executors = self._executors, {}
        closer = ThreadPoolExecutor(1)
        try:
            await asyncio.wrap_future(closer.submit(self._close, executors))
        finally:
            closer.shutdown(wait=False)

    def _close(self, executors: dict[str, ThreadPoolExecutor]) -> None:
        for executor in executors.values():
            executor.shutdown()
        self._store.close()

    async def _call(self, verb: str, call: Callable[[], T]) -> T:
        if not self._store.blocking:
            return call()
        return await _answer(self._patience, asyncio.wrap_future(self._submit(verb, call)))

    def _submit(self, verb: str, call: Callable[[], T]) -> Future[T]:
        with self._mutex:
            if verb not in self._executors:
                self._executors[verb] = ThreadPoolExecutor(self._workers, thread_name_prefix=f"jwtguard-{verb}")
            try:
                return self._executors[verb].submit(call)
            except RuntimeError as error:
                raise StoreError(f"no thread to call the store in: {error}") from error


class OnLoop:
    """An AsyncStore for callers that block: its calls run on one event loop, in a daemon thread of its own.

    It has the powers of the inner store. A call from that loop's own thread would wait for itself: RuntimeError.

    Arguments: `timeout`, seconds to wait for an answer; then StoreError, and the call is cancelled.
    """

    blocking = True
    watch: Watch
    changes: Changes

    def __init__(self, store: AsyncStore, *, timeout: float) -> None:
        self._store = store
        self._timeout = timeout
        self._runner: _Runner | None = None
        pass_powers_on(store, self)
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        if self._runner is not None:
            _abandoned.append(self._runner)
            self._runner = None

    def load(self, key: bytes) -> Loaded:
        return self._call(partial(self._store.load, key))

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        return self._call(
            partial(self._store.save, key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)
        )

    def close(self) -> None:
        """Close the store, on its loop, then stop the loop. What still waits there is cancelled.

        A store that was never called here has nothing open here.
        """
        if self._runner is None:
            return
        future = self._submit(self._store.close)
        try:
            self._result(future)
        finally:
            with self._mutex:
                runner, self._runner = self._runner, None
            if runner is not None:
                runner.stop(self._timeout)

    def _call(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._result(self._submit(call))

    def _submit(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        with self._mutex:
            if self._runner is None:
                self._runner = _Runner()
            return self._runner.submit(call)

    def _result(self, future: Future[T]) -> T:
        try:
            if not wait_for([future], self._timeout).done:
                raise StoreError(f"the store didn't answer within {self._timeout:g} s")
            return future.result()
        except CancelledError as error:
            raise StoreError("the store was closed before it answered") from error
        finally:
            future.cancel()


class _Runner:
    """An event loop that runs in a thread until it is told to stop."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=_run, args=(started,), name="jwtguard-loop", daemon=True)
        try:
            self._thread.start()
            self._loop, self._stop = started.result()
        except (OSError, RuntimeError) as error:
            raise StoreError(f"no event loop to call the store on: {error}") from error

    def submit(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call to an async store, from the thread of its own event loop")

        async def perform() -> T:
            return await call()

        return asyncio.run_coroutine_threadsafe(perform(), self._loop)

    def stop(self, timeout: float) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)


def _run(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def serve() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    try:
        asyncio.run(serve())
    except OSError as error:  # out of descriptors
        started.set_exception(error)
