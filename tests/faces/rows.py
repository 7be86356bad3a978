"""What a row of the table is, and short ways to write one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from drivers import Request, View

PLAIN: Final = 'Bearer realm="jwtguard"'
INVALID: Final = PLAIN + ', error="invalid_token"'
GRANT: Final = PLAIN + ', error="invalid_grant"'
MALFORMED: Final = PLAIN + ', error="invalid_request"'
JSON: Final = ("Content-Type", "application/json")
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")

STATUS: Final = {
    "request_invalid": 400,
    "scope_missing": 403,
    "csrf": 403,
    "session_not_found": 404,
    "limit_reached": 409,
    "body_too_large": 413,
    "store_unavailable": 503,
}
"""Of each code that isn't a 401."""
UNCHALLENGED: Final = frozenset({"csrf", "session_not_found", "limit_reached", "body_too_large", "store_unavailable"})


@dataclass(frozen=True)
class Row:
    """A request and its answer. `code`: of the problem, None if there is none. `seen`: whose request the app saw, "" for
    nobody's, None if it saw none. `down`: the store fails from then on."""

    name: str
    request: Request
    status: int = 200
    code: str | None = None
    challenge: str | None = None
    seen: str | None = None
    json: Mapping[str, Any] | None = None
    """Members that the JSON answer has."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    view: View = "echo"
    down: bool = False
    made: tuple[str, ...] = ()
    """What the world makes besides what the request names."""
    verifications: int = 1
    """How many a request costs, at most."""

    @property
    def may_come_twice(self) -> bool:
        """Whether it is answered in the same way again: then by what is known."""
        return self.view == "echo" and not self.request.target.startswith(("/auth", "/session"))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


def get(target: str = "/me", token: str | None = None, *headers: tuple[str, str], **other: Any) -> Request:
    return Request("GET", target, (*(bearer(token) if token else ()), *headers), **other)


def ask(method: str, target: str, token: str | None = None, *headers: tuple[str, str], **other: Any) -> Request:
    return replace(get(target, token, *headers, **other), method=method)


def passes(name: str, request: Request, seen: str, **other: Any) -> Row:
    return Row(name, request, seen=seen, **other)


def refuses(name: str, request: Request, code: str, challenge: str | None = INVALID, **other: Any) -> Row:
    if code in UNCHALLENGED:
        challenge = None
    elif code == "token_missing":
        challenge = PLAIN
    elif code == "request_invalid":
        challenge = MALFORMED
    return Row(name, request, STATUS.get(code, 401), code, challenge, **other)
