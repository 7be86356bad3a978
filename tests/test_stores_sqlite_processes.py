"""SQLiteStore between processes: made at once, coherent at once, forked, and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_kit import run

from jwtguard._contract_kit import KEY, end, put
from jwtguard.errors import StoreError
from jwtguard.stores import sqlite as module
from jwtguard.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.servers

WORKER = """
import sys
from jwtguard._contract_kit import end, put
from jwtguard.stores.sqlite import SQLiteStore

store, told = SQLiteStore(sys.argv[1], timeout=20), []
look = store.watch(told.append)

def add(key, times):
    while times:
        loaded = store.load(key)
        times -= put(store, key, b"%d" % (int(loaded.data or 0) + 1), expected=loaded.version) is not None

print("ready", flush=True)
for line in sys.stdin:
    verb, _, key = line.strip().partition(" ")
    key = key.encode()
    if verb == "look":
        told.clear()
        look()
        print(*(("all" if key is None else key.decode()) for key in told), flush=True)
    elif verb == "end":
        end(store, key)
        print("ended", flush=True)
    elif verb == "add":
        add(key, 50)
        print("added", flush=True)
    elif verb == "load":
        print(store.load(key).data, flush=True)
    elif verb == "many":
        version = None
        for number in range(1_000_000):
            version = put(store, key, b"%d" % number, expected=version)
            print(number, flush=True)
"""


class Worker:
    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()


class Workers(list[Worker]):
    def begin(self, count: int, path: Path) -> None:
        self.extend(Worker(path) for _ in range(count))
        assert [worker.answer() for worker in self] == ["ready"] * count

    def ask(self, line: str) -> list[str]:
        """All of them at once."""
        for worker in self:
            worker.tell(line)
        return [worker.answer() for worker in self]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    for worker in workers:
        with worker.process as process:
            process.kill()


def test_eight_processes_make_it_at_once(workers: Workers, tmp_path: Path) -> None:
    """Each ends something in a file that none of them has seen, and all see all of it."""
    workers.begin(8, tmp_path / "first.db")
    for worker in workers:
        worker.tell("look")
    for worker in workers:
        worker.tell("add k")
    assert [worker.answer() for worker in workers] == ["all"] * 8
    assert [worker.answer() for worker in workers] == ["added"] * 8
    assert workers.ask("load k") == ["b'400'"] * 8
    assert {file.name for file in tmp_path.iterdir()} == {"first.db", "first.db-wal", "first.db-shm"}


def test_the_very_next_look_of_every_process_reports_an_ending(workers: Workers, path: Path) -> None:
    workers.begin(4, path)
    assert workers.ask("look") == ["all"] * 4
    missed = []
    for number in range(200):
        key = f"key-{number}"
        assert workers[number % 4].ask(f"end {key}") == "ended"
        missed += [answer for answer in workers.ask("look") if answer != key]
    assert missed == []


def test_an_ending_is_seen_by_all_threads_of_another_process(workers: Workers, path: Path) -> None:
    workers.begin(1, path)
    store = SQLiteStore(path, timeout=20)
    told: list[bytes | None] = []
    look = store.watch(told.append)

    def sees(key: bytes) -> bool:
        look()
        return key in told

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda _: look(), range(20)))
        for number in range(200):
            assert workers[0].ask(f"end {number}") == "ended"
            assert all(executor.map(sees, [b"%d" % number] * 8))
    store.close()


def test_a_killed_writer_loses_nothing_that_was_answered(workers: Workers, path: Path) -> None:
    for round_ in range(5):
        key = f"key-{round_}"
        workers.begin(1, path)
        worker = workers.pop()
        worker.tell(f"many {key}")
        answered = -1
        while answered < 200:
            answered = int(worker.answer())
        worker.process.send_signal(signal.SIGKILL)
        assert worker.process.stdout is not None
        answered = max([answered, *(int(line) for line in worker.process.stdout if line.endswith("\n"))])
        with worker.process:
            pass
        store = SQLiteStore(path)
        data = store.load(key.encode()).data
        assert data is not None
        assert int(data) in (answered, answered + 1), "the last one may have been saved before it was answered"
        store.close()


def test_fork(path: Path) -> None:
    """A parent that uses the store forks four children, which add to one document and see each other's endings."""
    script = """
import os, sys
from jwtguard._contract_kit import end, put
from jwtguard.stores.sqlite import SQLiteStore

store, told = SQLiteStore(sys.argv[1], timeout=20), []
look = store.watch(told.append)

def add(times):
    while times:
        loaded = store.load(b"count")
        times -= put(store, b"count", b"%d" % (int(loaded.data) + 1), expected=loaded.version) is not None

def descriptors():
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum("store.db" in os.readlink(link) for link in links if os.path.islink(link))

put(store, b"count", b"0")
look()
end(store, b"before")
children = []
for number in range(4):
    if (child := os.fork()) == 0:
        assert descriptors() == 0, "nothing is inherited"
        told.clear()
        look()
        assert told[0] == b"before" and None not in told, told
        add(50)
        end(store, b"%d" % number)
        look()
        assert b"%d" % number in told
        if os.fork() == 0:
            add(10)
            os._exit(0)
        os._exit(os.wait()[1])
    children.append(child)
    add(10)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
told.clear()
look()
assert set(told) == {b"before", b"0", b"1", b"2", b"3"}, told
assert store.load(b"count").data == b"280"
store.close()
assert descriptors() == 0
"""
    run(script, path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, path: Path) -> None:
    script = f"""
import multiprocessing, sys
from jwtguard._contract_kit import put
from jwtguard.stores import open_store

store = open_store("sqlite:///" + sys.argv[1], timeout=20)

def add():
    for _ in range(25):
        while True:
            loaded = store.load(b"count")
            if put(store, b"count", b"%d" % (int(loaded.data or 0) + 1), expected=loaded.version):
                break

if __name__ == "__main__":
    add()
    context = multiprocessing.get_context("{method}")
    processes = [context.Process(target=add) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert store.load(b"count").data == b"125"
"""
    file = path.with_name("script.py")
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", file, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fork_waits_for_calls_at_the_file(path: Path) -> None:
    """Other threads use the store all the time. Each fork finds them between two calls, and every child works."""
    script = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # threads are about: that is what this is for
