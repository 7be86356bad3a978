"""Simulated browsers: honest tabs that share their storage are never logged out, and a thief among them is found out.

The tabs refresh at random, their requests overlap, answers are lost. Time is simulated; the transitions are the real ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator
from random import Random
from typing import TypeAlias

import pytest
from documents import KEY_ID, MINUTE, NOW, SECOND, after, moment, sid, with_sessions

from jwtguard.document import Document, Reason
from jwtguard.policy import Active, Ended, Superseded, judge, needs_touch
from jwtguard.transitions import Reused, Rotated, rotate, touch

pytestmark = pytest.mark.exhaustive

RUNS = 2_000
REFRESHES = 30
LOST = 0.02
GRACE = 30 * SECOND

Life: TypeAlias = Generator[float, None, None]
"""What a tab does: it yields how long it waits, in milliseconds."""


class LoggedOut(Exception):
    """The server has refused a refresh."""


class World:
    """One session on the server, one storage in the browser, and a clock. A token is its generation."""

    def __init__(self, seed: int, *, lost: float = LOST, slowest: float = 500, keep_newer: bool = False) -> None:
        """`slowest`: how long one way may take (ms). `keep_newer`: no tab puts an older token in a newer one's place."""
        self.random = Random(seed)
        self.lost = lost
        self.slowest = slowest
        self.keep_newer = keep_newer
        self.now = float(NOW)
        self.document: Document = with_sessions(1)
        self.storage = 1
        self.replays = 0

    def run(self, *lives: Life) -> None:
        """Live all of these lives, side by side."""
        queue = [(self.now, index, life) for index, life in enumerate(lives)]
        heapq.heapify(queue)
        while queue:
            self.now, index, life = heapq.heappop(queue)
            pause = next(life, None)
            if pause is not None:
                heapq.heappush(queue, (self.now + pause, index, life))

    # -- the server --------------------------------------------------------------------------------------------------------

    def refreshed(self, token: int) -> int:
        at = moment(int(self.now))
        step = rotate(self.document, at, session_id=sid(1), generation=token, key_id=KEY_ID)
        self.document = after(self.document, step)
        if not isinstance(step.outcome, Rotated):
            raise LoggedOut(step.outcome)
        self.replays += step.outcome.replayed
        return step.outcome.session.generation

    def used(self, token: int) -> object:
        at = moment(int(self.now))
        verdict = judge(self.document, at, sid(1), token)
        if isinstance(verdict, Active) and needs_touch(verdict.session, at, token):
            self.document = after(self.document, touch(self.document, at, session_id=sid(1), generation=token))
        return verdict

    # -- the network -------------------------------------------------------------------------------------------------------

    def latency(self) -> float:
        return self.random.uniform(20, self.slowest)

    def is_lost(self) -> bool:
        return self.random.random() < self.lost

    # -- the browser -------------------------------------------------------------------------------------------------------

    def put(self, token: int) -> None:
        self.storage = max(token, self.storage) if self.keep_newer else token


def refreshing(world: World) -> Life:
    """Refresh with what the storage holds, until an answer comes; put it into the storage."""
    while True:
        token = world.storage
        yield world.latency()
        answer = world.refreshed(token)
        yield world.latency()
        if not world.is_lost():
            world.put(answer)
            return
        yield world.random.uniform(1, 10) * SECOND  # until the tab gives up on it


def using(world: World) -> Life:
    yield world.latency()
    verdict = world.used(world.storage)
    assert not isinstance(verdict, Ended)


def tab(world: World, refreshes: int = REFRESHES) -> Life:
    """It refreshes 2 to 60 seconds after the last time, and mostly makes requests in between."""
    for _ in range(refreshes):
        yield world.random.uniform(2, 60) * SECOND
        yield from refreshing(world)
        for _ in range(world.random.choice([0, 1, 1, 2])):
            yield world.random.uniform(0, 2) * SECOND
            yield from using(world)


def tabs(world: World) -> int:
    """Two to four tabs live their lives. Answers how often they got into each other's way."""
    world.run(*(tab(world) for _ in range(world.random.choice([2, 2, 3, 4]))))
    return world.replays


