"""A store of your own, complete: a folder with one file per document, for the processes of one machine.

Three promises make it a store:
- `save` compares and swaps: the lock keeps others out between its look and its write.
- What was answered stays: a new file is on the disk before it takes the old one's place.
- What fails is a StoreError, never "absent": a folder that is gone can't be locked, so nothing is answered from it.

The folder must exist. Files of expired documents stay there: a store for production would remove them.

Use it by `Guard.from_env(store=FolderStore("/var/lib/app/sessions"))`. docs/stores.md shows how to hold it to the contract.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jwtguard.clock import Clock, SystemClock
from jwtguard.errors import StoreError
from jwtguard.stores import Loaded


class FolderStore:
    blocking = True  # its calls wait for the disk: an AsyncGuard has them made in threads

    def __init__(self, folder: str | Path, clock: Clock | None = None) -> None:
        self._folder = Path(folder)
        self._clock = clock or SystemClock()

    def load(self, key: bytes) -> Loaded:
        with self._locked():
            return self._read(key)

    def save(self, key: bytes, data: bytes, *, expected: bytes | None, version: bytes, expires_at: int, ends: bool) -> bool:
        del ends  # for stores that tell others: without, they learn it within the cache's TTL
        with self._locked():
            if self._read(key).version != expected:
                return False
            draft = self._folder / "draft"
            with draft.open("wb") as file:
                file.write(version + expires_at.to_bytes(8) + data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file(key))
            self._sync_folder()
            return True

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _read(self, key: bytes) -> Loaded:
        now = int(self._clock.time() * 1000)
        try:
            content = self._file(key).read_bytes()
        except FileNotFoundError:
            return Loaded(None, None, now)
        version, expires_at, data = content[:8], int.from_bytes(content[8:16]), content[16:]
        return Loaded(data, version, now) if expires_at > now else Loaded(None, None, now)

    def _file(self, key: bytes) -> Path:
        return self._folder / hashlib.sha256(key).hexdigest()  # any bytes may be in a key, and a name is short

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with (self._folder / "lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(f"{self._folder}: {error}") from error

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
