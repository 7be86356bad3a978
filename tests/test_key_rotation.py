"""Keys that change while the process runs: published before they sign, verifying as long as they are there, no longer."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from forging import b64
from key_kit import ALGORITHMS, a_key, jwk, private, put, write_pem, write_set
from rig import ModelStore, always
from wires import Wire, go_round, settled

from jwtguard import AsyncGuard, Guard, Settings
from jwtguard.errors import ConfigError, RefreshInvalid, StoreError, TokenInvalid
from jwtguard.keyfiles import KeyFiles
from jwtguard.keys import Keyring
from jwtguard.recall import digest_of
from jwtguard.rotation import LEAD, LOOK_EVERY, PUBLISHED_FOR, Rotation
from jwtguard.stores.memory import MemoryStore
from jwtguard.testing import FakeClock

ONE, TWO, THREE = (private(number=number) for number in range(3))


class World:
    """A folder or a set of keys, and guards over one store that go by it."""

    def __init__(self, path: Path, store: Callable[[FakeClock], Any] = MemoryStore, **settings: Any) -> None:
        self.clock = FakeClock()
        self.path = path
        self.store = store(self.clock)
        self.settings = Settings(keys=path, **settings)
        self.guard = self.another()

    def another(self) -> Guard:
        return Guard(self.settings, store=self.store, clock=self.clock)

    def now(self) -> float:
        return self.clock.time()

    def pass_time(self, seconds: float = LOOK_EVERY) -> None:
        self.clock.advance(seconds)

    def signer(self, guard: Guard | None = None) -> str:
        return kid((guard or self.guard).login("alice").access_token)


def kid(token: str) -> str:
    found: str = jwt.get_unverified_header(token)["kid"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir()
    write_pem(path, "one", ONE)
    return path


# -- with one key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ["set", "folder"])
def test_a_guard_with_keys(tmp_path: Path, form: str, algorithm: str) -> None:
    if form == "set":
        path = write_set(tmp_path / "keys.json", jwk(private(algorithm), "one"))
    else:
        path = tmp_path
        write_pem(path, "one", private(algorithm))
    world = World(path, algorithm=algorithm)
    pair = world.guard.login("alice", scopes=["read"])
    assert world.another().authenticate(pair.access_token).scopes == ("read",)
    theirs = jwt.decode(
        pair.access_token,
        jwt.PyJWKSet.from_dict(world.guard.core.keys.keyring.jwks())["one"],
        algorithms=[algorithm],
        audience="jwtguard",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert theirs["sub"] == "alice"
    newer = world.guard.refresh(pair.refresh_token)
    again = world.another().refresh(pair.refresh_token)
    is_deterministic = algorithm[:2] in ("Ed", "RS")
    assert (newer == again) is is_deterministic
    claims = [jwt.decode(token.access_token, options={"verify_signature": False}) for token in (newer, again)]
    assert claims[0] == claims[1], "the same generation in any case"
    for token in (newer, again):
        assert world.guard.authenticate(token.access_token).subject == "alice"


def test_keys_given_by_hand_are_what_they_are() -> None:
    keyring = Keyring([a_key("one"), a_key("two", "RS256")])
    guard = Guard.from_env(secret="kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi", store="memory://", keys=keyring)
    token = guard.login("alice").access_token
    assert (kid(token), guard.authenticate(token).key_id) == ("one", "one")
    assert not guard.core.keys.is_due()
    guard.core.keys.look()
    assert guard.authenticate(token).subject == "alice"


def test_keys_are_a_ring_or_a_path(folder: Path) -> None:
    for path in (folder, str(folder)):
        guard = Guard.from_env(store="memory://", keys=path)
        assert guard.authenticate(guard.login("alice").access_token).key_id == "one"
    with pytest.raises(ConfigError, match="keys is of type list: expected a Keyring, or the path"):
        Guard.from_env(secret="kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi", store="memory://", keys=[ONE])


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_C07_a_token_brings_no_key_along(folder: Path, name: str) -> None:
    """Signed by its own key, under a name of ours, with that key or the place of it in the header."""
    world = World(folder)
    claims = jwt.decode(world.guard.login("alice").access_token, options={"verify_signature": False})
    own: Any = {"jwk": jwk(TWO.public_key(), "one"), "x5c": ["AAAA"]}.get(name, "https://127.0.0.1:9/keys.json")
    for headers in ({name: own}, {}):
        forged = jwt.encode(claims, TWO, algorithm="EdDSA", headers={"kid": "one", "typ": "at+jwt", **headers})
        with pytest.raises(TokenInvalid):
            world.guard.authenticate(forged)


KIDS: list[Any] = ["../one", "one.pem", "/keys/one", "' OR 1=1 --", "one\0", "one\r\nx", "\ud800", "k" * 5000]
KIDS += ["", "*", 1, None, ["one"]]


@pytest.mark.parametrize("key_id", KIDS, ids=range(len(KIDS)))
def test_C08_an_unknown_id_looks_at_no_file(folder: Path, key_id: Any, caplog: pytest.LogCaptureFixture) -> None:
    world = World(folder)
    world.guard.core.keys._files = None  # type: ignore[attr-defined]
    claims = jwt.decode(world.guard.login("alice").access_token, options={"verify_signature": False})
    header = b64(json.dumps({"alg": "EdDSA", "kid": key_id, "typ": "at+jwt"}).encode())
    signed = header + b"." + b64(json.dumps(claims).encode())
    with pytest.raises(TokenInvalid):
        world.guard.authenticate((signed + b"." + b64(ONE.sign(signed))).decode())
    assert caplog.messages == []


@pytest.mark.parametrize(("own", "other"), [("RS256", "PS256"), ("PS256", "RS256"), ("RS256", "RS384"), ("ES256", "EdDSA")])
def test_C01_C03_another_algorithm_of_the_same_key_is_refused(tmp_path: Path, own: str, other: str) -> None:
    """The set doesn't say which: the configuration does, and never the token."""
    path = write_set(tmp_path / "keys.json", jwk(private(own), "one"))
    world = World(path, algorithm=own)
    token = world.guard.login("alice").access_token
    claims = jwt.decode(token, options={"verify_signature": False})
    key = private(own) if own != "ES256" else ONE
    forged = jwt.encode(claims, key, algorithm=other, headers={"kid": "one", "typ": "at+jwt"})
    rightly = jwt.encode(claims, private(own), algorithm=own, headers={"kid": "one", "typ": "at+jwt"})
    assert world.guard.authenticate(rightly).subject == "alice"
    with pytest.raises(TokenInvalid):
        world.guard.authenticate(forged)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_C05_the_public_key_is_nobodys_secret(tmp_path: Path, algorithm: str) -> None:
    """The oldest attack: HS256 with the public key as the secret."""
    path = write_set(tmp_path / "keys.json", jwk(private(algorithm), "one"))
    world = World(path, algorithm=algorithm)
    [public] = world.guard.core.keys.keyring.jwks()["keys"]
    claims = jwt.decode(world.guard.login("alice").access_token, options={"verify_signature": False})
    secret = json.dumps(public).encode()
    forged = jwt.PyJWS().encode(
        json.dumps(claims).encode(), secret[1:], algorithm="HS256", headers={"kid": "one", "typ": "at+jwt"}
    )
    with pytest.raises(TokenInvalid):
        world.guard.authenticate(forged)


