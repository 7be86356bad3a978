"""What the claims of a token must be: dates, issuer, audience, type, subject, ids. All of them are rightly signed."""
# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import json
from typing import Any

import pytest
from forging import (
    LONGEST,
    NOW,
    SESSION,
    TOKENS,
    a_guard,
    access_claims,
    assert_refused,
    forge,
    forge_access,
    header,
    refresh_claims,
)
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.errors import RefreshExpired, RefreshInvalid, TokenExpired, TokenInvalid
from jwtguard.inputs import checked_subject
from jwtguard.testing import FakeClock
from jwtguard.tokens import is_subject, text_of_id

# -- dates -----------------------------------------------------------------------------------------------------------------


def test_C20_a_token_is_good_until_its_exp_and_not_at_it() -> None:
    token = forge_access(exp=NOW + 60)
    clock = FakeClock(NOW)
    tokens = a_guard(clock=clock)
    clock.advance(59.999)
    assert tokens.read_access(token).expires_at == NOW + 60
    clock.advance(0.001)
    assert_refused(tokens.read_access, token, TokenExpired)


def test_C20_leeway_is_for_exp_only() -> None:
    clock = FakeClock(NOW + 69)
    tokens = a_guard(clock=clock, leeway=10)
    assert tokens.read_access(forge_access(exp=NOW + 60)).subject == "alice"
    clock.advance(1)
    assert_refused(tokens.read_access, forge_access(exp=NOW + 60), TokenExpired)
    assert_refused(a_guard(leeway=3600).read_access, forge_access(iat=NOW + 31), TokenInvalid)


def test_C20_an_expired_refresh_token_says_so() -> None:
    token = forge(header(typ="rt+jwt"), refresh_claims(exp=NOW))
    assert_refused(TOKENS.read_refresh, token, RefreshExpired)


@pytest.mark.parametrize("claims", [{"iss": "there"}, {"sub": ""}, {"jti": "x"}, {"iat": NOW + 60}, {"aud": "x"}])
def test_C20_expired_is_said_only_of_what_is_good_otherwise(claims: dict[str, Any]) -> None:
    assert_refused(TOKENS.read_access, forge_access(exp=NOW - 1, **claims), TokenInvalid)


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_C21_a_token_from_the_future_is_refused_beyond_half_a_minute(name: str) -> None:
    assert TOKENS.read_access(forge_access(**{name: NOW + 30})).subject == "alice"
    assert_refused(TOKENS.read_access, forge_access(**{name: NOW + 31}), TokenInvalid)
    assert_refused(TOKENS.read_access, forge_access(**{name: NOW + 30.5}), TokenInvalid)


BAD_DATES = [
    "1999999999",
    " 1999999999 ",
    "199_9999999",
    "\u0661\u0669\u0669",
    True,
    False,
    None,
    [NOW],
    {},
    "",
    -1,
    1e30,
    10**18,
    253_402_300_800,
    float("nan"),
    float("inf"),
    float("-inf"),
]


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", BAD_DATES, ids=range(len(BAD_DATES)))
def test_C22_dates_are_numbers_in_range(name: str, value: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(**{name: value}), TokenInvalid)
    assert_refused(TOKENS.read_refresh, forge(header(typ="rt+jwt"), refresh_claims(**{name: value})), RefreshInvalid)


@pytest.mark.parametrize("digits", [b"1e400", b"-1e400", b"9" * 4000, b"1" + b"0" * 4000])
def test_C22_dates_as_texts_that_json_lets_through(digits: bytes) -> None:
    body = json.dumps(access_claims()).encode().replace(b'"exp": %d' % (NOW + 1800), b'"exp": ' + digits)
    assert digits in body
    assert_refused(TOKENS.read_access, forge(header(), body), TokenInvalid)


def test_C22_a_fraction_of_a_second_is_a_number() -> None:
    assert TOKENS.read_access(forge_access(exp=NOW + 0.5)).expires_at == NOW + 0.5


@pytest.mark.parametrize("name", ["exp", "iat"])
def test_C20_exp_and_iat_are_required(name: str) -> None:
    assert_refused(TOKENS.read_access, forge_access(**{name: ...}), TokenInvalid)


def test_C30_no_token_lives_longer_than_ours() -> None:
    assert TOKENS.read_access(forge_access(exp=NOW + LONGEST)).subject == "alice"
    for exp in (NOW + LONGEST + 1, NOW + 10 * 365 * 86400):
        assert_refused(TOKENS.read_access, forge_access(exp=exp), TokenInvalid)
        assert_refused(TOKENS.read_refresh, forge(header(typ="rt+jwt"), refresh_claims(exp=exp)), RefreshInvalid)
    assert_refused(TOKENS.read_access, forge_access(iat=NOW - LONGEST, exp=NOW + 1), TokenInvalid)


def test_C30_a_ticket_lives_five_minutes_however_long_sessions_do() -> None:
    clock = FakeClock(NOW)
    short = a_guard(longest=60, clock=clock)
    ticket = short.mint_ticket("alice", "l").encode()
    clock.advance(299)
    assert short.read_ticket(ticket) == ("alice", "l")
    clock.advance(1)
    assert_refused(short.read_ticket, ticket, TokenExpired)
    long_lived = {"iss": "here", "aud": "api", "sub": "alice", "iat": NOW, "exp": NOW + 301, "listing": "l"}
    assert_refused(TOKENS.read_ticket, forge(header(typ="session-choice+jwt"), long_lived), TokenInvalid)


