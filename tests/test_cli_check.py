"""`jwtguard check` finds each of the mistakes that are planted for it here, and nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_cli import SECRET, environ, run, said

from jwtguard.cli.checks import filesystem_of, skew, sqlite_place
from jwtguard.stores import open_store

if TYPE_CHECKING:
    from redis_kit import Redis

__all__ = ["environ"]


def findings(*, code: int = 1) -> list[tuple[str, str]]:
    found = said("check", code=code)
    assert found["ok"] == (code == 0)
    return [(finding["name"], finding["message"]) for finding in found["findings"]]


def test_nothing_is_wrong() -> None:
    assert findings(code=0) == []
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Store: sqlite:///sessions.db\nNothing was found that will bite.\n"


PLANTED: list[tuple[dict[str, str], str, str]] = [
    ({"JWTGUARD_STORE": "memory://", "WEB_CONCURRENCY": "4"}, "memory_store", "WEB_CONCURRENCY asks for 4 workers"),
    ({"JWTGUARD_STORE": "memory://", "GUNICORN_CMD_ARGS": "--workers=3"}, "memory_store", "GUNICORN_CMD_ARGS asks for 3"),
    ({"JWTGUARD_STORE": "memory://", "GUNICORN_CMD_ARGS": "-w 2"}, "memory_store", "asks for 2"),
    ({"JWTGUARD_STORE": "memory://", "GUNICORN_CMD_ARGS": "-t 9 -w2"}, "memory_store", "asks for 2"),
    ({"JWTGUARD_STORE": "memory://", "UVICORN_WORKERS": "2"}, "memory_store", "UVICORN_WORKERS"),
    ({"JWTGUARD_STORE": "sqlite:///no/such/folder/x.db"}, "store", "the store can't be used: SQLite store"),
    ({"JWTGUARD_STORE": "redis://127.0.0.1:1/0"}, "store", "the store can't be used: 127.0.0.1:1: "),
    ({"JWTGUARD_TOKEN_TTL_SECONDS": "5"}, "warning", "unknown variables, ignored: JWTGUARD_TOKEN_TTL_SECONDS"),
    ({"JWTGUARD_STORE": "memory://", "JWTGUARD_STALE_IF_DOWN": "1m"}, "without_effect", "JWTGUARD_STALE_IF_DOWN"),
    ({"JWTGUARD_SECRET_FALLBACKS": json.dumps([SECRET])}, "without_effect", "the secret is among them"),
    ({"JWTGUARD_REFRESH_TTL": "100d"}, "without_effect", "JWTGUARD_REFRESH_TTL has no effect"),
    ({"JWTGUARD_IDLE_TIMEOUT": "90d"}, "without_effect", "JWTGUARD_IDLE_TIMEOUT has no effect"),
    ({"JWTGUARD_IDLE_TIMEOUT": "10s", "JWTGUARD_CACHE_TTL": "2s"}, "without_effect", "JWTGUARD_CACHE_TTL has no effect"),
    ({"JWTGUARD_ENDPOINTS": "off", "JWTGUARD_ON_LIMIT": "choose"}, "without_effect", "JWTGUARD_ON_LIMIT"),
    ({"JWTGUARD_PUBLIC": "/admin, /x/*", "JWTGUARD_RULES": "/admin: admin"}, "without_effect", "/admin in JWTGUARD_PUBLIC"),
]


@pytest.mark.parametrize(
    ("planted", "name", "message"), PLANTED, ids=[f"{name}-{'-'.join(given)}" for given, name, _ in PLANTED]
)
def test_what_is_planted_is_found(
    planted: dict[str, str], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JWTGUARD_STORE_TIMEOUT")
    for variable, value in planted.items():
        monkeypatch.setenv(variable, value)
    ((found, said_of_it),) = findings()
    assert (found, message in said_of_it) == (name, True)
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{name}: ")
    assert SECRET not in result.output


@pytest.mark.parametrize("arguments", ["--threads 4", "-w", "--workers=1", "--bind 'unclosed", "-w auto"])
def test_one_worker_may_keep_sessions_in_memory(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_STORE", "memory://")
    monkeypatch.delenv("JWTGUARD_STORE_TIMEOUT")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", arguments)
    assert findings(code=0) == []


def test_settings_that_can_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_SECRET", "changeme-changeme-changeme-changeme")
    monkeypatch.setenv("JWTGUARD_RULE", "/admin: admin")
    secret, rule = (message for _, message in findings(code=2))
    assert secret.startswith("JWTGUARD_SECRET: found a value of 35 bytes")
    assert "JWTGUARD_RULES, if you mean that" in rule
    assert "changeme" not in run("check").output
    monkeypatch.setenv("JWTGUARD_STORE", "file:///x")
    monkeypatch.delenv("JWTGUARD_RULE")
    monkeypatch.setenv("JWTGUARD_SECRET", SECRET)
    assert "names no store" in findings(code=2)[0][1]
    assert run("check").stdout.startswith("settings: the store is ")


@pytest.mark.parametrize(("mode", "verb"), [(0o644, "read"), (0o602, "change"), (0o640, None)])
def test_a_secret_that_others_can_read(
    mode: int, verb: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(mode)
    monkeypatch.delenv("JWTGUARD_SECRET")
    monkeypatch.setenv("JWTGUARD_SECRET_FILE", str(file))
    if verb is None:
        assert findings(code=0) == []
    else:
        assert f"can {verb} the file that JWTGUARD_SECRET_FILE names: chmod o-rw" in dict(findings())["permissions"]


def test_sessions_that_others_can_change(tmp_path: Path) -> None:
    findings(code=0)
    (tmp_path / "sessions.db").chmod(0o666)
    assert "every user of this machine can change the sessions" in dict(findings())["permissions"]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
tmpfs /over tmpfs rw 0 0
sshfs /over fuse.sshfs rw 0 0
"""