def test_a_guard_with_public_keys_only_verifies(tmp_path: Path, folder: Path) -> None:
    world = World(folder)
    token = world.guard.login("alice").access_token
    theirs = World(write_set(tmp_path / "public.json", jwk(ONE.public_key(), "one")), lambda _: world.store)
    assert theirs.guard.authenticate(token).subject == "alice"
    with pytest.raises(ConfigError, match="this guard only verifies"):
        theirs.guard.login("bob")


def test_a_key_that_cannot_be_used_stops_the_process(folder: Path) -> None:
    put(folder / "two.pem", b"half a key", 0)
    with pytest.raises(ConfigError, match=r"two\.pem: found 0 PEM blocks"):
        World(folder)


def test_a_private_key_that_others_can_read_is_said_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "one.pem").chmod(0o644)
    World(folder)
    assert "one.pem holds a private key, and not only its owner can read it" in caplog.text


# -- a new key -------------------------------------------------------------------------------------------------------------


def published(guard: Guard) -> list[str]:
    return sorted(key["kid"] for key in guard.core.keys.keyring.jwks()["keys"])


def test_C80_a_new_key_is_published_before_it_signs(folder: Path) -> None:
    world = World(folder)
    write_pem(folder, "two", TWO, at=world.now())
    assert (world.signer(), published(world.guard)) == ("one", ["one"])
    world.pass_time()
    assert (world.signer(), published(world.guard)) == ("one", ["one", "two"])
    world.pass_time(LEAD - LOOK_EVERY - 1)
    assert (world.signer(), world.signer(world.another())) == ("one", "one")
    world.pass_time(LOOK_EVERY)
    assert (world.signer(), world.signer(world.another())) == ("two", "two")
    assert PUBLISHED_FOR * 2 <= LEAD


