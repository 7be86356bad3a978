"""Minting and reading jwtguard's own tokens: the claims of each kind, on top of `jws`, which has the signature.

- Every claim that we rely on is there, of its own type, and in range; `iss` and `aud` are exactly ours.
- Each kind of token has its own `typ` and is never taken for another kind (RFC 8725 section 3.12).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from .clock import Clock
from .errors import AuthError, RefreshExpired, RefreshInvalid, TokenExpired, TokenInvalid
from .jws import Reader, Refused, from_base64url, length, refuse, to_base64url, write
from .keys import Key, Keyring

__all__ = ["RESERVED_CLAIMS", "Access", "Refresh", "Ticket", "Tokens", "access_of", "token_bytes"]

T = TypeVar("T")

CLOCK_SKEW: Final = 30
"""Seconds that `iat` and `nbf` may lie in the future: another machine's clock may be ahead."""
MAX_NUMERIC_DATE: Final = 253_402_300_799
"""The last second of the year 9999: no honest date is beyond it."""
TICKET_TTL: Final = 300
ID_BYTES: Final = 16
_LONGEST_ID: Final = (bytes(ID_BYTES), 999_999_999)
_ID_LENGTH: Final = 22
"""Characters of a session id as text."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TOKEN_ID = re.compile(r"([A-Za-z0-9_-]{21}[AQgw])\.([1-9][0-9]{0,8})")  # 16 bytes as base64url: the last two bits are zero

RESERVED_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "scope", "cnf", "act", "client_id", "auth_time"}
)
"""Claims that are jwtguard's to set, or that a standard gives a meaning which an app must not fake."""


_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Kind(NamedTuple):
    """A kind of token: its `typ`, and the errors of a token that is expected to be of this kind."""

    typ: str
    invalid: type[AuthError]
    expired: type[AuthError]


ACCESS: Final = Kind("at+jwt", TokenInvalid, TokenExpired)
REFRESH: Final = Kind("rt+jwt", RefreshInvalid, RefreshExpired)
TICKET: Final = Kind("session-choice+jwt", TokenInvalid, TokenExpired)


class Access(NamedTuple):
    """A verified access token. Times in seconds; `claims` is the whole payload."""

    subject: str
    session_id: bytes
    generation: int
    scopes: tuple[str, ...]
    expires_at: int | float
    claims: Mapping[str, Any]
    key: Key
    """That has signed it."""


class Refresh(NamedTuple):
    """A verified refresh token, with the custom claims that the next access token is to carry."""

    subject: str
    session_id: bytes
    generation: int
    claims: dict[str, Any]


class Ticket(NamedTuple):
    """A verified ticket: this user may end one of the sessions that `listing` names."""

    subject: str
    listing: str


