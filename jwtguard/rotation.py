"""Keys that change while the process runs: what the files say, looked at again and again, but by no thread of its own.

Invariants:
- What a key has verified is good until the key's next look. Whoever finds that passed looks first: one at a time, off the
  event loop. While somebody looks, the others go by the keys as they were, and nothing of that is recalled afterwards.
- A key that is no longer there is withdrawn by the look that misses it. What can't be read takes no key away: a folder
  that is gone or empty, a set or a file that is broken. It is logged once, and looked at again.
- A key is published before it signs: only one that has been there for LEAD signs, unless there is no such key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from .clock import Clock
from .errors import ConfigError
from .flow import Apart, Flow
from .forks import renew_after_fork
from .keyfiles import Found, KeyFiles, Reading
from .keys import Key, Keyring

__all__ = ["LOOK_EVERY", "PUBLISHED_FOR", "FixedKeys", "Rotation"]

logger = logging.getLogger("jwtguard")

LOOK_EVERY: Final = 2.0
"""Seconds between two looks, while there are requests."""
PUBLISHED_FOR: Final = 60
"""Seconds that others may keep the published keys."""
LONG_AGO: Final = float("-inf")
LEAD: Final = 2 * PUBLISHED_FOR
"""Seconds that a key is published before it signs: until who has fetched the keys just before it came has them anew."""

Withdrawn = Callable[[list[Key]], None]


class FixedKeys:
    """Keys that stay as they are."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.on_withdrawal: Withdrawn | None = None

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return False

    def look(self) -> None:
        """Look for other keys."""

    def looked(self) -> Flow[None]:
        """`look`, for a flow, if it is due."""
        if self.is_due():
            yield Apart(self.look)


class Rotation(FixedKeys):
    """Keys in files. They are read at once: a key that can't be used stops the process. Raises ConfigError.

    `on_withdrawal` is called with the keys that a look has missed. It doesn't block and doesn't fail.
    """

    def __init__(self, files: KeyFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._complained: set[str] = set()
        self._began = clock.monotonic()
        self._fingerprint = files.fingerprint()
        reading = files.read()
        if reading.broken:
            raise ConfigError("; ".join(reading.broken.values()))
        # A set says by its order what signs; when its keys came is not known of the first look.
        self._found = reading.found if reading.is_folder else [each._replace(since=LONG_AGO) for each in reading.found]
        for path in files.readable_by_others():
            logger.warning("%s holds a private key, and not only its owner can read it", path)
        super().__init__(Keyring([each.key for each in self._found], self._to_sign()))
        self._go_by(self._found)
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._looking = threading.Lock()

    def is_due(self) -> bool:
        """Whether it is time for another look, and nobody is at it."""
        return self._clock.monotonic() >= self._began + LOOK_EVERY and not self._looking.locked()

    def look(self) -> None:
        """Look at the files, and go by what they say now."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look()
        finally:
            self._looking.release()

    def _look(self) -> None:
        began = self._clock.monotonic()
        found = self._found
        try:
            fingerprint = self._files.fingerprint()
            if fingerprint != self._fingerprint:
                found = self._merged(self._files.read())
                self._fingerprint = fingerprint
                self._complained.clear()
        except (ConfigError, OSError) as error:
            self._complain(str(error))
        self._began = began
        self._go_by(found)

    def _merged(self, reading: Reading) -> list[Found]:
        """What was found; of a file that is broken, the key that it had. A key has been there since it was first found,
        whatever is written anew."""
        for why in reading.broken.values():
            self._complain(why)
        before = {each.key.id: each for each in self._found}
        found = [before[name] for name in reading.broken if name in before]
        for each in reading.found:
            known = before.get(each.key.id)
            found.append(known if known is not None and known.key.is_same(each.key) else each)
        if not found:
            raise ConfigError(f"{self._files.path} has no key that can be used")
        return sorted(found, key=lambda each: (each.since, each.key.id)) if reading.is_folder else found

    def _go_by(self, found: list[Found]) -> None:
        self._found = found
        withdrawn = self.keyring.replace([each.key for each in found], self._to_sign(), self._began + LOOK_EVERY)
        for key in withdrawn:
            logger.warning("the key %r is withdrawn: nothing that it signed is accepted any more", key.id)
        if withdrawn and self.on_withdrawal is not None:
            self.on_withdrawal(withdrawn)

    def _to_sign(self) -> Key | None:
        """The last that has been there for long enough; if there is none, the one that is there for the longest time."""
        able = [each for each in self._found if each.key.signs]
        long_ago = self._clock.time() - LEAD
        ripe = [each for each in able if each.since <= long_ago]
        return (ripe[-1] if ripe else able[0]).key if able else None

    def _complain(self, why: str) -> None:
        if why not in self._complained:
            self._complained.add(why)
            logger.error("the keys stay as they were: %s", why)
