"""What an app's OpenAPI document says of the guard: which operations need a token, with which scopes, and their refusals.

Pure: a document of OpenAPI 3.1, as plain data, is given and changed. What the app itself says of an answer stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from .core import Core
from .endpoints import Endpoint

__all__ = ["REQUIRED", "SCHEME", "SCHEME_OBJECT", "describe"]

SCHEME: Final = "jwtguard"
"""The name of the security scheme."""
REQUIRED: Final = "jwtguard_required"
"""In a document that isn't described yet: what an operation names if it needs a token although its path is public."""
SCHEME_OBJECT: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The access token that logging in answers.",
}

_PROBLEM: Final = "JWTGuardProblem"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_NEED: Final[dict[str, list[dict[str, list[str]]]]] = {
    "refresh": [],
    "logout": [{SCHEME: []}, {}],
    "list": [{SCHEME: []}],
    "end_many": [{SCHEME: []}],
    "end_one": [{SCHEME: []}],
    "jwks": [],
}
"""The credentials of each endpoint; `{}` where there are others than an access token."""
_REFUSALS: Final[dict[str, tuple[int, ...]]] = {
    "refresh": (400, 401, 413, 503),
    "logout": (400, 401, 413, 503),
    "list": (400, 401, 503),
    "end_many": (400, 401, 503),
    "end_one": (400, 401, 404, 503),
    "jwks": (),
}
_PROBLEM_SCHEMA: Final = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "What a client can switch on"},
    },
}


def describe(document: dict[str, Any], core: Core, endpoints: Iterable[tuple[Endpoint, str]]) -> None:
    """Change a document that was made without a word about the guard. endpoints: each that is served, with its path."""
    own = {(endpoint.method.lower(), path): endpoint for endpoint, path in endpoints}
    for method, path, operation in _operations(document):
        endpoint = own.get((method, path))
        if endpoint is not None:
            operation["security"] = _NEED[endpoint.name]
            _add_refusals(operation, _REFUSALS[endpoint.name])
        else:
            _describe_operation(operation, core, method.upper(), re.sub(r"\{[^{}]*\}", "_", path))
    components = document.setdefault("components", {})
    schemes = components.setdefault("securitySchemes", {})
    schemes.pop(REQUIRED, None)
    schemes[SCHEME] = SCHEME_OBJECT
    components.setdefault("schemas", {})[_PROBLEM] = _PROBLEM_SCHEMA


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def _describe_operation(operation: dict[str, Any], core: Core, method: str, path: str) -> None:
    asked: list[dict[str, list[str]]] = operation.pop("security", [])
    ours = [entry for entry in asked if SCHEME in entry or REQUIRED in entry]
    of_path = core.rules.required(method, path)
    of_rules = (need for need in of_path if isinstance(need, str))
    scopes = list(dict.fromkeys((*of_rules, *(scope for entry in ours for each in entry.values() for scope in each))))
    in_any_case = bool(of_path or scopes) or any(REQUIRED in entry for entry in ours)
    security = [entry for entry in asked if entry not in ours]
    if in_any_case or not core.rules.is_public(method, path):
        is_optional = core.settings.mode == "optional" and not in_any_case
        security = [{SCHEME: scopes}, *([{}] if is_optional else []), *security]
        _add_refusals(operation, (401, 403, 503) if scopes else (401, 503))
    if security:
        operation["security"] = security


def _add_refusals(operation: dict[str, Any], statuses: Iterable[int]) -> None:
    responses = operation.setdefault("responses", {})
    for status in statuses:
        responses.setdefault(str(status), _refusal(status))


def _refusal(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}},
    }
    if status in (400, 401, 403):
        found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "RFC 6750"}}
    if status == 503:
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return found
