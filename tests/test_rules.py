"""Public paths and scope rules."""

from __future__ import annotations

import time
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jwtguard.errors import ConfigError
from jwtguard.patterns import Pattern, parse_public, parse_rules
from jwtguard.rules import Rules, canonical

ATTACKS = [
    "//login",
    "/login/../admin",
    "/login/..%2fadmin",
    "/LOGIN",
    "/login;x",
    "/login\n",
    "/static/../admin",
    "/static/./x",
    "/static//x",
    "/static/a\\b",
    "/static/%2e%2e/x",
    "login",
    "http://h/login",
    "",
    "/login\x00",
    "/login/",
    "/static",
    "/static/",
    "/static/x/..",
    "/static/x\n",
    "/static/\ud800",
    "/static/\ufffd",
    "/static/x?y",
    "/static/\u2028",
    " /login",
    "/login ",
    "*",
    "/*",
    "/static/*/../x",
]


@pytest.mark.parametrize("path", ATTACKS, ids=ascii)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "get", ""])
def test_no_attack_is_public(method: str, path: str) -> None:
    assert not Rules(public="/login, /static/*").is_public(method, path)


@pytest.mark.parametrize("path", ["/login", "/static/x", "/static/x/", "/static/x/y.css", "/static/ä", "/static/..."])
def test_public_paths(path: str) -> None:
    assert Rules(public="/login, /static/*").is_public("GET", path)


def test_a_method_opens_for_itself_only() -> None:
    rules = Rules(public="GET /items/*, POST /login, HEAD /ping, /any")
    assert [rules.is_public(method, "/items/1") for method in ("GET", "HEAD", "POST", "get", "")] == [
        True,
        True,
        *[False] * 3,
    ]
    assert [rules.is_public(method, "/login") for method in ("GET", "HEAD", "POST", "post")] == [False, False, True, False]
    assert [rules.is_public(method, "/ping") for method in ("GET", "HEAD")] == [False, True]
    assert all(rules.is_public(method, "/any") for method in ("GET", "HEAD", "POST", "PURGE", "get", ""))


def test_a_wildcard_is_one_segment_but_at_the_end() -> None:
    rules = Rules(public="/a/*/b, /c/*/, /d/*/*")
    assert rules.is_public("GET", "/a/x/b")
    assert not any(rules.is_public("GET", path) for path in ("/a/x/y/b", "/a//b", "/a/b", "/a/x/b/", "/a/x/bc", "/a/*"))
    assert rules.is_public("GET", "/c/x/")
    assert not rules.is_public("GET", "/c/x")
    assert not rules.is_public("GET", "/c/x/y/")
    assert rules.is_public("GET", "/d/x/y/z")
    assert not rules.is_public("GET", "/d/x")


def test_the_root() -> None:
    assert Rules(public="/").is_public("GET", "/")
    assert not Rules(public="/").is_public("GET", "")
    assert not Rules(public="/").is_public("GET", "/a")
    assert Rules(public="/*").is_public("GET", "/a")
    assert not Rules(public="/*").is_public("GET", "/")


def test_patterns_are_literal() -> None:
    rules = Rules(public="/a.b/*, /(a+)+/*, /x|y/*, /[ab]/*")
    assert rules.is_public("GET", "/a.b/x")
    assert rules.is_public("GET", "/(a+)+/x")
    assert not any(rules.is_public("GET", path) for path in ("/aXb/x", "/aa/x", "/x", "/x/", "/y/1", "/a/1"))


def test_nothing_said_opens_nothing_and_asks_for_nothing() -> None:
    rules = Rules()
    assert not rules.has_public_paths
    assert not rules.has_scope_rules
    assert not rules.is_public("GET", "/")
    assert rules.required("GET", "//") == ()


def test_the_attributes_say_what_there_is() -> None:
    assert Rules(public="/a").has_public_paths
    assert not Rules(public="/a").has_scope_rules
    assert Rules(rules="/a: b").has_scope_rules
    assert not Rules(rules="/a: b").has_public_paths


@pytest.mark.parametrize(("public", "rules"), [("a", ""), ("", "/a")])
def test_what_cant_be_read_is_an_error(public: str, rules: str) -> None:
    with pytest.raises(ConfigError):
        Rules(public, rules)


