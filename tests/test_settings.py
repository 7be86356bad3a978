"""Settings, by keyword and from the environment."""

# ruff: noqa: N802 - names carry the ids of the security checklist

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.errors import ConfigError
from jwtguard.settings import Settings
from jwtguard.variables import VARIABLES

SECRET = "pI3vFHyUkgpCQ0nKJZbYl7WmEr9sX2dTo5Lu8aGqRjBiNwMf1cVx4hDz6tAeSPyK"
OTHER = "Zt8qLw3NfYb6Rk1HdXs9Vm2JgPc5Ua7TeKi4OoBvErGyWnCxDuMzQaFhSlIjApRt"
SHORT = "Uv4mK9qTz2Lx7Rb1"


def make(**values: Any) -> Settings:
    return Settings(**{"secret": SECRET, **values})


def from_env(environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    """From an environment with a secret, and with these variables, named without their prefix."""
    return Settings.from_env(
        {"JWTGUARD_SECRET": SECRET} | {f"JWTGUARD_{k}": v for k, v in (environ or {}).items()}, **overrides
    )


def refusal(build: Callable[..., Settings], *arguments: Any, **values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(*arguments, **values)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return str(caught.value)


def line(message: str, name: str) -> str:
    """The one line about a name."""
    (found,) = [line for line in message.split("\n") if line.startswith(f"  {name}: ")]
    return found


# -- every row of the table ---

OF_TWO = {"required unless KEYS", "HS256, with KEYS EdDSA"}
GOOD: dict[str, list[tuple[str, Any]]] = {
    "secret": [(OTHER, OTHER.encode())],
    "secret_fallbacks": [("[]", ()), (f'["{OTHER}", "{SECRET}"]', (OTHER.encode(), SECRET.encode()))],
    "keys": [("off", None)],
    "algorithm": [("HS256", "HS256"), (" HS384 ", "HS384"), ("HS512", "HS512")],
    "issuer": [("https://idp.example/", "https://idp.example/")],
    "audience": [("shop", "shop")],
    "store": [("memory://", "memory://"), ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2")],
    "access_ttl": [("90", 90.0), ("5m", 300.0)],
    "refresh_ttl": [("12h", 43_200.0)],
    "session_ttl": [("7d", 604_800.0)],
    "idle_timeout": [("off", None), ("15m", 900.0)],
    "max_sessions": [("1", 1), ("1000", 1000)],
    "on_limit": [("evict", "evict"), ("deny", "deny"), (" choose", "choose")],
    "cache_ttl": [("250ms", 0.25), ("1h", 3600.0)],
    "cache_size": [("1", 1)],
    "rotation_grace": [("0", 0.0), ("10m", 600.0)],
    "on_reuse": [("end", "end"), ("refuse", "refuse")],
    "stale_if_down": [("0s", 0.0), ("1h", 3600.0)],
    "store_timeout": [("1ms", 0.001), ("60", 60.0)],
    "public": [("/, GET /items/*", "/, GET /items/*")],
    "rules": [("/admin/*: admin", "/admin/*: admin")],
    "mode": [("enforce", "enforce"), ("optional", "optional")],
    "cookie": [("off", False), ("on", "on"), (" silent ", "silent")],
    "trusted_origins": [
        ("https://a.example", ("https://a.example",)),
        ("https://a.example:8443, http://localhost:3000", ("https://a.example:8443", "http://localhost:3000")),
        ("http://[::1]:8080, http://a:443", ("http://[::1]:8080", "http://a:443")),
    ],
    "endpoints": [("off", "off"), ("/auth", "/auth"), ("/api/v1/auth", "/api/v1/auth")],
    "leeway": [("5m", 300.0)],
    "max_token": [("256", 256), ("15360", 15_360)],
    "realm": [("my shop", "my shop")],
    "remote_user": [("on", True), ("off", False)],
}
BAD: dict[str, list[str]] = {
    "secret": [SHORT, SHORT * 4, "changeme" * 8, "\ud800" * 64],
    "secret_fallbacks": [
        OTHER,
        "{",
        "[1]",
        '"x"',
        "null",
        f'["{SHORT}"]',
        f'["{OTHER}", ""]',
        "[" * 5000,
        '["\ud800"]',
        "\ud800",
    ],
    "keys": ["/etc/keys", "[]", OTHER],
    "algorithm": ["hs256", "RS256", "none", "HS257", "HS256,HS384"],
    "issuer": ["a\n", "é" * 128, "\ud800"],
    "audience": ["a\x00", "x" * 256],
    "store": ["jwtguard.db", "://x", "1a://x", "redis://a b", "redis://a\nb", "redis:/x", f"postgres//u:{OTHER}@h"],
    "access_ttl": ["0", "0.5", "11y", "3651d", "250ms", "-1s", "30 m", "off"],
    "refresh_ttl": ["0", "soon"],
    "session_ttl": ["0", "forever"],
    "idle_timeout": ["0", "on", "999ms"],
    "max_sessions": ["0", "1001", "ten", "1.0", "-1"],
    "on_limit": ["Evict", "drop"],
    "cache_ttl": ["0", "2h"],
    "cache_size": ["0", "100000001"],
    "rotation_grace": ["11m", "-1"],
    "on_reuse": ["evict"],
    "stale_if_down": ["2h"],
    "store_timeout": ["0", "61s"],
    "public": ["login", "//x", "get /x"],
    "rules": ["/admin", "/admin:admin"],
    "mode": ["off", "ENFORCE"],
    "cookie": ["ON", "yes", "strict"],
    "trusted_origins": [
        "null",
        "*",
        "a.example",
        "https://a.example/",
        "https://A.example",
        "https://a.example:443",
        "http://a.example:80",
        "https://a.example:0",
        "https://*.example",
        "https://u@a.example",
        "ftp://a.example",
        "https://a.example,,",
        "https://a.example https://b.example",
        "https://a..example",
    ],
    "endpoints": ["on", "auth", "/", "/auth/", "//auth", "/a/../b", "/.", "/a/{id}", "/a b", "/*"],
    "leeway": ["6m", "off"],
    "max_token": ["255", "65537"],
    "realm": ['a"b', "a\\b", "é", "a\n", "x" * 256],
    "remote_user": ["yes", "1", "ON"],
}


def test_the_table_the_fields_and_these_tests_name_the_same_settings() -> None:
    names = [field.name for field in dataclasses.fields(Settings)]
    assert names == list(VARIABLES) == list(GOOD) == list(BAD)


@pytest.mark.parametrize(("name", "text", "value"), [(name, *case) for name, cases in GOOD.items() for case in cases])
def test_a_good_value(name: str, text: str, value: Any) -> None:
    assert getattr(make(**{name: text}), name) == value
    assert getattr(from_env({name.upper(): text}), name) == value
    assert getattr(Settings.from_env({}, **{"secret": SECRET, name: text}), name) == value


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts], ids=ascii)
def test_a_bad_value(name: str, text: str) -> None:
    by_keyword, in_environment = refusal(make, **{name: text}), refusal(from_env, {name.upper(): text})
    assert in_environment == by_keyword.replace(f"  {name}: ", f"  JWTGUARD_{name.upper()}: ")
    told = line(by_keyword, name)
    assert re.fullmatch(r"  [a-z_]+: found .+; accepted: .+", told)
    assert all(secret not in by_keyword for secret in (SECRET, OTHER, SHORT, "changeme"))


@pytest.mark.parametrize("name", VARIABLES)
def test_a_row_of_the_documents_table(name: str) -> None:
    variable = VARIABLES[name]
    assert variable.name == f"JWTGUARD_{name.upper()}"
    assert variable.meaning
    assert "|" not in variable.meaning + variable.default_text
    if not {variable.default_text} & {"required", "empty", "none", "the issuer", "`/auth` in the integrations"} | OF_TWO:
        assert variable.read(variable.default_text) == variable.default


def test_defaults() -> None:
    expected = {name: variable.default for name, variable in VARIABLES.items()}
    expected |= {"secret": SECRET.encode(), "audience": "jwtguard", "algorithm": "HS256"}
    assert {name: getattr(make(), name) for name in VARIABLES} == expected
    assert make() == from_env() == Settings(**dict.fromkeys(VARIABLES) | {"secret": SECRET})
    assert (make().access_ttl, make().refresh_ttl, make().store_timeout) == (1800.0, 2_592_000.0, 0.25)


def test_native_values() -> None:
    found = make(
        secret=OTHER.encode(),
        secret_fallbacks=[SECRET, OTHER.encode()],
        access_ttl=timedelta(minutes=5),
        refresh_ttl=600,
        cache_ttl=0.5,
        max_sessions=3,
        public=["/", "GET /items/*"],
        rules=("/a: b",),
        endpoints=False,
        remote_user=True,
        cookie=False,
        trusted_origins=[],
    )
    assert found.secret == OTHER.encode()
    assert found.secret_fallbacks == (SECRET.encode(), OTHER.encode())
    assert (found.access_ttl, found.refresh_ttl, found.cache_ttl) == (300.0, 600.0, 0.5)
    assert (found.public, found.rules) == ("/, GET /items/*", "/a: b")
    assert (found.endpoints, found.remote_user, found.cookie, found.trusted_origins) == ("off", True, False, ())
    assert make(cookie=True).cookie == "on"
    assert make(trusted_origins=("https://a.example",)).trusted_origins == ("https://a.example",)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", [object(), {"a": 1}, 1j, [object()], ["/a,b"]], ids=lambda value: type(value).__name__)
def test_values_of_no_use(name: str, value: object) -> None:
    assert line(refusal(make, **{name: value}), name)


def test_the_audience_is_the_issuer_unless_said() -> None:
    assert make(issuer="a").audience == "a"
    assert make(issuer="a", audience="b").audience == "b"


# -- secrets ---


@pytest.mark.parametrize("build", [Settings, lambda **values: Settings.from_env({}, **values)])
@pytest.mark.parametrize("value", ["", b"", None])
def test_a_missing_secret_tells_how_to_make_one(build: Callable[..., Settings], value: object) -> None:
    message = refusal(build, secret=value)
    assert "ound nothing" in message
    assert 'python -c "import secrets; print(secrets.token_urlsafe(48))"' in message


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_is_as_long_as_the_hash(algorithm: str, least: int) -> None:
    assert make(secret=SECRET[:least], algorithm=algorithm).algorithm == algorithm
    told = line(refusal(make, secret=SECRET[: least - 1], algorithm=algorithm), "secret")
    assert f"a value of {least - 1} bytes;" in told
    assert f"at least {least} bytes, for {algorithm}" in told
    old = refusal(make, algorithm=algorithm, secret_fallbacks=[OTHER, OTHER[1:least]])
    assert f"found as number 2, a value of {least - 1} bytes;" in line(old, "secret_fallbacks")


def test_a_length_is_in_bytes() -> None:
    secret = "åéîøüñçßþðæÅÉÎØÜ"
    assert make(secret=secret).secret == secret.encode()
    assert len(secret.encode()) == 32


@pytest.mark.parametrize("text", ["none", "None", "NONE", " nOnE "])
def test_algorithm_none_is_never_allowed(text: str) -> None:
    assert "never allowed" in line(refusal(make, algorithm=text), "algorithm")


@pytest.mark.parametrize("text", ["RS256", "ES512", "PS384", "ES256K", "EdDSA", "Ed25519"])
def test_asymmetric_algorithms_are_for_keys(text: str) -> None:
    assert "accepted: HS256, HS384, HS512" in line(refusal(make, algorithm=text), "algorithm")


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES384", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"])
def test_an_algorithm_for_keys(algorithm: str) -> None:
    assert Settings(keys="/keys", algorithm=algorithm).algorithm == algorithm


