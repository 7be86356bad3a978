"""The small languages of settings."""

# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jwtguard.errors import ConfigError
from jwtguard.patterns import Pattern, ScopeRule, canonical, parse_public, parse_rules
from jwtguard.values import Wrong, duration, nearest, redacted, shown, size_of, span, string_or_uri, weakness, whole


def test_public_patterns_are_read_as_written() -> None:
    found = parse_public("/, /login,\n  /static/*, GET /items/*/parts, M-SEARCH /søk, /a:b/,")
    assert found == (
        Pattern("", "/"),
        Pattern("", "/login"),
        Pattern("", "/static/*"),
        Pattern("GET", "/items/*/parts"),
        Pattern("M-SEARCH", "/søk"),
        Pattern("", "/a:b/"),
    )


def test_scope_rules_are_read_as_written() -> None:
    found = parse_rules("/admin/*: admin, POST /items/*: write  read:all write, /jobs/7:run:\ta,")
    assert found == (
        ScopeRule(Pattern("", "/admin/*"), ("admin",)),
        ScopeRule(Pattern("POST", "/items/*"), ("write", "read:all")),
        ScopeRule(Pattern("", "/jobs/7:run"), ("a",)),
    )


@pytest.mark.parametrize("text", ["", " ", ",", " , ,\n"])
def test_no_text_is_no_pattern(text: str) -> None:
    assert parse_public(text) == ()
    assert parse_rules(text) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("login", "doesn't begin with /"),
        ("http://h/login", "doesn't begin with /"),
        ("*", "doesn't begin with /"),
        ("GET", "doesn't begin with /"),
        ("/static*", "not a whole segment"),
        ("/a/**", "not a whole segment"),
        ("/*.css", "not a whole segment"),
        ("//login", "empty segment"),
        ("/a//b", "empty segment"),
        ("/login/../x", "segment . or .."),
        ("/a/.", "segment . or .."),
        ("/a%20b", "'%'"),
        ("/a;b", "';'"),
        ("/a?b", "'?'"),
        ("/a#b", "'#'"),
        ("/a\\b", "'\\\\'"),
        ("/a\x00b", "'\\x00'"),
        ("/a\x7fb", "'\\x7f'"),
        ("/a\ud800b", "'\\ud800'"),
        ("/a\ufffdb", "'\\ufffd'"),
        ("/a b", "space"),
        ("/a\u2028b", "space"),
        ("GET POST /a", "space"),
        ("get /a", "upper case"),
        ("Get /a", "upper case"),
        ("G\u00cbT /a", "upper case"),
        ("GTE /a", "did you mean GET?"),
        ("PSOT /a", "did you mean POST?"),
        ("/items/*: write", "space"),
    ],
)
def test_a_pattern_that_cant_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_public(f"/fine, {text}")
    assert why in str(caught.value)
    assert str(caught.value).isprintable()
    assert "fine" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/a", "lacks a path or a scope"),
        ("/a:", "lacks a path or a scope"),
        ("/a: ", "lacks a path or a scope"),
        ("/a:b", "lacks a path or a scope"),
        (": b", "lacks a path or a scope"),
        ("/a: read /b: write", "comma missing"),
        ("/a: read POST: write", "comma missing"),
        ('/a: "read"', "not a scope"),
        ("/a: b\\c", "not a scope"),
        ("/a: é", "not a scope"),
        ("a: b", "doesn't begin with /"),
        ("get /a: b", "upper case"),
        ("/a//b: c", "empty segment"),
    ],
)
def test_a_rule_that_cant_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_rules(f"/fine: ok, {text}")


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_public("one, /two, three")
    assert "'one'" in str(caught.value)
    assert "'three'" in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@given(st.text(alphabet="/*ab.,: GET\\%\n\x00\ud800", max_size=30))
