"""A user's past, made anew for each request of the table: logins, refreshes and endings, and tokens of every kind."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from forging import access_claims, forge, header

from jwtguard import AsyncGuard, Guard, LimitReached, Settings
from jwtguard.errors import StoreError
from jwtguard.model import TokenPair
from jwtguard.stores.base import Loaded
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock
from jwtguard.tokens import text_of_id

__all__ = ["SECRET", "CountingStore", "World"]

SECRET: Final = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
OTHER_SECRET: Final = "Zp0-r7Tq2Wv9XyB4nM6kLs8HdJ3fGa5CuEiO"
DEFAULTS: Final[Mapping[str, Any]] = {
    "secret": SECRET,
    "public": "/, /login, GET /items/*",
    "rules": "/admin/*: admin, POST /notes: write read",
    "endpoints": "/auth",
}


class CountingStore:
    """A store in memory that counts its calls, and fails while it is `down`."""

    blocking = False

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.calls: list[str] = []
        self.down = False
        self.forget()

    def forget(self) -> None:
        """Lose every document, as a store does that was restored from an empty backup."""
        self._memory = MemoryStore(self.clock)

    def load(self, key: bytes) -> Loaded:
        self._count("load")
        return self._memory.load(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        self._count("save")
        return self._memory.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    def close(self) -> None:
        self._memory.close()

    def _count(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise StoreError("the store's password is hunter2-hunter2")


class World:
    """What has happened before a request, and the guards that answer it."""

    def __init__(self, settings: Mapping[str, Any] | None = None, **hooks: Any) -> None:
        self.clock = FakeClock()
        self.store = CountingStore(self.clock)
        self.given = {**DEFAULTS, **(settings or {})}
        self.settings = Settings(**self.given)
        self.hooks = hooks
        self.past = Guard(self.settings, store=self.store, clock=self.clock)
        """Of another process: it made the past, and shares only the store with the guards that are tested."""
        self._made: dict[str, str] = {}

    def guard(self) -> Guard:
        return Guard(self.settings, store=self.store, clock=self.clock, **self.hooks)

    def async_guard(self) -> AsyncGuard:
        return AsyncGuard(self.settings, store=self.store, clock=self.clock, **self.hooks)

    def filled(self, text: str) -> str:
        """The text with each `<name>` of something made in it."""
        return re.sub(r"<([a-z0-9 -]+)>", lambda match: self.made(match[1]), text)

    def made(self, name: str) -> str:
        if name not in self._made:
            MAKERS[name](self)
        return self._made[name]

    def keep(self, **made: str) -> None:
        self._made |= {name.replace("_", "-"): value for name, value in made.items()}

    def login(self, subject: str = "alice", **arguments: Any) -> TokenPair:
        return self.past.login(subject, **arguments)

    def forge(self, head: Mapping[str, Any] | bytes | None = None, claims: Any = None, *, secret: str = SECRET) -> str:
        """An access token of alice's session with other fields in its header and payload, rightly signed."""
        genuine = self.made("good").split(".")
        if not isinstance(head, bytes):
            head = json.dumps({**_decoded(genuine[0]), **(head or {})}).encode()
        if claims is None or isinstance(claims, Mapping):
            given = {**_decoded(genuine[1]), **(claims or {})}
            claims = {name: value for name, value in given.items() if value is not ...}
        return forge(head, claims, secret=secret.encode()).decode()


def _decoded(segment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(segment + "=="))
    return found


def _good(world: World) -> None:
    pair = world.login()
    world.keep(good=pair.access_token, refresh=pair.refresh_token, sid=pair.session_id)


def _second(world: World) -> None:
    world.made("good")
    pair = world.login()
    world.keep(second=pair.access_token, second_sid=pair.session_id)


def _bob(world: World) -> None:
    pair = world.login("bob", scopes=["admin"])
    world.keep(bob=pair.access_token, bob_refresh=pair.refresh_token, bob_sid=pair.session_id)


def _writer(world: World) -> None:
    world.keep(writer=world.login("carol", scopes=["write"]).access_token)


def _unicode(world: World) -> None:
    world.keep(unicode=world.login("zoë·雪").access_token)


def _expired(world: World) -> None:
    pair = world.login()
    world.clock.advance(world.settings.access_ttl)
    world.keep(expired=pair.access_token, refresh_of_expired=pair.refresh_token)


def _superseded(world: World) -> None:
    first = world.login()
    second = world.past.refresh(first.refresh_token)
    world.past.authenticate(second.access_token)
    world.clock.advance(world.settings.rotation_grace + 1)
    world.keep(superseded=first.access_token, reused=first.refresh_token, newer=second.access_token)