def test_keys_in_place_of_a_secret() -> None:
    found = Settings(keys=Path("/keys"))
    assert (found.keys, found.algorithm, found.secret) == ("/keys", "EdDSA", b"")
    assert Settings.from_env({"JWTGUARD_KEYS": "/keys"}) == found


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_C05_an_algorithm_of_secrets_is_not_for_keys(algorithm: str) -> None:
    assert "found 'HS" in line(refusal(Settings, keys="/keys", algorithm=algorithm), "algorithm")


def test_C05_a_secret_and_keys_are_not_mixed() -> None:
    assert "found keys beside SECRET" in line(refusal(make, keys="/keys"), "keys")
    assert "found keys beside SECRET_FALLBACKS" in line(refusal(Settings, keys="/k", secret_fallbacks=[OTHER]), "keys")


@pytest.mark.parametrize("text", ['{"keys": []}', " [", "-----BEGIN PRIVATE KEY-----", "a\nb", "k" * 4097, 5])
def test_what_is_no_path_of_keys_is_not_shown(text: object) -> None:
    assert line(refusal(Settings, keys=text), "keys").startswith("  keys: found a value of ")


STORE = f"redis://user:{SHORT}@h/0?x={SHORT}"


def test_no_secret_is_shown() -> None:
    found = make(secret_fallbacks=[OTHER], store=STORE)
    for text in (repr(found), str(found), f"{found}", repr({"a": found})):
        assert not any(secret in text for secret in (SECRET, OTHER, SHORT))
        assert "store='redis://***@h/0?***'" in text
    assert found.store == STORE


