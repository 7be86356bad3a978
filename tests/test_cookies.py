"""Reading a Cookie header, and what is read of where a request comes from."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.cookies import read_cookies
from jwtguard.errors import RequestInvalid

NAMES = ("__Host-a", "__Host-b")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", {}),
        (";;; ; =", {}),
        ("__Host-a=1", {"__Host-a": "1"}),
        ("__Host-a", {"__Host-a": ""}),
        (" \t__Host-a \t= \t1\t ;x", {"__Host-a": "1"}),
        ("__Host-a=1=2==", {"__Host-a": "1=2=="}),
        ("__Host-b=2;__Host-a=1", {"__Host-a": "1", "__Host-b": "2"}),
        ("__host-a=1; __HOST-A=2; __Host-a2=3; x__Host-a=4; a=__Host-a=5", {}),
        ("\xa0__Host-a=1", {}),
        ("\x0b__Host-a=1", {}),
        ("a=1,__Host-a=2", {}),
        ('__Host-a="1"', {"__Host-a": '"1"'}),
        ("$Version=1; __Host-a=1; $Path=/", {"__Host-a": "1"}),
        ('x={"a":1}; __Host-a=1; y={"b":2}', {"__Host-a": "1"}),
        ('x="quoted"; __Host-a=1; y="quoted"', {"__Host-a": "1"}),
        ('x="; __Host-a=1', {"__Host-a": "1"}),
        ('x="5 inch; __Host-a=1; y=2', {"__Host-a": "1"}),
        ('x="y; z"; __Host-a=1; y=2', {"__Host-a": "1"}),
        ("an odd one\x00[]{}(); =; __Host-a=1", {"__Host-a": "1"}),
    ],
)
def test_what_is_read(header: str, found: dict[str, str]) -> None:
    assert read_cookies(header, NAMES) == found


@pytest.mark.parametrize("header", ["__Host-a=1; __Host-a=1", "__Host-a=1; x=2; __Host-a", "__Host-a=; __Host-a=2"])
def test_two_by_one_name_are_refused(header: str) -> None:
    with pytest.raises(RequestInvalid, match="more than one cookie"):
        read_cookies(header, NAMES)


@pytest.mark.parametrize(
    "header",
    [
        'x="; __Host-a=1; y"',
        'x="a; __Host-a=1; b="c',
        'x="a\\"; __Host-a=1; b"',
        'x="a"b; __Host-a=1; c="d"',
        'x="a; __Host-b=2; __Host-a=1"',
    ],
)
def test_one_that_other_parsers_take_for_a_part_of_anothers_value_is_refused(header: str) -> None:
    if header.endswith('__Host-a=1"'):
        header += "; z"
    with pytest.raises(RequestInvalid, match="another's quoted value"):
        read_cookies(header, NAMES)


names = st.sampled_from([*NAMES, "a", "__host-a", "", "__Host-a2"]) | st.text(alphabet='ab"\\= \t', max_size=5)
values = st.text(alphabet='ab"\\=\t {}[]\x00\xe9', max_size=8)


@given(st.lists(st.tuples(names, values), max_size=8))
def test_no_other_cookie_changes_what_is_read(pairs: list[tuple[str, str]]) -> None:
    """Where it is read at all, it is what a browser has sent by that very name, and none of it is in another's quotes."""
    header = "; ".join(f"{name}={value}" for name, value in pairs)
    sent: dict[str, list[str]] = {}
    for name, _, value in (part.partition("=") for part in header.split(";")):
        sent.setdefault(name.strip(" \t"), []).append(value.strip(" \t"))
    try:
        found = read_cookies(header, NAMES)
    except RequestInvalid:
        assert any(len(sent.get(name, [])) > 1 for name in NAMES) or '"' in header
    else:
        assert found == {name: sent[name][0] for name in NAMES if name in sent}


def steps(header: str) -> int:
    """How many lines are executed to read a header."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code is read_cookies.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read_cookies(header, NAMES)
    except RequestInvalid:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("part", ["a=1; ", ";", 'x="; ', '"', 'a="\\"; ', "=", "__Host-a2=1;"])
def test_twice_the_header_is_twice_the_work(part: str) -> None:
    once, twice = steps(part * 500), steps(part * 1000)
    assert twice <= 2 * once + 10
