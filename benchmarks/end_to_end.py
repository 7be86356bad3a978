"""Requests a second through one worker of a real server on loopback: the bare app, guarded by jwtguard, and by peers.

All servers run from the beginning to the end. In each round every one gets a slice of load, in shuffled order, and is
compared with the bare app's slice of the same round. What is told is the median of these ratios, and between what values
the middle half of them lies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median, quantiles
from typing import Final, NamedTuple

from ports import free_port

from .engines import redis_server
from .environments import pins
from .loads import Client, Slice, answered, request_of
from .peers import PEERS, Peer
from .peers.asking import BROWSERS
from .processes import Failed, serving
from .reports import Report, options

__all__ = ["GROUPS", "Figure", "figures"]

SECONDS: Final = 0.15
CONNECTIONS: Final = 8


class Group(NamedTuple):
    """A server, and the guards that are compared behind it."""

    server: str
    family: str
    guards: tuple[str, ...]

    @property
    def peers(self) -> list[Peer]:
        named = {peer.name: peer for peer in PEERS if peer.family == self.family}
        return [named[name] for name in self.guards]


GROUPS: Final = (
    Group("uvicorn", "Starlette", ("jwtguard, memory",)),
    Group(
        "uvicorn[standard]",
        "Starlette",
        (
            "jwtguard, memory",
            "jwtguard, redis",
            "jwtguard, sqlite",
            "dict + PyJWT 2.15",
            "AuthenticationMiddleware + PyJWT 2.15, no registry",
        ),
    ),
    Group("uvicorn[standard]", "FastAPI", ("jwtguard, memory", "fastapi-users, Redis", "AuthX + set blocklist")),
    Group(
        "gunicorn",
        "Flask",
        ("jwtguard, memory", "jwtguard, redis", "flask-jwt-extended, no registry", "flask-jwt-extended, Redis blocklist"),
    ),
)


class Figure(NamedTuple):
    """`ratio`: of the bare app's rate; `low` and `high` are its quartiles. `client`: how busy the client was, at most."""

    group: Group
    guard: str
    ratio: float
    low: float
    high: float
    rate: float
    client: float


def figures(groups: Sequence[Group], rounds: int, redis_url: str) -> tuple[list[Figure], list[str]]:
    """The figures, and of guards that can't be measured, why."""
    failures: list[str] = []
    with ExitStack() as stack:
        clients = {group: _clients(stack, group, redis_url, failures) for group in groups}
        slices: dict[tuple[Group, str], list[Slice]] = {(group, name): [] for group in groups for name in clients[group]}
        for _ in range(rounds):
            for group in random.sample(groups, len(groups)):
                for name in random.sample(list(clients[group]), len(clients[group])):
                    slices[group, name].append(clients[group][name].drive(SECONDS))
    return [_figure(group, name, found, slices[group, BARE]) for (group, name), found in slices.items()], failures


BARE: Final = "(bare)"


def _clients(stack: ExitStack, group: Group, redis_url: str, failures: list[str]) -> dict[str, Client]:
    """Clients of all servers of a group, by guard. That of the bare app comes first, and there is none without it."""
    found: dict[str, Client] = {}
    for name, peer, which in [(BARE, group.peers[0], "bare"), *((peer.name, peer, "guarded") for peer in group.peers)]:
        port = free_port()
        try:
            good, bad = stack.enter_context(serving(peer, redis_url, group.server, which, port))
        except (Failed, FileNotFoundError) as error:
            failures.append(f"{group.server}, {group.family}, {name}: {error}")
            if name == BARE:
                return {}
            continue
        if which == "guarded":
            _check(port, bad)
        found[name] = stack.enter_context(Client(port, good, CONNECTIONS))
    return found


def _check(port: int, bad: Sequence[str]) -> None:
    """That a server refuses bad tokens. Raises AssertionError."""
    for token in bad:
        status = answered(port, request_of({**BROWSERS, "authorization": f"Bearer {token}", "connection": "close"}))
        assert status in (401, 403, 422), f"a bad token is answered {status}"


def _figure(group: Group, name: str, found: Sequence[Slice], bare: Sequence[Slice]) -> Figure:
    ratios = [one.rate / other.rate for one, other in zip(found, bare, strict=True)]
    low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Figure(group, name, middle, low, high, median(one.rate for one in found), max(one.client for one in found))


HEADS: Final = ("server and app", "guard", "of bare", "quartiles", "requests/s", "client busy")


def rows(found: Sequence[Figure]) -> Iterator[tuple[object, ...]]:
    for one in found:
        where = f"{one.group.server}, {one.group.family}"
        yield where, one.guard, f"{one.ratio:.3f}", f"{one.low:.3f} to {one.high:.3f}", one.rate, f"{one.client:.0%}"


def main() -> None:
    given = options(str(__doc__), rounds=40)
    with redis_server() as engine:
        report = Report(given, "End to end, one worker", **pins(), Redis=engine.version)
        found, failures = figures(GROUPS, given.rounds, engine.url)
    report.table(f"{CONNECTIONS} connections kept open, {given.rounds} rounds of {SECONDS} s each", HEADS, [*rows(found)])
    for failure in failures:
        report.note(f"Not measured: {failure}")
    report.close()


if __name__ == "__main__":
    main()