class Tokens:
    """Mints and reads the tokens of one issuer and audience.

    Arguments: `leeway`, seconds that a token may be past its `exp`; `max_token`, bytes; `longest`, the longest life in
    seconds that a token may claim; `room`, bytes that a token may have because it will be in a cookie, None if it won't.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        issuer: str,
        audience: str,
        leeway: float,
        max_token: int,
        longest: float,
        clock: Clock,
        room: int | None = None,
    ) -> None:
        self.keyring = keyring
        self._room = room
        self.issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self.max_token = max_token
        self._longest = longest
        self._clock = clock
        self._reader = Reader(keyring, max_token)

    # -- minting -----------------------------------------------------------------------------------------------------------

    def mint_access(
        self,
        subject: str,
        token_id: tuple[bytes, int],
        *,
        key_id: str,
        issued_at: int,
        expires_at: int,
        authenticated_at: int,
        scopes: tuple[str, ...],
        claims: Mapping[str, Any],
    ) -> str:
        """An access token, with the `typ` and claims of RFC 9068 but `client_id`: there is no OAuth client.

        `token_id` is the session's id and generation. The same arguments give the same bytes.
        """
        own = _access_claims(token_id, (issued_at, expires_at, authenticated_at), scopes, claims)
        return self._mint(ACCESS, key_id, subject, own)

    def mint_refresh(
        self,
        subject: str,
        token_id: tuple[bytes, int],
        *,
        key_id: str,
        issued_at: int,
        expires_at: int,
        claims: Mapping[str, Any],
    ) -> str:
        """A refresh token, which carries the custom claims from one access token to the next."""
        return self._mint(REFRESH, key_id, subject, _refresh_claims(token_id, issued_at, expires_at, claims))

    def mint_ticket(self, subject: str, listing: str) -> str:
        """A ticket that lets this user end one of the listed sessions, within five minutes."""
        now = int(self._clock.time())
        own = {"iat": now, "exp": now + TICKET_TTL, "listing": listing}
        return self._mint(TICKET, self.keyring.signing.id, subject, own)

    def check_that_they_fit(
        self, subject: str, scopes: tuple[str, ...], claims: Mapping[str, Any], carried: Mapping[str, Any]
    ) -> None:
        """That the tokens of a session will never be too long, before there is one. Raises ValueError.

        `claims` are the access token's, `carried` those that the refresh token carries. Nothing is signed for it.
        """
        late, key = MAX_NUMERIC_DATE, self.keyring.signing
        access = _access_claims(_LONGEST_ID, (late, late, late), scopes, claims)
        refresh = _refresh_claims(_LONGEST_ID, late, late, carried)
        for kind, own in ((ACCESS, access), (REFRESH, refresh)):
            self._check_length(length(self._payload(subject, own), key, kind.typ))

    def _mint(self, kind: Kind, key_id: str, subject: str, own: dict[str, Any]) -> str:
        token = write(self._payload(subject, own), self.keyring.key_for_reissue(key_id), kind.typ)
        self._check_length(len(token))
        return token.decode()

    def _payload(self, subject: str, own: dict[str, Any]) -> bytes:
        return _encoder.encode({"iss": self.issuer, "aud": self._audience, "sub": subject, **own}).encode()

    def _check_length(self, found: int) -> None:
        if self._room is not None and found > self._room:
            raise ValueError(
                f"the token would be {found} bytes long, and a cookie holds {self._room}: "
                "use fewer or shorter claims and scopes"
            )
        if found > self.max_token:
            raise ValueError(
                f"the token would be {found} bytes long, and JWTGUARD_MAX_TOKEN allows {self.max_token}: "
                "use fewer or shorter claims and scopes"
            )

    # -- reading -----------------------------------------------------------------------------------------------------------

    def read_access(self, token: bytes) -> Access:
        """Verify an access token. Raises TokenInvalid, TokenExpired."""
        return self._read(ACCESS, token, access_of)

    def read_refresh(self, token: bytes) -> Refresh:
        """Verify a refresh token. Raises RefreshInvalid, RefreshExpired."""
        return self._read(REFRESH, token, _refresh)

    def read_ticket(self, token: bytes) -> Ticket:
        """Verify a ticket. Raises TokenInvalid, TokenExpired."""
        return self._read(TICKET, token, _ticket)

    def failed_check(self, token: bytes) -> str | None:
        """The check that an access token fails, in a word or two; None if only its time may be over. For whoever holds the
        keys and wants to know: no client is told."""
        try:
            self._checked(ACCESS, token, access_of)
        except Refused as why:
            return str(why)
        except (ValueError, RecursionError):
            return "encoding"
        return None

    def _read(self, kind: Kind, token: bytes, shape: Callable[[dict[str, Any], Key], T]) -> T:
        read = self._try_to_read(kind, token, shape)
        if read is None:  # raised out here, so that nothing of the token ends up in a log by way of a cause or a context
            raise kind.invalid
        found, expires_at = read
        if self._clock.time() >= expires_at + self._leeway:
            raise kind.expired
        return found

    def _try_to_read(
        self, kind: Kind, token: bytes, shape: Callable[[dict[str, Any], Key], T]
    ) -> tuple[T, int | float] | None:
        try:
            return self._checked(kind, token, shape)
        except (ValueError, RecursionError):
            return None

    def _checked(self, kind: Kind, token: bytes, shape: Callable[[dict[str, Any], Key], T]) -> tuple[T, int | float]:
        """What a token says, and its `exp`, which is for later, when all else holds. Raises ValueError, RecursionError."""
        claims, key = self._reader.read(token, kind.typ)
        if claims.get("iss") != self.issuer or not _names(claims.get("aud"), self._audience):
            refuse("issuer or audience")
        expires_at = self._check_times(claims, TICKET_TTL if kind is TICKET else self._longest)
        return shape(claims, key), expires_at

    def _check_times(self, claims: dict[str, Any], longest: float) -> int | float:
        """That all dates are in range, and answers `exp`. Expiry itself is judged last, when all else holds."""
        now = self._clock.time()
        expires_at, issued_at = _date(claims.get("exp")), _date(claims.get("iat"))
        not_before = _date(claims.get("nbf", issued_at))
        if max(issued_at, not_before) > now + CLOCK_SKEW or expires_at - issued_at > longest:
            refuse("dates")
        return expires_at


def token_bytes(token: str | bytes) -> bytes:
    """A token as bytes; text that isn't ASCII becomes bytes that no token consists of."""
    if not isinstance(token, str | bytes):
        raise TypeError(f"a token is a str, and not {type(token).__name__}")
    return token.encode("utf-8", "replace") if isinstance(token, str) else token


