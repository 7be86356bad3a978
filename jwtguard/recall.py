"""The recall table: exact token -> who it is, for as long as that is known to hold. This is the warm path.

Invariants:
- A hit takes no lock, does no I/O, and writes nothing but its own place in the table. Every read of an entry is of one
  immutable object, so no thread can see half of a change.
- An entry is good while its lease is alive and unexpired, its own time is not up (session, grace), its token has not
  expired, and its key needs no look. Killing a lease or a key is one write, whatever number of entries point to it, and
  can't be undone.
- An entry is found by the SHA-256 of the whole Authorization value, as it is usually written: no part of a token stands
  for all of it, no token is kept, and who has found an entry needs to read the value no further.
- The size is bounded: entries live in two halves; when the young half is full it becomes the old one, and the old one is
  dropped. What is used moves to the young half, so a flood of other tokens pushes out only what isn't used. Two threads
  that do this at once may drop a half too many, which costs a verification each, and nothing else.

Why that holds without a lock, on free-threaded CPython too: a dict and an attribute answer one reference, old or new, and
what it refers to was complete before it was stored. The one thing that changes under a reader is a lease: `alive`, one way,
and its epoch's `heard`, which only grows. So a reader can be late, and never has half of one thing and half of another. It
is not late for an ending that was answered before its request began: the lease was killed before that answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Final

from .keys import Key
from .model import Identity
from .push import ALWAYS, Epoch

__all__ = ["DEAD", "FOREVER", "Entry", "Lease", "Leases", "RecallTable", "digest_of"]


class Lease:
    """What the store said of one user, and how long it may be relied on.

    `alive` goes from True to False once, and never back. `until` is by the monotonic clock. A lease that relies on
    announcements is over `ttl` seconds after its epoch was last heard of, too. `number` tells which load it came from: a
    load with a greater number began later. `began` (monotonic, before the load) and `now` (ms, read by the store during it)
    are taken for the same moment: so `store_time` is never early, and a session may be judged over one load too soon.
    """

    __slots__ = ("alive", "began", "data", "epoch", "everyone", "now", "number", "touched", "ttl", "until")

    def __init__(
        self,
        number: int,
        *,
        data: bytes | None,
        began: float,
        now: int,
        everyone: int,
        until: float,
        epoch: Epoch = ALWAYS,
        ttl: float = 0.0,
    ) -> None:
        self.alive = True
        self.epoch = epoch
        self.ttl = ttl
        self.number = number
        self.data = data
        self.began = began
        self.now = now
        self.everyone = everyone
        self.until = until
        self.touched: dict[tuple[bytes, int], bool] | None = None
        """The uses (session and generation) that are written down under it, and whether that is done; None until one is."""

    def lasts(self, now: float) -> bool:
        """Whether it may be relied on, if it is alive."""
        return now < self.until and now < self.epoch.heard + self.ttl

    def store_time(self, monotonic: float) -> int:
        """The store's clock at another moment, in ms."""
        return self.now + int((monotonic - self.began) * 1000)


FOREVER: Final = float("inf")
"""For an entry whose lease is over before its session, or its grace, is."""
DEAD: Final = Lease(0, data=None, began=0.0, now=0, everyone=0, until=0.0)
"""The lease of a token that was verified and not yet admitted."""
DEAD.alive = False


class Leases:
    """Leases by user: the latest used, of at most `size` users, and never of fewer than two. What is pushed out dies.

    In two halves, as the recall table, but nothing is in both. It is used under the registry's lock. A half that is pushed
    out holds that for as long as killing its leases takes: of 25,000, a millisecond.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, size: int) -> None:
        self._half = max(1, size // 2)
        self._young: dict[bytes, Lease] = {}
        self._old: dict[bytes, Lease] = {}

    def get(self, key: bytes) -> Lease | None:
        lease = self._young.get(key)
        if lease is None and (lease := self._old.pop(key, None)) is not None:
            self.put(key, lease)
        return lease

    def put(self, key: bytes, lease: Lease) -> None:
        """Add the lease of a user who has none."""
        if len(self._young) >= self._half:
            self.push_out(self._old)
            self._old, self._young = self._young, {}
        self._young[key] = lease

    def push_out(self, leases: dict[bytes, Lease]) -> None:
        for lease in leases.values():
            lease.alive = False

    def pop(self, key: bytes) -> Lease | None:
        return self._young.pop(key, None) or self._old.pop(key, None)

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._young, self._old)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Entry:
    """One verified token, and the key that has signed it. Never changed: another state is another entry.

    `expires_at` is when the token expires by the wall clock (its `exp` and the leeway), `until` when its session or its
    grace is over by the monotonic clock; `since` is the number of the last load that had begun when it was first seen.
    """

    __slots__ = ("expires_at", "identity", "key", "lease", "since", "until")

    def __init__(
        self,
        identity: Identity,
        key: Key,
        *,
        expires_at: float,
        since: int,
        lease: Lease = DEAD,
        until: float = 0.0,
    ) -> None:
        self.key = key
        self.identity = identity
        self.expires_at = expires_at
        self.since = since
        self.lease = lease
        self.until = until

    def admitted(self, lease: Lease, identity: Identity, until: float) -> Entry:
        """This token, on the lease that admits it: so any load of its user that began later knows it, too."""
        return Entry(identity, self.key, expires_at=self.expires_at, since=lease.number, lease=lease, until=until)


def digest_of(token: bytes) -> bytes:
    """What a token is found by in the table."""
    return sha256(b"Bearer " + token).digest()


class RecallTable:
    """At most `size` entries, and never fewer than two.

    Arguments: `monotonic` and `wall`, the two readings of the clock, in seconds.
    """

    __slots__ = ("_half", "_monotonic", "_old", "_wall", "_young", "look")

    def __init__(self, size: int, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._half = max(1, size // 2)
        self._monotonic = monotonic
        self._wall = wall
        self._young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self.look: Callable[[], None] | None = None
        """What has the store report endings, where it must be asked. It comes after the entry is found and before it is
        judged: so an ending that was answered before this request began has killed its lease by then."""

    def recall(self, authorization: bytes) -> Identity | None:
        """The identity of a token that is known to be good, by its Authorization value: `Bearer`, a space, the token.

        What `get` and `is_good` do, written out: this is done for each request, and here a call costs as much as a check.
        """
        digest = sha256(authorization).digest()
        entry = self._young.get(digest) or self.get(digest)
        if entry is None:
            return None
        if self.look is not None:
            self.look()
        lease = entry.lease
        now = self._monotonic()
        if (
            lease.alive
            and now < lease.until
            and now < lease.epoch.heard + lease.ttl
            and now < entry.until
            and now < entry.key.until
            and self._wall() < entry.expires_at
        ):
            return entry.identity
        return None

    def get(self, digest: bytes) -> Entry | None:
        """The entry of a token, good or not."""
        entry = self._young.get(digest)
        if entry is None and (entry := self._old.get(digest)) is not None:
            self.put(digest, entry)
        return entry

    def put(self, digest: bytes, entry: Entry) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[digest] = entry

    def clear(self) -> None:
        self._young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_good(self, entry: Entry, grace: float = 0.0) -> bool:
        """Whether an entry may be relied on now, by who has looked at the keys if that was due.

        grace: seconds that its lease may be past its time (never dead).
        """
        now = self._monotonic()
        lease = entry.lease
        return (
            lease.alive
            and now < lease.until + grace
            and now < lease.epoch.heard + lease.ttl + grace
            and now < entry.until
            and entry.key.alive
            and self._wall() < entry.expires_at
        )
