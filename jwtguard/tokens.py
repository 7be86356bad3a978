"""Minting and reading jwtguard's own tokens. The only module that uses PyJWT.

PyJWT makes and checks the signature. Around it stands a stricter reader, since PyJWT accepts what a verifier should refuse
(text that is not canonical base64url, duplicate names, other encodings than UTF-8, dates that are not numbers):

- Before any decoding: at most `max_token` bytes, three segments of base64url characters, and nothing else.
- The header names a key that we have, just that key's algorithm, the expected `typ`, and nothing that changes the meaning
  of the rest (`crit`, `b64`, `zip` and what would bring a key along are refused). No payload is read before the signature
  holds.
- The payload is a JSON object in UTF-8 without duplicate names; every claim that we rely on is there, of its own type, and
  in range; `iss` and `aud` are exactly ours.
- Each kind of token has its own `typ` and is never taken for another kind (RFC 8725 section 3.12).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import jwt

from .clock import Clock
from .errors import AuthError, RefreshExpired, RefreshInvalid, TokenExpired, TokenInvalid
from .keys import Keyring

__all__ = ["RESERVED_CLAIMS", "Access", "Refresh", "Ticket", "Tokens", "token_bytes"]

T = TypeVar("T")

CLOCK_SKEW: Final = 30
"""Seconds that `iat` and `nbf` may lie in the future: another machine's clock may be ahead."""
MAX_NUMERIC_DATE: Final = 253_402_300_799
"""The last second of the year 9999: no honest date is beyond it."""
TICKET_TTL: Final = 300
DEEPEST: Final = 64
"""Levels of objects and arrays in a token's payload, at most."""
ID_BYTES: Final = 16

_TOKEN = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TOKEN_ID = re.compile(r"([A-Za-z0-9_-]{22})\.([1-9][0-9]{0,8})")
_HEADER_NAMES: Final = frozenset({"alg", "kid", "typ"})

RESERVED_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "scope", "cnf", "act", "client_id", "auth_time"}
)
"""Claims that are jwtguard's to set, or that a standard gives a meaning which an app must not fake."""


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
    claims: dict[str, Any]


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


class _Refused(Exception):
    """A check failed. The message names the check, for a debugger only: no client and no log sees it."""


class Tokens:
    """Mints and reads the tokens of one issuer and audience.

    Arguments: `leeway`, seconds that a token may be past its `exp`; `max_token`, bytes; `longest`, the longest life in
    seconds that a token may claim.
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
    ) -> None:
        self.keyring = keyring
        self.issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._max_token = max_token
        self._longest = longest
        self._clock = clock
        self._jws = jwt.PyJWS()

    # -- minting -----------------------------------------------------------------------------------------------------------

    def mint_access(
        self,
        subject: str,
        token_id: tuple[bytes, int],
        *,
        key_id: str,
        issued_at: int,
        expires_at: int,
        scopes: tuple[str, ...],
        claims: Mapping[str, Any],
    ) -> str:
        """An access token, with the `typ` and claims of RFC 9068 but `client_id`: there is no OAuth client.

        `token_id` is the session's id and generation. The same arguments give the same bytes.
        """
        times = {"iat": issued_at, "exp": expires_at, "sid": text_of_id(token_id[0]), "scope": " ".join(scopes)}
        return self._mint(ACCESS, key_id, subject, {**times, "jti": token_id_text(*token_id), **claims})

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
        own = {"iat": issued_at, "exp": expires_at, "jti": token_id_text(*token_id), "claims": dict(claims)}
        return self._mint(REFRESH, key_id, subject, own)

    def mint_ticket(self, subject: str, listing: str) -> str:
        """A ticket that lets this user end one of the listed sessions, within five minutes."""
        now = int(self._clock.time())
        own = {"iat": now, "exp": now + TICKET_TTL, "listing": listing}
        return self._mint(TICKET, self.keyring.signing.id, subject, own)

    def _mint(self, kind: Kind, key_id: str, subject: str, claims: dict[str, Any]) -> str:
        key = self.keyring.key_for_reissue(key_id)
        payload = {"iss": self.issuer, "aud": self._audience, "sub": subject, **claims}
        text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        headers = {"typ": kind.typ, "kid": key.id}
        token = self._jws.encode(text.encode(), key.secret, algorithm=key.algorithm, headers=headers)
        if len(token) > self._max_token:
            raise ValueError(
                f"the token would be {len(token)} bytes long, and JWTGUARD_MAX_TOKEN allows {self._max_token}: "
                "use fewer or shorter claims and scopes"
            )
        return token

    # -- reading -----------------------------------------------------------------------------------------------------------

    def read_access(self, token: bytes) -> Access:
        """Verify an access token. Raises TokenInvalid, TokenExpired."""
        return self._read(ACCESS, token, _access)

    def read_refresh(self, token: bytes) -> Refresh:
        """Verify a refresh token. Raises RefreshInvalid, RefreshExpired."""
        return self._read(REFRESH, token, _refresh)

    def read_ticket(self, token: bytes) -> Ticket:
        """Verify a ticket. Raises TokenInvalid, TokenExpired."""
        return self._read(TICKET, token, _ticket)

    def _read(self, kind: Kind, token: bytes, shape: Callable[[dict[str, Any]], T]) -> T:
        read = self._try_to_read(kind, token, shape)
        if read is None:  # raised out here, so that nothing of the token ends up in a log by way of a cause or a context
            raise kind.invalid
        found, expires_at = read
        if self._clock.time() >= expires_at + self._leeway:
            raise kind.expired
        return found

    def _try_to_read(self, kind: Kind, token: bytes, shape: Callable[[dict[str, Any]], T]) -> tuple[T, int | float] | None:
        try:
            claims = self._verified_claims(kind, token)
            expires_at = self._check_times(claims, TICKET_TTL if kind is TICKET else self._longest)
            return shape(claims), expires_at
        except (_Refused, jwt.PyJWTError, ValueError, RecursionError):
            return None

    def _verified_claims(self, kind: Kind, token: bytes) -> dict[str, Any]:
        if len(token) > self._max_token or _TOKEN.fullmatch(token) is None:
            _refuse("form")
        header_text, payload_text, signature_text = token.split(b".")
        header = _json_object(_from_base64url(header_text))
        key = self.keyring.find(header.get("kid"), header.get("alg"))
        if key is None or not header.keys() <= _HEADER_NAMES or not _is_type(header.get("typ"), kind.typ):
            _refuse("header")
        payload = _from_base64url(payload_text)
        _from_base64url(signature_text)
        self._jws.decode_complete(token, key.secret, algorithms=[key.algorithm])
        claims = _json_object(payload)
        if claims.get("iss") != self.issuer or not _names(claims.get("aud"), self._audience):
            _refuse("issuer or audience")
        return claims

    def _check_times(self, claims: dict[str, Any], longest: float) -> int | float:
        """That all dates are in range, and answers `exp`. Expiry itself is judged last, when all else holds."""
        now = self._clock.time()
        expires_at, issued_at = _date(claims.get("exp")), _date(claims.get("iat"))
        not_before = _date(claims.get("nbf", issued_at))
        if max(issued_at, not_before) > now + CLOCK_SKEW or expires_at - issued_at > longest:
            _refuse("dates")
        return expires_at


def token_bytes(token: str | bytes) -> bytes:
    """A token as bytes; text that isn't ASCII becomes bytes that no token consists of."""
    if not isinstance(token, str | bytes):
        raise TypeError(f"a token is a str, and not {type(token).__name__}")
    return token.encode("utf-8", "replace") if isinstance(token, str) else token


