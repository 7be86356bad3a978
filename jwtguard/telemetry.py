"""What happens, told to the log, to the app's callbacks, and to whatever counts.

Invariants:
- An event is told once, by the process that did it. What others announce is no event here.
- Telling changes no answer: what goes wrong in another party's code is logged, once of each kind, and goes no further.
- No event has a token in it, nor anything that a client sent, but for what a verified token says, a name that was read
  from its user agent, and the address that the server reports.
- A request whose token is known costs nothing here; one counter, if somebody counts; more, if an observer asks for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from .clock import Clock
from .context import current_device
from .errors import ConfigError, JWTGuardError
from .model import Device, Event, Identity
from .tokens import text_of_id

if TYPE_CHECKING:
    from .model import Coherence

__all__ = ["EVENTS", "EventHook", "JSONFormatter", "Observer", "Readings", "Tally", "Telemetry", "Tell"]

logger = logging.getLogger("jwtguard")

EventHook = Callable[[Event], object]
Recall = Callable[[bytes], Identity | None]

EVENTS: Final[Mapping[str, int]] = {
    "opened": logging.INFO,
    "refreshed": logging.INFO,
    "refresh_replayed": logging.INFO,
    "refresh_reused": logging.WARNING,
    "revoked": logging.INFO,
    "evicted": logging.INFO,
    "expired": logging.INFO,
    "rejected": logging.INFO,
    "store_behind": logging.WARNING,
    "store_down": logging.ERROR,
    "store_up": logging.WARNING,
    "push_down": logging.ERROR,
    "push_up": logging.WARNING,
}
"""Every event, and the level at which it is logged."""

_ALARMING: Final = {
    "refresh_reused": "an older refresh token came back, which looks like theft; it is",
    "store_behind": "the store has lost writes; shown by a token",
}


class Tell(Protocol):
    """Told of an event."""

    def __call__(
        self,
        name: str,
        subject: str = "",
        session_id: bytes | None = None,
        *,
        code: str = "",
        count: int | None = 0,
        device: Device | None = None,
    ) -> None: ...


class Tally:
    """A counter: `add` is one call into C, which no other thread can come between, so no count is lost."""

    __slots__ = ("_mutex", "_reads", "add")

    def __init__(self) -> None:
        self.add: Callable[[], int] = count().__next__
        self._mutex = Lock()
        self._reads = 0

    def read(self) -> int:
        """How often it was added to. Reading adds one, too, and so is taken off."""
        with self._mutex:
            value = self.add() - self._reads
            self._reads += 1
            return value


class Readings(NamedTuple):
    """What an observer may read of a guard at any time: for figures that would cost too much to be told each time.

    `hits`: requests whose token was known, since the guard was made. `admitted`: those of them that might pass.
    `connections`: WebSockets and streams that are open now. `coherence`: how soon an ending elsewhere is seen.
    """

    hits: Callable[[], int]
    admitted: Callable[[], int]
    connections: Callable[[], int]
    coherence: Callable[[], Coherence]


class Observer:
    """Is told what a guard does, as it does it, in whatever thread that is: so it is quick, and waits for nothing.

    Override what is of interest. What a method raises is logged, once of each kind, and changes no answer.
    """

    counts: ClassVar[bool] = False
    """Whether `Readings.hits` and `admitted` are wanted: counting costs each request whose token is known a counter."""
    each_request: bool = False
    """Whether `recalled` is to be called, which costs each request whose token is known that call."""

    def attach(self, readings: Readings) -> None:
        """A guard has been made with this observer. Begin nothing yet: a process may fork before it serves."""

    def event(self, event: Event) -> None:
        """Something has happened."""

    def decided(self, code: str, identity: Identity | None) -> None:
        """A request was decided about: `admitted`, `anonymous`, `served` (by an endpoint), or the code of its refusal.

        One whose token was known is not told of, unless it is refused: `Readings.admitted` counts those.
        """

    def recalled(self, identity: Identity) -> None:
        """The token of a request was known."""

    def looked_up(self, hit: bool) -> None:
        """A token was looked up in the cache, apart from the hits that `Readings.hits` counts."""

    def stored(self, operation: str, seconds: float, outcome: str) -> None:
        """A call of the store is over. `operation`: `load` or `save`; `outcome`: `ok` or `error`. The time is that of the
        whole call, with its wait for a thread or for the event loop."""

    def heard(self, seconds: float) -> None:
        """The store was asked for a sign that its announcements arrive, and this long after, all that it had announced
        before the question had arrived here."""


class _Callback(Observer):
    """A function of the app."""

    def __init__(self, hook: EventHook) -> None:
        self._hook = hook

    def event(self, event: Event) -> None:
        self._hook(event)

    def __repr__(self) -> str:
        return "on_event"


class Telemetry:
    """One guard's. Arguments: `hooks`, functions that are called with each event."""

    def __init__(self, clock: Clock, hooks: Sequence[EventHook] = (), observers: Sequence[Observer] = ()) -> None:
        self._clock = clock
        self._observers = (*map(_Callback, hooks), *observers)
        self._broken: set[tuple[object, ...]] = set()
        self._hits = Tally()
        self._denied = Tally()

    def attach(self, connections: Callable[[], int], coherence: Callable[[], Coherence]) -> None:
        """The guard is made."""
        self._each("attach", Readings(self._hits.read, self._admitted, connections, coherence))

    # -- events ------------------------------------------------------------------------------------------------------------

    def tell(
        self,
        name: str,
        subject: str = "",
        session_id: bytes | None = None,
        *,
        code: str = "",
        count: int | None = 0,
        device: Device | None = None,
    ) -> None:
        """Raise an event. `device`: where it was asked for, if not by the current request."""
        text = None if session_id is None else text_of_id(session_id)
        self._raise(Event(name, subject, text, code, count=count), device)

    def changed(self, name: str, code: str, detail: str) -> None:
        """The store, or its announcements, are down or up again. `code`: by which way of access; `detail`: a sentence."""
        self._raise(Event(name, code=code, detail=detail))

    def rejected(self, error: JWTGuardError) -> None:
        """A request, or a call of the guard, ends with an error. One that was told before is not told again."""
        if error.told or isinstance(error, ConfigError):
            return
        error.told = True
        subject, session_id = error.concerns
        self._each("decided", error.code, None)
        self._raise(Event("rejected", subject, session_id or None, error.code, error.status))

    def _raise(self, event: Event, device: Device | None = None) -> None:
        level = EVENTS[event.name]
        is_logged = logger.isEnabledFor(level)
        if not is_logged and not self._observers:
            return  # so a flood of refusals costs nothing here
        known = current_device() if device is None else device
        fields = {**event.to_dict(), "device": known.name, "ip": known.ip, "time": self._clock.time()}
        if is_logged:
            text, *values = _sentence(event)
            logger.log(level, text, *values, extra={"jwtguard": fields})
        if self._observers:
            self._each("event", Event(**fields))

    # -- decisions ---------------------------------------------------------------------------------------------------------

    def passed(self, identity: Identity) -> None:
        """A request may pass that wasn't known to."""
        code = "admitted" if identity.is_authenticated else "anonymous"
        if identity.is_authenticated and logger.isEnabledFor(logging.DEBUG):
            fields = {"name": code, "subject": identity.subject, "session_id": identity.session_id}
            logger.debug("admitted: a session of %a", identity.subject, extra={"jwtguard": fields})
        self._each("decided", code, identity)

    def served(self) -> None:
        """An endpoint has done what it was asked for."""
        self._each("decided", "served", None)

    def denied(self, error: JWTGuardError) -> None:
        """A request is refused whose token was known."""
        self._denied.add()
        self.rejected(error)

    def counted(self, recall: Recall) -> Recall | None:
        """`recall`, with what observers want of it; None if they want nothing, so that it costs nothing."""
        add = self._hits.add
        asking = [observer for observer in self._observers if observer.each_request]
        if not asking and not any(observer.counts for observer in self._observers):
            return None

        def recall_and_count(authorization: bytes) -> Identity | None:
            identity = recall(authorization)
            if identity is not None:
                add()
            return identity

        def recall_and_tell(authorization: bytes) -> Identity | None:
            identity = recall_and_count(authorization)
            if identity is not None:
                self._each("recalled", identity, among=asking)
            return identity

        return recall_and_tell if asking else recall_and_count

    def _admitted(self) -> int:
        denied = self._denied.read()  # first: each of them was a hit before
        return self._hits.read() - denied

    # -- what else there is to measure -------------------------------------------------------------------------------------

    def looked_up(self, *, hit: bool) -> None:
        self._each("looked_up", hit)

    def stored(self, operation: str, seconds: float, outcome: str) -> None:
        self._each("stored", operation, seconds, outcome)

    def heard(self, seconds: float) -> None:
        self._each("heard", seconds)

    def _each(self, method: str, *arguments: Any, among: Sequence[Observer] | None = None) -> None:
        for observer in self._observers if among is None else among:
            try:
                getattr(observer, method)(*arguments)
            except Exception as error:  # noqa: BLE001 - another party's code; it is logged there
                self._report(observer, method, arguments, error)

    def _report(self, observer: Observer, method: str, arguments: tuple[Any, ...], error: Exception) -> None:
        what = f"the event {arguments[0].name!r}" if method == "event" else method
        kind = (observer, what, type(error))
        if kind not in self._broken:
            self._broken.add(kind)
            logger.exception("%r failed for %s; that is said once", observer, what)


def _sentence(event: Event) -> tuple[Any, ...]:
    """What is logged of an event, and the values in it: whatever they hold, it is one line."""
    if event.detail:
        return "%s", event.detail
    if event.name == "rejected":
        return "refused: %s %s", event.status, event.code
    if event.name in _ALARMING:
        return "%s: %s of %a", event.name, _ALARMING[event.name], event.subject
    if event.session_id is None:
        whose = f"{event.count} sessions of {event.subject!a}" if event.subject else "every session of every user"
        return "%s: %s", event.name, whose
    return "%s: a session of %a", event.name, event.subject


class JSONFormatter(logging.Formatter):
    """A log record as one line of JSON: `time` (ISO 8601, UTC), `level`, `logger`, `message`; `jwtguard`, what an event
    says (see `jwtguard.Event`), where it is one; `exception`, where there is one.

    The line is ASCII: whatever else a value holds (a line break, an escape sequence, half a character) is escaped in it.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if isinstance(event := getattr(record, "jwtguard", None), dict):
            entry["jwtguard"] = event
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=repr)
