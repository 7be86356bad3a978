"""A guard's parts over a store that the test controls, for tests that drive flows themselves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from documents import POLICY

from jwtguard.authentication import Authenticator
from jwtguard.commits import Committer
from jwtguard.context import REQUEST
from jwtguard.document import Document, decode, document_key, everyone_key
from jwtguard.errors import StoreError
from jwtguard.flow import Flow, Need, Pause, Wait
from jwtguard.health import Health
from jwtguard.keys import Key, Keyring
from jwtguard.model import ANONYMOUS, Event, Identity, TokenPair
from jwtguard.operations import ClaimsLoader, Operations
from jwtguard.registry import LONGEST, Registry, Watch
from jwtguard.rotation import FixedKeys
from jwtguard.stores.base import Loaded, Pushed, Store
from jwtguard.telemetry import Telemetry
from jwtguard.testing import FakeClock
from jwtguard.tokens import Tokens, id_of_text

T = TypeVar("T")

ISSUER = "tests"
EVERYONE = everyone_key(ISSUER)
ALICE = document_key(ISSUER, "alice")
DOWN = StoreError("the store is down")


def nothing(_key: bytes) -> None:
    """What happens at a call of the store unless a test wants something."""


def always(error: BaseException) -> Callable[[bytes], None]:
    """A hook that raises."""

    def fail(_key: bytes) -> None:
        raise error

    return fail


def once(error: BaseException) -> Callable[[bytes], None]:
    """A hook that raises the first time."""
    left = [error]

    def fail(_key: bytes) -> None:
        if left:
            raise left.pop()

    return fail


class ModelStore:
    """A dict, and hooks by which a test makes it fail, or lets others come between.

    `on_load` and `on_save` are called before, `on_saved` after the save took effect; what they raise, the call raises.
    """

    blocking = False

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.documents: dict[bytes, tuple[bytes, bytes]] = {}
        self.calls: list[tuple[str, bytes]] = []
        self.on_load: Callable[[bytes], None] = nothing
        self.on_save: Callable[[bytes], None] = nothing
        self.on_saved: Callable[[bytes], None] = nothing

    def load(self, key: bytes) -> Loaded:
        self.calls.append(("load", key))
        self.on_load(key)
        data, version = self.documents.get(key, (None, None))
        return Loaded(data, version, int(self.clock.time() * 1000))

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        self.calls.append(("save", key))
        self.on_save(key)
        saved = self.swap(key, data, expected, version)
        self.on_saved(key)
        return saved

    def swap(self, key: bytes, data: bytes, expected: bytes | None, version: bytes) -> bool:
        if self.documents.get(key, (None, None))[1] != expected:
            return False
        self.documents[key] = (data, version)
        return True

    def close(self) -> None: ...

    def count(self, verb: str, key: bytes = ALICE) -> int:
        return self.calls.count((verb, key))


class AsyncModel:
    """A ModelStore, awaited: each call gives the event loop a turn before it takes effect."""

    def __init__(self, inner: ModelStore) -> None:
        self.inner = inner

    async def load(self, key: bytes) -> Loaded:
        await asyncio.sleep(0)
        return self.inner.load(key)

    async def save(
        self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool
    ) -> bool:
        await asyncio.sleep(0)
        return self.inner.save(key, data, expected=expected, version=version, expires_at=expires_at, ends=ends)

    async def close(self) -> None: ...


def make_keyring() -> Keyring:
    return Keyring([Key("keyid-01", "HS256", b"s" * 32)])


def make_tokens(clock: FakeClock, keyring: Keyring, *, max_token: int = 8192, leeway: float = 0.0) -> Tokens:
    return Tokens(
        keyring,
        issuer=ISSUER,
        audience=ISSUER,
        leeway=leeway,
        max_token=max_token,
        longest=90 * 86_400,
        clock=clock,
    )


class Rig:
    """One guard's parts. Whatever isn't named here is a field of the policy."""

    def __init__(
        self,
        store: Store | None = None,
        clock: FakeClock | None = None,
        *,
        tokens: Any = None,
        keys: FixedKeys | None = None,
        registry: type[Registry] = Registry,
        committer: type[Committer] = Committer,
        size: int = 100,
        longest: float = LONGEST,
        ttl: float = 5.0,
        patience: float = 2.0,
        watch: Watch | None = None,
        pushed: Pushed | None = None,
        stale_if_down: float = 0.0,
        leeway: float = 0.0,
        max_token: int = 8192,
        claims_loader: ClaimsLoader | None = None,
        **policy: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.model = ModelStore(self.clock)
        self.store: Store = store or self.model
        self.events: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.keys = keys or FixedKeys(make_keyring())
        self.tokens: Tokens = tokens or make_tokens(self.clock, self.keys.keyring, max_token=max_token, leeway=leeway)
        self.policy = POLICY._replace(**policy)
        self.telemetry = Telemetry(self.clock, [self.take])
        self.reading = Health("read", self.telemetry, self.clock.monotonic)
        self.writing = Health("write", self.telemetry, self.clock.monotonic)
        self.registry = registry(
            everyone=EVERYONE,
            ttl=ttl,
            size=size,
            patience=patience,
            clock=self.clock,
            health=self.reading,
            watch=watch,
            pushed=pushed,
            longest=longest,
        )
        self.committer = committer(
            self.registry,
            self.policy,
            patience=patience,
            clock=self.clock,
            health=self.writing,
            tell=self.telemetry.tell,
        )
        shared: dict[str, Any] = {
            "tokens": self.tokens,
            "keys": self.keys,
            "registry": self.registry,
            "committer": self.committer,
            "policy": self.policy,
            "clock": self.clock,
            "telemetry": self.telemetry,
        }
        self.authenticator = Authenticator(leeway=leeway, stale_if_down=stale_if_down, **shared)
        self.operations = Operations(claims_loader=claims_loader, **shared)

    def take(self, event: Event) -> None:
        """Events: of the store by their names, others with their subjects; refusals raise, so tests see them anyway."""
        if event.name.endswith(("_down", "_up")):
            self.told.append(event.name)
        elif event.name != "rejected":
            self.events.append((event.name, event.subject))

    # -- driving: nothing ever waits, and a pause moves the clock

    def perform(self, need: Need) -> Any:
        if isinstance(need, Pause):
            self.clock.advance(need.seconds)
            return None
        if isinstance(need, Wait):
            assert need.future.done(), "alone, a flow waits for no other"
        return need.perform(self.store)

    def do(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            need = next(flow)
            while True:
                try:
                    result = self.perform(need)
                except BaseException as error:  # noqa: BLE001 - as the drivers do
                    need = flow.throw(error)
                else:
                    need = flow.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value

    # -- short ways

    def login(self, user: object = "alice", **arguments: Any) -> TokenPair:
        return self.do(self.operations.login(user, **arguments))

    def refresh(self, pair: TokenPair) -> TokenPair:
        return self.do(self.operations.refresh(pair.refresh_token))

    def authenticate(self, pair: TokenPair, *, may_be_stale: bool = False) -> Identity:
        token = pair.access_token.encode()
        return self.do(self.authenticator.authenticate(token, may_be_stale=may_be_stale))

    def recall(self, pair: TokenPair) -> Identity | None:
        return self.registry.recall(pair.access_token.encode())

    def revoke(self, pair: TokenPair, user: str = "alice") -> bool:
        return self.do(self.operations.revoke(user, pair.session_id))

    def logged_in(self, user: object = "alice", **arguments: Any) -> TokenPair:
        """A session that has been used, and its lease in the registry."""
        pair = self.login(user, **arguments)
        self.authenticate(pair)
        return pair

    def document(self, user: str = "alice") -> Document:
        return decode(self.model.documents.get(document_key(ISSUER, user), (None, None))[0], user)

    def is_at_rest(self) -> bool:
        """Whether no flow has left anything behind that another would wait for."""
        return not self.registry._fills and not self.committer._turns._queues

    def another(self, **settings: Any) -> Rig:
        """Another process on the same store: nothing is shared but the store and the clock."""
        other = Rig(self.model, self.clock, **settings)
        other.model = self.model
        return other


def session_id(pair: TokenPair) -> bytes:
    found = id_of_text(pair.session_id)
    assert found is not None
    return found


def claims_of(token: str) -> dict[str, Any]:
    """A token's payload, unverified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@contextmanager
def request(identity: Identity = ANONYMOUS, **environ: str) -> Iterator[dict[str, Any]]:
    """A request that is the current one, with an identity."""
    current: dict[str, Any] = {**environ, "jwtguard.identity": identity}
    token = REQUEST.set(current)
    try:
        yield current
    finally:
        REQUEST.reset(token)
