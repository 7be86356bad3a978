"""What a guard is made of, and what only two guards, or a guard and a request, can show."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask

from jwtguard import AsyncGuard, AuthError, ConfigError, Event, Guard, Settings
from jwtguard.asgi import JWTGuardMiddleware as ASGIMiddleware
from jwtguard.errors import LimitReached, RefreshError, SessionEnded, SessionRevoked, StoreError
from jwtguard.flow import Save
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock
from jwtguard.wsgi import JWTGuardMiddleware as WSGIMiddleware

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def guard_on(store: Any, clock: FakeClock, **settings: Any) -> Guard:
    return Guard(Settings(secret=SECRET, **settings), store=store, clock=clock)


@pytest.fixture
def two_processes(tmp_path: Path, clock: FakeClock) -> tuple[Guard, Guard]:
    """Two guards that share a file and nothing else."""
    stores = [SQLiteStore(tmp_path / "sessions.db", clock=clock) for _ in range(2)]
    here, there = (guard_on(store, clock) for store in stores)
    return here, there


def finish(flow: Any, need: Any, guard: Guard) -> None:
    """Run a flow that was begun by hand to its end."""
    try:
        while True:
            need = flow.send(need.perform(guard._store))
    except StopIteration:
        return


# -- logins under way while sessions are ended -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["revoke_all", "revoke_others"])
def test_a_login_that_slips_in_while_all_are_ended_is_ended_too(
    ending: str, two_processes: tuple[Guard, Guard], clock: FakeClock
) -> None:
    here, there = two_processes
    kept = here.authenticate(here.login("alice").access_token)
    authenticated_at = clock.time()
    clock.advance(1)
    operations = here.core.operations
    flow: Any = operations.revoke_all("alice") if ending == "revoke_all" else operations.revoke_others(kept)
    need = next(flow)
    while not isinstance(need, Save):
        need = flow.send(need.perform(here._store))
    clock.advance(0.005)
    late = there.login("alice", authenticated_at=authenticated_at)
    clock.advance(0.005)
    new = there.login("alice", authenticated_at=clock.time())
    finish(flow, need, here)
    for guard in two_processes:
        with pytest.raises(SessionRevoked):
            guard.authenticate(late.access_token)
        assert guard.authenticate(new.access_token).subject == "alice"


def test_a_login_that_authenticated_before_everyone_was_ended_is_refused_everywhere(
    two_processes: tuple[Guard, Guard], clock: FakeClock
) -> None:
    here, there = two_processes
    pair = there.login("bob")
    there.authenticate(pair.access_token)
    authenticated_at = clock.time()
    clock.advance(0.3)
    here.revoke_everyone()
    clock.advance(0.1)
    with pytest.raises(SessionRevoked):
        there.login("alice", authenticated_at=authenticated_at)
    with pytest.raises(SessionEnded):
        there.refresh(pair.refresh_token)
    assert there.sessions("bob") == []
    assert there.authenticate(there.login("alice").access_token).subject == "alice"


# -- what a guard is made of -----------------------------------------------------------------------------------------------


class EmptyStore(MemoryStore):
    """A store that counts as false, as one with a length may."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_store_that_counts_as_false_is_a_store(kind: type[Guard] | type[AsyncGuard]) -> None:
    store = EmptyStore()
    guard = kind(Settings(secret=SECRET, store="sqlite:///never.db"), store=store)
    assert (guard._store if isinstance(guard, Guard) else guard._blocking) is store


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_store_as_text_is_a_setting(kind: type[Guard] | type[AsyncGuard]) -> None:
    guard = kind.from_env(secret=SECRET, store="memory://", public="/login", clock=FakeClock())
    assert guard.settings.store == "memory://"
    assert kind.from_env(secret=SECRET, store=MemoryStore()).settings.store == "sqlite:///jwtguard.db"


def test_each_face_takes_a_guard_of_its_colour() -> None:
    blocking, awaited = Guard.from_env(secret=SECRET), AsyncGuard.from_env(secret=SECRET)
    with pytest.raises(ConfigError, match="an AsyncGuard, not by Guard"):
        ASGIMiddleware(lambda *_: None, blocking)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a Guard, not by AsyncGuard"):
        WSGIMiddleware(lambda *_: [], awaited)  # type: ignore[arg-type]


# -- both colours ----------------------------------------------------------------------------------------------------------


