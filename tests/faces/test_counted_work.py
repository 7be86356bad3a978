"""How much is done for one request, counted and not timed: it fails when that grows, on a machine however busy.

Counted are functions that are called, bytecode instructions that are executed, memory that is taken for a moment and memory
that stays, and calls of the store: the same in every run on one version of CPython. What the same request costs the
app alone is taken off.

When a budget fails, either the work isn't needed and goes, or the budget is raised in the commit that needs it, which says
what for. Who does with less lowers it.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from drivers import Request, environ_of, scope_of
from jwt.algorithms import HMACAlgorithm
from world import BAD_TOKENS, World

from jwtguard import AsyncGuard, AuthError, Guard, TokenPair
from jwtguard.guard import GuardMethods
from jwtguard.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.unmeasured  # coverage counts in the place where these tests do


class Budget(NamedTuple):
    """What a warm request may cost more than the app alone.

    `calls`: functions entered. `builtins`: calls of what isn't Python. `instructions`: of bytecode. `peak`: bytes that are
    taken at once, and go with the request.
    """

    calls: int
    builtins: int
    instructions: int
    peak: int


BUDGETS = {
    ("asgi", "memory"): Budget(calls=11, builtins=12, instructions=408, peak=748),
    ("wsgi", "memory"): Budget(calls=9, builtins=9, instructions=273, peak=240),
    ("asgi", "sqlite"): Budget(calls=17, builtins=15, instructions=514, peak=750),
    ("wsgi", "sqlite"): Budget(calls=15, builtins=12, instructions=379, peak=360),
}
"""Not one call is to spare. Instructions are those of CPython 3.11, which needs most, and a twentieth; bytes, a tenth."""

REQUESTS = 1_000
RETAINED = 1_024
"""Bytes more than before that may be in use after so many requests: about one for each, so nothing of any."""

Serve = Callable[[], None]


# -- warm requests ---------------------------------------------------------------------------------------------------------


class Warm(NamedTuple):
    """A request whose token is known, to the guarded app and to the app alone: each call serves it once."""

    guarded: Serve
    alone: Serve


class App:
    """An app of either kind, that notes whose requests it sees."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.seen[environ["jwtguard.identity"].subject] += 1
        start_response("200 OK", [])
        return []

    async def asgi(self, scope: dict[str, Any], receive: object, send: Callable[[Any], Any]) -> None:
        self.seen[scope["jwtguard.identity"].subject] += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def by_wsgi(app: Any, request: Request, **more: object) -> Serve:
    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None: ...

    def serve() -> None:
        app(environ_of(request) | more, start_response)

    return serve


def by_asgi(app: Any, request: Request, **more: object) -> Serve:
    """In one step: a warm request waits for nothing."""

    async def send(message: dict[str, Any]) -> None: ...

    def serve() -> None:
        coroutine = app(scope_of(request) | more, None, send)
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("a warm request waits")

    return serve