def _replayed(world: World) -> None:
    first = world.login()
    world.past.refresh(first.refresh_token)
    world.keep(replayed=first.refresh_token)


def _revoked(world: World) -> None:
    pair = world.login()
    world.past.revoke("alice", pair.session_id)
    world.keep(revoked=pair.access_token, revoked_refresh=pair.refresh_token, revoked_sid=pair.session_id)


def _evicted(world: World) -> None:
    pair = world.login()
    world.past.authenticate(pair.access_token)
    world.clock.advance(1)
    world.login(limit=1)
    world.keep(evicted=pair.access_token, evicted_refresh=pair.refresh_token)


def _idle(world: World) -> None:
    pair = world.login()
    world.clock.advance((world.settings.idle_timeout or 0) + 1)
    world.keep(idle=pair.access_token, idle_refresh=pair.refresh_token)


def _unknown(world: World) -> None:
    pair = world.login()
    world.store.forget()
    world.keep(unknown=pair.access_token, unknown_refresh=pair.refresh_token)


def _refresh_expired(world: World) -> None:
    pair = world.login()
    world.clock.advance(world.settings.refresh_ttl)
    world.keep(refresh_expired=pair.refresh_token)


def _ticket(world: World) -> None:
    """Alice can't log in: she has a session, and under `choose` she is given a ticket to end it."""
    pair = world.login()
    world.past.authenticate(pair.access_token)
    with suppress(LimitReached):
        world.login(limit=1)
        raise AssertionError("there was room")
    try:
        world.login(limit=1)
    except LimitReached as refused:
        world.keep(ticket=refused.ticket or "", listed=pair.session_id)


def _used_ticket(world: World) -> None:
    ticket, listed = world.made("ticket"), world.made("listed")
    world.past.end_with_ticket(ticket, listed)
    world.keep(used_ticket=ticket)


def _old_ticket(world: World) -> None:
    ticket = world.made("ticket")
    world.clock.advance(301)
    world.keep(old_ticket=ticket)


def _foreign(world: World) -> None:
    guard = Guard(Settings(secret=OTHER_SECRET), store=world.store, clock=world.clock)
    pair = guard.login("alice")
    world.keep(foreign=pair.access_token, foreign_refresh=pair.refresh_token)


MAKERS: Final[dict[str, Callable[[World], None]]] = {
    "good": _good,
    "refresh": _good,
    "sid": _good,
    "second": _second,
    "second-sid": _second,
    "bob": _bob,
    "bob-refresh": _bob,
    "bob-sid": _bob,
    "writer": _writer,
    "unicode": _unicode,
    "expired": _expired,
    "refresh-of-expired": _expired,
    "superseded": _superseded,
    "newer": _superseded,
    "reused": _superseded,
    "replayed": _replayed,
    "revoked": _revoked,
    "revoked-refresh": _revoked,
    "revoked-sid": _revoked,
    "evicted": _evicted,
    "evicted-refresh": _evicted,
    "idle": _idle,
    "idle-refresh": _idle,
    "unknown": _unknown,
    "unknown-refresh": _unknown,
    "refresh-expired": _refresh_expired,
    "ticket": _ticket,
    "listed": _ticket,
    "used-ticket": _used_ticket,
    "old-ticket": _old_ticket,
    "foreign": _foreign,
    "foreign-refresh": _foreign,
}


def bad(name: str) -> Callable[[Callable[[World], str]], Callable[[World], str]]:
    """Adds a token that no honest client has, as `<bad name>`."""

    def add(make: Callable[[World], str]) -> Callable[[World], str]:
        MAKERS[f"bad {name}"] = lambda world: world.keep(**{f"bad {name}": make(world)})
        return make

    return add


def _b64(data: bytes) -> str:
    from forging import b64

    return b64(data).decode()


def _unsigned(alg: object) -> Callable[[World], str]:
    def make(world: World) -> str:
        _, payload, _ = world.made("good").split(".")
        return f"{_b64(json.dumps({'alg': alg, 'typ': 'at+jwt'}).encode())}.{payload}."

    return make


def _claims(world: World) -> dict[str, Any]:
    return _decoded(world.made("good").split(".")[1])


for _alg in ("none", "None", "nOnE"):
    bad(f"alg {_alg.lower()}{_alg.count('N')}")(_unsigned(_alg))

