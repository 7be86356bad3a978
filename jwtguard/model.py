"""The records that users of jwtguard see. Frozen, without I/O, and without a word about HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal

__all__ = ["ANONYMOUS", "Coherence", "Device", "Event", "Identity", "Session", "TokenPair", "read_only"]

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


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from. `claims` are all claims of the access token, read-only (its arrays are tuples);
    `expires_at` is its `exp`.

    It has the three members of Starlette's `BaseUser`, so it can be `request.user` as it stands.
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
    """Something that happened, for `on_event`. It holds no token.

    `name`: `opened`, `refreshed`, `refresh_replayed` (an older token got the same answer again, within its grace),
    `refresh_reused`, `revoked`, `evicted`, `store_behind` (the store has lost writes), `store_down`, `store_up`,
    `push_down`, `push_up`.
    `session_id` is None where all of a user's sessions are meant; `subject` is empty where all users are.
    """

    name: str
    subject: str = ""
    session_id: str | None = None
