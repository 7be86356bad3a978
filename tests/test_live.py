"""Connections that stay open end when their session does, for whatever reason, and for no other."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rig import AsyncModel, ModelStore, always
from wires import PATIENCE, Message, Receive, Send, Wire, a_guard, go_round, settled

from jwtguard import AsyncGuard
from jwtguard.document import document_key
from jwtguard.errors import StoreError
from jwtguard.live import AT_ONCE
from jwtguard.model import TokenPair
from jwtguard.stores.base import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.stores.sqlite import SQLiteStore
from jwtguard.testing import FakeClock

ALICES = document_key("jwtguard", "alice")
ACCEPT = {"type": "websocket.accept"}


def closed(code: int, reason: str) -> Message:
    return {"type": "websocket.close", "code": code, "reason": reason}


REVOKED = closed(3000, "session_revoked")
TRY_AGAIN_LATER = closed(1013, "store_unavailable")
LAST_PART = {"type": "http.response.body", "body": b"", "more_body": False}


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """A WebSocket's app, which remembers how it ended."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})
    scope["ended"] = message


async def ticker(scope: Message, receive: Receive, send: Send) -> None:
    """A stream's app, which sends one part and waits for its client to go."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"0", "more_body": True})
    scope["ended"] = await receive()


APPS = {"websocket": echo, "http": ticker}


class World:
    """A guard, another one on the same store, and a session of alice's."""

    def __init__(self, store: Any = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.store = store or MemoryStore(self.clock)
        self.settings = settings
        self.guard = self.another()
        self.other = self.another()
        self.pair: TokenPair

    def another(self) -> AsyncGuard:
        return a_guard(self.store, self.clock, **self.settings)

    async def login(self) -> World:
        self.pair = await self.other.login("alice")
        return self

    async def opened(self, kind: str = "websocket", app: Any = None, pair: TokenPair | None = None, **more: Any) -> Wire:
        """A connection that is live, and was judged."""
        token = (pair or self.pair).access_token
        wire = Wire(self.guard.wrap(app or APPS[kind]), kind, token, **more)
        await wire.until(1 if kind == "websocket" else 2)
        await settled(self.guard)
        return wire

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


def model(**settings: Any) -> tuple[World, ModelStore]:
    """A world whose store tells nobody of endings."""
    clock = FakeClock()
    store = ModelStore(clock)
    world = World(store, **settings)
    world.clock = store.clock = clock
    world.guard, world.other = world.another(), world.another()
    return world, store


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


# -- what ends them --------------------------------------------------------------------------------------------------------


async def reuse(world: World) -> None:
    newer = await world.other.refresh(world.pair.refresh_token)
    await world.other.authenticate(newer.access_token)
    world.pass_time(31)
    with pytest.raises(Exception, match="used before"):
        await world.other.refresh(world.pair.refresh_token)


async def others(world: World) -> None:
    mine = await world.other.login("alice")
    await world.other.revoke_others(await world.other.authenticate(mine.access_token))


ENDINGS: dict[str, tuple[Callable[[World], Any], str]] = {
    "logout": (lambda world: logout(world, world.other), "session_revoked"),
    "logout here": (lambda world: logout(world, world.guard), "session_revoked"),
    "revoked": (lambda world: world.other.revoke("alice", world.pair.session_id), "session_revoked"),
    "all": (lambda world: world.other.revoke_all("alice"), "session_revoked"),
    "others": (others, "session_revoked"),
    "everyone": (lambda world: world.other.revoke_everyone(), "session_revoked"),
    "reuse": (reuse, "session_revoked"),
    "evicted": (lambda world: world.other.login("alice", limit=1), "session_evicted"),
}


async def logout(world: World, guard: AsyncGuard) -> None:
    await guard.logout(await guard.authenticate(world.pair.access_token))


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("kind", APPS)
def test_an_ending_ends_what_is_open_at_once(how: str, kind: str) -> None:
    async def scene() -> None:
        world = await World().login()
        world.guard.core.live.round = 3600.0  # no patrol's round comes before the news
        wire = await world.opened(kind)
        end, reason = ENDINGS[how]
        await end(world)
        await wire.done()
        assert len(world.guard.core.live) == 0
        if kind == "websocket":
            assert wire.sent == [ACCEPT, closed(3000, reason)]
            assert wire.scope["ended"] == {"type": "websocket.disconnect", "code": 3000, "reason": reason}
        else:
            assert wire.sent[2:] == [LAST_PART]
            assert wire.scope["ended"] == {"type": "http.disconnect"}

    play(scene)


def test_nothing_else_does() -> None:
    """Not another session's end, another user's, a refresh, a token that expires, nor a lease that is renewed."""

    async def scene() -> None:
        world = await World(access_ttl=60, rotation_grace=1).login()
        wires = [await world.opened(kind) for kind in APPS]
        await world.other.revoke("alice", (await world.other.login("alice")).session_id)
        await world.other.revoke_all("bob")
        newer = await world.other.refresh(world.pair.refresh_token)
        await world.other.authenticate(newer.access_token)
        for _ in range(5):
            world.pass_time(61)
            await go_round(world.guard)
        assert [wire.task.done() for wire in wires] == [False, False]
        wires[0].incoming.put_nowait({"type": "websocket.receive", "text": "still here"})
        await wires[0].until(2)
        await world.other.revoke_all("alice")
        for wire in wires:
            await wire.done()

    play(scene)


def test_all_of_a_sessions_connections_end_and_only_they() -> None:
    async def scene() -> None:
        world = await World().login()
        mine = [await world.opened("websocket") for _ in range(3)]
        elsewhere = await world.opened(pair=await world.other.login("alice"))
        bobs = await world.opened(pair=await world.other.login("bob"))
        assert len(world.guard.core.live) == 5
        await world.other.revoke("alice", world.pair.session_id)
        for wire in mine:
            await wire.done()
        await settled(world.guard)
        assert [wire.task.done() for wire in (elsewhere, bobs)] == [False, False]
        await world.other.revoke_everyone()
        await elsewhere.done()
        await bobs.done()

    play(scene)


def test_a_session_that_expires() -> None:
    async def scene() -> None:
        world = await World(session_ttl=100).login()
        wire = await world.opened()
        world.pass_time(99)
        await world.other.login("alice")  # so that the store keeps the document
        await go_round(world.guard)
        assert not wire.task.done()
        world.pass_time(1)
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[1] == closed(3000, "session_expired")

    play(scene)


def test_an_open_connection_is_a_use_of_its_session() -> None:
    async def scene() -> None:
        world = await World(idle_timeout=100).login()
        wire = await world.opened()
        for _ in range(30):
            world.pass_time(10.5)
            await go_round(world.guard)
        assert not wire.task.done()
        assert (await world.other.sessions("alice"))[0].last_seen_at is not None
        world.pass_time(101)  # the machine was asleep, say
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[1] == closed(3000, "session_expired")

    play(scene)


def test_a_use_elsewhere_prolongs_it_although_nobody_announces_that() -> None:
    async def scene() -> None:
        world = await World(refresh_ttl=50, access_ttl=40, session_ttl=1000).login()
        wire = await world.opened()
        for _ in range(4):
            world.pass_time(45)
            world.pair = await world.other.refresh(world.pair.refresh_token)
            await go_round(world.guard)
        assert not wire.task.done()
        world.pass_time(51)
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[1]["code"] == 3000

    play(scene)


def test_an_ending_between_admission_and_opening_is_not_missed() -> None:
    async def scene() -> None:
        world = await World().login()

        async def late(scope: Message, receive: Receive, send: Send) -> None:
            await world.other.revoke_all("alice")
            await world.guard.sessions("alice")
            await world.guard.authenticate(bobs.access_token)
            await echo(scope, receive, send)

        bobs = await world.other.login("bob")
        wire = Wire(world.guard.wrap(late), "websocket", world.pair.access_token)
        await wire.done()
        assert wire.sent == [ACCEPT, REVOKED]

    play(scene)


def test_sqlite_is_looked_at(tmp_path: Path) -> None:
    """By the patrol's own timer, for another process's endings."""

    async def scene() -> None:
        clock = FakeClock()
        stores = [SQLiteStore(str(tmp_path / "sessions.db"), timeout=5, clock=clock) for _ in range(2)]
        world = World(stores[0])
        world.other = a_guard(stores[1], clock)
        wire = await (await world.login()).opened()
        await world.other.revoke_all("alice")
        await wire.done()
        assert wire.sent[1] == REVOKED
        await world.guard.close()
        await world.other.close()

    play(scene)


def test_a_use_elsewhere_prolongs_what_a_good_lease_calls_expired() -> None:
    async def scene() -> None:
        world = await World(refresh_ttl=50, access_ttl=40, session_ttl=1000, cache_ttl=60).login()
        wire = await world.opened()
        world.pass_time(45)
        await world.other.refresh(world.pair.refresh_token)
        world.pass_time(6)
        await go_round(world.guard)
        assert not wire.task.done()
        await world.guard.close()
        await wire.done()

    play(scene)


# -- what the store says, and when it can't --------------------------------------------------------------------------------


def test_a_store_that_tells_nobody_is_asked_when_the_lease_has_run_out() -> None:
    async def scene() -> None:
        world, store = model(cache_ttl=5)
        await world.login()
        wires = [await world.opened() for _ in range(20)]
        await world.other.revoke_all("alice")
        store.calls.clear()
        world.pass_time(4.9)
        await go_round(world.guard)
        assert store.calls == []
        assert not any(wire.task.done() for wire in wires)
        world.pass_time(0.1)
        await go_round(world.guard)
        for wire in wires:
            await wire.done()
            assert wire.sent[1] == REVOKED
        assert store.count("load", ALICES) == 1

    play(scene)


def test_where_a_look_tells_of_every_ending_nothing_need_be_loaded_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        world = await World(cache_ttl=5).login()
        await world.opened()
        loads: list[bytes] = []
        load = world.store.load

        def counting(key: bytes) -> Loaded:
            loads.append(key)
            loaded: Loaded = load(key)
            return loaded

        monkeypatch.setattr(world.store, "load", counting)
        world.pass_time(59)
        await go_round(world.guard)
        assert loads == []
        world.pass_time(1)
        await go_round(world.guard)
        assert loads.count(ALICES) >= 1
        await world.guard.close()
        await settled(world.guard)

    play(scene)


@pytest.mark.parametrize("kind", APPS)
def test_a_store_that_is_down_is_believed_no_longer_than_the_lease(kind: str) -> None:
    async def scene() -> None:
        world, store = model(cache_ttl=5, stale_if_down=600)
        wire = await (await world.login()).opened(kind)
        store.on_load = always(StoreError("down"))
        world.pass_time(4.9)
        await go_round(world.guard)
        assert not wire.task.done()
        world.pass_time(0.1)
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[-1] == (TRY_AGAIN_LATER if kind == "websocket" else LAST_PART)

    play(scene)


def test_a_damaged_document_ends_it() -> None:
    async def scene() -> None:
        world, store = model()
        wire = await (await world.login()).opened()
        store.documents[ALICES] = (b"not a document", b"12345678")
        world.pass_time(5)
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[1] == TRY_AGAIN_LATER

    play(scene)


def test_c76_what_nobody_foresaw_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        world, store = model()
        wire = await (await world.login()).opened()
        store.on_load = always(ZeroDivisionError())
        world.pass_time(5)
        await go_round(world.guard)
        await wire.done()
        assert wire.sent[1] == TRY_AGAIN_LATER

    play(scene)
    assert "can't be judged" in caplog.text


def test_who_is_not_judged_in_time_is_ended() -> None:
    """A store that hangs: as many as are asked for at once wait for it, and the others in line, but none for long."""

    async def scene() -> None:
        clock = FakeClock()
        inner = ModelStore(clock)

        class Hanging(AsyncModel):
            hangs = False

            async def load(self, key: bytes) -> Loaded:
                if self.hangs:
                    await asyncio.Event().wait()
                return await super().load(key)

        store = Hanging(inner)
        world = World(store, store_timeout=60)
        world.clock = clock
        world.guard, world.other = world.another(), world.another()
        wires = [await world.opened(pair=await world.other.login(f"user{number}")) for number in range(AT_ONCE + 4)]
        store.hangs = True
        clock.advance(5)
        (patrol,) = world.guard.core.live._patrols.values()
        patrol.go_round()
        await asyncio.sleep(0)
        assert len(patrol._judges) == AT_ONCE
        for _ in range(2):
            clock.advance(world.guard.core.live.patience)
            patrol.go_round()
            await asyncio.sleep(0)
        for wire in wires:
            await wire.done()
            assert wire.sent[1] == TRY_AGAIN_LATER
        judges = list(patrol._judges)
        for judge in judges:
            judge.cancel()
        await asyncio.gather(*judges, return_exceptions=True)

    play(scene)


def test_a_connection_that_goes_while_it_is_judged() -> None:
    async def scene() -> None:
        clock = FakeClock()
        world = World(AsyncModel(ModelStore(clock)))
        world.clock = clock
        world.guard, world.other = world.another(), world.another()
        wire = await (await world.login()).opened()
        await world.other.revoke_all("alice")
        clock.advance(5)
        (patrol,) = world.guard.core.live._patrols.values()
        patrol.go_round()
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.sleep(0)
        await wire.done()
        assert patrol._judges
        await asyncio.gather(*patrol._judges)
        assert wire.sent == [ACCEPT]

    play(scene)


# -- what isn't live -------------------------------------------------------------------------------------------------------


def test_only_what_stays_open_is_live() -> None:
    async def scene() -> None:
        world = await World().login()
        seen: list[int] = []

        def answering(*messages: Message) -> Any:
            async def app(scope: Message, receive: Receive, send: Send) -> None:
                for message in messages:
                    await send(message)
                    seen.append(len(world.guard.core.live))

            return app

        start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-y", b"1")]}
        bounded: Message = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"2")]}
        bare: Message = {"type": "http.response.start", "status": 200}
        part: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
        last: Message = {"type": "http.response.body", "body": b"x"}
        token = world.pair.access_token
        for path, bearer, kind, messages, live in (
            ("/", token, "http", (start, last), [0, 0]),
            ("/", token, "http", (bounded, part, last), [0, 0, 0]),
            ("/public", None, "http", (start, part, last), [0, 0, 0]),
            ("/public", None, "websocket", (ACCEPT, {"type": "websocket.close"}), [0, 0]),
            ("/", token, "websocket", ({"type": "websocket.close"},), [0]),
            ("/", token, "http", (start, part, part, last), [0, 1, 1, 0]),
            ("/public", token, "http", (bare, part, last), [0, 1, 0]),
            (
                "/",
                token,
                "websocket",
                (ACCEPT, {"type": "websocket.send", "text": ""}, {"type": "websocket.close"}),
                [1, 1, 0],
            ),
            ("/", token, "http", (start, part), [0, 1]),
        ):
            seen.clear()
            wire = Wire(world.guard.wrap(answering(*messages)), kind, bearer, path=path)
            await wire.done()
            assert (seen, wire.sent) == (live, list(messages))
            assert len(world.guard.core.live) == 0
            assert world.guard.core.live._patrols == {}

    play(scene)


