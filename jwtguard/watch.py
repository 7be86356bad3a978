"""What happens, as it happens, for who looks on from outside: from a log, or from what a store holds.

A log of event records (see `telemetry.JSONFormatter`) has all events of the processes that write it. A store has only what
becomes of sessions, whoever did it: logins, refreshes and endings, found by comparing documents between two looks. What
came and went in between isn't seen, nor what refused a request; several refreshes look like one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from .document import Document, Reason, SessionRecord, decode, document_key, everyone_key, subject_of
from .errors import DocumentDamaged
from .model import Event
from .stores.base import Scanned, Store
from .tokens import text_of_id

__all__ = ["Looker", "differences", "events_in", "follow"]

PAUSE: Final = 0.5
"""Seconds between two looks."""
LATEST: Final = 253_402_300_800
"""The end of the year 9999 (seconds since the epoch): later times have no date."""

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "count": (int, type(None)),
    "status": (int, type(None)),
    "time": (int, float),
}
_TEXT: Final = (str, type(None))

Sleep = Callable[[float], object]


# -- from a log ------------------------------------------------------------------------------------------------------------


def events_in(lines: Iterable[str]) -> Iterator[Event]:
    """The events in lines of JSON; what is none of ours is passed over."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        event = _event_of(entry.get("jwtguard")) if isinstance(entry, dict) else None
        if event is not None:
            yield event


def _event_of(found: Any) -> Event | None:
    """The event that a record tells; None if it isn't one, such as that of an admitted request."""
    names = {each.name for each in fields(Event)}
    if not isinstance(found, dict) or found.keys() != names or not isinstance(found["name"], str):
        return None
    if not all(isinstance(value, _KINDS.get(name, _TEXT)) for name, value in found.items()):
        return None
    return Event(**found) if 0 <= found["time"] < LATEST else None


def follow(path: str | os.PathLike[str], *, sleep: Sleep, pause: float = PAUSE) -> Iterator[str]:
    """The lines that are added to a file from now on, whole ones, without end: also when it is rotated or cut.

    sleep: waits so many seconds. Raises OSError if the file isn't there at first.
    """
    file = Path(path).open(encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below, where another may be open
    try:
        file.seek(0, os.SEEK_END)
        part = ""
        while True:
            while text := file.readline():
                part += text
                if part.endswith("\n"):
                    yield part
                    part = ""
            sleep(pause)
            if _is_another(path, file.fileno(), file.tell()):
                file.close()
                file = Path(path).open(encoding="utf-8", errors="replace")  # noqa: SIM115
                part = ""
    finally:
        file.close()


def _is_another(path: str | os.PathLike[str], descriptor: int, read: int) -> bool:
    """Whether there is another file under this name than the one that is open, or less of it than was read."""
    try:
        there = Path(path).stat()
    except FileNotFoundError:  # between two steps of a rotation
        return False
    return not os.path.samestat(there, os.fstat(descriptor)) or there.st_size < read


# -- from a store ----------------------------------------------------------------------------------------------------------


def differences(before: Document, after: Document) -> Iterator[Event]:
    """What has happened to a user's sessions between two states of the document; to everybody's, if it is everyone's."""
    clock = after.clock / 1000
    if not after.subject and after.not_before > before.not_before:
        yield Event("revoked", code="everyone", count=None, time=clock)
    older = {session.id: session for session in before.sessions}
    newer = {session.id: session for session in after.sessions}
    for session in before.sessions:
        if session.id not in newer:
            yield _about(after, session, _ending(after, session), count=1, time=clock)
    for session in after.sessions:
        known = older.get(session.id)
        if known is None:
            yield _about(after, session, "opened", count=1, time=session.opened_at / 1000)
        elif session.generation > known.generation:
            yield _about(after, session, "refreshed", time=session.rotated_at / 1000)


def _ending(after: Document, session: SessionRecord) -> str:
    """What has ended a session that is no longer there."""
    if after.was_reused(session.id):
        return "refresh_reused"
    reason = after.remembered_reason(session.id)
    if reason is Reason.EVICTED:
        return "evicted"
    return "expired" if reason is Reason.EXPIRED or session.expires_at <= after.clock else "revoked"


def _about(document: Document, session: SessionRecord, name: str, *, time: float, count: int = 0) -> Event:
    where = (session.device, session.ip or None)
    return Event(name, document.subject, text_of_id(session.id), "", None, *where, count=count, time=time)


class Looker:
    """Looks at a store, again and again, and tells what has changed since the last look.

    Arguments: `store`, a blocking one; `issuer`, whose sessions; `subjects`, the users to look at. Without them, all users
    are looked at, which only a store that is `Scanned` can do: else ValueError.
    """

    def __init__(self, store: Store, issuer: str, subjects: Iterable[str] | None = None) -> None:
        if subjects is None and not isinstance(store, Scanned):
            raise ValueError(f"{store} can't list its users: name those to look at")
        self._store = store
        self._issuer = issuer
        self._keys = None if subjects is None else {document_key(issuer, subject): subject for subject in subjects}
        if self._keys is not None:
            self._keys[everyone_key(issuer)] = ""
        self._known: dict[str, Document] | None = None

    def look(self) -> list[Event]:
        """What has happened since the last look, the oldest first; the first look only takes in what is there.

        Raises StoreError.
        """
        found = dict(self._documents())
        known = self._known
        self._known = {**(known or {}), **found}
        if known is None:
            return []
        events: list[Event] = []
        for subject, document in found.items():
            events += differences(known.get(subject, Document.empty(subject)), document)
        return sorted(events, key=lambda event: event.time)

    def events(self, *, sleep: Sleep, pause: float = PAUSE) -> Iterator[Event]:
        """All of it, as it happens, without end. sleep: waits so many seconds. Raises StoreError."""
        while True:
            yield from self.look()
            sleep(pause)

    def _documents(self) -> Iterator[tuple[str, Document]]:
        """What there is now. A document that can't be read is passed over, as if it had not changed: requests log it."""
        for subject, data in self._data():
            try:
                yield subject, decode(data, subject)
            except DocumentDamaged:
                continue

    def _data(self) -> Iterator[tuple[str, bytes | None]]:
        if self._keys is not None:
            yield from ((subject, self._store.load(key).data) for key, subject in self._keys.items())
            return
        for key, data in self._store.scan():  # type: ignore[attr-defined] # the constructor has looked
            subject = subject_of(data)
            if subject is not None and key in (document_key(self._issuer, subject), everyone_key(self._issuer)):
                yield subject, data
