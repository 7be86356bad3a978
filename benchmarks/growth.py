"""A model of what a fleet of workers asks of its store, from what its users do.

Users are alike and their requests come at random, to any worker. What is then counted, per second:

- A worker's lease of a user lasts for `lease` seconds at most (a minute with announcements, CACHE_TTL without), less the
  age of what is known of everyone, which is a tenth of it on average. Endings, and refreshes, end it sooner.
- After that the user's next request at that worker loads. So a user costs a worker one load per lease and wait.
- A worker that has less room than there are users loads for those it has no room for.
- A session's use is written down (a load and a save) at most once in `touch_after` seconds, by the first worker that renews
  its lease after that.
- A login, a refresh and a revocation are a load and a save each; a session's first use after a login or refresh is, too.
- An ending is announced once, and goes to every worker.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from jwtguard.registry import EVERYONE_SHARE

__all__ = ["Given", "Predicted", "predict"]


KEPT: Final = 0.75
"""Of the room that there is, the part that is taken on average where it is too little: it is in halves, one full."""


class Given(NamedTuple):
    """What users do, and what the fleet is. Rates are per second, of all users together; times are seconds."""

    users: float
    sessions: float
    requests: float
    workers: int
    lease: float = 60.0
    endings: float = 0.0
    logins: float = 0.0
    access_ttl: float = 1800.0
    touch_after: float = 60.0
    room: int = 50_000


class Predicted(NamedTuple):
    """What follows, per second."""

    fills: float
    """Loads because a worker doesn't know a user, or no longer."""
    loads: float
    saves: float
    announcements: float
    deliveries: float
    hit_rate: float
    """Of requests, those that need no load."""

    @property
    def operations(self) -> float:
        return self.loads + self.saves


def predict(given: Given) -> Predicted:
    refreshes = _refreshes(given)
    fills = _fills(given, refreshes)
    looks, touches = _touches(given, refreshes)
    firsts = refreshes + given.logins
    everyone = given.workers * EVERYONE_SHARE / given.lease
    written = touches + refreshes + firsts + given.logins + given.endings
    return Predicted(
        fills=fills,
        loads=fills + everyone + written + max(0.0, looks - touches),
        saves=written,
        announcements=given.endings,
        deliveries=given.endings * given.workers,
        hit_rate=1 - fills / given.requests,
    )


def _refreshes(given: Given) -> float:
    """A session refreshes with its first request after its access token has expired."""
    sessions = given.users * given.sessions
    return sessions / (given.access_ttl + sessions / given.requests)


def _fills(given: Given, refreshes: float) -> float:
    pairs = given.users * given.workers
    wait = pairs / given.requests
    ends = (refreshes + given.endings) / given.users
    fills = pairs / (_cut_short(_life(given), ends) + wait)
    held = given.users * min(1.0, _life(given) / (_life(given) + wait))
    kept = KEPT * given.room
    return max(fills, given.requests * (1 - kept / given.users)) if held > kept else fills


def _life(given: Given) -> float:
    return given.lease * (1 - 0.5 / EVERYONE_SHARE)


def _cut_short(life: float, rate: float) -> float:
    """How long something lasts on average that would last for `life` if nothing came, where something comes at a rate."""
    return life if rate * life < 1e-9 else -math.expm1(-rate * life) / rate


def _touches(given: Given, refreshes: float) -> tuple[float, float]:
    """What is to be written down between two refreshes, and what is, by renewal theory: the first use after a refresh is,
    and begins anew."""
    looked, delay = _delay(given)
    return _renewals(given, refreshes, looked, delay), _renewals(given, refreshes, given.touch_after, delay)


def _renewals(given: Given, refreshes: float, after: float, delay: float) -> float:
    apart = after + delay
    spread = (after**2 + 2 * after * delay + 2 * delay**2) / (2 * apart**2)
    return refreshes * max(0.0, given.access_ttl / apart - 1 + spread)


def _delay(given: Given) -> tuple[float, float]:
    """How old a use is at least when a worker looks whether to write down another, and how long it takes on average until
    some worker does.

    Of a user with several sessions a lease may be from before another worker wrote a use down: then it is looked at sooner.
    """
    life, wait = _life(given), given.users * given.workers / given.requests
    age = 0.0
    if given.sessions > 1:
        alone = wait * given.sessions
        within = -math.expm1(-life / alone)
        seen = (1 + (given.sessions - 1) * within) / given.sessions  # of one lease, the share of sessions
        age = (given.sessions - 1) * (within * alone - life * (1 - within)) / (seen * given.sessions)
        wait = (life + wait) / seen - life
    own = _own_left if given.sessions == 1 else _like_others
    step = (life + wait) / 1000 / given.workers
    delay, time = 0.0, step / 2
    while (left := _others_left(time, life, wait, given.workers - 1) * own(time, life, wait, given)) > 1e-4:
        delay += left * step
        time += step
    return max(0.0, given.touch_after - age), delay


def _others_left(time: float, life: float, wait: float, others: int) -> float:
    """How likely none of the other workers has renewed within `time`. Each is somewhere between two renewals."""
    one = (life - time + wait) / (life + wait) if time < life else math.exp((life - time) / wait) * wait / (life + wait)
    return one**others


def _like_others(time: float, life: float, wait: float, _given: Given) -> float:
    return _others_left(time, life, wait, 1)


def _own_left(time: float, life: float, wait: float, given: Given) -> float:
    """The same of the worker that wrote the use down, and renewed then: so the next time is a life and a wait later."""
    since = given.touch_after - life
    if since > life:  # it has renewed several times since
        return _like_others(time, life, wait, given)
    if since < 0:
        return math.exp(min(0.0, -(since + time) / wait))
    renewed = -math.expm1(-since / wait)
    again = math.exp(min(0.0, (life - since / 2 - time) / wait))
    return (1 - renewed) * math.exp(-time / wait) + renewed * again
