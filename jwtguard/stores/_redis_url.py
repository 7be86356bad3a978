"""The URL of a Redis store, read: where the servers are, how to connect to them, and what is asked of them.

Invariants:
- Every parameter is known, or the URL is refused: one that is misspelt must not be silently without effect.
- No message shows a user name, a password, or a parameter's value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..errors import ConfigError

__all__ = ["SCHEMES", "Address", "Plan", "read_url"]

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
MAX_CONNECTIONS: Final = 50
MOST_REPLICAS: Final = 10
SHOWN: Final = 60

PREFIX: Final = re.compile(r"[\w.:@/-]{1,64}", re.ASCII)
HOST: Final = re.compile(r"(?:\[([\w:.%-]+)\]|([\w.-]+))(?::([0-9]{1,5}))?", re.ASCII)
SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}

Kind = Literal["one", "sentinel", "cluster"]


class Address(NamedTuple):
    """A server: a host and its port, or the path of a socket and 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Plan:
    """What a URL says. `link` and `sentinel_link` are the driver's arguments for a connection, but for the address."""

    kind: Kind
    addresses: tuple[Address, ...]
    service: str
    tls: bool
    link: Mapping[str, Any] = field(repr=False)
    sentinel_link: Mapping[str, Any] = field(repr=False)
    prefix: str = "jwtguard:"
    wait: int = 0
    max_connections: int = MAX_CONNECTIONS


def read_url(url: str) -> Plan:
    """What a URL says. Raises ConfigError."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ConfigError(f"a Redis store's URL begins with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    location, _, query = rest.partition("?")
    kind: Kind = "sentinel" if scheme.endswith("sentinel") else "cluster" if scheme.endswith("cluster") else "one"
    tls = scheme.startswith("rediss")
    values = _parameters(query, tls=tls, kind=kind)
    credentials, hosts, path = ({}, location, "") if scheme == "unix" else _parts(location)
    link = credentials | {name: values[name] for name in values if name in LINK | TLS}
    addresses = _socket(hosts) if scheme == "unix" else _addresses(hosts, scheme, kind)
    service, link["db"] = _service_and_database(path, kind, values.get("db"))
    return Plan(
        kind=kind,
        addresses=addresses,
        service=service,
        tls=tls,
        link=link,
        sentinel_link={name.removeprefix("sentinel_"): values[name] for name in values if name in SENTINEL | TLS},
        **{name: values[name] for name in values if name in OWN},
    )


def _parts(location: str) -> tuple[dict[str, Any], str, str]:
    """Credentials, hosts and path."""
    credentials, at, place = location.rpartition("@")
    hosts, slash, path = place.partition("/")
    user, _, password = credentials.partition(":")
    given = {"username": unquote(user), "password": unquote(password)} if at else {}
    return {name: value for name, value in given.items() if value}, hosts, slash + path


def _socket(path: str) -> tuple[Address, ...]:
    if not path.startswith("/"):
        raise ConfigError("the store is a unix:// URL without an absolute path: expected unix:///run/redis.sock")
    return (Address(unquote(path), 0),)


def _addresses(hosts: str, scheme: str, kind: Kind) -> tuple[Address, ...]:
    found = []
    for host in hosts.split(","):
        match = HOST.fullmatch(host)
        port = int(match[3] or (SENTINEL_PORT if kind == "sentinel" else REDIS_PORT)) if match else 0
        if match is None or not 0 < port < 65_536:
            several = "host:port" if kind == "one" else "host:port,host:port"
            raise ConfigError(
                f"the store is a {scheme}:// URL with a bad host: expected {several}, and before it user:password@ if "
                "there is a password, with its special characters escaped as in %3F"
            )
        found.append(Address(match[1] or match[2], port))
    if kind == "one" and len(found) > 1:
        raise ConfigError(
            f"the store is a {scheme}:// URL with several hosts: use {scheme}+sentinel:// or {scheme}+cluster://"
        )
    return tuple(found)


def _service_and_database(path: str, kind: Kind, database: int | None) -> tuple[str, int]:
    """The name of Sentinel's master, and the database's number."""
    parts = [unquote(part) for part in path.split("/")[1:]]
    service = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not service:
        raise ConfigError(
            "the store is a Sentinel's URL without the master's name: expected redis+sentinel://host:port/name"
        )
    named = parts.pop(0) if parts else ""
    if parts or (named and re.fullmatch(r"[0-9]{1,5}", named, re.ASCII) is None):
        raise ConfigError("the store's URL ends in something else than the number of a database, such as /0")
    if named and database is not None and int(named) != database:
        raise ConfigError("the store's URL names two databases, one in its path and one by db=")
    number = int(named or database or 0)
    if kind == "cluster" and number:
        raise ConfigError(f"the store's URL names database {number}, but a Redis Cluster has only 0")
    return service, number


# -- parameters ------------------------------------------------------------------------------------------------------------


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) is None or not least <= int(text) <= most:
            raise ValueError(f"a number from {least} to {most}")
        return int(text)

    return read


def _text(text: str) -> str:
    if not text:
        raise ValueError("something")
    return text


def _prefix(text: str) -> str:
    if PREFIX.fullmatch(text) is None:  # a brace would let it choose the slot in a cluster
        raise ValueError("1 to 64 letters, digits and _ . : @ / -")
    return text


def _switch(text: str) -> bool:
    if text.lower() not in SWITCH:
        raise ValueError("on or off")
    return SWITCH[text.lower()]


def _requirement(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return text


Readers = dict[str, Callable[[str], Any]]

OWN: Final[Readers] = {"prefix": _prefix, "wait": _number(0, MOST_REPLICAS), "max_connections": _number(1, 10_000)}
LINK: Final[Readers] = {"username": _text, "password": _text, "client_name": _text}
SENTINEL: Final[Readers] = {"sentinel_username": _text, "sentinel_password": _text}
TLS: Final[Readers] = {
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_certfile": _text,
    "ssl_check_hostname": _switch,
    "ssl_keyfile": _text,
    "ssl_password": _text,
}
NAMED_ELSEWHERE: Final = frozenset({"timeout", "socket_timeout", "socket_connect_timeout"})


def _parameters(query: str, *, tls: bool, kind: Kind) -> dict[str, Any]:
    readers = OWN | LINK | {"db": _number(0, 99_999)} | (TLS if tls else {}) | (SENTINEL if kind == "sentinel" else {})
    values: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in NAMED_ELSEWHERE:
            raise ConfigError(f"the store's URL has the parameter {name!r}: the timeout is set by STORE_TIMEOUT")
        if name in TLS and not tls:
            raise ConfigError(f"the store's URL has the parameter {name!r}, but isn't encrypted: use rediss://")
        if name not in readers:
            shown = ascii(name[:SHOWN])
            raise ConfigError(f"the store's URL has the unknown parameter {shown}. Accepted: {', '.join(sorted(readers))}")
        if name in values:
            raise ConfigError(f"the store's URL has the parameter {name!r} twice")
        try:
            values[name] = readers[name](text)
        except ValueError as error:
            raise ConfigError(f"the store's URL has a bad value of the parameter {name!r}: expected {error}") from None
    return values
