"""The cold path: what the first sight of a token costs beside its parts and beside other libraries, what each kind of bad
token costs, logins and refreshes, and many first sights of one user at the same moment.

All kinds take turns in each round, so whatever else the machine does falls on all of them alike. The store is in memory, so
that what is left is jwtguard's own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from statistics import median
from types import FrameType
from typing import Any, Final

import joserfc.jwk
import joserfc.jwt
import jwt

from jwtguard import AsyncGuard, AuthError, Guard
from jwtguard.document import document_key
from jwtguard.stores import Loaded
from jwtguard.stores.memory import MemoryStore

from .reports import Report, options

SECRET: Final = "tVb2cSQeXnF0o5m4cJrC8kLxw3ZyPq9aHs7uGd1RiEo"  # of no real app
SCOPES: Final = ("read", "write")
ROUND: Final = 5
HERD: Final = 200
LONG: Final = frozenset({"8 KiB of garbage", "1 MiB of dots"})
"""Bad tokens that are compared with a good one of 8 KiB."""

Operation = Callable[[int], object]
"""Something that is done once for each number."""


class CountedStore(MemoryStore):
    """A store in memory that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def load(self, key: bytes) -> Loaded:
        self.counts["everyone" if key.startswith(b"e") else "loads"] += 1
        return super().load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        self.counts["saves"] += 1
        return super().save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)


def a_guard(store: MemoryStore, users: int) -> Guard:
    """Another process on the same store, with room for all tokens."""
    return Guard.from_env(store=store, secret=SECRET, cache_size=4 * users)


def logged_in(guard: Guard, users: int) -> list[str]:
    """An access token of each user, used once, so that its first use needn't be written down any more."""
    tokens = [guard.login(f"user-{number}", scopes=SCOPES).access_token for number in range(users)]
    for token in tokens:
        guard.authenticate(token)
    return tokens


def measure(operations: dict[str, Operation], users: int) -> dict[str, float]:
    """Microseconds of each, the median of rounds that they take in turn."""
    rounds: dict[str, list[float]] = {name: [] for name in operations}
    for start in range(0, users - ROUND + 1, ROUND):
        for name, operation in operations.items():
            began = time.perf_counter()
            for number in range(start, start + ROUND):
                operation(number)
            rounds[name].append((time.perf_counter() - began) / ROUND)
    return {name: median(found) * 1e6 for name, found in rounds.items()}


def first_sight(users: int) -> dict[str, float]:
    """Microseconds of the first sight of a token, of its parts, and of what other libraries take to verify it."""
    store = MemoryStore()
    tokens = logged_in(a_guard(store, users), users)
    guard = a_guard(store, users)
    guard.login("somebody")  # what holds for everyone is known from here on
    core = guard.core
    reader, key = core.tokens, core.tokens.keyring.signing
    raw = [token.encode() for token in tokens]
    signed = [token.rpartition(b".")[0] for token in raw]
    marks = [base64.urlsafe_b64decode(token.rpartition(b".")[2] + b"=") for token in raw]
    keys = [document_key(core.settings.issuer, f"user-{number}") for number in range(users)]
    jose = joserfc.jwk.OctKey.import_key(SECRET)
    checks: dict[str, Any] = {"algorithms": ["HS256"], "audience": "jwtguard", "issuer": "jwtguard"}
    return measure(
        {
            "first sight": lambda number: guard.authenticate(tokens[number]),
            "signature alone": lambda number: key.verify(signed[number], marks[number]),
            "verification": lambda number: reader.read_access(raw[number]),
            "store read": lambda number: store.load(keys[number]),
            "known token": lambda number: guard.authenticate(tokens[number]),
            "PyJWT": lambda number: jwt.decode(tokens[number], SECRET, **checks),
            "joserfc": lambda number: joserfc.jwt.decode(tokens[number], jose, algorithms=["HS256"]),
        },
        users,
    )


def rejections(users: int) -> dict[str, dict[str, float]]:
    """Of each kind of bad token: microseconds, how many verifications of a good one that is, and calls of the store."""
    store = CountedStore()
    first = a_guard(store, users)
    good = logged_in(first, users)
    raw = [token.encode() for token in good]
    guard = a_guard(store, users)
    reader = guard.core.tokens
    kinds = bad_tokens(first, good)
    for token in good:  # each user's sessions are known, as they are for a token of an active user
        guard.authenticate(token)
    calls: dict[str, float] = {}
    for name, tokens in kinds.items():
        store.counts.clear()
        for number in range(users):
            refuse_one(guard, tokens, number)
        calls[name] = store.counts.total() / users
    long = first.login("longwinded", claims={"text": "x" * 5800}).access_token.encode()
    took = measure(
        {
            "one": lambda number: reader.read_access(raw[number]),
            "one as long": lambda _: reader.read_access(long),
            **{name: partial(refuse_one, guard, tokens) for name, tokens in kinds.items()},
        },
        users,
    )
    one, as_long = took.pop("one"), took.pop("one as long")
    return {
        name: {"us": us, "beside one": us / (as_long if name in LONG else one), "store calls": calls[name]}
        for name, us in took.items()
    }


def refuse_one(guard: Guard, tokens: list[str], number: int) -> None:
    with suppress(AuthError):
        guard.authenticate(tokens[number])
        raise AssertionError("a bad token was accepted")