def text_of_id(session_id: bytes) -> str:
    """A session id as text: 22 characters of base64url."""
    return base64.urlsafe_b64encode(session_id)[:-2].decode()


def id_of_text(text: str) -> bytes | None:
    """The session id that `text_of_id` wrote; None if it is anything else."""
    try:
        return _token_id(text + ".1")[0]
    except _Refused:
        return None


def token_id_text(session_id: bytes, generation: int) -> str:
    """A token's `jti`."""
    return f"{text_of_id(session_id)}.{generation}"


def read_token_id(text: str) -> tuple[bytes, int]:
    """The session id and the generation of a `jti` that `token_id_text` wrote."""
    return _token_id(text)


# -- what each kind must hold ----------------------------------------------------------------------------------------------


def _access(claims: dict[str, Any]) -> Access:
    session_id, generation = _token_id(claims.get("jti"))
    if claims.get("sid") != text_of_id(session_id):
        _refuse("sid")
    scopes = tuple(_text(claims.get("scope")).split())
    return Access(_subject(claims), session_id, generation, scopes, claims["exp"], claims)


def _refresh(claims: dict[str, Any]) -> Refresh:
    custom = claims.get("claims")
    if not isinstance(custom, dict):
        _refuse("claims")
    return Refresh(_subject(claims), *_token_id(claims.get("jti")), custom)


def _ticket(claims: dict[str, Any]) -> Ticket:
    return Ticket(_subject(claims), _text(claims.get("listing")))


def _subject(claims: dict[str, Any]) -> str:
    subject = _text(claims.get("sub"))
    if not is_subject(subject):
        _refuse("sub")
    return subject


def is_subject(text: str) -> bool:
    """Whether this can be a subject: 1 to 255 bytes of UTF-8, no control characters, no surrogates."""
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text[:256]):
        return False
    try:
        return 1 <= len(text[:256].encode()) <= 255
    except UnicodeEncodeError:
        return False


def _token_id(text: object) -> tuple[bytes, int]:
    match = _TOKEN_ID.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        _refuse("jti")
    return _from_base64url(match[1].encode()), int(match[2])


# -- strict reading --------------------------------------------------------------------------------------------------------


def _refuse(what: str) -> NoReturn:
    raise _Refused(what)


def _from_base64url(text: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515 section 2); another text for the same bytes is refused."""
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        _refuse("base64url")
    return data


def _json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8, without duplicate names and without NaN or infinities (RFC 8259, RFC 7515 section 4)."""
    value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    if not isinstance(value, dict) or is_too_deep(value):
        _refuse("object")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether JSON data is nested deeper than a token's may be. How much deeper Python can go differs between versions."""
    level = [value]
    for _ in range(DEEPEST):
        members = [holder.values() if isinstance(holder, dict) else holder for holder in level]
        level = [member for several in members for member in several if isinstance(member, dict | list)]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse("duplicate names")
    return found


def _is_type(value: object, expected: str) -> bool:
    """RFC 7515 section 4.1.9: a media type, compared without case; `application/` may be left out."""
    return isinstance(value, str) and value.lower().removeprefix("application/") == expected


def _names(audience: object, ours: str) -> bool:
    """Whether `aud` (RFC 7519 section 4.1.3: a string or a list of them) names this service."""
    if isinstance(audience, list):
        return all(isinstance(one, str) for one in audience) and ours in audience
    return audience == ours


def _date(value: object) -> int | float:
    """RFC 7519 section 2, NumericDate: a JSON number. True and "1999999999" are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_NUMERIC_DATE:
        _refuse("date")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        _refuse("text")
    return value