def text_of_id(session_id: bytes) -> str:
    """A session id as text: 22 characters of base64url."""
    return to_base64url(session_id).decode()


def id_of_text(text: str) -> bytes | None:
    """The session id that `text_of_id` wrote; None if it is anything else."""
    try:
        return _token_id(text + ".1")[0]
    except Refused:
        return None


def token_id_text(session_id: bytes, generation: int) -> str:
    """A token's `jti`."""
    return f"{text_of_id(session_id)}.{generation}"


def read_token_id(text: str) -> tuple[bytes, int]:
    """The session id and the generation of a `jti` that `token_id_text` wrote."""
    return _token_id(text)


# -- what each kind holds ----------------------------------------------------------------------------------------------


def _access_claims(
    token_id: tuple[bytes, int], times: tuple[int, int, int], scopes: tuple[str, ...], claims: Mapping[str, Any]
) -> dict[str, Any]:
    issued_at, expires_at, authenticated_at = times
    own = {"iat": issued_at, "exp": expires_at, "auth_time": authenticated_at}
    names = {"sid": text_of_id(token_id[0]), "scope": " ".join(scopes), "jti": token_id_text(*token_id)}
    return {**own, **names, **claims}


def _refresh_claims(
    token_id: tuple[bytes, int], issued_at: int, expires_at: int, claims: Mapping[str, Any]
) -> dict[str, Any]:
    return {"iat": issued_at, "exp": expires_at, "jti": token_id_text(*token_id), "claims": dict(claims)}


def access_of(claims: Mapping[str, Any], key: Key) -> Access:
    """What the claims of an access token say, and have to say. `key` has signed it. Raises Refused."""
    session_id, generation = _token_id(claims.get("jti"))
    if claims.get("sid") != claims["jti"][:_ID_LENGTH]:
        refuse("sid")
    if "auth_time" in claims:
        _date(claims["auth_time"])
    scopes = tuple(_text(claims.get("scope")).split())
    return Access(_subject(claims), session_id, generation, scopes, claims["exp"], claims, key)


def _refresh(claims: dict[str, Any], _key: Key) -> Refresh:
    custom = claims.get("claims")
    if not isinstance(custom, dict):
        refuse("claims")
    return Refresh(_subject(claims), *_token_id(claims.get("jti")), custom)


def _ticket(claims: dict[str, Any], _key: Key) -> Ticket:
    return Ticket(_subject(claims), _text(claims.get("listing")))


def _subject(claims: Mapping[str, Any]) -> str:
    subject = _text(claims.get("sub"))
    if not is_subject(subject):
        refuse("sub")
    return subject


def is_subject(text: str) -> bool:
    """Whether this can be a subject: 1 to 255 bytes of UTF-8, no control characters, no surrogates."""
    if _CONTROL.search(text[:256]):
        return False
    try:
        return 1 <= len(text[:256].encode()) <= 255
    except UnicodeEncodeError:
        return False


def _token_id(text: object) -> tuple[bytes, int]:
    match = _TOKEN_ID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        refuse("jti")
    return from_base64url(match[1].encode()), int(match[2])


def _names(audience: object, ours: str) -> bool:
    """Whether `aud` (RFC 7519 section 4.1.3: a string or a list of them) names this service."""
    if isinstance(audience, list):
        return all(isinstance(one, str) for one in audience) and ours in audience
    return audience == ours


def _date(value: Any) -> int | float:
    """RFC 7519 section 2, NumericDate: a JSON number. True and "1999999999" are none."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_NUMERIC_DATE:
        refuse("date")
    return value  # type: ignore[no-any-return]


def _text(value: object) -> str:
    if not isinstance(value, str):
        refuse("text")
    return value
