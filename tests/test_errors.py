"""The tree of errors: complete, exported, and saying to a client nothing but what its class says."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator

import pytest

import jwtguard
from jwtguard import errors
from jwtguard.errors import (
    AuthenticationTooOld,
    AuthError,
    BodyTooLarge,
    ConfigError,
    CrossSite,
    JWTGuardError,
    LimitReached,
    RefreshError,
    RequestInvalid,
    ScopeMissing,
    SessionEnded,
    StoreError,
    StoreUnavailable,
    TokenInvalid,
    TokenMissing,
)
from jwtguard.model import Device, Session


def below(base: type[JWTGuardError]) -> Iterator[type[JWTGuardError]]:
    yield base
    for child in base.__subclasses__():
        yield from below(child)


def own_module(kind: type[JWTGuardError]) -> bool:
    return kind.__module__ == "jwtguard.errors"


ALL = [kind for kind in dict.fromkeys(below(JWTGuardError)) if own_module(kind)]
LEAVES = [kind for kind in ALL if not any(own_module(child) for child in kind.__subclasses__())]
NAMES = [kind.__name__ for kind in ALL]


def test_every_error_is_exported_sorted() -> None:
    assert errors.__all__ == sorted(NAMES)


def test_the_package_exports_what_it_has_sorted() -> None:
    assert jwtguard.__all__ == sorted(jwtguard.__all__)
    assert all(hasattr(jwtguard, name) for name in jwtguard.__all__)
    assert {"AuthError", "ConfigError", "LimitReached", "ScopeMissing", "StoreUnavailable"} <= set(jwtguard.__all__)


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^ {4}[│ ├└─]*(\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(NAMES)


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_a_class_carries_its_answer(kind: type[JWTGuardError]) -> None:
    assert kind.status in {400, 401, 403, 404, 409, 413, 500, 503}
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    of_rfc_6749_6750 = {None, "invalid_token", "invalid_request", "insufficient_scope", "invalid_grant"}
    assert kind.error in of_rfc_6749_6750 | {"insufficient_user_authentication"}  # RFC 9470 section 3
    assert re.fullmatch(r"[A-Z][^\n]+\.", kind.description)
    assert '"' not in kind.description
    assert kind().args == (kind.description,)


def test_a_code_says_which_error_it_is() -> None:
    """Among those that are raised; what went wrong with the store is not for a client to know."""
    codes = Counter(kind.code for kind in LEAVES if not issubclass(kind, StoreUnavailable))
    assert [code for code, count in codes.items() if count > 1] == []
    assert {kind.code for kind in below(StoreUnavailable)} == {"store_unavailable"}


def test_C34_statuses_errors_and_challenges_go_together() -> None:
    for kind in ALL:
        assert kind.challenges == (kind.status in {400, 401, 403} and kind is not CrossSite), kind  # no token would help
        assert (kind.status == 401) == issubclass(kind, AuthError)
    assert TokenMissing.error is None
    assert all(kind.error == "invalid_token" for kind in below(SessionEnded))
    assert all(kind.error == "invalid_grant" for kind in below(RefreshError))
    assert RequestInvalid.error == "invalid_request"
    assert (BodyTooLarge.status, BodyTooLarge.challenges) == (413, False)
    assert ScopeMissing.error == "insufficient_scope"


def test_a_wrong_setting_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)


WITH_MESSAGE = [kind for kind in ALL if kind not in (AuthenticationTooOld, ScopeMissing, LimitReached)]


@pytest.mark.parametrize("kind", WITH_MESSAGE, ids=lambda kind: kind.__name__)
def test_C35_a_message_is_for_the_log_and_not_for_the_client(kind: type[JWTGuardError]) -> None:
    error = kind("eyJhbGciOi: of no concern to a client")
    told = [error.description, error.code, error.members(), error.headers(), error.challenge_parameters()]
    assert "concern" not in repr(told)
    assert "concern" in str(error)


def test_a_missing_scope_is_named_in_the_challenge() -> None:
    assert ScopeMissing(["read", "write"]).challenge_parameters() == {"scope": "read write"}
    assert ScopeMissing().challenge_parameters() == {}


def test_C37_an_unreachable_store_says_when_to_ask_again() -> None:
    assert StoreError("down").headers() == {"Retry-After": "1"}
    assert StoreError.status == 503


SESSION = Session("A" * 22, "alice", Device("Firefox on Linux", "Mozilla/5.0", "203.0.113.7"), ("read",), 1, 2, 3)


def test_the_limit_tells_the_sessions_and_the_ticket_where_there_is_one() -> None:
    assert LimitReached([SESSION]).members() == {"sessions": [SESSION.to_dict()]}
    assert LimitReached([SESSION], "a.b.c").members() == {"sessions": [SESSION.to_dict()], "ticket": "a.b.c"}
    assert "a.b.c" not in str(LimitReached([SESSION], "a.b.c"))


@pytest.mark.parametrize(
    "error",
    [ScopeMissing(["read"]), LimitReached([SESSION], "a.b.c"), StoreError("down")],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes(error: JWTGuardError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.__dict__ == error.__dict__
    assert str(again) == str(error)


def test_only_a_malformed_request_is_told_what_is_wrong_with_it() -> None:
    assert RequestInvalid("no name").detail == "The request is malformed: no name."
    assert RequestInvalid().detail == RequestInvalid.description
    assert TokenInvalid("inner working").detail == TokenInvalid.description
