"""open_store: from a URL to a store, or to a message that helps."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import jwtguard.stores
import jwtguard.testing
from jwtguard._contract_kit import put
from jwtguard.errors import ConfigError
from jwtguard.stores import open_store
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.redis import RedisStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock


def refusal(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    return str(caught.value)


@pytest.mark.parametrize("url", ["memory://", "MEMORY://"])
def test_memory(url: str) -> None:
    clock = FakeClock(7.0)
    store = open_store(url, clock=clock)
    assert isinstance(store, MemoryStore)
    assert store.load(b"k").now == 7000


def test_sqlite_absolute(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/a.db", timeout=2, clock=FakeClock(7.0))
    assert isinstance(store, SQLiteStore)
    assert store.path == tmp_path / "a.db"
    assert list(tmp_path.iterdir()) == [], "nothing is opened yet"
    assert store.load(b"k").now == 7000
    store.close()


def test_sqlite_relative_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///a b#c%20d.db")
    monkeypatch.chdir("/")
    put(store)
    assert isinstance(store, SQLiteStore)
    assert store.path == tmp_path / "a b#c%20d.db"
    assert store.path.exists()
    store.close()


def test_the_path_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jwtguard"):
        store = open_store(f"sqlite:///{tmp_path}/a\nb.db")
        store.load(b"k")
    assert [record.getMessage() for record in caplog.records] == [f"sessions are kept in '{tmp_path}/a\\nb.db'"]
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x"])
def test_sqlite_in_memory_points_to_memory(url: str) -> None:
    assert "memory://" in refusal(url)


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db?mode=ro", "sqlite:////a.db?timeout=3", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_sqlite_takes_no_parameters(url: str) -> None:
    assert "takes none" in refusal(url)


def test_sqlite_with_two_slashes() -> None:
    assert "three slashes" in refusal("sqlite://a.db")


def test_memory_with_more() -> None:
    assert "nothing follows" in refusal("memory://x")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0",
        "REDISS://h",
        "unix:///run/redis.sock",
        "redis+sentinel://h/m",
        "rediss+sentinel://h/m",
        "redis+cluster://h",
        "rediss+cluster://h",
    ],
)
def test_redis(url: str) -> None:
    store = open_store(url, timeout=2, clock=FakeClock())
    assert isinstance(store, RedisStore)
    store.close()


def test_redis_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwtguard.stores.redis", None)
    message = refusal("redis://:hunter2@h")
    assert "pip install 'jwtguard-middleware[redis]'" in message
    assert "redis-py 5.2.1 or newer" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url", ["", "x", "memory:", "sqlite:a.db", "/a.db", "mongodb://h", "sqlite+pysqlite:///a.db", "://"]
)
def test_anything_else(url: str) -> None:
    message = refusal(url)
    assert repr(url) in message
    assert "memory://" in message
    assert "sqlite:///" in message


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://alice:hunter2@h/d",
        "redis://:hunter2@h/x",
        "redis://:p/w@hunter2@h/x",
        "redis://:hunter2@",
        "redis://:hunter2",
        "redis://h:hunter2",
        "redis://h/hunter2",
        "redis://h?password=",
        "redis://h?nothing=hunter2",
        "redis://h?password=hunter2&password=hunter2",
        "redis://h?prefix={hunter2}",
        "alice:hunter2@h",
        "sqlite://alice:hunter2@h/d",
        "memory://alice:hunter2@h",
        "mysql+other://h/d?password=hunter2",
        "postgresql://alice:hunter2@h:nowhere/d",
        "nothing://\nhunter2@",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    assert "hunter2" not in refusal(url)


def test_a_message_is_one_short_line() -> None:
    message = refusal("x\r\n\ud800\x1b[31m" + "y" * 10_000)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 500


def test_exports_are_sorted() -> None:
    assert jwtguard.stores.__all__ == sorted(jwtguard.stores.__all__)
    assert all(hasattr(jwtguard.stores, name) for name in jwtguard.stores.__all__)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import jwtguard.stores", {"sqlite3", "asyncio"}),
        ("import jwtguard.stores; jwtguard.stores.open_store('memory://')", {"sqlite3", "asyncio"}),
        ("from jwtguard.testing import FakeClock", {"pytest", "sqlite3"}),
    ],
)
def test_what_an_import_brings_in(code: str, absent: set[str]) -> None:
    script = f"import sys, jwtguard\nbefore = set(sys.modules)\n{code}\nprint(*({absent!r} & set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_testing_without_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ImportError, match=r"jwtguard-middleware\[test\]"):
        jwtguard.testing.StoreContract  # noqa: B018 - asking for it is what is tested


def test_testing_has_nothing_else() -> None:
    assert jwtguard.testing.__all__ == sorted(jwtguard.testing.__all__)
    assert all(hasattr(jwtguard.testing, name) for name in jwtguard.testing.__all__)
    assert not hasattr(jwtguard.testing, "NothingOfTheKind")
