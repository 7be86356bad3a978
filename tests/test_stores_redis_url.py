"""The URLs of Redis stores: what they mean, and how they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from jwtguard.errors import ConfigError
from jwtguard.stores._redis_url import Address, read_url
from jwtguard.stores._redis_words import name_of
from jwtguard.stores.redis import AsyncRedisStore, RedisStore


def refusal(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_url(url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "addresses", "link"),
    [
        ("redis://h", [("h", 6379)], {"db": 0}),
        ("REDIS://h:1/", [("h", 1)], {"db": 0}),
        ("redis://h:1/3", [("h", 1)], {"db": 3}),
        ("redis://h?db=3", [("h", 6379)], {"db": 3}),
        ("redis://h/3?db=3", [("h", 6379)], {"db": 3}),
        ("redis://[::1]:1/0", [("::1", 1)], {"db": 0}),
        ("redis://[fe80::1%eth0]", [("fe80::1%eth0", 6379)], {"db": 0}),
        ("redis://user:a%40b@h", [("h", 6379)], {"db": 0, "username": "user", "password": "a@b"}),
        ("redis://:a/b@c#@h", [("h", 6379)], {"db": 0, "password": "a/b@c#"}),
        ("redis://user@h", [("h", 6379)], {"db": 0, "username": "user"}),
        ("redis://h?username=u&password=p%26", [("h", 6379)], {"db": 0, "username": "u", "password": "p&"}),
        ("unix:///run/a%20b.sock", [("/run/a b.sock", 0)], {"db": 0}),
        ("unix:///run/redis.sock?db=2&password=p", [("/run/redis.sock", 0)], {"db": 2, "password": "p"}),
        ("redis+cluster://a:1,b,[::1]:3/0", [("a", 1), ("b", 6379), ("::1", 3)], {"db": 0}),
        ("redis+sentinel://u:p@a,b:2/main/4", [("a", 26379), ("b", 2)], {"db": 4, "username": "u", "password": "p"}),
    ],
)  # fmt: skip
def test_what_a_url_means(url: str, addresses: list[tuple[str, int]], link: dict[str, Any]) -> None:
    plan = read_url(url)
    assert list(plan.addresses) == [Address(*address) for address in addresses]
    assert plan.link == link
    assert (plan.prefix, plan.wait, plan.max_connections, plan.tls) == ("jwtguard:", 0, 50, False)


def test_parameters_of_its_own() -> None:
    plan = read_url("redis://h?prefix=app:1:&wait=2&max_connections=7")
    assert (plan.prefix, plan.wait, plan.max_connections) == ("app:1:", 2, 7)
    assert plan.link == {"db": 0}


def test_tls() -> None:
    plan = read_url("rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=optional&ssl_check_hostname=off")
    assert plan.tls
    assert plan.link == {"db": 0, "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "optional", "ssl_check_hostname": False}
    assert read_url("rediss+cluster://h").kind == "cluster"


def test_sentinel() -> None:
    plan = read_url("rediss+sentinel://:p@h/main?sentinel_username=u&sentinel_password=s&ssl_ca_path=/ca")
    assert (plan.kind, plan.service) == ("sentinel", "main")
    assert plan.link == {"db": 0, "password": "p", "ssl_ca_path": "/ca"}
    assert plan.sentinel_link == {"username": "u", "password": "s", "ssl_ca_path": "/ca"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis:/h", "begins with one of redis://"),
        ("http://h", "redis+cluster://"),
        ("redis://", "bad host"),
        ("redis://h:0", "bad host"),
        ("redis://h:65536", "bad host"),
        ("redis://h h", "bad host"),
        ("redis://a,b", "several hosts: use redis+sentinel:// or redis+cluster://"),
        ("redis+cluster://a,", "expected host:port,host:port"),
        ("redis://h/x", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis://h/1?db=2", "two databases"),
        ("redis+cluster://h/1", "has only 0"),
        ("redis+sentinel://h", "without the master's name"),
        ("redis+sentinel://h/", "without the master's name"),
        ("redis+sentinel://h/m/0/0", "number of a database"),
        ("unix://redis.sock", "absolute path"),
        ("redis://h?wiat=1", "unknown parameter 'wiat'. Accepted: client_name, db, max_connections"),
        ("redis://h?sentinel_password=p", "unknown parameter"),
        ("redis://h?timeout=1", "STORE_TIMEOUT"),
        ("redis://h?socket_timeout=1", "STORE_TIMEOUT"),
        ("redis://h?ssl_keyfile=k", "use rediss://"),
        ("redis://h?wait=1&wait=2", "twice"),
        ("redis://h?wait=x", "'wait': expected a number from 0 to 10"),
        ("redis://h?wait=11", "from 0 to 10"),
        ("redis://h?max_connections=0", "from 1 to 10000"),
        ("redis://h?prefix=", "1 to 64 letters"),
        ("redis://h?prefix={a}", "1 to 64 letters"),
        ("redis://h?password=", "'password': expected something"),
        ("rediss://h?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://h?ssl_check_hostname=maybe", "on or off"),
    ],
)
def test_what_is_refused(url: str, words: str) -> None:
    assert words in refusal(url)


def test_nothing_secret_is_shown_by_what_is_read() -> None:
    plan = read_url("redis+sentinel://user:hunter2@h/m?sentinel_password=hunter3")
    assert "hunter" not in repr(plan)
    assert "user" not in repr(plan)


@pytest.mark.parametrize("kind", [RedisStore, AsyncRedisStore])
def test_nothing_is_connected_by_a_constructor(kind: Any) -> None:
    assert str(kind("redis+cluster://192.0.2.1,192.0.2.2:7000")) == "Redis store at 192.0.2.1:6379, 192.0.2.2:7000"
    with pytest.raises(ConfigError):
        kind("redis://")


def test_names_are_readable_where_that_is_harmless() -> None:
    assert name_of("p:", b"alice@example.org") == "p:alice@example.org"
    assert name_of("p:", b"u\x08jwtguardalice") == "p:u%08jwtguardalice"
    assert name_of("p:", b"{a}%{b} #\xff\n") == "p:%7Ba%7D%25%7Bb%7D%20%23%FF%0A"


def test_names_are_bounded_and_different() -> None:
    keys = [
        b"a" * 256,
        b"a" * 257,
        b"a" * 1024,
        b"\xff" * 85,
        b"\xff" * 86,
        b"%FF" * 85,
        b"#",
        b"a",
        b"A",
        b"%61",
        b"+",
        b" ",
    ]
    names = [name_of("", key) for key in keys]
    assert len(set(names)) == len(keys)
    assert max(map(len, names)) <= 256
    assert not any(character in name for name in names for character in "{} \n")
