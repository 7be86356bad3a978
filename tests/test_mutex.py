"""The lock that a garbage-collected flow may need while its own thread holds it."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from jwtguard.mutex import Mutex


class Interrupted:
    """A lock at which, or a queue before whose last look, the thread is interrupted once."""

    def __init__(self, inner: Any, interrupt: Callable[[], None]) -> None:
        self.inner = inner
        self.interrupt: Callable[[], None] | None = interrupt

    def _now(self) -> None:
        if (interrupt := self.interrupt) is not None:
            self.interrupt = None
            interrupt()

    def acquire(self) -> None:
        self.inner.acquire()
        self._now()

    def __enter__(self) -> None:
        self.inner.acquire()

    def __exit__(self, *details: object) -> None:
        self.inner.release()

    def release(self) -> None:
        self.inner.release()

    def __bool__(self) -> bool:
        found = bool(self.inner)
        self._now()
        return found

    def append(self, action: Callable[[], None]) -> None:
        self.inner.append(action)

    def popleft(self) -> Callable[[], None]:
        found: Callable[[], None] = self.inner.popleft()
        return found


def test_it_excludes_other_threads() -> None:
    mutex, order = Mutex(), []
    with mutex:
        thread = threading.Thread(target=lambda: mutex.perform(lambda: order.append("other")))
        thread.start()
        order.append("holder")
    thread.join()
    assert order == ["holder", "other"]


def test_what_its_holder_is_interrupted_for_is_done_right_after() -> None:
    mutex, order = Mutex(), []
    with mutex:
        mutex.perform(lambda: order.append("clean-up"))
        order.append("bookkeeping")
    assert order == ["bookkeeping", "clean-up"]


def test_it_is_done_also_when_the_bookkeeping_fails() -> None:
    mutex, order = Mutex(), []

    def fail() -> None:
        with mutex:
            mutex.perform(lambda: order.append("clean-up"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert order == ["clean-up"]
    mutex.perform(lambda: order.append("free again"))
    assert order == ["clean-up", "free again"]


def test_a_collected_generator_can_clean_up_in_the_thread_that_holds_the_lock() -> None:
    mutex, order = Mutex(), []

    def flow(itself: list[object]) -> object:
        try:
            yield itself
        finally:
            mutex.perform(lambda: order.append("clean-up"))

    cycle: list[object] = []
    abandoned = flow(cycle)
    next(abandoned)  # type: ignore[call-overload]
    cycle.append(abandoned)
    del abandoned, cycle
    with mutex:
        gc.collect()
        order.append("bookkeeping")
    assert order == ["bookkeeping", "clean-up"]


def test_an_interruption_while_the_lock_is_taken_finds_that_nothing_has_begun() -> None:
    mutex, order = Mutex(), []
    lock = mutex._lock
    mutex._lock = Interrupted(lock, lambda: mutex.perform(lambda: order.append("clean-up")))  # type: ignore[assignment]
    with mutex:
        order.append("bookkeeping")
    assert order == ["clean-up", "bookkeeping"]


def test_an_interruption_just_before_the_lock_is_let_go_is_not_forgotten() -> None:
    mutex, order = Mutex(), []
    late = Interrupted(deque(), lambda: mutex.perform(lambda: order.append("clean-up")))
    mutex._later = late  # type: ignore[assignment]
    with mutex:
        order.append("bookkeeping")
    assert order == ["bookkeeping", "clean-up"]
    mutex.perform(lambda: order.append("free again"))
    assert order[-1] == "free again"
