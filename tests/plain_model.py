"""What a user's sessions should be, told a second time: plain dicts and lists, every rule spelt out where it applies.

It shares no code with the transitions, so that a mistake would have to be made twice.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from jwtguard.document import Document
from jwtguard.policy import Policy

UNKNOWN, REVOKED, EVICTED, EXPIRED, REUSED = range(5)
Entry = dict[str, Any]


@dataclass
class Model:
    """Session numbers to what is known of them, in the order of their opening; and why others are over."""

    policy: Policy
    clock: int = 0
    floor: int = 0
    everyone: int = 0
    sessions: dict[int, Entry] = field(default_factory=dict)
    graves: list[tuple[int, int, int]] = field(default_factory=list)

    # -- reading -----------------------------------------------------------------------------------------------------------

    def end_of(self, entry: Entry) -> int:
        ends: list[int] = [entry["expires"], entry["opened"] + self.policy.session_ttl]
        if self.policy.idle_timeout is not None:
            ends.append(entry["seen"] + self.policy.idle_timeout)
        return min(ends)

    def is_live(self, entry: Entry, now: int) -> bool:
        authenticated: int = entry["authenticated"]
        return authenticated > self.everyone and now < self.end_of(entry)

    def reason(self, number: int) -> int:
        for buried, reason, _ in self.graves:
            if buried == number:
                return reason
        return UNKNOWN

    def in_grace(self, entry: Entry, now: int) -> dict[int, int]:
        return {old: at for old, at in entry["retired"].items() if now - at < self.policy.rotation_grace}

    def verdict(self, number: int, generation: int, now: int) -> tuple[str, int]:
        """What an access token is told: its word, and the reason or how long it is good for."""
        now = max(now, self.clock)
        entry = self.sessions.get(number)
        if entry is None:
            reason = self.reason(number)
            return "ended", REVOKED if reason == REUSED else reason
        if not self.is_live(entry, now):
            return "ended", REVOKED if entry["authenticated"] <= self.everyone else EXPIRED
        if generation > entry["generation"]:
            return "behind", 0
        left = self.end_of(entry) - now
        if generation == entry["generation"]:
            return "admitted", left
        graces = self.in_grace(entry, now)
        if generation not in graces:
            return "superseded", 0
        return "admitted", min(left, graces[generation] + self.policy.rotation_grace - now)

    def kept_until(self) -> int:
        ends: list[int] = [entry["expires"] for entry in self.sessions.values()] + [until for _, _, until in self.graves]
        floor = self.floor + max(self.policy.session_ttl, self.policy.refresh_ttl) if self.floor else 0
        return max([self.clock + 1, floor, *ends])

    # -- writing: each works on a copy that has come to the moment, and answers what is to be told ------------------------

    def at(self, now: int) -> Model:
        """A copy in which the moment has come: who is over by then is buried."""
        later = deepcopy(self)
        later.clock = max(now, self.clock)
        later.graves = [grave for grave in later.graves if grave[2] > later.clock]
        for number, entry in self.sessions.items():
            if not self.is_live(entry, later.clock):
                later.bury(number, REVOKED if entry["authenticated"] <= self.everyone else EXPIRED)
        return later

    def bury(self, number: int, reason: int) -> None:
        until = self.sessions.pop(number)["expires"]
        if until > self.clock:
            self.graves = [*self.graves, (number, reason, until)][-16:]

    def expiry(self, opened: int, now: int) -> int:
        return min(opened + self.policy.session_ttl, now + max(self.policy.refresh_ttl, self.policy.access_ttl))

    def open(self, number: int, limit: int, replaces: int | None, authenticated_at: int | None) -> Any:
        if number in self.sessions:
            return "opened", number
        if reason := self.reason(number):
            return "ended", REVOKED if reason == REUSED else reason
        floor = max(self.floor, self.everyone)
        if authenticated_at is not None and authenticated_at <= floor:
            return "ended", REVOKED
        before = set(self.sessions)
        now = self.clock
        if replaces in self.sessions:
            self.bury(replaces, REVOKED)
        opened = max(now, floor + 1)
        self.clock = max(now, opened)
        while len(self.sessions) >= limit:
            victims = [
                (entry["seen"], entry["opened"], position, other)
                for position, (other, entry) in enumerate(self.sessions.items())
                if self.policy.on_limit == "evict"
                or (entry["generation"] == 1 and not entry["used"] and now - entry["opened"] >= 60_000)
            ]
            if not victims:
                return "denied", before
            self.bury(min(victims)[3], EVICTED)
        authenticated = opened if authenticated_at is None else min(opened, authenticated_at)
        self.sessions[number] = {"opened": opened, "authenticated": authenticated, "seen": opened, "rotated": opened}
        self.sessions[number] |= {"generation": 1, "used": False, "retired": {}, "expires": self.expiry(opened, opened)}
        return "opened", number

    def rotate(self, number: int, generation: int, began: int, repeated: bool) -> Any:
        entry = self.sessions.get(number)
        if entry is None:
            reason = self.reason(number)
            if reason == REUSED:
                return "reused" if repeated else ("ended", REVOKED)
            return "ended", reason
        if generation > entry["generation"]:
            entry.update(generation=generation, used=True, retired={})
        graces = self.in_grace(entry, self.clock)
        if generation == entry["generation"]:
            if len(graces) == 4 and self.clock - entry["rotated"] < self.policy.access_ttl // 2:
                return "rotated", generation
            entry.update(rotated=self.clock, seen=self.clock, expires=self.expiry(entry["opened"], self.clock))
            if len(graces) < 4:
                entry.update(generation=generation + 1, used=False, retired=graces | {generation: self.clock})
            return "rotated", entry["generation"]
        lost = not entry["used"] or (repeated and entry["rotated"] >= began)
        if generation in graces or (generation == entry["generation"] - 1 and lost):
            if self.clock >= entry["rotated"] + self.policy.access_ttl - 1000:
                entry.update(rotated=self.clock, seen=self.clock, expires=self.expiry(entry["opened"], self.clock))
            return "rotated", entry["generation"]
        if self.policy.on_reuse == "refuse":
            return "superseded"
        self.bury(number, REUSED)
        return "reused"

    def touch(self, number: int, generation: int) -> None:
        if (entry := self.sessions.get(number)) is not None:
            is_first = generation == entry["generation"] and not entry["used"]
            if is_first or self.clock - entry["seen"] > self.policy.touch_after:
                entry["seen"] = self.clock
                entry["used"] = entry["used"] or is_first

    def adopt(self, number: int, generation: int) -> None:
        entry = self.sessions.get(number)
        if entry is not None and entry["generation"] < generation:
            entry.update(generation=generation, used=True, retired={})

    def end_one(self, number: int, repeated: bool) -> bool:
        if number in self.sessions:
            self.bury(number, REVOKED)
            return True
        return repeated and self.reason(number) in (REVOKED, REUSED)

    def end_others(self, keep: int | None, began: int) -> int:
        others = [number for number, entry in self.sessions.items() if number != keep and entry["authenticated"] <= began]
        for number in others:
            self.bury(number, REVOKED)
        self.floor = max(self.floor, began)
        return len(others)


def as_plain(document: Document) -> dict[str, Any]:
    """A document in the model's terms."""
    sessions = {
        int.from_bytes(one.id, "big"): {
            "opened": one.opened_at,
            "authenticated": one.authenticated_at,
            "seen": one.seen_at,
            "rotated": one.rotated_at,
            "expires": one.expires_at,
            "generation": one.generation,
            "used": one.used,
            "retired": {retired.generation: retired.at for retired in one.retired},
        }
        for one in document.sessions
    }
    graves = [(int.from_bytes(stone.id, "big"), int(stone.reason), stone.until) for stone in document.tombstones]
    return {"clock": document.clock, "floor": document.not_before, "sessions": sessions, "graves": graves}
