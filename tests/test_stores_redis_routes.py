"""Which server is asked, and when again: routes against servers that are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from redis.exceptions import AskError, MovedError, ResponseError

from jwtguard.errors import StoreError, Unconfirmed
from jwtguard.stores._redis_links import AsyncLinks, _heed
from jwtguard.stores._redis_push import Ears, _first_heard
from jwtguard.stores._redis_routes import Ask, Cluster, NotAnswered, NotAsked, One, Route, Sentinel, load, route_of, save
from jwtguard.stores._redis_url import Address, read_url
from jwtguard.stores._redis_words import Terms, evicting_policy, loaded_from, redirection_in
from jwtguard.stores.base import Heard

T = TypeVar("T")

A, B, C = Address("a", 6379), Address("b", 6379), Address("c", 6379)
BOTH: Any = [[0, 8191, [b"a", 6379, b"id"], [b"replica", 1, b"id"]], [8192, 16383, [b"b", 6379, b"id"]]]
TIME = [b"1", b"2000"]


class Servers:
    """Runs flows: each command is answered from a list of answers to it, of which the last goes for all that follow."""

    def __init__(self, route: Route, **answers: Any) -> None:
        self.route = route
        self.answers = {word: answer if isinstance(answer, tuple) else (answer,) for word, answer in answers.items()}
        self.asked: list[tuple[str, str]] = []

    def run(self, talk: Generator[Ask, list[Any], T]) -> T:
        try:
            ask = next(talk)
            while True:
                try:
                    replies = [self.answer(ask, command[0]) for command in ask.commands]
                except StoreError as error:
                    ask = talk.throw(error)
                else:
                    ask = talk.send(replies)
        except StopIteration as stop:
            found: T = stop.value
            return found

    def answer(self, ask: Ask, word: str) -> Any:
        self.asked.append((ask.address.host, word))
        answer, *others = self.answers[word]
        if others:
            self.answers[word] = tuple(others)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def words(self) -> list[tuple[str, str]]:
        asked, self.asked = self.asked, []
        return asked


def a_cluster(**answers: Any) -> Servers:
    route = Cluster(read_url("redis+cluster://a,c"), lambda: 0.0)
    return Servers(route, **{"CLUSTER": BOTH, "GET": None, "TIME": TIME, "ASKING": b"OK", **answers})


def terms(channel: str = "ended") -> Terms:
    return Terms("k", b"", b"version1", b"data", 1, channel, b"k")


def test_kinds_of_routes() -> None:
    kinds = [type(route_of(read_url(url))) for url in ("redis://a", "redis+sentinel://a/m", "redis+cluster://a")]
    assert kinds == [One, Sentinel, Cluster]


def test_a_load_is_tried_again_only_when_a_kept_connection_was_dead() -> None:
    route = One(read_url("redis://a"))
    servers = Servers(route, GET=(NotAnswered("dead", stale=True), None), TIME=TIME)
    assert servers.run(load(route, "k")).now == 1002
    for error in (NotAnswered("late"), NotAsked("refused")):
        servers = Servers(route, GET=(error, None), TIME=TIME)
        with pytest.raises(StoreError, match=str(error)):
            servers.run(load(route, "k"))


def test_a_save_is_not_tried_again() -> None:
    route = One(read_url("redis://a"))
    for wait, kind in ((0, NotAnswered), (1, Unconfirmed)):
        servers = Servers(route, EVALSHA=(NotAnswered("dead", stale=True), 1), WAIT=1)
        with pytest.raises(kind):
            servers.run(save(route, terms(), wait=wait, timeout=1))


def test_a_cluster_is_asked_who_has_which_slots_once() -> None:
    servers = a_cluster()
    for _ in range(2):
        servers.run(load(servers.route, "k"))
    assert servers.words() == [("a", "CLUSTER"), ("a", "GET"), ("a", "TIME"), ("a", "GET"), ("a", "TIME")]


def test_a_slot_that_is_found_elsewhere() -> None:
    servers = a_cluster(GET=(MovedError("1 d:7"), None), CLUSTER=(BOTH, NotAsked("down")))
    for _ in range(2):
        servers.run(load(servers.route, "k"))
    hosts = [host for host, word in servers.words() if word == "GET"]
    assert hosts == ["a", "d", "d"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (MovedError("1 d:7"), (False, "d", 7)),
        (AskError("1 ::1:7"), (True, "::1", 7)),
        (ResponseError("MOVED 1 d:7"), (False, "d", 7)),
        (ResponseError("ASK 1 ::1:7"), (True, "::1", 7)),
        (ResponseError("ASK 1 :7"), (True, "", 7)),
        (ResponseError("NOPERM"), None),
        (b"ASK 1 d:7", None),
        (None, None),
    ],
)
def test_redirections_as_the_versions_of_the_driver_give_them(reply: Any, expected: object) -> None:
    assert redirection_in(reply) == expected


def test_a_redirection_to_a_server_that_does_not_know_its_own_name() -> None:
    servers = a_cluster(GET=(AskError("1 :7"), None))
    servers.run(load(servers.route, "k"))
    assert ("a", "ASKING") in servers.words()


def test_redirections_without_an_end() -> None:
    servers = a_cluster(GET=MovedError("1 b:6379"))
    with pytest.raises(StoreError, match="in a circle"):
        servers.run(load(servers.route, "k"))


def test_servers_that_do_not_answer_are_asked_last() -> None:
    servers = a_cluster(CLUSTER=(NotAsked("down"), BOTH), GET=(NotAnswered("late"), None))
    with pytest.raises(NotAnswered):
        servers.run(load(servers.route, "k"))
    assert servers.words()[:2] == [("a", "CLUSTER"), ("c", "CLUSTER")]
    assert isinstance(servers.route, Cluster)
    servers.run(servers.route.find())
    assert servers.words() == [("b", "CLUSTER")]


@pytest.mark.parametrize(
    ("topology", "match"),
    [
        ([], "no server of the cluster tells"),
        ([[0, 1]], "no server of the cluster tells"),
        ([[0, 1, []]], "no server of the cluster tells"),
        (b"nonsense", "no server of the cluster tells"),
        (ResponseError("cluster support disabled"), "no server of the cluster tells"),
        ([[0, 1, [b"a", 1]]], "no server of the cluster has slot"),
    ],
)
def test_a_topology_that_is_no_good(topology: Any, match: str) -> None:
    servers = a_cluster(CLUSTER=topology)
    with pytest.raises(StoreError, match=match):
        servers.run(load(servers.route, "k"))


@pytest.mark.parametrize("name", [b"", b"?", None])
def test_a_server_that_does_not_know_its_own_name(name: bytes | None) -> None:
    route = Cluster(read_url("redis+cluster://c"), lambda: 0.0)
    assert route.ranges_in([[0, 16383, [name, 6379]]], C)[0].master == C


def test_another_master_is_a_gap() -> None:
    servers = a_cluster()
    post = servers.run(servers.route.listen())
    assert post.masters == [A, B]
    post.check(list(reversed(BOTH)))
    with pytest.raises(StoreError, match="other masters"):
        post.check(BOTH[:1])


def test_sentinel_names_another() -> None:
    route = Sentinel(read_url("redis+sentinel://s/main"))
    post = Servers(route, SENTINEL=([b"a", b"6379"],)).run(route.listen())
    post.check([b"a", b"6379"])
    for reply, match in (([b"b", b"6379"], "another master"), (None, "knows no master"), ([b"b"], "knows no master")):
        with pytest.raises(StoreError, match=match):
            post.check(reply)


@pytest.mark.parametrize("clock", [None, [], [b"1"], [b"x", b"y"], ResponseError("NOPERM")])
def test_a_server_without_a_clock(clock: Any) -> None:
    with pytest.raises(StoreError):
        loaded_from([None, clock])


def test_the_eviction_policy_is_reported_by_the_first_connection_only() -> None:
    route, told = One(read_url("redis://a")), list[str]()
    for _ in range(2):
        _heed([[b"maxmemory-policy", b"allkeys-lru"]], (("CONFIG",),), route, told.append)
    assert told == ["allkeys-lru"]
    assert evicting_policy(ResponseError("NOPERM")) is None
    assert evicting_policy([]) is None


class Line:
    """What a server says on a subscription that it refuses, or ends."""

    address = A

    def send(self, command: object) -> None: ...

    def read(self) -> Any:
        return [b"unsubscribe", b"jwtguard:ended", 0]


def test_a_subscription_that_is_not_confirmed_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_url("redis://a")
    ears = Ears(plan, One(plan), 1, lambda: 0.0, lambda _policy: None)
    monkeypatch.setattr(ears, "_connect", lambda *_: Line())
    with ExitStack() as stack, pytest.raises(StoreError, match="a:6379 didn't confirm"):
        ears._subscribe(stack, A)
    line: Any = Line()
    with pytest.raises(StoreError, match="a:6379 ended"):
        ears._announced(line, line.read())


def test_announcements_before_the_first_word_come_after_it() -> None:
    items: list[bytes | Heard] = [b"a", b"b", Heard(1.0), b"c", Heard(2.0)]
    assert list(_first_heard(iter(items))) == [Heard(1.0), b"a", b"b", b"c", Heard(2.0)]
    assert list(_first_heard(iter([b"a"]))) == []


def test_a_child_begins_with_no_connections() -> None:
    """What it leaves alone is the parent's; here, that is this process."""
    plan = read_url("redis://a")
    links = AsyncLinks(plan, One(plan), lambda _policy: None)

    async def fork() -> None:
        home = await links._home()
        links._renew()
        assert links._homes == {}
        await home.keeper.aclose()

    asyncio.run(fork())
