"""What a warm request costs above the bare app, in process: jwtguard, its peers, and the least that any guard can do.

Each is in a process of its own, with the bare app beside it. In each round all processes take their turn, shuffled, and
each times both apps, in short slices that take turns. What is told is the median of the rounds' differences, and how far
the middle half of them is spread.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median, quantiles
from typing import Final, NamedTuple

from .engines import redis_server
from .environments import pins
from .peers import PEERS, Peer
from .processes import Failed, Spoken, worker
from .reports import Report, options

__all__ = ["Figure", "figures"]

SECONDS: Final = 0.03
"""For each of the two apps in a round."""


class Figure(NamedTuple):
    """Microseconds a request. `spread`: between the quartiles of what it is above bare."""

    peer: Peer
    above: float
    spread: float
    bare: float
    times_bare: float


def figures(peers: Sequence[Peer], rounds: int, redis_url: str) -> tuple[list[Figure], list[str]]:
    """The figures of these peers and, of those that can't be measured, why."""
    failures: list[str] = []
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        started = pool.map(partial(_started, stack, redis_url), peers)
        workers: dict[Peer, Spoken] = {}
        for peer, found in zip(peers, started, strict=True):
            if isinstance(found, str):
                failures.append(f"{peer.label}: {found}")
            else:
                workers[peer] = found
        samples = _rounds(workers, rounds)
    return [_figure(peer, found) for peer, found in samples.items()], failures


def _started(stack: ExitStack, redis_url: str, peer: Peer) -> Spoken | str:
    try:
        return stack.enter_context(worker(peer, redis_url, SECONDS))
    except (Failed, FileNotFoundError) as error:
        return str(error)


def _rounds(workers: dict[Peer, Spoken], rounds: int) -> dict[Peer, list[tuple[float, float]]]:
    samples: dict[Peer, list[tuple[float, float]]] = {peer: [] for peer in workers}
    for _ in range(rounds):
        for peer in random.sample(list(workers), len(workers)):
            found = workers[peer].ask()
            samples[peer].append((found["bare"], found["guarded"]))
    return samples


def _figure(peer: Peer, samples: list[tuple[float, float]]) -> Figure:
    above = [guarded - bare for bare, guarded in samples]
    low, _, high = quantiles(above, n=4) if len(above) > 1 else above * 3
    times = median(guarded / bare for bare, guarded in samples)
    return Figure(peer, median(above), high - low, median(bare for bare, _ in samples), times)


HEADS: Final = ("app", "guard", "x jwtguard", "x bare", "us above bare", "spread us", "bare us")


def rows(found: Sequence[Figure]) -> Iterator[tuple[object, ...]]:
    """`x jwtguard`: what it is above bare, in multiples of jwtguard's with the memory store in the same kind of app."""
    own = {one.peer.family: one.above for one in found if one.peer.name == "jwtguard, memory"}
    own.setdefault("Node", own.get("ASGI", float("nan")))
    order = [peer.family for peer in PEERS]
    for one in sorted(found, key=lambda one: order.index(one.peer.family)):
        family = one.peer.family
        ratio = one.above / own[family] if family in own else float("nan")
        times = one.times_bare if family != "Node" else float("nan")
        yield family, one.peer.name, ratio, times, one.above, one.spread, one.bare


def main() -> None:
    given = options(str(__doc__), rounds=30)
    with redis_server() as engine:
        report = Report(given, "A warm request beside peers", **pins(), Redis=engine.version)
        found, failures = figures(PEERS, given.rounds, engine.url)
    report.table(f"In process, {given.rounds} rounds", HEADS, [*rows(found)])
    for failure in failures:
        report.note(f"Not measured: {failure}")
    report.close()


if __name__ == "__main__":
    main()