def test_sqlite_on_a_network_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    for path, kind, found in (
        ("/srv/x.db", "ext4", False),
        ("/home/alice/x.db", "nfs4", True),
        ("/home/local/x.db", "xfs", False),
        ("/homes/x.db", "ext4", False),
        ("/mnt/my share/x.db", "cifs", True),
        ("/over/x.db", "fuse.sshfs", True),
    ):
        assert filesystem_of(Path(path), mounts) == kind
        assert [finding.name for finding in sqlite_place(Path(path), mounts)] == ["network_filesystem"] * found
    assert filesystem_of(Path("/"), tmp_path / "none") == ""


def test_a_clock_that_is_not_the_stores() -> None:
    assert list(skew(100.0, 99.0, 101.0)) == []
    assert list(skew(102.5, 99.0, 101.0)) == []
    (behind,) = skew(160.0, 99.0, 100.0)
    (ahead,) = skew(40.0, 100.0, 101.0)
    assert "is 60 s behind the store's" in behind.message
    assert "is 60 s ahead of the store's" in ahead.message


def test_a_redis_that_evicts(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWTGUARD_STORE", f"{redis_server.url}?prefix=check:")
    before = redis_server("CONFIG", "GET", "maxmemory-policy")
    redis_server("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        ((name, message),) = findings()
        assert (name, "maxmemory-policy 'allkeys-lru'" in message) == ("warning", True)
        redis_server("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert findings(code=0) == []
    finally:
        policy: Any = before[1] if isinstance(before, list) else next(iter(before.values()))
        redis_server("CONFIG", "SET", "maxmemory-policy", policy)
    keys = redis_server("KEYS", "check:*")
    assert all(redis_server("PTTL", key) <= 1000 for key in keys), "what the check saved is soon forgotten"


def test_a_store_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads work, and every login would fail."""
    from jwtguard.errors import StoreError
    from jwtguard.stores.sqlite import SQLiteStore

    store = open_store("sqlite:///sessions.db")
    store.load(b"x")
    store.close()

    def fail(*_arguments: object, **_options: object) -> bool:
        raise StoreError("the disk is full")

    monkeypatch.setattr(SQLiteStore, "save", fail)
    assert findings() == [("store", "the store can't be used: the disk is full")]