# -- patrols, loops, processes ---------------------------------------------------------------------------------------------


def test_closing_the_guard_ends_what_nobody_would_watch() -> None:
    async def scene() -> None:
        world = await World().login()
        wires = [await world.opened(kind) for kind in APPS]
        await world.guard.close()
        for wire in wires:
            await wire.done()
        assert wires[0].sent[1] == closed(1001, "")
        assert wires[1].sent[2] == LAST_PART
        again = await world.opened()
        await world.other.revoke_all("alice")
        await again.done()

    play(scene)


def test_the_patrol_ends_with_the_last_connection() -> None:
    async def scene() -> None:
        world = await World().login()
        wires = [await world.opened() for _ in range(2)]
        (patrol,) = world.guard.core.live._patrols.values()
        for wire, is_over in zip(wires, (False, True), strict=True):
            wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
            await wire.done()
            assert patrol._timer.cancelled() == is_over
        assert world.guard.core.live._patrols == {}

    play(scene)


def test_each_loop_has_its_own_patrol() -> None:
    world = World()
    results: list[Message] = []
    opened = threading.Barrier(3)

    async def scene() -> None:
        wire = await world.opened()
        await asyncio.to_thread(opened.wait, PATIENCE)
        await wire.done()
        results.append(wire.sent[1])

    asyncio.run(world.login())
    threads = [threading.Thread(target=asyncio.run, args=(scene(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    opened.wait(PATIENCE)
    assert len(world.guard.core.live) == 2
    world.guard.sync.revoke_all("alice")
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [REVOKED, REVOKED]


def test_a_loop_that_is_closed_with_live_connections_leaves_nothing() -> None:
    world = World()
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        async def abandon() -> None:
            await world.login()
            await world.opened()

        asyncio.run(abandon())
        loop = asyncio.new_event_loop()
        loop.run_until_complete(enter_only(world))
        loop.close()
        assert len(world.guard.core.live._patrols) == 1
        world.guard.sync.revoke_all("alice")
        world.guard.core.live.close()
        asyncio.run(enter_only(world))
        assert [loop.is_closed() for loop in world.guard.core.live._patrols] == [True]


async def enter_only(world: World) -> None:
    class Deaf:
        def end(self, closing: object) -> None: ...

    await world.login()
    identity = await world.guard.authenticate(world.pair.access_token)
    world.guard.core.live.enter(identity, Deaf(), world.guard.perform)
    await settled(world.guard)


def test_a_child_process_begins_with_none() -> None:
    async def scene() -> None:
        world = await World().login()
        wire = await world.opened()
        child = os.fork()
        if child == 0:
            os._exit(len(world.guard.core.live))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(world.guard.core.live) == 1
        world.guard.core.live._patrols.clear()
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await wire.done()

    play(scene)


def test_the_timer_goes_on_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        world, _ = model(cache_ttl=0.5)
        wire = await (await world.login()).opened()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
        failed: list[BaseException] = []

        def fail() -> None:
            monkeypatch.setattr(world.guard.core.live, "look", lambda: None)
            raise ZeroDivisionError

        monkeypatch.setattr(world.guard.core.live, "look", fail)
        await world.other.revoke_all("alice")
        world.pass_time(1)
        await wire.done()  # by the timer alone
        assert [type(error) for error in failed] == [ZeroDivisionError]

    play(scene)
