"""The servers that benchmarks run against: started here, on loopback, and stopped by their own process ids."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import redis_kit
import sql_kit

from .reports import server_version

__all__ = ["SETTINGS", "Engine", "postgresql", "redis_server"]

SETTINGS: Final = {"secret": secrets.token_urlsafe(48), "store_timeout": "5s", "endpoints": "off"}
"""Of the guards in this process; others are given them. Patient, for these machines are busy on purpose, and what a timeout
does is not what is measured here."""


class Engine(NamedTuple):
    """A server that runs."""

    name: str
    version: str
    url: str
    port: int

    def at(self, port: int) -> str:
        """Its URL, through a proxy."""
        return self.url.replace(f":{self.port}/", f":{port}/")


@contextmanager
def redis_server() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder, redis_kit.running(Path(folder)) as server:
        yield Engine("Redis", server_version([redis_kit.executable()]), server.url, server.port)


@contextmanager
def postgresql() -> Iterator[Engine]:
    """Without fsync, as the tests run it: a disk isn't what is measured."""
    with sql_kit.postgres() as server:
        [[said]] = server.rows("SHOW server_version")
        found = re.match(r"[\d.]+", str(said))
        yield Engine("PostgreSQL", f"{found[0] if found else said} (fsync=off)", server.url(), server.port)