@example(": /a")
def test_patterns_are_read_or_refused(text: str) -> None:
    for parse in (parse_public, parse_rules):
        message = ""
        found: tuple[Pattern | ScopeRule, ...] = ()
        try:
            found = parse(text)
        except ConfigError as error:
            message = str(error)
        assert message.isprintable()
        assert all(canonical(item.path if isinstance(item, Pattern) else item.pattern.path) for item in found)


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/a/b", "/.well-known/x", "/...", "/a b", "/ä/日本", "/a,b:c=d@e*", "/*"]
)
def test_canonical(path: str) -> None:
    assert canonical(path)


ODD = [chr(code) for code in (*range(32), *range(127, 160), 0x2028, 0x2029, 0xD800, 0xDFFF, 0xFFFD)] + list("\\;%?#")


@pytest.mark.parametrize(
    "path", ["", "a", "a/b", "//", "//a", "/a//", "/a//b", "/.", "/..", "/./a", "/a/..", "/a/../b", "*"]
)
def test_not_canonical(path: str) -> None:
    assert not canonical(path)


@pytest.mark.parametrize("character", ODD, ids=ascii)
def test_a_character_that_is_never_canonical(character: str) -> None:
    for path in (f"/a{character}", f"/{character}a", f"/a/{character}"):
        assert not canonical(path)


def edits(word: str, letters: str) -> set[str]:
    """All words one edit away, by trying each place: the slow way."""
    found = {word}
    for at in range(len(word) + 1):
        found |= {word[:at] + letter + word[at:] for letter in letters}
        if at < len(word):
            found |= {word[:at] + letter + word[at + 1 :] for letter in letters} | {word[:at] + word[at + 1 :]}
        if at < len(word) - 1:
            found.add(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    return found


@given(st.text(alphabet="abc", max_size=5), st.text(alphabet="abc", max_size=5))
def test_nearest_is_two_edits_at_most(word: str, other: str) -> None:
    expected = any(other in edits(middle, "abc") for middle in edits(word, "abc"))
    assert (nearest(word, [other]) == other) is expected


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("CA", ["ABC"], "ABC"),
        ("RULE", ["RULES", "MODE"], "RULES"),
        ("ab", ["abcd", "abc", "abd"], "abc"),
        ("x" * 100_000, ["RULES"], None),
        ("x", [], None),
    ],
)
def test_nearest(word: str, known: list[str], expected: str | None) -> None:
    assert nearest(word, known) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("30m", 1800.0),
        (" 12h ", 43_200.0),
        ("30d", 2_592_000.0),
        ("250ms", 0.25),
        (90, 90.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    found = duration(0, 10_000_000)(value)
    assert found == seconds
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "value",
    ["", "-1", "1.5h", "1 h", "1w", "h", "٣", "1e3", "9" * 13, 61, -1, float("nan"), float("inf"), True, [], b"1", "off"],
)
def test_what_is_no_duration_in_range(value: object) -> None:
    with pytest.raises(Wrong, match="from 0s to 1m"):
        duration(0, 60)(value)


def test_huge_durations() -> None:
    for value in (10**400, timedelta(days=999_999_999), -(10**400)):
        with pytest.raises(Wrong):
            duration(0, 60)(value)


def test_off_where_it_is_allowed() -> None:
    assert duration(1, 60, off=True)(" off ") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.001, "1ms"), (0.25, "250ms"), (90, "1.5m"), (3600, "1h"), (86_400, "1d")]
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize("value", ["0", "11", "1.0", "", "x", "٣", True, 1.0, None, 0, 11, "9" * 5000])
def test_what_is_no_whole_number_in_range(value: object) -> None:
    with pytest.raises(Wrong, match="from 1 to 10"):
        whole(1, 10)(value)


@pytest.mark.parametrize("value", ["a", "é" * 127, "https://idp.example/", "two words"])
def test_party(value: str) -> None:
    assert string_or_uri(value) == value


@pytest.mark.parametrize("value", ["é" * 128, "a\n", "\x85", "\u2028", "\ud800", b"a", 1])
def test_what_is_no_party(value: object) -> None:
    with pytest.raises(Wrong):
        string_or_uri(value)


PUBLISHED = [
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "5367566B59703373367639792F423F4528482B4D6251655468576D5A71347437",
    "django-insecure-+z!x8r0q$3m@5k^w7_v9j1h=b2n4c6t)y(u*e&g",
    "AyM1SysPpbyFDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
]
WEAK = [
    *PUBLISHED,
    "a" * 64,
    "ab" * 32,
    "changeme" * 8,
    "changeme" + "x" * 40,
    "your-256-bit-secret" * 2,
    "your-256-bit-secret".ljust(32),
    "your-256-bit-secret".ljust(32, "0"),
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "this-secret-must-be-32-character",
    "JWTSecretKeyDontUseInProduction!",
    "my_super_secret_key_for_signing_jwt_tokens_in_production",
    "0123456789abcdef0123456789abcdef",
    "12345678901234567890123456789012",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "secret123451234512345123451234512345",
    "\x00" * 40,
    "".join(map(chr, range(64))),
]


@pytest.mark.parametrize("secret", WEAK)
def test_weak_secrets(secret: str) -> None:
    assert weakness(secret.encode(), 32)


@pytest.mark.parametrize("text", PUBLISHED)
def test_C06_published_secrets_are_known_as_such(text: str) -> None:
    assert weakness(text.encode(), 32) in (" that has been published", " that Django made for development, and says so")


@pytest.mark.parametrize("text", [text for text in PUBLISHED if text[:8] in ("3cfa76ef", "5367566B")])
def test_C06_nor_does_it_help_to_decode_them(text: str) -> None:
    assert weakness(bytes.fromhex(text), 32) == " that has been published"


def test_a_short_secret_is_weak_without_more_words() -> None:
    assert weakness(b"", 32) == weakness(secrets.token_bytes(31), 32) == ""


@given(st.binary(min_size=64, max_size=64).filter(lambda data: len(set(data)) > 40))
def test_random_secrets_are_strong(data: bytes) -> None:
    digest = hashlib.sha512(data).digest()  # what hypothesis draws is anything but random
    encoded = base64.urlsafe_b64encode(digest)
    for secret in (digest[:32], digest.hex()[:32].encode(), encoded[:32], b"prod-secret-" + encoded[:32]):
        assert weakness(secret, 32) is None
    for least in (48, 64):
        assert weakness(digest.hex()[:least].encode(), least) is None
        assert weakness(encoded[:least], least) is None


def test_a_longer_algorithm_needs_more_than_a_doubled_secret() -> None:
    half = hashlib.sha256(b"half").hexdigest()[:32].encode()
    assert weakness(half, 32) is None
    assert weakness(half * 2, 64) == " that repeats itself"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb\u2028", "'a\\nb\\u2028'"),
        ("x" * 81, repr("x" * 80 + "...")),
        (True, "True"),
        (1.5, "1.5"),
        (7, "7"),
        (timedelta(seconds=1), "datetime.timedelta(seconds=1)"),
        pytest.param(10**5000, "a value of type int", id="huge"),
        ([], "a value of type list"),
        (b"ab", "a value of 2 bytes"),
    ],
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [("é", "2 bytes"), ("\ud800", "3 bytes"), (b"a", "1 byte"), (None, "type NoneType")]
)
def test_size_of(value: object, text: str) -> None:
    assert size_of(value) == f"a value of {text}"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory://", "memory://"),
        ("sqlite:///jwtguard.db", "sqlite:///jwtguard.db"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis+cluster://a:1,b:2/0", "redis+cluster://a:1,b:2/0"),
        ("redis://user:hunter2@h/0", "redis://***@h/0"),
        ("redis://:p@ss/wo@rd@h:1/0", "redis://***@h:1/0"),
        ("postgresql://h/db?password=hunter2", "postgresql://h/db?***"),
        ("redis://u:pa?ss@h", "redis://***"),
        ("redis://u:1#2@h", "redis://***"),
        ("redis://:hunter2", "redis://***"),
        ("", "://"),
    ],
)
def test_redacted(url: str, text: str) -> None:
    assert redacted(url) == text


@given(st.text(alphabet=string.ascii_letters + string.digits + ":/@?#", min_size=8, max_size=20))
def test_no_password_is_left_in_a_redacted_url(password: str) -> None:
    for url in (f"redis://user:{password}@host:1/0", f"redis://:{password}@host", f"redis://host/0?password={password}"):
        assert password not in redacted(url)
