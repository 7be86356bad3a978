"""MemoryStore: what the contract doesn't say."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

from jwtguard._contract_kit import FAR, Reports, end, put
from jwtguard.stores import Store, Watched
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock


def documents(store: MemoryStore) -> int:
    return len(store._documents)


def test_it_never_waits_and_is_watched() -> None:
    store: Store = MemoryStore()
    assert not store.blocking
    assert isinstance(store, Watched)


def test_expired_documents_are_reclaimed_by_saves() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    for number in range(100):
        put(store, b"%d" % number, expires_at=store.load(b"").now + 1000)
    clock.advance(2)
    put(store, b"lasting", expires_at=FAR)
    assert documents(store) == 97, "a save does a bounded part of the work"
    version = store.load(b"lasting").version
    for _ in range(25):
        version = put(store, b"lasting", expected=version)
    assert documents(store) == 1
    assert len(store._queue) == 1


def test_documents_that_live_are_not_swept() -> None:
    store = MemoryStore()
    for number in range(50):
        put(store, b"%d" % number)
    assert documents(store) == len(store._queue) == 50


def test_a_child_forked_in_the_middle_of_a_save() -> None:
    store = MemoryStore()
    store._queue.append(b"half")
    store._mutex.acquire()
    store._renew()
    put(store, b"whole")
    assert documents(store) == len(store._queue) == 1


def test_a_subscriber_is_told_before_save_returns() -> None:
    store = MemoryStore()
    reports = Reports()
    store.watch(reports.ended)
    end(store, b"k")
    assert reports.keys == [b"k"]


def test_nobody_sees_an_ending_before_it_is_reported() -> None:
    """Else another guard on this store could answer that a session is over, while this one still let it in."""
    store = MemoryStore()
    order: list[object] = []
    reader = threading.Thread(target=lambda: order.append(store.load(b"k").data))

    def ended(key: bytes | None) -> None:
        reader.start()
        reader.join(0.05)  # it must wait for the report; this is time enough to see that it doesn't
        order.append(key)

    store.watch(ended)
    end(store, b"k")
    reader.join()
    assert order == [b"k", b"data"]


def test_a_subscriber_is_told_once_however_often_it_subscribes() -> None:
    store = MemoryStore()
    reports = Reports()
    store.watch(reports.ended)
    store.watch(reports.ended)
    end(store)
    assert len(reports.keys) == 1


def test_a_dropped_subscriber_is_not_kept_alive() -> None:
    store = MemoryStore()
    reports = Reports()
    store.watch(reports.ended)
    gone = weakref.ref(reports)
    del reports
    gc.collect()
    assert gone() is None
    end(store)
    store.watch(Reports().ended)
    assert len(store._subscribers) == 1


def test_a_function_is_kept() -> None:
    store = MemoryStore()
    told: list[bytes | None] = []
    store.watch(told.append)
    store.watch(lambda key: told.append(key))
    gc.collect()
    end(store, b"k")
    assert told == [b"k", b"k"]


def test_fork() -> None:
    script = """
import os, sys
from jwtguard._contract_kit import end, put
from jwtguard.stores.memory import MemoryStore
store, told = MemoryStore(), []
store.watch(told.append)
put(store, b"before")
store._mutex.acquire()
child = os.fork()
if child == 0:
    end(store, b"before")
    os._exit(0 if told == [b"before"] else 1)
store._mutex.release()
status = os.waitpid(child, 0)[1]
sys.exit(status != 0 or bool(told) or store.load(b"before").data != b"data")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], timeout=60, env=os.environ, check=False)
    assert done.returncode == 0