class Awaited:
    """A store that can only be awaited."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def load(self, key: bytes) -> Any:
        return self._store.load(key)

    async def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
        return self._store.save(key, data, **terms)

    async def close(self) -> None:
        self._store.close()


@pytest.mark.parametrize("kind", [MemoryStore, lambda clock: Awaited(MemoryStore(clock))], ids=["blocking", "async"])
def test_an_async_guard_and_its_blocking_side_are_one(kind: Any, clock: FakeClock) -> None:
    guard = AsyncGuard(Settings(secret=SECRET), store=kind(clock), clock=clock)

    async def drive() -> None:
        def in_a_thread() -> str:
            pair = guard.sync.login("alice")
            assert guard.sync.authenticate(pair.access_token).subject == "alice"
            return pair.access_token

        token = await asyncio.to_thread(in_a_thread)
        identity = await guard.authenticate(token)
        assert [session.id for session in await guard.sessions("alice")] == [identity.session_id]
        with pytest.raises(RuntimeError, match="await the method of the guard itself"):
            guard.sync.logout(identity)
        await guard.logout(identity)
        with pytest.raises(SessionRevoked):
            await asyncio.to_thread(guard.sync.authenticate, token)
        await guard.close()
        await guard.close()
        assert (await guard.login("alice")).session_id

    asyncio.run(drive())
    asyncio.run(guard.close())


def test_every_method_of_the_async_guard(clock: FakeClock) -> None:
    guard = AsyncGuard(Settings(secret=SECRET, on_limit="choose", max_sessions=2), store=MemoryStore(clock), clock=clock)

    async def drive() -> None:
        first, second = await guard.login("alice"), await guard.login("alice")
        here = await guard.authenticate(first.access_token)
        await guard.authenticate(second.access_token)
        assert (await guard.refresh(first.refresh_token)).session_id == first.session_id
        with pytest.raises(LimitReached) as refused:
            await guard.login("alice")
        assert refused.value.ticket is not None
        assert await guard.end_with_ticket(refused.value.ticket, second.session_id)
        third = await guard.login("alice")
        assert await guard.revoke_others(here) == 1
        assert not await guard.revoke("alice", third.session_id)
        assert await guard.revoke_all("alice") == 1
        await guard.revoke_everyone()
        with pytest.raises(AuthError):
            await guard.authenticate(third.access_token)
        with pytest.raises(RefreshError):
            await guard.refresh("nonsense")

    asyncio.run(drive())


# -- what can't be used ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
@pytest.mark.parametrize(
    ("store", "match"),
    [
        (MemoryStore, "the class MemoryStore"),
        (5, "of type int, which lacks load, save, close, blocking"),
        (type("Two", (), {"load": print, "save": print})(), "lacks close, blocking"),
    ],
)
def test_what_is_no_store_is_refused_at_once(kind: Any, store: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        kind(Settings(secret=SECRET), store=store)


def test_a_guard_takes_no_async_store(clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="use an AsyncGuard, or a blocking store"):
        Guard(Settings(secret=SECRET), store=Awaited(MemoryStore(clock)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_what_are_no_settings_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ConfigError, match="of type str: expected a Settings"):
        kind("/login")


async def awaits(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("kind", "hooks", "match"),
    [
        (Guard, {"on_event": awaits}, "on_event is an async function"),
        (AsyncGuard, {"on_event": awaits}, "on_event is an async function"),
        (AsyncGuard, {"on_error": awaits}, "on_error is an async function"),
        (Guard, {"claims_loader": awaits}, "claims_loader is an async function"),
        (Guard, {"claims_loader": {"a": 1}}, "claims_loader is of type dict"),
    ],
)
def test_hooks_that_can_not_be_called_are_refused_at_once(kind: Any, hooks: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        kind(Settings(secret=SECRET), **hooks)


def test_an_async_guard_awaits_the_loader_of_claims(clock: FakeClock) -> None:
    async def load(subject: str) -> dict[str, Any]:
        return {"name": subject.title()}

    guard = AsyncGuard(Settings(secret=SECRET), store=MemoryStore(clock), clock=clock, claims_loader=load)

    async def drive() -> str:
        return (await guard.authenticate((await guard.login("alice")).access_token)).display_name

    assert asyncio.run(drive()) == "Alice"


def a_wsgi_app(environ: Any, start_response: Any) -> Any: ...


async def an_asgi_app(scope: Any, receive: Any, send: Any) -> None: ...


def test_each_guard_wraps_apps_of_its_own_kind(clock: FakeClock) -> None:
    blocking = guard_on(MemoryStore(clock), clock)
    awaiting = AsyncGuard(Settings(secret=SECRET), store=MemoryStore(clock), clock=clock)
    for wrong in (an_asgi_app, FastAPI(), "app", None):
        with pytest.raises(ConfigError, match="a Guard wraps a WSGI app"):
            blocking.wrap(wrong)  # type: ignore[arg-type]
    for odd in (a_wsgi_app, Flask("app"), "app", None):
        with pytest.raises(ConfigError, match="an AsyncGuard wraps an ASGI app"):
            awaiting.wrap(odd)  # type: ignore[arg-type]
    for app in (a_wsgi_app, Flask("app"), partial(a_wsgi_app), dict):
        blocking.wrap(app)  # type: ignore[arg-type]
    for other in (an_asgi_app, FastAPI(), partial(an_asgi_app), print):
        awaiting.wrap(other)  # type: ignore[arg-type]


# -- an async store --------------------------------------------------------------------------------------------------------


class Hanging(Awaited):
    """Never answers."""

    async def load(self, key: bytes) -> Any:
        await asyncio.Event().wait()


def test_both_sides_of_an_async_store_go_by_the_store_timeout(clock: FakeClock) -> None:
    settings = Settings(secret=SECRET, store_timeout=0.01)
    guard = AsyncGuard(settings, store=Hanging(MemoryStore(clock)), clock=clock)
    with pytest.raises(StoreError, match=r"within 0\.01 s"):
        guard.sync.login("alice")
    with pytest.raises(StoreError, match=r"within 0\.01 s"):
        asyncio.run(guard.login("alice"))
    asyncio.run(guard.close())


def test_closing_an_async_store_closes_it_once_and_starts_nothing(clock: FakeClock) -> None:
    class Counting(Awaited):
        closes = 0

        async def close(self) -> None:
            self.closes += 1

    store = Counting(MemoryStore(clock))
    guard = AsyncGuard(Settings(secret=SECRET), store=store, clock=clock)
    before = set(threading.enumerate())  # other tests' guards may have left theirs to the garbage collector

    async def drive() -> None:
        await guard.login("alice")
        await guard.close()

    asyncio.run(drive())
    assert store.closes == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jwtguard") and thread not in before]


class Twin(MemoryStore):
    """A blocking store with an async counterpart."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.closes: list[str] = []
        self.counterpart = Awaited(self)

    def awaited(self) -> Any:
        return self.counterpart

    def close(self) -> None:
        self.closes.append("blocking")