@pytest.fixture(params=BUDGETS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The face, and the store."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def warm(kind: tuple[str, str], tmp_path: Path) -> Iterator[Warm]:
    face, store = kind
    world = World({"rules": ""})
    kept: Any = SQLiteStore(tmp_path / "store.db", clock=world.clock) if store == "sqlite" else world.store
    guard = (Guard if face == "wsgi" else AsyncGuard)(world.settings, store=kept, clock=world.clock)
    methods = guard if isinstance(guard, Guard) else guard.sync
    pair = methods.login("alice")
    identity = methods.authenticate(pair.access_token)
    request = Request(headers=(("Host", "x"), ("Authorization", f"Bearer {pair.access_token}"), ("User-Agent", "curl/8")))
    app = App()
    own, by = (app.wsgi, by_wsgi) if face == "wsgi" else (app.asgi, by_asgi)
    guarded = by(guard.wrap(own), request)  # type: ignore[arg-type]
    alone = by(own, request, **{"jwtguard.identity": identity})
    for serve in (guarded, alone) * 20:  # the interpreter adapts its code to how it is used, and caches fill
        serve()
    assert app.seen == {"alice": 40}
    yield Warm(guarded, alone)
    kept.close()


def executed(serve: Serve) -> Counter[str]:
    """How many functions are entered, as `call`, and how many instructions executed, as `opcode`."""
    count: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        count[event] += 1
        return trace

    before = sys.gettrace()
    for _ in range(2):  # the first time, the interpreter makes its code ready to be traced
        count.clear()
        sys.settrace(trace)
        try:
            serve()
        finally:
            sys.settrace(before)
    return count


def called(serve: Serve) -> Counter[str]:
    """The functions that are called and aren't Python, by their names."""
    count: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function is not sys.setprofile:
            count[function.__qualname__] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        serve()
    finally:
        sys.setprofile(before)
    return count


@contextmanager
def traced_memory() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def peak(serve: Serve) -> int:
    """The most bytes in use at once while it serves, above what there was before."""
    with traced_memory():
        serve()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        serve()
        return tracemalloc.get_traced_memory()[1] - before


def test_calls_and_instructions_of_a_warm_request(kind: tuple[str, str], warm: Warm) -> None:
    cost = executed(warm.guarded)
    assert cost == executed(warm.guarded), "it is the same each time"
    cost.subtract(executed(warm.alone))
    assert 0 < cost["call"] <= BUDGETS[kind].calls
    assert 0 < cost["opcode"] <= BUDGETS[kind].instructions


def test_builtins_of_a_warm_request(kind: tuple[str, str], warm: Warm) -> None:
    """One hash, and on SQLite one statement, which looks whether anything has ended."""
    cost = called(warm.guarded)
    cost.subtract(called(warm.alone))
    assert cost["openssl_sha256"] == 1
    assert cost["Cursor.execute"] == (kind[1] == "sqlite")
    assert 0 < cost.total() <= BUDGETS[kind].builtins


def test_memory_of_a_warm_request(kind: tuple[str, str], warm: Warm) -> None:
    assert 0 < peak(warm.guarded) - peak(warm.alone) <= BUDGETS[kind].peak


def test_warm_requests_leave_nothing_behind(warm: Warm) -> None:
    with traced_memory():
        for _ in range(REQUESTS):
            warm.guarded()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(REQUESTS):
            warm.guarded()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < RETAINED


# -- the store -------------------------------------------------------------------------------------------------------------


class Past(NamedTuple):
    """A guard that has been used, and what it and another process have made in the store before."""

    guard: GuardMethods
    mine: TokenPair
    elsewhere: TokenPair
    unused: TokenPair
    garbage: list[str]


CALLS: dict[str, tuple[Callable[[Past], object], list[str]]] = {
    "authenticate: known": (lambda past: past.guard.authenticate(past.mine.access_token), []),
    "authenticate: used elsewhere": (lambda past: past.guard.authenticate(past.elsewhere.access_token), ["load"]),
    "authenticate: first use": (lambda past: past.guard.authenticate(past.unused.access_token), ["load", "load", "save"]),
    "authenticate: garbage": (lambda past: refused(past.guard, *past.garbage), []),
    "login": (lambda past: past.guard.login("dave"), ["load", "save"]),
    "refresh": (lambda past: past.guard.refresh(past.mine.refresh_token), ["load", "save"]),
    "sessions": (lambda past: past.guard.sessions("alice"), ["load"]),
    "revoke": (lambda past: past.guard.revoke("alice", past.mine.session_id), ["load", "save"]),
    "revoke_all": (lambda past: past.guard.revoke_all("alice"), ["load", "save"]),
    "revoke_everyone": (lambda past: past.guard.revoke_everyone(), ["load", "save"]),
}
"""What a guard asks of its store, one thing after the other. A load or a save is one round trip on every store."""


UNREADABLE = ("alg none0", "alg hs512", "crit", "five parts", "one part", "dots", "long", "padded", "jwk")
"""Bad tokens whose signature isn't worth a look."""


def refused(guard: GuardMethods, *tokens: str) -> None:
    for token in tokens:
        with pytest.raises(AuthError):
            guard.authenticate(token)


@pytest.mark.parametrize("colour", ["blocking", "async"])
@pytest.mark.parametrize(("act", "expected"), CALLS.values(), ids=CALLS)
def test_calls_of_the_store(colour: str, act: Callable[[Past], object], expected: list[str]) -> None:
    world = World()
    garbage = [world.made(name) for name in BAD_TOKENS]
    guard = world.guard() if colour == "blocking" else world.async_guard().sync
    elsewhere, unused = world.login("bob"), world.login("carol")
    world.past.authenticate(elsewhere.access_token)
    mine = guard.login("alice")
    guard.authenticate(mine.access_token)
    world.store.calls.clear()
    act(Past(guard, mine, elsewhere, unused, garbage))
    assert world.store.calls == expected


@pytest.mark.parametrize("name", UNREADABLE)
def test_no_signature_is_computed_for_garbage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a signature is computed")

    world = World()
    guard, token = world.guard(), world.made(f"bad {name}")
    monkeypatch.setattr(HMACAlgorithm, "verify", never)
    monkeypatch.setattr(HMACAlgorithm, "sign", never)
    refused(guard, token)