def test_no_secret_is_in_what_a_traceback_shows() -> None:
    environ = {"JWTGUARD_SECRET": SECRET, "JWTGUARD_STORE": STORE, "JWTGUARD_SECRET_FALLBACKS": f'["{OTHER}"]'}
    builds: list[Callable[[], Settings]] = [
        lambda: make(secret_fallbacks=[OTHER], store=STORE, mode="?"),
        lambda: Settings.from_env(environ, mode="?"),
        lambda: Settings.from_env({}, secret=SECRET, mode="?"),
    ]
    for build in builds:
        with pytest.raises(ConfigError) as caught:
            build()
        frames = traceback.StackSummary.extract(
            (each for each in traceback.walk_tb(caught.tb) if each[0].f_globals["__name__"].startswith("jwtguard.")),
            capture_locals=True,
        )
        shown = "".join(frames.format())
        assert "in _fill" in shown
        assert not any(secret in shown for secret in (SECRET, OTHER, SHORT))


def test_settings_are_frozen_values() -> None:
    found = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mode = "optional"  # type: ignore[misc]
    assert found == make() != make(mode="optional")
    assert hash(found) == hash(make())
    assert pickle.loads(pickle.dumps(found)) == found
    assert dataclasses.replace(make(idle_timeout=60, endpoints="off"), mode="optional").idle_timeout == 60.0