def test_C80_what_the_old_key_signed_is_good_as_long_as_it_is_there(folder: Path) -> None:
    world = World(folder)
    old = world.guard.login("alice")
    write_pem(folder, "two", TWO, at=world.now())
    world.pass_time(LEAD)
    world.pass_time()
    new = world.guard.login("alice")
    assert (kid(old.access_token), kid(new.access_token)) == ("one", "two")
    for guard in (world.guard, world.another()):
        assert {guard.authenticate(pair.access_token).subject for pair in (old, new)} == {"alice"}
    refreshed = world.guard.refresh(old.refresh_token)
    assert kid(refreshed.access_token) == kid(refreshed.refresh_token) == "two"
    (folder / "one.pem").unlink()
    world.pass_time()
    for guard in (world.guard, world.another()):
        assert guard.authenticate(refreshed.access_token).subject == "alice"
        with pytest.raises(TokenInvalid):
            guard.authenticate(old.access_token)


def test_C80_of_a_set_the_first_signs_once_it_is_known(tmp_path: Path) -> None:
    path = write_set(tmp_path / "keys.json", jwk(ONE, "one"), jwk(TWO, "two"))
    world = World(path)
    assert world.signer() == "one"
    write_set(path, jwk(TWO, "two"), jwk(ONE, "one"), at=world.now())
    world.pass_time()
    assert world.signer() == "two", "it was published all the time"
    write_set(path, jwk(THREE, "three"), jwk(TWO, "two"), jwk(ONE, "one"), at=world.now())
    world.pass_time()
    assert world.signer() == "two", "the first is new"
    world.pass_time(LEAD)
    assert world.signer() == "three"
    assert world.signer(world.another()) == "three"


def test_files_that_are_all_written_anew_change_nothing(folder: Path) -> None:
    """As Kubernetes does with a secret that it has mounted, whenever one key of it changes."""
    world = World(folder)
    write_pem(folder, "2-new", TWO, at=world.now())
    world.pass_time(LEAD)
    assert world.signer() == "2-new"
    for key_id, key in (("one", ONE), ("2-new", TWO), ("0-newest", THREE)):
        write_pem(folder, key_id, key, at=world.now())
    world.pass_time()
    assert world.signer() == "2-new"
    world.pass_time(LEAD)
    assert world.signer() == "0-newest"