def test_honest_tabs_are_never_logged_out() -> None:
    assert sum(tabs(World(seed)) for seed in range(RUNS)) > RUNS


def test_nor_on_a_slow_network_if_they_keep_the_newer_token() -> None:
    """With seconds on the way, an answer may come after that to a later refresh, and must not take its place."""
    assert sum(tabs(World(seed, slowest=3 * SECOND, keep_newer=True)) for seed in range(RUNS // 2)) > RUNS


def test_one_tab_alone_survives_whatever_is_lost() -> None:
    for seed in range(200):
        world = World(seed, lost=0.5)
        world.run(tab(world))
        assert world.storage == world.document.sessions[0].generation


def test_a_closed_laptop_comes_back_to_its_session() -> None:
    """The answer to the last refresh was lost, and the lid stayed shut for days."""
    world = World(0)
    world.refreshed(world.storage)
    world.now += 20 * 24 * 60 * MINUTE
    assert world.refreshed(world.storage) == 2


def a_quiet_while(world: World) -> int:
    """Some refreshes, and then none for as long as the grace. Answers the token that the storage then holds."""
    world.run(tab(world, world.random.randint(1, 6)))
    world.now += GRACE
    return world.storage


@pytest.mark.parametrize("delay", [GRACE, MINUTE, 24 * 60 * MINUTE])
def test_a_thief_with_an_older_token_is_found_out(delay: int) -> None:
    """He copied the storage at some time, and uses the copy beyond its grace, its successor being in use."""
    for seed in range(300):
        world = World(seed)
        stolen = a_quiet_while(world)
        world.storage = world.refreshed(stolen)
        world.run(using(world))
        world.now += delay
        with pytest.raises(LoggedOut) as caught:
            world.refreshed(stolen)
        assert caught.value.args == (Reused(),)
        assert world.used(world.storage) == Ended(Reason.REVOKED)
        with pytest.raises(LoggedOut):
            world.refreshed(world.storage)


def test_a_thief_who_is_first_is_found_out_by_his_victim() -> None:
    """He refreshes before the victim does, and uses what he got: the victim's own token then ends the session for both."""
    for seed in range(300):
        world = World(seed)
        thief = world.refreshed(a_quiet_while(world))
        assert isinstance(world.used(thief), Active)
        world.now += GRACE + world.random.randint(0, 60 * MINUTE)
        with pytest.raises(LoggedOut) as caught:
            world.run(tab(world))
        assert caught.value.args == (Reused(),)
        assert world.used(thief) == Ended(Reason.REVOKED)


def thieving(world: World, taken_at: float, spoils: list[int]) -> Life:
    """A thief who copies the storage once, and goes on from his copy at his own pace."""
    yield taken_at
    token = world.storage
    while True:
        yield world.random.uniform(31, 300) * SECOND
        token = world.refreshed(token)
        spoils.append(token)
        world.used(token)


def test_thief_and_victim_do_not_go_on_side_by_side() -> None:
    """Two who share a token and not the storage: each refresh of one makes the other's token older, until one is too late.

    While their refreshes fall within one grace, nothing tells them apart.
    """
    longest = 0
    for seed in range(300):
        world, spoils = World(seed), list[int]()
        with pytest.raises(LoggedOut):
            world.run(tab(world, 500), thieving(world, world.random.uniform(0, 600) * SECOND, spoils))
        assert world.document.sessions == ()
        longest = max(longest, len(spoils))
    assert longest < 10


def test_within_the_grace_a_thief_is_an_event_and_not_an_ending() -> None:
    world = World(0)
    stolen = world.storage
    world.storage = world.refreshed(stolen)
    world.now += GRACE - 1
    assert world.refreshed(stolen) == world.storage
    assert world.replays == 1


def test_an_older_access_token_is_superseded_and_its_session_lives() -> None:
    world = World(0)
    older = world.storage
    world.storage = world.refreshed(older)
    assert isinstance(world.used(older), Active)
    world.now += GRACE
    assert isinstance(world.used(older), Superseded)
    assert isinstance(world.used(world.storage), Active)
    assert world.refreshed(world.storage) == 3