# -- several at once ---


def test_all_that_is_wrong_is_in_one_error() -> None:
    message = refusal(
        from_env, {"MODE": "x", "PUBLIC": "a, /b, c", "LEEWAY": "1y", "RULE": "x"}, cache_size=0, max_session=1
    )
    assert [found.split(":")[0] for found in message.split("\n")[1:]] == [
        "  cache_size",
        "  JWTGUARD_PUBLIC",
        "  JWTGUARD_MODE",
        "  JWTGUARD_LEEWAY",
        "  max_session",
        "  JWTGUARD_RULE",
    ]
    assert "'a'" in line(message, "JWTGUARD_PUBLIC")
    assert "'c'" in line(message, "JWTGUARD_PUBLIC")
    assert "found 'x'; accepted: enforce or optional" in line(message, "JWTGUARD_MODE")
    assert "found 0;" in line(message, "cache_size")


def test_an_access_token_lives_no_longer_than_a_refresh_token() -> None:
    assert make(access_ttl="30d").access_ttl == make().refresh_ttl
    told = line(refusal(from_env, {"REFRESH_TTL": "10m"}), "JWTGUARD_ACCESS_TTL")
    assert told.endswith("found 30m; accepted: at most JWTGUARD_REFRESH_TTL, which is 10m")
    assert line(refusal(make, leeway="2m", access_ttl=60), "leeway").endswith("at most access_ttl, which is 1m")


def test_what_is_wrong_in_itself_is_not_compared() -> None:
    assert refusal(make, access_ttl="?", leeway="?").count("\n") == 2
    assert refusal(make, issuer="\n", audience="\n").count("\n") == 2


@pytest.mark.parametrize(
    ("name", "meant"), [("acces_ttl", "access_ttl"), ("SECRET", "secret, secret_fallbacks"), ("x\n", "secret, ")]
)
def test_an_unknown_keyword_is_an_error(name: str, meant: str) -> None:
    for build in (make, from_env):
        message = refusal(build, **{name: 1})
        assert f"found an unknown keyword; accepted: {meant}" in message
        assert message.count("\n") == 1


# -- the environment ---