def test_a_store_with_a_counterpart_is_awaited_by_that(clock: FakeClock) -> None:
    store = Twin(clock)
    guard = AsyncGuard(Settings(secret=SECRET), store=store, clock=clock)
    pair = asyncio.run(guard.login("alice"))
    assert guard.sync.authenticate(pair.access_token).subject == "alice"
    assert guard._blocking is store
    guard.sync.close()
    assert store.closes == ["blocking"]
    asyncio.run(guard.close())
    assert store.closes == ["blocking"] * 3, "its counterpart has closed it, too"


def test_how_soon_endings_are_seen(clock: FakeClock) -> None:
    for store, expected in ((MemoryStore(clock), "exact"), (Awaited(MemoryStore(clock)), "cached")):
        guard = AsyncGuard(Settings(secret=SECRET), store=store, clock=clock)
        assert guard.coherence().state == guard.sync.coherence().state == expected


def test_the_file_of_a_store_is_not_made_on_the_event_loop(tmp_path: Path, clock: FakeClock) -> None:
    made_in: list[int] = []

    class Noting(SQLiteStore):
        def watch(self, ended: Any) -> Any:
            look = super().watch(ended)

            def noting() -> None:
                if not self.path.exists():
                    made_in.append(threading.get_ident())
                look()

            return noting

    guard = AsyncGuard(Settings(secret=SECRET), store=Noting(tmp_path / "sessions.db", clock=clock), clock=clock)

    async def drive() -> None:
        await guard.authenticate((await guard.login("alice")).access_token)
        await guard.close()

    asyncio.run(drive())
    assert len(made_in) == 1
    assert made_in != [threading.get_ident()]


# -- all methods -----------------------------------------------------------------------------------------------------------