def test_a_lost_answer_is_signed_by_the_key_that_signed_it(folder: Path) -> None:
    world = World(folder, rotation_grace=600)
    pair = world.guard.login("alice")
    world.guard.authenticate(pair.access_token)
    newer = world.guard.refresh(pair.refresh_token)
    write_pem(folder, "two", TWO)
    world.pass_time()
    assert world.guard.refresh(pair.refresh_token) == newer
    write_pem(folder, "one", ONE.public_key())
    world.pass_time()
    assert kid(world.guard.refresh(pair.refresh_token).access_token) == "two", "the old one can't sign any more"


# -- a key that is gone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["set", "folder"])
def test_C80_cached_tokens_die_with_their_key(tmp_path: Path, form: str) -> None:
    path = tmp_path / "keys"
    if form == "set":
        write_set(path, jwk(TWO, "two"), jwk(ONE, "one"))
    else:
        path.mkdir()
        write_pem(path, "one", ONE, at=1)
        write_pem(path, "two", TWO, at=2)
    world = World(path)
    other = Guard(Settings(keys=path), store=world.store, clock=world.clock)
    kept = world.guard.login("alice")
    write_set(path, jwk(ONE, "one"), jwk(TWO, "two")) if form == "set" else (path / "two.pem").touch()
    token = kept.access_token
    for guard in (world.guard, other):
        assert guard.authenticate(token).subject == "alice"
        assert guard.core.registry.recall(token.encode()) is not None
    write_set(path, jwk(ONE, "one")) if form == "set" else (path / "two.pem").unlink()
    for guard in (world.guard, other):
        assert guard.core.registry.recall(token.encode()) is not None, "until the next look"
    world.pass_time()
    for guard in (world.guard, other):
        assert guard.core.registry.recall(token.encode()) is None, "nobody has looked, so nothing is recalled"
        with pytest.raises(TokenInvalid):
            guard.authenticate(token)
        with pytest.raises(RefreshInvalid):
            guard.refresh(kept.refresh_token)
        with pytest.raises(RefreshInvalid):
            guard.perform(guard.core.operations.logout_by_refresh_token(kept.refresh_token))
        assert guard.core.registry.recall(token.encode()) is None
    assert world.signer() == "one"