SCOPES = Rules(
    rules="/admin: admin, /area/*: area, POST /items/*: write, GET /r/*/s/: read, /items/*: items more, GET /admin: see"
)


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/admin", ("admin",)),
        ("POST", "/admin/", ("admin",)),
        ("GET", "/admin", ("admin", "see")),
        ("HEAD", "/admin/", ("admin", "see")),
        ("get", "/admin/", ("admin", "see")),
        ("GET", "/admin/x", ()),
        ("GET", "/Admin", ("admin", "see")),
        ("GET", "/area", ("area",)),
        ("GET", "/area/", ("area",)),
        ("GET", "/area/x/y/", ("area",)),
        ("GET", "/areal", ()),
        ("GET", "/items/1", ("items", "more")),
        ("POST", "/items/1", ("write", "items", "more")),
        ("post", "/items/1", ("write", "items", "more")),
        ("POST", "/items", ("write", "items", "more")),
        ("GET", "/r/1/s", ("read",)),
        ("HEAD", "/r/1/s/", ("read",)),
        ("GET", "/r/1/2/s", ()),
        ("GET", "/r/1/s/x", ()),
        ("POST", "/r/1/s", ()),
        ("GET", "/", ()),
        ("GET", "/other", ()),
    ],
)
def test_scopes(method: str, path: str, scopes: tuple[str, ...]) -> None:
    assert SCOPES.required(method, path) == scopes


@pytest.mark.parametrize(
    "path", [path for path in ATTACKS if not canonical(path)] + ["//admin", "/admin\n", "/admin//"], ids=ascii
)
def test_a_path_that_may_be_routed_anywhere_needs_all_scopes(path: str) -> None:
    assert SCOPES.required("GET", path) == ("admin", "area", "write", "read", "items", "more", "see")


def test_an_exact_and_a_wild_rule_add_up() -> None:
    rules = Rules(rules="/a/*: one, /a/b: two one")
    assert rules.required("GET", "/a/b") == ("two", "one")


def test_rules_for_the_root() -> None:
    assert Rules(rules="/: a").required("GET", "/") == ("a",)
    assert Rules(rules="/: a").required("GET", "/x") == ()
    assert all(Rules(rules="/*: a").required("GET", path) == ("a",) for path in ("/", "/x", "/x/y/"))


def naive(pattern: Pattern, method: str, path: str) -> bool:
    """What a public pattern matches, by looking at the segments one by one."""
    if pattern.method and method != pattern.method and (pattern.method, method) != ("GET", "HEAD"):
        return False
    wanted, found = pattern.path.split("/"), path.split("/")
    below = wanted[-1] == "*"
    if below:
        wanted.pop()
        rest, found = found[len(wanted) :], found[: len(wanted)]
        if not any(rest):
            return False
    return len(wanted) == len(found) and all(
        one == other or (one == "*" and other) for one, other in zip(wanted, found, strict=True)
    )


PUBLIC = "/, /login, /static/*, GET /items/*/parts, POST /a/*, /a/*/b/*, /c/, HEAD /*/d"
segments = st.sampled_from(
    ["", "a", "b", "c", "d", "x", "login", "static", "items", "parts", ".", "..", "*", "%2e", "A", "a\n", ";"]
)
paths = st.lists(segments, max_size=6).map("/".join) | st.lists(segments, max_size=6).map(
    lambda parts: "/" + "/".join(parts)
)
methods = st.sampled_from(["GET", "HEAD", "POST", "DELETE", "get", ""])


@given(methods, paths | st.text(max_size=20) | st.text(alphabet="/.ab*\n", max_size=12))
@example("GET", "/static/\ud800")
def test_public_is_canonical_and_under_a_pattern(method: str, path: str) -> None:
    expected = canonical(path) and any(naive(pattern, method, path) for pattern in parse_public(PUBLIC))
    assert Rules(public=PUBLIC).is_public(method, path) is expected


@given(methods, paths)
def test_no_rule_is_escaped_by_another_spelling(method: str, path: str) -> None:
    """Whatever a lenient framework makes of a path, the path needs at least the scopes of what it makes of it."""
    text = "/a: a, /static/*: s, POST /items/*/parts: p, GET /c/: c, /*/d: d"
    rules = Rules(rules=text)
    routed = "/" + "/".join(filter(None, path.strip("\n").split("/")))
    for rule in parse_rules(text):
        if naive(rule.pattern, method.upper(), routed):
            assert set(rule.needs) <= set(rules.required(method, path))


@given(methods, paths)
def test_what_is_required_is_at_most_all(method: str, path: str) -> None:
    assert set(SCOPES.required(method, path)) <= set(SCOPES.required(method, "//"))


HOSTILE = [
    "/" + "a" * 100_000,
    "/a" * 50_000,
    "/" * 100_000,
    "/a/b" * 25_000 + "\n",
    "/." * 50_000,
    "/a/" + "b/" * 50_000 + "c",
]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path[:8])
def test_hostile_paths_take_no_time(path: str) -> None:
    text = [f"/{'/'.join(shape)}" for shape in product("a*", repeat=5)]
    rules = Rules(public=", ".join(text), rules=", ".join(f"{pattern}: s" for pattern in text))
    began = time.process_time()
    rules.is_public("GET", path)
    rules.required("GET", path)
    assert time.process_time() - began < 0.5  # 64 patterns: quadratic ones would take minutes
