"""The records that users of jwtguard see. Frozen, without I/O, and without a word about HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

__all__ = ["ANONYMOUS", "Coherence", "Device", "Event", "Identity", "Session", "TokenPair", "one_of_equals", "read_only"]

T = TypeVar("T")

_HOLDERS: Final = frozenset({dict, list})
_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


def read_only(value: Any) -> Any:
    """A deeply immutable view of JSON data (mapping proxies and tuples): all requests with a token share one Identity."""
    if isinstance(value, dict):
        members = {name: read_only(one) if type(one) in _HOLDERS else one for name, one in value.items()}
        return MappingProxyType(members)
    return tuple(map(read_only, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """The JSON data that `read_only` was given."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, list | tuple) else value


def _no_claims() -> Mapping[str, Any]:
    return _NO_CLAIMS  # by a factory: before Python 3.12 a mapping proxy has no hash, so dataclasses take it for mutable


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session was opened.

    `name` is what a person can recognise ("Firefox on Linux"); `user_agent` is the header that it was read from, which is
    not kept in the store; `ip` is the address that the server reported.
    """

    name: str = ""
    user_agent: str | None = None
    ip: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"name": self.name, "user_agent": self.user_agent, "ip": self.ip}


@dataclass(frozen=True, slots=True)
class Session:
    """One active session of a user. Times are whole seconds since the epoch, by the store's clock."""

    id: str
    subject: str
    device: Device
    scopes: tuple[str, ...]
    created_at: int
    last_seen_at: int
    expires_at: int
    current: bool = False
    """Whether it is the session of the request that asked."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "id": self.id,
            "subject": self.subject,
            "device": self.device.to_dict(),
            "scopes": list(self.scopes),
            "created_at": self.created_at,
            "last_seen_at": self.last_seen_at,
            "expires_at": self.expires_at,
            "current": self.current,
        }

    def as_current(self, session_id: str | None) -> Session:
        """This session, marked as the current one if its id is `session_id`."""
        return replace(self, current=self.id == session_id)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login or a refresh answers: the members of RFC 6749 section 5.1. `expires_in` is in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    session_id: str
    token_type: str = "Bearer"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON. It holds the tokens: never log it."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": self.token_type,
            "expires_in": self.expires_in,
            "session_id": self.session_id,
        }


@lru_cache(4096, typed=True)
def one_of_equals(value: T) -> T:
    """The same object for equal values: many tokens have the same scopes, and expire in the same second."""
    return value


class _OfToken:
    """What an identity keeps of its token: the token's id, and as JSON each claim that its other fields don't tell."""

    __slots__ = ("_token",)
    _token: str


@dataclass(frozen=True, slots=True)
class Identity(_OfToken):
    """Who a request comes from. `claims` are all claims of the access token, read-only (its arrays are tuples);
    `expires_at` is its `exp`.

    It has the three members of Starlette's `BaseUser`, so it can be `request.user` as it stands.

    Tens of thousands are kept, and claims are most of what one takes. So one that a token gave has no `session_id`,
    `token_id` and `claims` of its own, and makes them when they are asked for: the last in some microseconds, each time.
    """

    subject: str
    session_id: str
    token_id: str
    scopes: tuple[str, ...]
    issuer: str
    expires_at: int
    claims: Mapping[str, Any] = field(default_factory=_no_claims, repr=False, compare=False)
    is_authenticated: bool = True
    key_id: str = field(default="", repr=False, compare=False)
    """The `kid` of the key that signed the token."""

    @classmethod
    def of_token(cls, claims: Mapping[str, Any], scopes: tuple[str, ...], issuer: str, key_id: str) -> Identity:
        """The identity that the claims of a verified access token give, with these scopes; `key_id` names its key."""
        identity = object.__new__(cls)
        told = _told(claims["sub"], claims["jti"], scopes, issuer, int(claims["exp"]))
        rest = {name: value for name, value in claims.items() if name not in told or not _is_same(told[name], value)}
        for name, value in (
            ("subject", claims["sub"]),
            ("scopes", one_of_equals(scopes)),
            ("issuer", issuer),
            ("expires_at", one_of_equals(told["exp"])),
            ("is_authenticated", True),
            ("key_id", key_id),
            ("_token", claims["jti"] + _encode(rest)),
        ):
            object.__setattr__(identity, name, value)
        return identity

    def with_scopes(self, scopes: tuple[str, ...]) -> Identity:
        """The identity that the same token gives, with other scopes."""
        return Identity.of_token(_plain(self.claims), scopes, self.issuer, self.key_id)

    if TYPE_CHECKING:
        ...  # to a type checker there are no names but the fields
    else:

        def __getattr__(self, name: str) -> Any:
            """A field that has no value of its own."""
            if name not in _MADE:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            token_id, _, rest = self._token.partition("{")
            if name == "token_id":
                return token_id
            if name == "session_id":
                return token_id.partition(".")[0]
            told = _told(self.subject, token_id, self.scopes, self.issuer, self.expires_at)
            return read_only(told | json.loads("{" + rest))

    @property
    def identity(self) -> str:
        """The subject (Starlette's name for it)."""
        return self.subject

    @property
    def authenticated_at(self) -> int | None:
        """When the user proved who they are (`auth_time`), in seconds since the epoch; None if the token doesn't say."""
        return self.claims.get("auth_time")

    @property
    def display_name(self) -> str:
        """The `name` claim where the token has one, else the subject."""
        name = self.claims.get("name")
        return name if isinstance(name, str) and name else self.subject

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON. It may be changed: identities are kept between requests, and none of it is theirs."""
        return {
            "subject": self.subject,
            "session_id": self.session_id,
            "token_id": self.token_id,
            "scopes": list(self.scopes),
            "issuer": self.issuer,
            "expires_at": self.expires_at,
            "claims": _plain(self.claims),
            "is_authenticated": self.is_authenticated,
            "key_id": self.key_id,
        }


_MADE: Final = frozenset({"claims", "session_id", "token_id"})


_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def _told(subject: str, token_id: str, scopes: tuple[str, ...], issuer: str, expires_at: int) -> dict[str, Any]:
    """The claims that an identity's fields tell, where its token says nothing else."""
    return {
        "iss": issuer,
        "aud": issuer,
        "sub": subject,
        "exp": expires_at,
        "sid": token_id.partition(".")[0],
        "jti": token_id,
        "scope": " ".join(scopes),
    }


def _is_same(told: object, value: object) -> bool:
    return told == value and type(told) is type(value)


ANONYMOUS: Final = Identity("", "", "", (), "", 0, is_authenticated=False)
"""The identity of a request without a token, where one is allowed."""


@dataclass(frozen=True, slots=True)
class Coherence:
    """How a guard learns of endings elsewhere.

    `state`: `exact` (the store is looked at on each request, or is this process's own), `pushed` (endings arrive as they
    happen), `push_down` (they should, and don't at present), `cached` (the store announces nothing). `bound`: seconds until
    an ending is seen at the latest; under `pushed` it is what holds if the channel is cut this moment.
    """

    state: Literal["exact", "pushed", "push_down", "cached"]
    bound: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"state": self.state, "bound": self.bound}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, told once, by the process that did it. It holds no token and no secret.

    `name`: `opened`, `refreshed`, `refresh_replayed` (an older token got the same answer again, within its grace),
    `refresh_reused`, `revoked`, `evicted`, `expired`, `rejected`, `store_behind` (the store has lost writes), `store_down`,
    `store_up`, `push_down`, `push_up`.
    `session_id` is None where several sessions are meant, or none, and `subject` empty where all users are.
    `code`: why. `status`: the HTTP status of what was rejected. `device` and `ip`: where it was asked for, as far as known.
    `count`: how many sessions it opened or ended; None where that isn't known. `time`: seconds since the epoch. `detail`: a
    sentence for operators, where there is more to say.
    """

    name: str
    subject: str = ""
    session_id: str | None = None
    code: str = ""
    status: int | None = None
    device: str = ""
    ip: str | None = None
    count: int | None = 0
    time: float = 0.0
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