def test_every_method_of_the_blocking_guard(clock: FakeClock) -> None:
    guard = guard_on(MemoryStore(clock), clock, on_limit="choose", max_sessions=2)
    first, second = guard.login("alice"), guard.login("alice")
    here = guard.authenticate(first.access_token)
    guard.authenticate(second.access_token)
    assert guard.refresh(first.refresh_token).session_id == first.session_id
    with pytest.raises(LimitReached) as refused:
        guard.login("alice")
    assert refused.value.ticket is not None
    assert guard.end_with_ticket(refused.value.ticket, second.session_id)
    third = guard.login("alice")
    assert guard.revoke_others(here) == 1
    assert not guard.revoke("alice", third.session_id)
    assert guard.revoke_all("alice") == 1
    assert guard.sessions("alice") == []
    guard.revoke_everyone()
    with pytest.raises(AuthError):
        guard.authenticate(third.access_token)
    with pytest.raises(RefreshError):
        guard.refresh("nonsense")
    guard.close()


def test_what_goes_wrong_in_a_hook_for_events_is_logged(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def on_event(event: Event) -> None:
        told.append(event)
        raise RuntimeError("the hook is broken")

    guard = Guard(Settings(secret=SECRET), store=MemoryStore(clock), clock=clock, on_event=on_event)
    pair = guard.login("alice")
    guard.logout(guard.authenticate(pair.access_token))
    guard.login("alice")
    assert told == [
        Event("opened", "alice", pair.session_id, count=1, time=clock.time()),
        Event("revoked", "alice", pair.session_id, "logout", count=1, time=clock.time()),
        Event("opened", "alice", told[-1].session_id, count=1, time=clock.time()),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "on_event failed for the event 'opened'; that is said once",
        "on_event failed for the event 'revoked'; that is said once",
    ]
    assert pair.access_token not in caplog.text


def test_an_ending_that_its_loop_takes_along_is_nobodys_error(clock: FakeClock) -> None:
    class Stuck(Awaited):
        async def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
            if terms["ends"]:
                await asyncio.Event().wait()
            return await super().save(key, data, **terms)

    guard = AsyncGuard(Settings(secret=SECRET, store_timeout=60), store=Stuck(MemoryStore(clock)), clock=clock)

    async def leave() -> None:
        pair = await guard.login("alice")
        identity = await guard.authenticate(pair.access_token)
        task = asyncio.create_task(guard.logout(identity))
        while not guard._unfinished:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    assert not guard._unfinished


def test_an_ending_goes_on_when_its_task_is_cancelled(clock: FakeClock) -> None:
    """And its error, if it has one, is nobody's any more."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Awaited):
        async def save(self, key: bytes, data: bytes, **terms: Any) -> bool:
            if terms["ends"]:
                entered.set()
                await go_on.wait()
            return await super().save(key, data, **terms)

    guard = AsyncGuard(Settings(secret=SECRET, store_timeout=60), store=Slow(MemoryStore(clock)), clock=clock)

    async def drive() -> None:
        pair = await guard.login("alice")
        identity = await guard.authenticate(pair.access_token)
        task = asyncio.create_task(guard.logout(identity))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        while guard._unfinished:
            await asyncio.sleep(0)
        with pytest.raises(SessionRevoked):
            await guard.authenticate(pair.access_token)

    asyncio.run(drive())


def test_a_task_that_outlives_its_request_does_not_act_in_its_name(clock: FakeClock) -> None:
    guard = AsyncGuard(Settings(secret=SECRET), store=MemoryStore(clock), clock=clock)

    async def drive() -> None:
        logins: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        workers: list[asyncio.Task[None]] = []

        async def work() -> None:
            (await logins.get()).set_result(await guard.login("alice"))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            workers.append(asyncio.create_task(work()))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

        async def nothing(*_: Any) -> Any: ...

        pair = await guard.login("alice")
        headers = [(b"authorization", b"Bearer " + pair.access_token.encode()), (b"user-agent", b"curl/8")]
        await guard.wrap(app)({"type": "http", "method": "GET", "path": "/", "headers": headers}, nothing, nothing)
        login: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await logins.put(login)
        await login
        await workers[0]
        assert (await guard.authenticate(pair.access_token)).subject == "alice"
        assert [session.device.name for session in await guard.sessions("alice")] == ["", ""]

    asyncio.run(drive())
