"""Answers as plain data: what both faces send, and no framework's response.

An error becomes problem+json (RFC 9457) with a `code` for clients, and the challenge of RFC 6750 section 3. Nothing of the
request is ever in it, nor an error's message: only what its class says.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from .errors import AuthError, JWTGuardError

__all__ = ["NO_CONTENT", "Answer", "answer_json", "answer_to"]

ErrorHook = Callable[[Exception, dict[str, Any]], dict[str, Any] | None]

_NOT_STORED = ("Cache-Control", "no-store")


class Answer(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


NO_CONTENT = Answer(204, (_NOT_STORED,))


def answer_json(value: object) -> Answer:
    """200 with a JSON body."""
    return Answer(200, (("Content-Type", "application/json"), _NOT_STORED), msgspec.json.encode(value))


def answer_to(error: JWTGuardError, *, realm: str, on_error: ErrorHook | None = None, grant: bool = False) -> Answer:
    """The answer that an error becomes.

    realm: for the challenge. on_error: may answer another body, a JSON object. grant: whether a refresh token was to be
    exchanged, so that the body carries an OAuth error (RFC 6749 section 5.2).
    """
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.description,
        "code": error.code,
        **error.members(),
    }
    if grant:
        problem["error"] = "invalid_grant" if isinstance(error, AuthError) else error.error or error.code
    if on_error is not None:
        problem = on_error(error, problem) or problem
    headers = [("Content-Type", "application/problem+json"), _NOT_STORED, *error.headers().items()]
    if error.challenges:
        headers.append(("WWW-Authenticate", _challenge(error, realm)))
    return Answer(error.status, tuple(headers), msgspec.json.encode(problem))


def _challenge(error: JWTGuardError, realm: str) -> str:
    parameters = {"realm": realm}
    if error.error is not None:
        parameters["error"] = error.error
    parameters |= error.challenge_parameters()
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())