def test_overrides_go_first() -> None:
    assert from_env({"MODE": "optional"}, mode="enforce").mode == "enforce"
    assert from_env({"MODE": "nonsense"}, mode="enforce").mode == "enforce"
    assert from_env({"PUBLIC": "/a"}, public="").public == from_env({"PUBLIC": "/a"}, public=[]).public == ""
    assert "ound nothing" in refusal(from_env, secret="")


def test_an_override_of_none_says_nothing() -> None:
    assert from_env({"MODE": "optional"}, mode=None).mode == "optional"
    assert from_env({"ENDPOINTS": "/x"}, endpoints=None).endpoints == "/x"
    assert from_env({"IDLE_TIMEOUT": "5m"}, idle_timeout=None).idle_timeout is None


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_is_an_absent_one(name: str) -> None:
    if name != "secret":
        assert from_env({name.upper(): "", f"{name.upper()}_FILE": ""}) == from_env()


def test_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JWTGUARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JWTGUARD_SECRET", SECRET)
    monkeypatch.setenv("JWTGUARD_REALM", "shop")
    assert Settings.from_env().realm == "shop"
    assert Settings(secret=SECRET).realm == "jwtguard"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_value_from_a_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes((OTHER + end).encode())
    assert from_env({"SECRET": "", "SECRET_FILE": str(path)}).secret == OTHER.encode()


@pytest.mark.parametrize("name", VARIABLES)
def test_any_variable_from_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "value"
    for text, value in GOOD[name]:
        path.write_text(text + "\n")
        environ = {"JWTGUARD_SECRET": SECRET, f"JWTGUARD_{name.upper()}_FILE": str(path)}
        if name == "secret":
            del environ["JWTGUARD_SECRET"]
        assert getattr(Settings.from_env(environ), name) == value


def test_only_one_newline_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_bytes(f"{OTHER}\n\n".encode())
    assert from_env({"SECRET": "", "SECRET_FILE": str(path)}).secret == f"{OTHER}\n".encode()
    path.write_bytes(f"{OTHER}\r".encode())
    assert from_env({"SECRET": "", "SECRET_FILE": str(path)}).secret == f"{OTHER}\r".encode()


def test_an_empty_file_is_an_absent_value(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("\n")
    assert from_env({"MODE_FILE": str(path)}).mode == "enforce"
    assert "found nothing" in line(refusal(Settings.from_env, {"JWTGUARD_SECRET_FILE": str(path)}), "JWTGUARD_SECRET_FILE")


def test_a_bad_value_from_a_file_names_the_file_variable(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("sometimes")
    assert "found 'sometimes'" in line(refusal(from_env, {"MODE_FILE": str(path)}), "JWTGUARD_MODE_FILE")


def test_files_that_cant_be_used(tmp_path: Path) -> None:
    large, binary, full = tmp_path / "large", tmp_path / "binary", tmp_path / "full"
    large.write_bytes(b"x" * (64 * 1024 + 1))
    binary.write_bytes(b"\xff" * 64)
    full.write_bytes(b"[" + b" " * (64 * 1024 - 2) + b"]")
    assert from_env({"SECRET_FALLBACKS_FILE": str(full)}).secret_fallbacks == ()
    cases = [
        (large, "is too large"),
        (binary, "UnicodeDecodeError"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "directory"),
    ]
    for path, why in cases:
        for name in ("MODE", "STORE"):
            told = line(refusal(from_env, {f"{name}_FILE": str(path)}), f"JWTGUARD_{name}_FILE")
            assert repr(str(path)) in told
            assert why in told
            assert "64 KiB" in told
    assert "can't be read" in refusal(from_env, {"MODE_FILE": "a\x00b"})


def test_a_secret_in_place_of_a_path_is_not_shown() -> None:
    message = refusal(Settings.from_env, {"JWTGUARD_SECRET_FILE": SECRET})
    assert SECRET not in message
    assert "a value of 64 bytes, which can't be read as text (No such file or directory)" in message


def test_a_variable_and_its_file_together_are_an_error(tmp_path: Path) -> None:
    both = {"SECRET_FILE": str(tmp_path / "none"), "MODE": "optional", "MODE_FILE": str(tmp_path / "none")}
    message = refusal(from_env, both)
    assert line(message, "JWTGUARD_SECRET").endswith(
        "found both; accepted: one of JWTGUARD_SECRET and JWTGUARD_SECRET_FILE"
    )
    assert line(message, "JWTGUARD_MODE")
    assert from_env(both, secret=OTHER, mode="enforce").secret == OTHER.encode()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RULE", "RULES"),
        ("SECERT", "SECRET"),
        ("ACCES_TLL", "ACCESS_TTL"),
        ("secret", "SECRET"),
        ("_SECRET", "SECRET"),
        ("SECRET_FLIE", "SECRET_FILE"),
        ("KEY", "KEYS"),
        ("MAX_SESSION", "MAX_SESSIONS"),
    ],
)
def test_a_misspelt_variable_is_an_error(name: str, meant: str) -> None:
    told = line(refusal(from_env, {name: SHORT}), f"JWTGUARD_{name}")
    assert told.endswith(f"found an unknown variable; accepted: JWTGUARD_{meant}, if you mean that")


