"""The current request, as what a view calls on the guard sees it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.context import (
    IDENTITY,
    LONGEST_ADDRESS,
    LONGEST_NAME,
    REQUEST,
    WANTED,
    SetCookie,
    Wanted,
    current_device,
    current_identity,
    device_name,
    forbid_storing,
    set_cookie,
    set_identity,
)
from jwtguard.model import ANONYMOUS, Device, Identity

ALICE = Identity("alice", "A" * 22, "A" * 22 + ".1", (), "here", 0)
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"


def within(request: dict[str, Any] | None, call: Callable[[], Any]) -> Any:
    """What a call gives while this request is served."""

    def serve() -> Any:
        REQUEST.set(request)
        return call()

    return contextvars.copy_context().run(serve)


def scope(*headers: tuple[bytes, bytes], client: Any = ("203.0.113.7", 50000)) -> dict[str, Any]:
    return {"type": "http", "headers": list(headers), "client": client}


# -- identity --------------------------------------------------------------------------------------------------------------


def test_outside_of_any_request_nobody_is_there_and_nothing_is_kept() -> None:
    assert current_identity() is ANONYMOUS
    assert current_device() == Device()
    set_identity(ALICE)
    forbid_storing()
    set_cookie(SetCookie("a", "1", "/", 60))
    assert current_identity() is ANONYMOUS


@pytest.mark.parametrize("request_", [{"type": "http"}, {"REQUEST_METHOD": "GET"}], ids=["asgi", "wsgi"])
def test_the_identity_is_that_of_the_request(request_: dict[str, Any]) -> None:
    assert within(request_, current_identity) is ANONYMOUS
    within(request_, lambda: set_identity(ALICE))
    assert request_[IDENTITY] is ALICE
    assert within(request_, current_identity) is ALICE


@pytest.mark.parametrize("fake", [None, "alice", {"subject": "alice"}, ("alice",)])
def test_what_is_no_identity_is_nobody(fake: object) -> None:
    assert within({IDENTITY: fake}, current_identity) is ANONYMOUS


# -- headers of the response -----------------------------------------------------------------------------------------------


def wanted_after(*calls: Callable[[], object]) -> Wanted:
    request: dict[str, Any] = {}
    for call in calls:
        within(request, call)
    found = request.pop(WANTED)
    assert isinstance(found, Wanted)
    assert request == {}
    return found


def test_an_answer_with_tokens_is_not_to_be_stored() -> None:
    wanted = wanted_after(forbid_storing, forbid_storing)
    assert wanted.on([]) == [("Cache-Control", "no-store")]
    assert wanted.on([("cache-control", "public"), ("ETag", "1"), ("CACHE-CONTROL", "max-age=60")]) == [
        ("ETag", "1"),
        ("Cache-Control", "no-store"),
    ]


def test_c63_a_cookie_has_all_its_guards() -> None:
    cookie = SetCookie("__Host-a", "x.y", "/", 60)
    assert cookie.header == "__Host-a=x.y; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_of_several_cookies_by_one_name_the_last_counts() -> None:
    first, second, other = SetCookie("a", "1", "/", 60), SetCookie("a", "2", "/", 60), SetCookie("b", "3", "/", 60)
    wanted = wanted_after(lambda: set_cookie(first), lambda: set_cookie(other), lambda: set_cookie(second))
    assert wanted.on([]) == [("Set-Cookie", second.header), ("Set-Cookie", other.header)]


def test_the_cookies_of_an_app_stay_and_nothing_is_put_on_twice() -> None:
    wanted = wanted_after(forbid_storing, lambda: set_cookie(SetCookie("a", "1", "/", 60)))
    own = [("Set-Cookie", "aa=1"), ("set-cookie", "b=a=1"), ("Set-Cookie", "A=1")]
    once = wanted.on([*own, ("SET-COOKIE", "a=another")])
    assert once == [*own, ("Cache-Control", "no-store"), ("Set-Cookie", wanted.cookies["a"].header)]
    assert wanted.on(once) == once


# -- device ----------------------------------------------------------------------------------------------------------------


def test_the_device_of_an_asgi_request() -> None:
    request = scope((b"host", b"x"), (b"user-agent", CHROME.encode()), (b"user-agent", b"second/1"))
    assert within(request, current_device) == Device("Chrome on Windows", CHROME, "203.0.113.7")


def test_the_device_of_a_wsgi_request() -> None:
    environ = {"HTTP_USER_AGENT": "curl/8.5.0", "REMOTE_ADDR": "2001:db8::1"}
    assert within(environ, current_device) == Device("curl", "curl/8.5.0", "2001:db8::1")


@pytest.mark.parametrize("request_", [{"type": "http"}, scope(client=None), scope(client=()), {}, {"HTTP_USER_AGENT": ""}])
def test_what_is_not_known_of_a_device_is_left_open(request_: dict[str, Any]) -> None:
    assert within(request_, current_device) == Device("", None, None)


def test_no_forwarding_header_is_read() -> None:
    forged = scope(
        (b"x-forwarded-for", b"198.51.100.1"), (b"forwarded", b"for=198.51.100.1"), (b"x-real-ip", b"198.51.100.1")
    )
    assert within(forged, current_device).ip == "203.0.113.7"
    environ = {"REMOTE_ADDR": "203.0.113.7", "HTTP_X_FORWARDED_FOR": "198.51.100.1", "HTTP_X_REAL_IP": "198.51.100.1"}
    assert within(environ, current_device).ip == "203.0.113.7"


def test_an_address_is_bounded() -> None:
    assert len(within({"REMOTE_ADDR": "f" * 1000}, current_device).ip) == LONGEST_ADDRESS


def test_header_bytes_that_are_not_utf_8_are_no_error() -> None:
    assert within(scope((b"user-agent", b"\xff\xfe/1")), current_device).name == "ÿþ"


MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
ANDROID = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (CHROME, "Chrome on Windows"),
        (CHROME + " Edg/138.0", "Edge on Windows"),
        (CHROME + " OPR/120.0", "Opera on Windows"),
        (MAC + " Version/18.5 Safari/605.1.15", "Safari on macOS"),
        (IPHONE + " Version/18.5 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (IPHONE + " CriOS/138.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
        (IPHONE + " FxiOS/140.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPhone"),
        (IPHONE.replace("iPhone", "iPad") + " Version/18.5 Safari/604.1", "Safari on iPad"),
        (ANDROID + " Chrome/138.0 Mobile Safari/537.36", "Chrome on Android"),
        (ANDROID + " SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36", "Samsung Internet on Android"),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/138.0 Safari/537.36", "Chrome on ChromeOS"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (compatible; something)", "A browser"),
        ("Mozilla/5.0 (Windows NT 10.0)", "A browser on Windows"),
        ("curl/8.5.0", "curl"),
        ("python-requests/2.32", "python-requests"),
        ("My App 1.0", "My"),
        ("", ""),
    ],
)
def test_a_device_is_named_as_a_person_would(user_agent: str, name: str) -> None:
    assert device_name(user_agent) == name


@given(st.text() | st.text().map("Mozilla/".__add__))
def test_a_name_is_short_printable_and_can_be_stored(user_agent: str) -> None:
    name = device_name(user_agent)
    assert len(name) <= LONGEST_NAME
    assert name.isprintable()
    name.encode()


def test_a_name_is_bounded_whatever_the_header() -> None:
    assert device_name("x" * 100_000) == "x" * LONGEST_NAME
    assert device_name("a\r\nSet-Cookie:b\x1b[31m\u202e/1") == "aSet-Cookie:b[31m"
