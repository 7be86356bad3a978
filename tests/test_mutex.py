"""The lock that a garbage-collected flow may need while its own thread holds it."""

from __future__ import annotations

import gc
import threading

import pytest

from jwtguard.mutex import Mutex


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