from jwtguard._contract_kit import put
from jwtguard.stores import sqlite as module
from jwtguard.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1], timeout=20)
look = store.watch(lambda key: None)
stop = threading.Event()
failures = []

def use(key):
    version = None
    try:
        while not stop.is_set():
            version = put(store, key, expected=version, ends=True)
            assert version, "a save that was answered is gone"
            look()
            assert store.load(key).version == version
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=use, args=(b"%d" % number,)) for number in range(4)]
for thread in threads:
    thread.start()
for number in range(20):
    if (child := os.fork()) == 0:
        look()
        saved = put(store, b"child %d" % number, ends=True)
        os._exit(0 if saved and store.load(b"child %d" % number).version == saved else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.load(b"child %d" % number).data == b"data"
stop.set()
for thread in threads:
    thread.join()
assert not failures, failures
"""
    run(script, path)


def test_a_fork_in_the_middle_of_a_call_fails_closed(path: Path) -> None:
    """A thread is stuck at the file for longer than a fork waits. The child must not use what it inherited."""
    script = """
import os, sys
from jwtguard._contract_kit import put
from jwtguard.errors import StoreError
from jwtguard.stores import sqlite as module
from jwtguard.stores.sqlite import SQLiteStore

module.FORK_PATIENCE = 0.01
store, other = SQLiteStore(sys.argv[1]), SQLiteStore(sys.argv[1])
look = store.watch(lambda key: None)
look()
put(store)

def refused():
    refusals = 0
    for call in (look, lambda: store.load(b"k"), lambda: put(store), lambda: other.load(b"k")):
        try:
            call()
        except StoreError as error:
            refusals += "forked in the middle" in str(error)
    return refusals == 4

with store._use(store._reader()) as link:
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os._exit(not refused())
        os._exit(not refused() or os.wait()[1] != 0)
    assert os.waitpid(child, 0)[1] == 0
    assert link.execute("SELECT count(*) FROM documents").fetchone() == (1,)
del link
look()
assert store.load(b"the-key").data == b"data"
"""
    run(script, path)


def test_what_a_fork_does_to_a_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process, step by step: a child is what the last step makes of it."""
    store = SQLiteStore(path)
    version = put(store)
    store.load(KEY)
    monkeypatch.setattr(store, "_patience", 0.01)
    module._before_fork()
    try:
        assert all(place.link is None for place in store._all_places())
        with ThreadPoolExecutor(1) as executor, pytest.raises(StoreError, match="busy"):
            executor.submit(put, store).result()
    finally:
        module._after_fork_in_parent()
    assert put(store, expected=version)

    monkeypatch.setattr(module, "FORK_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_torn", False)
    reader = store._reader()
    assert store.load(KEY).data == b"data"
    link = reader.link
    with reader.lock:
        module._before_fork()
        module._after_fork_in_child()
    assert module._torn
    with pytest.raises(StoreError, match="forked in the middle"):
        end(store)
    assert link is not None
    assert link.execute("SELECT 1").fetchone() == (1,), "it is neither closed nor used"
    monkeypatch.setattr(module, "_torn", False)
    module._abandoned.clear()
    link.close()
    assert store.load(KEY).data == b"data"
    store.close()