def test_C80_another_key_under_the_same_id_is_another_key(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(folder)
    token = world.guard.login("alice").access_token
    world.guard.authenticate(token)
    write_pem(folder, "one", TWO)
    world.pass_time()
    with pytest.raises(TokenInvalid):
        world.guard.authenticate(token)
    assert caplog.messages == ["the key 'one' is withdrawn: nothing that it signed is accepted any more"]
    assert world.guard.authenticate(world.guard.login("alice").access_token).subject == "alice"


def test_C80_a_key_that_comes_back_verifies_again(folder: Path) -> None:
    """It is another object: what died with the first stays dead, and is verified anew."""
    write_pem(folder, "two", TWO, at=1)
    world = World(folder)
    token = world.guard.login("alice").access_token
    world.guard.authenticate(token)
    entry = world.guard.core.registry.table.get(digest_of(token.encode()))
    (folder / "two.pem").unlink()
    world.pass_time()
    world.guard.login("bob")
    write_pem(folder, "two", TWO, at=1)
    world.pass_time()
    assert world.guard.authenticate(token).subject == "alice"
    assert entry is not None
    assert not entry.key.alive


def test_a_warm_token_costs_no_second_verification_after_a_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(folder, ModelStore, cache_ttl=60)
    token = world.guard.login("alice").access_token
    world.guard.authenticate(token)
    world.store.calls.clear()
    monkeypatch.setattr(world.guard.core.tokens, "read_access", None)
    for _ in range(5):
        world.pass_time()
        assert world.guard.core.registry.recall(token.encode()) is None
        assert world.guard.authenticate(token).subject == "alice"
        assert world.guard.core.registry.recall(token.encode()) is not None
    assert world.store.calls == []


def test_stale_if_down_holds_with_keys_too_and_not_for_a_withdrawn_one(folder: Path) -> None:
    write_pem(folder, "two", TWO, at=1)
    world = World(folder, ModelStore, stale_if_down=60, cache_ttl=5)
    token = world.guard.login("alice").access_token
    world.guard.authenticate(token)
    flow = world.guard.core.authenticator.authenticate
    world.store.on_load = always(StoreError("the store is down"))
    world.pass_time(6)
    assert world.guard.perform(flow(token.encode(), may_be_stale=True)).subject == "alice"
    (folder / "two.pem").unlink()
    world.pass_time()
    with pytest.raises(TokenInvalid):
        world.guard.perform(flow(token.encode(), may_be_stale=True))


# -- what can't be read ----------------------------------------------------------------------------------------------------


def break_set(path: Path) -> None:
    put(path, b'{"keys": [', 5)


def lose(path: Path) -> None:
    path.unlink()


def hide(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def empty(path: Path) -> None:
    (path / "one.pem").unlink()


def break_one(path: Path) -> None:
    put(path / "one.pem", b"half", 5)


def replace_by_broken(path: Path) -> None:
    (path / "one.pem").unlink()
    put(path / "other.pem", b"half", 5)


BREAKS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a set that is broken": ("set", break_set, "expected a JWK Set"),
    "a set that is gone": ("set", lose, "can't be read: No such file"),
    "a folder that is gone": ("folder", hide, "can't be read: No such file"),
    "a folder that is empty": ("folder", empty, "has no file"),
    "a folder of which a broken file is left": ("folder", replace_by_broken, "found 0 PEM blocks"),
    "a folder with nothing but a broken file": ("folder", break_one, "found 0 PEM blocks"),
    "C19 a set with an id twice": (
        "set",
        lambda path: write_set(path, jwk(ONE, "x"), jwk(TWO, "x"), at=5),
        "two keys have the id 'x'",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_cannot_be_read_takes_no_key_away(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    form, spoil, why = BREAKS[name]
    path = tmp_path / "keys"
    if form == "set":
        write_set(path, jwk(ONE, "one"))
    else:
        path.mkdir()
        write_pem(path, "one", ONE)
    world = World(path)
    pair = world.guard.login("alice")
    spoil(path)
    for _ in range(4):
        world.pass_time()
        assert world.guard.authenticate(pair.access_token).subject == "alice"
    assert world.signer() == "one"
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert len(caplog.messages) == len(set(caplog.messages)), "each is said once"
    assert why in caplog.text
    if form == "set":
        write_set(path, jwk(TWO, "two"), at=6)
    else:
        path.mkdir(exist_ok=True)
        write_pem(path, "two", TWO, at=6)
        (path / "one.pem").unlink(missing_ok=True)
        (path / "other.pem").unlink(missing_ok=True)
    world.pass_time()
    with pytest.raises(TokenInvalid):
        world.guard.authenticate(pair.access_token)
    assert world.signer() == "two"


def test_C80_a_broken_file_keeps_no_other_key_alive(folder: Path) -> None:
    """One can't be withdrawn by breaking it, nor another be kept."""
    write_pem(folder, "two", TWO, at=1)
    write_pem(folder, "three", THREE, at=2)
    world = World(folder)
    by_three = world.guard.login("alice").access_token
    (folder / "three.pem").unlink()
    put(folder / "two.pem", b"half", 5)
    put(folder / "four.pem", b"half", 5)
    world.pass_time()
    with pytest.raises(TokenInvalid):
        world.guard.authenticate(by_three)
    assert (world.signer(), published(world.guard)) == ("two", ["one", "two"])


# -- who looks -------------------------------------------------------------------------------------------------------------


class Looks(KeyFiles):
    """Counts, and waits where a test wants it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "EdDSA")
        self.threads: list[str] = []
        self.on_look: Callable[[], object] = lambda: None

    def fingerprint(self) -> object:
        self.threads.append(threading.current_thread().name)
        self.on_look()
        return super().fingerprint()


def test_one_looks_and_the_others_go_on(folder: Path) -> None:
    clock, files = FakeClock(), Looks(str(folder))
    rotation = Rotation(files, clock)
    assert not rotation.is_due()
    clock.advance(LOOK_EVERY)
    assert rotation.is_due()
    due: list[bool] = []

    def meanwhile() -> None:
        due.append(rotation.is_due())
        rotation.look()

    files.on_look = meanwhile
    rotation.look()
    assert due == [False]
    assert len(files.threads) == 2, "the first of all, and one more"
    assert not rotation.is_due()


def test_a_file_that_goes_while_it_is_read_is_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(folder)
    (folder / "one.pem").touch()
    monkeypatch.setattr(KeyFiles, "read", always(FileNotFoundError(2, "No such file or directory")))
    world.pass_time()
    assert world.signer() == "one"


def test_no_look_on_an_event_loop(folder: Path) -> None:
    world = World(folder)
    files = Looks(str(folder))

    async def scene() -> None:
        guard = AsyncGuard(world.settings, store=MemoryStore(world.clock), clock=world.clock)
        guard.core.keys._files = files  # type: ignore[attr-defined]
        pair = await guard.login("alice")
        world.pass_time()
        await guard.authenticate(pair.access_token)
        await guard.authenticate(pair.access_token)
        await guard.close()

    asyncio.run(scene())
    assert len(files.threads) == 1
    assert "asyncio" in files.threads[0]


# -- what is open ----------------------------------------------------------------------------------------------------------


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


def test_C80_what_is_open_by_a_withdrawn_key_ends_and_nothing_else(folder: Path) -> None:
    """Nobody makes a request: the round finds out. The session has gone on to another key, and that helps no connection."""
    world = World(folder)

    async def scene() -> None:
        guard = AsyncGuard(world.settings, store=world.store, clock=world.clock)
        by_one = await guard.login("alice")
        write_pem(folder, "two", TWO, at=1)
        world.pass_time()
        by_two = await guard.login("alice")
        await guard.refresh(by_one.refresh_token)
        app = guard.wrap(echo)
        first, second = (Wire(app, "websocket", pair.access_token) for pair in (by_one, by_two))
        await first.until(1)
        await second.until(1)
        await settled(guard)
        (folder / "one.pem").unlink()
        await go_round(guard)
        assert (len(first.sent), len(second.sent)) == (1, 1), "the keys aren't due"
        world.pass_time()
        await go_round(guard)
        await first.until(2)
        assert first.sent[1] == {"type": "websocket.close", "code": 3000, "reason": "session_revoked"}
        await go_round(guard)
        assert len(second.sent) == 1
        await guard.close()

    asyncio.run(scene())


def test_C80_what_opens_while_its_key_is_withdrawn_ends(folder: Path) -> None:
    write_pem(folder, "two", TWO, at=1)
    world = World(folder)

    async def scene() -> None:
        guard = AsyncGuard(world.settings, store=world.store, clock=world.clock)
        pair = await guard.login("alice")
        identity = await guard.authenticate(pair.access_token)
        (folder / "two.pem").unlink()
        world.pass_time()
        guard.core.keys.look()
        wire = Connection()
        guard.core.live.enter(identity, wire, guard.perform)
        await settled(guard)
        assert wire.ended == ["session_revoked"]

    asyncio.run(scene())


class Connection:
    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, closing: Any) -> None:
        self.ended.append(closing.reason)


def test_C80_a_streamed_body_under_wsgi_ends(folder: Path) -> None:
    write_pem(folder, "two", TWO, at=1)
    world = World(folder)
    pair = world.guard.login("alice")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {pair.access_token}"}

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter([b"0", b"1", b"2", b"3"])

    body: Any = world.guard.wrap(app)(environ, lambda *_: None)
    assert next(body) == b"0"
    world.pass_time()
    assert next(body) == b"1"
    (folder / "two.pem").unlink()
    assert next(body) == b"2"
    world.pass_time()
    assert list(body) == []
