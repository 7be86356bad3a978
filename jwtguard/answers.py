"""Answers as plain data: what both faces send, and no framework's response.

An error becomes problem+json (RFC 9457) with a `code` for clients, and the challenge of RFC 6750 section 3. Nothing of the
request is ever in it, nor what an error says to developers: only its `detail`, and what its class adds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from .errors import ConfigError, JWTGuardError

__all__ = ["NO_CONTENT", "Answer", "answer_json", "answer_jwks", "error_answer"]

logger = logging.getLogger("jwtguard")

ErrorHook = Callable[[Exception, dict[str, Any]], dict[str, Any] | None]

_NOT_STORED: Final = ("Cache-Control", "no-store")


class Answer(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


NO_CONTENT: Final = Answer(204, (_NOT_STORED,))


def answer_json(value: object) -> Answer:
    """200 with a JSON body."""
    return Answer(200, (("Content-Type", "application/json"), _NOT_STORED), msgspec.json.encode(value))


def answer_jwks(keys: dict[str, Any], seconds: int) -> Answer:
    """200 with a JWK Set (RFC 7517 section 8.5.2), which anyone may keep for so many seconds."""
    headers = (("Content-Type", "application/jwk-set+json"), ("Cache-Control", f"public, max-age={seconds}"))
    return Answer(200, headers, msgspec.json.encode(keys))


def error_answer(error: JWTGuardError, *, realm: str, on_error: ErrorHook | None = None, grant: bool = False) -> Answer:
    """The answer that an error becomes.

    realm: for the challenge. on_error: may answer another body, a JSON object. grant: whether a refresh token was to be
    exchanged, so that the body carries an OAuth error (RFC 6749 section 5.2).

    A ConfigError is raised again: it tells the developer what to mend, and a client nothing.
    """
    if isinstance(error, ConfigError):
        raise error
    error_code = "invalid_grant" if grant and error.status == HTTPStatus.UNAUTHORIZED else error.error
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.members(),
    }
    if grant:
        problem["error"] = error_code or error.code
    headers = [("Content-Type", "application/problem+json"), _NOT_STORED, *error.headers().items()]
    if error.challenges:
        headers.append(("WWW-Authenticate", _challenge(error, realm, error_code)))
    return Answer(error.status, tuple(headers), _body(error, problem, on_error))


def _body(error: JWTGuardError, problem: dict[str, Any], on_error: ErrorHook | None) -> bytes:
    """The problem as JSON, as the app wants it. What goes wrong in the app's own hook is logged, and changes no answer."""
    plain = msgspec.json.encode(problem)
    if on_error is None:
        return plain
    try:
        return msgspec.json.encode(on_error(error, problem) or problem)
    except Exception:  # another party's code, and the request is refused already
        logger.exception("on_error failed for %s", error.code)
        return plain


def _challenge(error: JWTGuardError, realm: str, error_code: str | None) -> str:
    parameters = {"realm": realm}
    if error_code is not None:
        parameters["error"] = error_code
    parameters |= error.challenge_parameters()
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())