def bad_tokens(guard: Guard, good: list[str]) -> dict[str, list[str]]:
    """Of each kind, one made of each good token."""
    parts = [token.split(".") for token in good]
    other = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    over = [guard.login(f"user-{number}", scopes=SCOPES) for number in range(len(good))]
    for number, pair in enumerate(over):
        guard.revoke(f"user-{number}", pair.session_id)
    return {
        "not a token": [secrets.token_urlsafe(30) for _ in good],
        "8 KiB of garbage": [".".join([secrets.token_urlsafe(2000)] * 3) for _ in good],
        "1 MiB of dots": ["." * 2**20] * len(good),
        "another's header": [".".join([other, body, mark]) for _, body, mark in parts],
        "another text of the signature": [token + "=" for token in good],
        "wrong signature": [".".join([head, body, "AAAA" + mark[4:]]) for head, body, mark in parts],
        "changed payload": [".".join([head, "AAAA" + body[4:], mark]) for head, body, mark in parts],
        "session ended": [pair.access_token for pair in over],
    }


def writing(users: int) -> dict[str, float]:
    """Microseconds of a login, a refresh, and of making the two tokens alone."""
    store = MemoryStore()
    guard = a_guard(store, users)
    core, numbers = guard.core, count()
    tokens = core.tokens
    pairs = [guard.login(f"reader-{number}", scopes=SCOPES) for number in range(users)]
    issued: dict[str, Any] = {"key_id": "", "issued_at": 0, "expires_at": 0, "claims": {}}
    payload = {"sub": "user", "iat": 0, "exp": 0, "jti": secrets.token_urlsafe(16), "scope": "read write", "sid": "x" * 22}

    def mint(_: int) -> None:
        tokens.mint_access("user", (b"x" * 16, 1), authenticated_at=0, scopes=SCOPES, **issued)
        tokens.mint_refresh("user", (b"x" * 16, 1), **issued)

    return measure(
        {
            "login": lambda _: guard.login(f"user-{next(numbers)}", scopes=SCOPES),
            "refresh": lambda number: guard.refresh(pairs[number].refresh_token),
            "both tokens": mint,
            "both tokens by PyJWT": lambda _: [jwt.encode(payload, SECRET) for _ in range(2)],
        },
        users,
    )


class _Slow:
    """The same store, awaited; it answers after a turn of the event loop."""

    def __init__(self, inner: CountedStore) -> None:
        self.inner = inner

    async def load(self, key: bytes) -> Loaded:
        await asyncio.sleep(0.001)
        return self.inner.load(key)

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        return self.inner.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    async def close(self) -> None: ...


def herd(size: int) -> dict[str, int]:
    """What the store is asked when so many first sights of one user's tokens come at the same moment."""
    store = CountedStore()
    guard = a_guard(store, size)
    pairs = [guard.login("alice", scopes=SCOPES, limit=1000) for _ in range(min(size, 100))]
    for pair in pairs:
        guard.authenticate(pair.access_token)
    store.counts.clear()

    async def at_once() -> None:
        other = AsyncGuard.from_env(store=_Slow(store), secret=SECRET, store_timeout=20)
        await asyncio.gather(*(other.authenticate(pairs[number % len(pairs)].access_token) for number in range(size)))
        await other.close()

    asyncio.run(at_once())
    return {
        "requests": size,
        "sessions": len(pairs),
        **{name: store.counts[name] for name in ("loads", "everyone", "saves")},
    }


@contextmanager
def sampled(every: float = 0.0005) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """How often each function was seen at work: itself, with what it calls of others, and with all its callees."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith("jwtguard"):
                names.append(f"{module.removeprefix('jwtguard.')}.{frame.f_code.co_qualname}")
            frame = frame.f_back
        if names:
            own[names[0]] += 1
            whole.update(set(names))

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, every, every)
    try:
        yield own, whole
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def profile(users: int) -> list[tuple[str, float, float]]:
    """Of first sights: each function, its own share and that with its callees, the largest first."""
    store = MemoryStore()
    tokens = logged_in(a_guard(store, users), users)
    with sampled() as (own, whole):
        for _ in range(10):
            guard = a_guard(store, users)
            for token in tokens:
                guard.authenticate(token)
    total = own.total()
    return [(name, own[name] / total, seen / total) for name, seen in whole.most_common() if seen / total >= 0.05]


def figures(users: int) -> dict[str, Any]:
    """All of them."""
    return {
        "first sight": first_sight(users),
        "rejections": rejections(users),
        "writing": writing(users),
        "herd": herd(HERD),
        "profile": profile(users),
    }


def main() -> None:
    given = options(str(__doc__), users=5000)
    report = Report(given, "The cold path", "PyJWT", "joserfc")
    found = figures(max(given.users, 4 * ROUND))
    sight = found["first sight"]
    above = sight["first sight"] - sight["verification"] - sight["store read"]
    report.table("First sight", ("", "us", "beside PyJWT"), [(name, us, us / sight["PyJWT"]) for name, us in sight.items()])
    report.note(f"First sight above verification and store read: {above:.1f} us.")
    rows = [(name, *each.values()) for name, each in found["rejections"].items()]
    report.table("Bad tokens", ("", "us", "beside one verification", "store calls"), rows)
    report.table("Login and refresh", ("", "us"), list(found["writing"].items()))
    report.table("Many first sights of one user at once", tuple(found["herd"]), [tuple(found["herd"].values())])
    shares = [(name, f"{own:.0%}", f"{whole:.0%}") for name, own, whole in found["profile"]]
    report.table("Where a first sight spends its time", ("function", "itself", "with callees"), shares)
    report.close()


if __name__ == "__main__":
    main()