bad("alg hs512")(lambda world: world.forge({"alg": "HS512"}))
bad("alg lower")(lambda world: world.forge({"alg": "hs256"}))
bad("alg list")(lambda world: world.forge({"alg": ["HS256"]}))
bad("crit")(lambda world: world.forge({"crit": ["exp"]}))
bad("crit empty")(lambda world: world.forge({"crit": []}))
bad("b64")(lambda world: world.forge({"b64": False, "crit": ["b64"]}))
bad("zip")(lambda world: world.forge({"zip": "DEF"}))
bad("jwk")(lambda world: world.forge({"jwk": {"kty": "oct", "k": "AAAA"}}))
bad("jku")(lambda world: world.forge({"jku": "https://attacker.example/keys"}))
bad("kid path")(lambda world: world.forge({"kid": "../../../../dev/null"}))
bad("kid lines")(lambda world: world.forge({"kid": "a\r\nforged-log-line: \x1b[31m\u2028"}))
bad("typ")(lambda world: world.forge({"typ": "JWT"}))
bad("other secret")(lambda world: world.forge(secret=OTHER_SECRET))
bad("exp text")(lambda world: world.forge(claims={"exp": "1999999999"}))
bad("exp true")(lambda world: world.forge(claims={"exp": True}))
bad("exp missing")(lambda world: world.forge(claims={"exp": ...}))
bad("exp nan")(lambda world: world.forge(claims=json.dumps({**_claims(world), "exp": float("nan")}).encode()))
bad("exp 1e400")(
    lambda world: world.forge(claims=json.dumps({**_claims(world), "exp": 0}).replace('"exp": 0', '"exp": 1e400').encode())
)
bad("exp long")(
    lambda world: world.forge(
        claims=json.dumps({**_claims(world), "exp": 0}).replace('"exp": 0', '"exp": ' + "9" * 4500).encode()
    )
)
bad("exp far")(lambda world: world.forge(claims={"exp": 1_750_000_000 + 100 * 365 * 86_400}))
bad("nbf")(lambda world: world.forge(claims={"nbf": 1_750_000_000 + 31}))
bad("iat")(lambda world: world.forge(claims={"iat": 1_750_000_000 + 31}))
bad("issuer")(lambda world: world.forge(claims={"iss": "jwtguard/"}))
bad("audience")(lambda world: world.forge(claims={"aud": "jwtguard2"}))
bad("duplicate")(lambda world: world.forge(claims=b'{"sub":"bob",' + json.dumps(_claims(world)).encode()[1:]))
bad("duplicate alg")(
    lambda world: world.forge(b'{"alg":"none",' + json.dumps(_decoded(world.made("good").split(".")[0])).encode()[1:])
)
bad("list")(lambda world: world.forge(claims=b"[1]"))
bad("utf16")(lambda world: world.forge(claims=json.dumps(_claims(world)).encode("utf-16")))
bad("bom")(lambda world: world.forge(claims=b"\xef\xbb\xbf" + json.dumps(_claims(world)).encode()))
bad("overlong")(lambda world: world.forge(claims=b'{"sub":"\xc0\xaf",' + json.dumps(_claims(world)).encode()[1:]))
bad("sub empty")(lambda world: world.forge(claims={"sub": ""}))
bad("sub nul")(lambda world: world.forge(claims={"sub": "alice\0"}))
bad("sub line")(lambda world: world.forge(claims={"sub": "alice\nbob"}))
bad("sub surrogate")(lambda world: world.forge(claims={"sub": "alice\ud800"}))
bad("sub long")(lambda world: world.forge(claims={"sub": "a" * 256}))
bad("sub huge")(lambda world: world.forge(claims={"sub": "a" * 1_000_000}))
bad("sub number")(lambda world: world.forge(claims={"sub": 5}))
bad("jti")(lambda world: world.forge(claims={"jti": "{}' OR 1=1 --"}))
bad("padded")(lambda world: world.made("good") + "=")
bad("cut")(lambda world: world.made("good")[:-1])
bad("signature")(lambda world: world.made("good").rsplit(".", 1)[0] + "." + _b64(bytes(32)))
bad("long")(lambda world: "a" * 100_000)
bad("dots")(lambda world: "." * 8000)
bad("five parts")(lambda world: "a.b.c.d.e")
bad("one part")(lambda world: "abcdefghijklmnop")
bad("mine for another")(
    lambda world: forge(
        header(kid=_decoded(world.made("good").split(".")[0])["kid"]),
        access_claims(iss="jwtguard", aud="jwtguard", sid=text_of_id(bytes(16)), jti=text_of_id(bytes(range(16))) + ".1"),
        secret=SECRET.encode(),
    ).decode()
)

BAD_TOKENS: Final = tuple(name for name in MAKERS if name.startswith("bad "))
