"""The recall table: what it holds, for how long, and how much of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwtguard.keys import Key
from jwtguard.model import ANONYMOUS, Identity
from jwtguard.recall import DEAD, Entry, Lease, Leases, RecallTable, digest_of
from jwtguard.testing import FakeClock

KEY = Key("k", "HS256", b"s" * 32)


class Known:
    """A table with one good entry, whose every limit is an hour away but the one that a test sets."""

    def __init__(self, **limits: float) -> None:
        self.clock = FakeClock()
        hour = {"lease": 3600.0, "entry": 3600.0, "token": 3600.0} | limits
        now = self.clock.monotonic()
        self.lease = a_lease(until=now + hour["lease"])
        fresh = Entry(ANONYMOUS, KEY, expires_at=self.clock.time() + hour["token"], since=7)
        self.entry = fresh.admitted(self.lease, ANONYMOUS, now + hour["entry"])
        self.table = RecallTable(10, self.clock.monotonic, self.clock.time)

    def is_good(self, grace: float = 0.0) -> bool:
        return self.table.is_good(self.entry, grace)


def a_lease(**fields: Any) -> Lease:
    return Lease(1, **{"data": None, "began": 0.0, "now": 0, "everyone": 0, "until": 0.0, **fields})


def entry_of(number: int) -> Entry:
    identity = Identity(str(number), "", "", (), "", 0)
    return Entry(identity, KEY, expires_at=0, since=0)


# -- how long --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["lease", "entry", "token"])
def test_an_entry_is_good_until_the_first_of_its_limits(limit: str) -> None:
    known = Known(**{limit: 10.0})
    known.clock.advance(9.5)
    assert known.is_good()
    known.clock.advance(0.5)
    assert not known.is_good()


def test_a_dead_lease_takes_all_its_entries_with_it() -> None:
    known = Known()
    other = known.entry.admitted(known.lease, ANONYMOUS, known.entry.until)
    known.lease.alive = False
    assert not known.is_good()
    assert not known.table.is_good(other)


def test_grace_is_for_expired_leases_and_for_nothing_else() -> None:
    expired = Known(lease=10.0)
    expired.clock.advance(15)
    assert not expired.is_good()
    assert not expired.is_good(grace=5.0)
    assert expired.is_good(grace=5.1)
    expired.lease.alive = False
    assert not expired.is_good(grace=3600.0)
    for limit in ("entry", "token"):
        over = Known(**{limit: 10.0})
        over.clock.advance(10)
        assert not over.is_good(grace=3600.0)


def test_a_token_expires_by_the_wall_clock_and_a_lease_by_the_other() -> None:
    known = Known(token=10.0)
    known.clock.jump(10)
    assert not known.is_good()
    known.clock.jump(-5)
    assert known.is_good()


def test_a_token_that_was_only_verified_is_not_good() -> None:
    known = Known()
    fresh = Entry(ANONYMOUS, KEY, expires_at=known.clock.time() + 10, since=0, until=float("inf"))
    assert fresh.lease is DEAD
    assert not DEAD.alive
    assert not known.table.is_good(fresh)
    assert not known.table.is_good(fresh, grace=float("inf"))


def test_an_admitted_entry_is_another_one_of_the_same_token() -> None:
    known = Known()
    newer = a_lease()
    moved = known.entry.admitted(newer, ANONYMOUS, 5.0)
    assert known.is_good()
    assert (moved.expires_at, moved.since) == (known.entry.expires_at, newer.number)
    assert (moved.lease, moved.until) == (newer, 5.0)


def test_the_clock_of_the_store_goes_on() -> None:
    lease = a_lease(began=100.0, now=5_000)
    assert lease.store_time(100.0) == 5_000
    assert lease.store_time(102.5) == 7_500


# -- how much --------------------------------------------------------------------------------------------------------------


def a_table(size: int) -> RecallTable:
    clock = FakeClock()
    return RecallTable(size, clock.monotonic, clock.time)


def test_the_key_is_of_the_whole_token() -> None:
    assert digest_of(b"a.b.c") != digest_of(b"a.b.c=")
    assert len(digest_of(b"x" * 8192)) == 32


def test_what_is_put_is_found() -> None:
    table = a_table(10)
    entry = entry_of(1)
    assert table.get(b"1") is None
    table.put(b"1", entry)
    assert table.get(b"1") is entry
    table.clear()
    assert table.get(b"1") is None
    assert len(table) == 0


@given(size=st.integers(2, 40), keys=st.lists(st.integers(0, 60), max_size=300))
def test_it_never_holds_more_than_its_size_nor_anything_false(size: int, keys: list[int]) -> None:
    table = a_table(size)
    for key in keys:
        digest = b"%d" % key
        found = table.get(digest)
        assert found is None or found.identity.subject == str(key)
        if found is None:
            table.put(digest, entry_of(key))
        assert len(table) <= size
        assert table.get(digest) is not None


def test_the_smallest_table_still_works() -> None:
    table = a_table(1)
    for number in range(5):
        table.put(b"%d" % number, entry_of(number))
        assert table.get(b"%d" % number) is not None
        assert len(table) <= 2


def test_a_flood_pushes_out_only_what_is_not_used() -> None:
    table = a_table(100)
    used, unused = entry_of(1), entry_of(2)
    table.put(b"used", used)
    table.put(b"unused", unused)
    for number in range(10_000):
        table.put(b"flood %d" % number, entry_of(number))
        if number % 40 == 0:
            assert table.get(b"used") is used
    assert table.get(b"unused") is None
    assert len(table) <= 100


def test_being_found_again_and_again_makes_no_growth() -> None:
    table = a_table(10)
    for number in range(6):
        table.put(b"%d" % number, entry_of(number))
    table.get(b"0")
    before = len(table)
    for _ in range(100):
        table.get(b"0")
    assert len(table) == before


# -- leases ----------------------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 12), steps=st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200))
def test_leases_that_are_held_are_alive_and_all_others_are_dead(size: int, steps: list[tuple[bool, int]]) -> None:
    leases, made = Leases(size), list[Lease]()
    for ends, number in steps:
        key = b"%d" % number
        if ends:
            if (lease := leases.pop(key)) is not None:
                lease.alive = False
        elif leases.get(key) is None:
            made.append(a_lease())
            leases.put(key, made[-1])
        held = [lease for key in list(leases) if (lease := leases._young.get(key) or leases._old.get(key))]
        assert len(leases) == len(held) <= max(2, size)
        assert {id(lease) for lease in made if lease.alive} == set(map(id, held))


def test_the_latest_used_leases_stay() -> None:
    leases = Leases(10)
    for number in range(1000):
        leases.put(b"%d" % number, a_lease())
        assert leases.get(b"0")
        assert leases.get(b"%d" % max(0, number - 1))
