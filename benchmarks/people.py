"""Users as they may be: whose sessions are on several devices, some days old, and used since. The same ones in each run."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from jwtguard.context import device_name
from jwtguard.document import Document, Retired, SessionRecord

__all__ = ["NOW", "SCOPES", "numbered", "people", "with_uuid"]

NOW: Final = 1_780_000_000_000
SECOND: Final = 1000
DAY: Final = 86_400 * SECOND
REFRESH_TTL: Final = 30 * DAY
SESSION_TTL: Final = 90 * DAY
KEY_ID: Final = "Zm9vYmFy"
SCOPES: Final = ("read", "write")
AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.4 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.4 Mobile",
)
DEVICES: Final = tuple(map(device_name, AGENTS))


def numbered(_chance: random.Random, number: int) -> str:
    """A subject as a database counts them."""
    return f"user-{number:07d}"


def with_uuid(chance: random.Random, _number: int) -> str:
    """A subject of 36 characters."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def people(
    count: int, sessions: int, subject: Callable[[random.Random, int], str] = numbered, seed: int = 1
) -> Iterator[Document]:
    """The documents of `count` users with so many sessions each.

    A session is up to 60 days old (as often one day as another), was refreshed within the last two days and used since.
    Three of four addresses are IPv4.
    """
    chance = random.Random(seed)
    for number in range(count):
        yield Document(1, subject(chance, number), NOW, 0, _sessions(chance, sessions), ())


def _sessions(chance: random.Random, count: int) -> tuple[SessionRecord, ...]:
    """In the order in which they were opened."""
    return tuple(sorted((_session(chance) for _ in range(count)), key=lambda session: session.opened_at))


def _session(chance: random.Random) -> SessionRecord:
    opened = NOW - int(chance.random() * 60 * DAY) - SECOND
    rotated = max(opened, NOW - int(chance.random() * 2 * DAY))
    generation = 1 + (rotated - opened) // (3 * 3600 * SECOND)
    return SessionRecord(
        id=chance.randbytes(16),
        opened_at=opened,
        authenticated_at=opened,
        seen_at=min(NOW, rotated + int(chance.random() * 1800 * SECOND)),
        expires_at=min(rotated + REFRESH_TTL, opened + SESSION_TTL),
        generation=generation,
        rotated_at=rotated,
        key_id=KEY_ID,
        used=True,
        retired=(Retired(generation - 1, rotated),) if generation > 1 else (),
        scopes=SCOPES,
        device=DEVICES[int(chance.random() * len(DEVICES))],
        ip=_address(chance),
    )


def _address(chance: random.Random) -> str:
    if chance.random() < 0.75:
        return f"198.51.{chance.randrange(256)}.{chance.randrange(256)}"
    return "2001:db8:" + ":".join(f"{1 + int(chance.random() * 65_535):x}" for _ in range(6))
