"""A guard on a Redis store whose answers get lost, and whose replicas do."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis_kit import LOCAL, Proxy, Redis, proxied, running, until

from jwtguard import AsyncGuard, Guard, Settings, StoreUnavailable
from jwtguard._contract_kit import KEY, end, put
from jwtguard.errors import SessionRevoked, SessionUnknown, StoreError, Unconfirmed
from jwtguard.stores.adapters import OnLoop
from jwtguard.stores.base import Store
from jwtguard.stores.redis import AsyncRedisStore, RedisStore

pytestmark = pytest.mark.servers

Do = Callable[..., Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    with running(tmp_path / "server") as server:
        yield server


@pytest.fixture
def proxy(server: Redis) -> Iterator[Proxy]:
    with proxied(server.port) as proxy:
        yield proxy


@contextmanager
def guarding(url: str, colour: str, **more: Any) -> Iterator[Do]:
    """Calls a guard's methods by name, whatever its colour."""
    settings = Settings(secret=secrets.token_urlsafe(48), store=url, store_timeout=0.4, **more)
    if colour == "blocking":
        guard = Guard(settings)
        yield lambda name, *arguments: getattr(guard, name)(*arguments)
        guard.close()
        return
    awaited = AsyncGuard(settings)
    with asyncio.Runner() as runner:

        async def call(name: str, *arguments: Any) -> Any:
            answer = getattr(awaited, name)(*arguments)
            return await answer if inspect.isawaitable(answer) else answer

        yield lambda name, *arguments: runner.run(call(name, *arguments))
        runner.run(awaited.close())


@pytest.fixture(params=["blocking", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_login_whose_answer_is_lost_opens_one_session(colour: str, proxy: Proxy) -> None:
    with guarding(proxy.url, colour) as do:
        do("login", "bob")
        proxy.lose = b"EVALSHA"
        pair = do("login", "alice")
        assert proxy.lose == b""
        assert [session.id for session in do("sessions", "alice")] == [pair.session_id]
        assert do("authenticate", pair.access_token).subject == "alice"


def test_a_refresh_whose_answer_is_lost_gives_one_successor(colour: str, proxy: Proxy) -> None:
    with guarding(proxy.url, colour) as do:
        pair = do("login", "alice")
        proxy.lose = b"EVALSHA"
        first = do("refresh", pair.refresh_token)
        assert proxy.lose == b""
        assert do("refresh", pair.refresh_token) == first
        assert do("authenticate", first.access_token).session_id == pair.session_id


def test_an_ending_whose_answer_is_lost_ends_and_says_so(colour: str, proxy: Proxy) -> None:
    with guarding(proxy.url, colour) as do:
        pair = do("login", "alice")
        do("authenticate", pair.access_token)
        proxy.lose = b"EVALSHA"
        assert do("revoke", "alice", pair.session_id) is True
        assert proxy.lose == b""
        assert do("sessions", "alice") == []
        with pytest.raises(SessionRevoked):
            do("authenticate", pair.access_token)


def test_down_is_unavailable_and_back_is_well(colour: str, server: Redis) -> None:
    with guarding(server.url, colour) as do:
        pair = do("login", "alice")
        server.kill()
        with pytest.raises(StoreUnavailable):
            do("login", "alice")
        server.start()
        assert until("it is back", lambda: try_to_log_in(do))
        with pytest.raises(SessionUnknown):
            do("authenticate", pair.access_token)


def try_to_log_in(do: Do) -> Any:
    try:
        return do("login", "alice")
    except StoreUnavailable:
        return None


def test_an_ending_elsewhere_is_heard_of(colour: str, server: Redis) -> None:
    settings: Any = {"cache_ttl": 3600.0, "issuer": "tests"}
    with guarding(server.url, colour, **settings) as do, guarding(server.url, "blocking", **settings) as elsewhere:
        pair = do("login", "alice")
        until("it listens", lambda: do("authenticate", pair.access_token) and do("coherence").state == "pushed")
        elsewhere("revoke", "alice", pair.session_id)
        until("it is refused", lambda: is_refused(do, pair))


def is_refused(do: Do, pair: Any) -> bool:
    try:
        do("authenticate", pair.access_token)
    except SessionRevoked:
        return True
    return False


# -- wait=N ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def replica(server: Redis, tmp_path: Path) -> Iterator[Redis]:
    with running(tmp_path / "replica", f"replicaof {LOCAL} {server.port}", "repl-diskless-sync-delay 0") as replica:
        until("it replicates", lambda: replica("ROLE")[3] == b"connected")
        yield replica


@pytest.fixture
def store(colour: str, proxy: Proxy) -> Iterator[Store]:
    url = f"{proxy.url}?wait=1"
    store = RedisStore(url, timeout=0.5) if colour == "blocking" else OnLoop(AsyncRedisStore(url, timeout=0.5), timeout=60)
    yield store
    store.close()


def test_an_ending_is_answered_when_a_replica_has_it(store: Store, replica: Redis) -> None:
    end(store)
    assert replica("EXISTS", "jwtguard:the-key") == 1


def test_an_ending_that_no_replica_has_is_unconfirmed(store: Store, server: Redis, replica: Redis) -> None:
    version = put(store)
    with replica.paused():
        version = put(store, data=b"a login", expected=version)
        assert version is not None, "only endings wait"
        with pytest.raises(Unconfirmed, match="only 0 of 1"):
            put(store, data=b"ended", expected=version, ends=True)
        assert store.load(KEY).data == b"ended"
        assert put(store, expected=b"12345678", ends=True) is None, "a conflict is one"
    end(store)


def test_without_any_replica(store: Store, server: Redis) -> None:
    with pytest.raises(Unconfirmed):
        end(store)


def test_who_may_not_wait(colour: str, server: Redis) -> None:
    server("ACL", "SETUSER", "hasty", "on", ">hunter2", "~*", "allchannels", "+@all", "-wait")
    store = RedisStore(f"redis://hasty:hunter2@{LOCAL}:{server.port}?wait=1", timeout=1)
    with pytest.raises(Unconfirmed, match="can't tell"):
        end(store)
    store.close()


def test_an_ending_whose_answer_is_lost_is_unconfirmed(store: Store, proxy: Proxy, replica: Redis) -> None:
    end(store)
    version = store.load(KEY).version
    proxy.lose = b"EVALSHA"
    with pytest.raises(Unconfirmed):
        put(store, expected=version, ends=True)
    proxy.lose = b"EVALSHA"
    with pytest.raises(StoreError) as caught:
        put(store, expected=store.load(KEY).version)
    assert not caught.value.final


def test_what_was_not_asked_may_be_tried_again(store: Store, server: Redis) -> None:
    server.kill()
    with pytest.raises(StoreError) as caught:
        put(store, ends=True)
    assert not caught.value.final


def test_a_guard_does_not_make_a_success_of_what_is_unconfirmed(colour: str, proxy: Proxy, replica: Redis) -> None:
    with guarding(f"{proxy.url}?wait=1", colour) as do:
        pair = do("login", "alice")
        do("revoke", "alice", do("login", "alice").session_id)
        with replica.paused(), pytest.raises(Unconfirmed):
            do("revoke", "alice", pair.session_id)
        with pytest.raises(SessionRevoked):
            do("authenticate", pair.access_token)
        again = do("login", "alice")
        proxy.lose = b"EVALSHA"
        with pytest.raises(StoreUnavailable):
            do("revoke", "alice", again.session_id)
        assert do("sessions", "alice") == []