def test_a_name_with_control_characters_is_on_one_line() -> None:
    assert refusal(from_env, {"RULE\n": "x"}).count("\n") == 1


def test_other_unknown_variables_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    from_env({"FLAVOUR": SHORT, "LOG_LEVEL\n\u2028": SHORT, "": SHORT})
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("jwtguard", logging.WARNING)
    assert record.getMessage() == r"unknown variables, ignored: JWTGUARD_, JWTGUARD_FLAVOUR, JWTGUARD_LOG_LEVEL\n\u2028"


INJECTED = [
    "PORT",
    "SERVICE_HOST",
    "SERVICE_PORT",
    "SERVICE_PORT_HTTP",
    "SERVICE_PORT_HTTP_METRICS",
    "PORT_8000_TCP",
    "PORT_8000_TCP_PROTO",
    "PORT_8000_TCP_PORT",
    "PORT_8000_TCP_ADDR",
    "PORT_53_UDP_ADDR",
    "API_PORT",
    "API_SERVICE_HOST",
    "API_SERVICE_PORT_HTTP",
    "API_PORT_8000_TCP_ADDR",
    "RULE_PORT",
    "SECRET_SERVICE_HOST",
]


@pytest.mark.parametrize("name", INJECTED)
def test_what_kubernetes_injects_is_ignored(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert from_env({name: "tcp://10.0.0.1:8000"}) == from_env()
    assert caplog.records == []


def test_other_prefixes_are_none_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_env({"JWTGUARD_SECRET": SECRET, "JWTGUARDRULE": "x", "RULE": "x", "XJWTGUARD_RULE": "x"}) == make()
    assert caplog.records == []


# -- whatever is in the environment ---

names = st.sampled_from([variable.name for variable in VARIABLES.values()]) | st.text(max_size=12).map("JWTGUARD_{}".format)
texts = st.text(max_size=40) | st.sampled_from([text for group in BAD.values() for text in group]) | st.integers().map(str)
texts |= st.text(alphabet='/*, :.GETa\n\x00\ud800[]"0123456789smhd', max_size=30)


def windows(secret: str) -> Iterator[str]:
    return (secret[at : at + 8] for at in range(len(secret) - 7))


@given(st.dictionaries(names, texts, max_size=8))
def test_any_environment_is_settings_or_a_config_error(environ: dict[str, str]) -> None:
    try:
        found = Settings.from_env(environ)
    except ConfigError as error:
        message = str(error)
        assert message.encode()
        assert all(part.isprintable() for part in message.split("\n"))
    else:
        assert repr(found).isprintable()


@given(
    st.text(alphabet="".join(map(chr, range(33, 127))), min_size=8, max_size=80),
    st.sampled_from(["SECRET", "SECRET_FALLBACKS", "STORE", "KEYS"]),
    st.sampled_from(["{}", '["{}"]', '["{}"', "redis//:{}@h", "redis ://:{}@h", "{}\ud800"]),
)
def test_no_part_of_a_secret_is_in_the_message(secret: str, name: str, shape: str) -> None:
    environ = {"JWTGUARD_SECRET": SHORT, f"JWTGUARD_{name}": shape.replace("{}", secret), "JWTGUARD_MODE": "x"}
    with_itself = refusal(Settings.from_env, environ)
    without = refusal(Settings.from_env, environ | {f"JWTGUARD_{name}": "x" * 7})
    assert not any(part in with_itself and part not in without for part in windows(secret))