# -- issuer, audience, kind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("iss", ["her", "here2", "here/", "Here", " here", "", ["here"], None, {"here": 1}, True, ...])
def test_C23_the_issuer_is_ours_exactly(iss: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(iss=iss), TokenInvalid)


@pytest.mark.parametrize(
    "aud", [..., None, [], "", "ap", "apis", "API", "other", ["other"], [1], ["api", 1], [["api"]], {"api": 1}, True]
)
def test_C24_the_audience_names_us(aud: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(aud=aud), TokenInvalid)


@pytest.mark.parametrize("aud", ["api", ["api"], ["other", "api"]])
def test_C24_one_of_several_audiences_may_be_ours(aud: object) -> None:
    assert TOKENS.read_access(forge_access(aud=aud)).subject == "alice"


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "Application/At+Jwt"])
def test_C25_typ_is_a_media_type(typ: str) -> None:
    assert TOKENS.read_access(forge(header(typ=typ), access_claims())).subject == "alice"


TYPES = [
    "JWT",
    "jwt",
    "rt+jwt",
    "at+jwt ",
    "at",
    "x/at+jwt",
    "application/application/at+jwt",
    "dpop+jwt",
    "logout+jwt",
    "",
]


@pytest.mark.parametrize("typ", [*TYPES, None, 5, True, ["at+jwt"], {}, ...])
def test_C25_any_other_typ_is_refused(typ: object) -> None:
    head = {name: value for name, value in header(typ=typ).items() if value is not ...}
    assert_refused(TOKENS.read_access, forge(head, access_claims()), TokenInvalid)


# -- subject, ids, scopes --------------------------------------------------------------------------------------------------

BAD_SUBJECTS = [
    "",
    "a\0b",
    "a\nb",
    "a\r\nSet-Cookie: x",
    "\x1b[31m",
    "a\x7f",
    "a\x85",
    "a\ud800",
    "s" * 256,
    "é" * 128,
    "s" * 6000,
]


@pytest.mark.parametrize("subject", BAD_SUBJECTS, ids=range(len(BAD_SUBJECTS)))
def test_C27_C28_a_subject_is_bounded_text(subject: str) -> None:
    assert not is_subject(subject)
    assert_refused(TOKENS.read_access, forge_access(sub=subject), TokenInvalid)
    assert_refused(TOKENS.read_refresh, forge(header(typ="rt+jwt"), refresh_claims(sub=subject)), RefreshInvalid)
    ticket = access_claims(sub=subject, listing="l", exp=NOW + 9)
    assert_refused(TOKENS.read_ticket, forge(header(typ="session-choice+jwt"), ticket), TokenInvalid)


@pytest.mark.parametrize("subject", [..., None, 5, True, ["alice"], {"alice": 1}])
def test_C27_a_subject_is_text(subject: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(sub=subject), TokenInvalid)


@given(st.text(max_size=300))
def test_C27_minted_and_read_subjects_are_the_same_ones(subject: str) -> None:
    if not is_subject(subject):
        with pytest.raises(ValueError):
            checked_subject(subject)
        return
    assert checked_subject(subject) == subject
    assert TOKENS.read_access(forge_access(sub=subject)).subject == subject


def test_a_megabyte_of_subject_costs_no_more_than_a_short_one() -> None:
    class Measured(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise AssertionError("it was measured whole")

    assert not is_subject(Measured("s" * 2**20))


ONE = "A" * 22
BAD_IDS = ["x.1", ONE, ONE + ".", ONE + ".0", ONE + ".01", ONE + ".-1", ONE + ".+1", ONE + ".1" + "0" * 9, ONE + ".1\n"]
BAD_IDS += [ONE + ".\u0661", ONE[1:] + "B.1", ONE + ".1.1", ONE + "." + ONE, "." + ONE + ".1", ""]


@pytest.mark.parametrize("jti", [*BAD_IDS, ..., None, 3, [ONE + ".1"]])
def test_C28_jti_is_a_session_and_a_generation(jti: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(jti=jti, sid=ONE), TokenInvalid)
    assert_refused(TOKENS.read_refresh, forge(header(typ="rt+jwt"), refresh_claims(jti=jti)), RefreshInvalid)


@pytest.mark.parametrize("sid", [..., None, "", "A" * 22, 5, [text_of_id(SESSION)], text_of_id(SESSION) + "="])
def test_sid_is_that_of_the_jti(sid: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(sid=sid), TokenInvalid)


@pytest.mark.parametrize("scope", [..., None, ["read"], 5, {}])
def test_scope_is_text(scope: object) -> None:
    assert_refused(TOKENS.read_access, forge_access(scope=scope), TokenInvalid)


@pytest.mark.parametrize("claims", [..., None, [], "x", 1])
def test_a_refresh_token_carries_claims(claims: object) -> None:
    token = forge(header(typ="rt+jwt"), access_claims(claims=claims))
    assert_refused(TOKENS.read_refresh, token, RefreshInvalid)


@pytest.mark.parametrize("listing", [..., None, [], 5])
def test_a_ticket_lists(listing: object) -> None:
    token = forge(header(typ="session-choice+jwt"), access_claims(listing=listing, exp=NOW + 60))
    assert_refused(TOKENS.read_ticket, token, TokenInvalid)
