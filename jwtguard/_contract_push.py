"""What every store that is `Pushed` is held to; a part of `StoreContract`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from types import TracebackType

from ._contract_kit import KEY, LONGEST_KEY, PATIENCE, Open, at_once, end, needs, put
from .stores.base import Heard, Pushed, Store

__all__ = ["Hearing", "PushContract"]


class Hearing:
    """A thread that listens to what a store announces, from when it is entered until it is left."""

    def __init__(self, store: Store) -> None:
        assert isinstance(store, Pushed)
        self._store = store
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self.first: bytes | Heard | None = None
        self.keys: list[bytes] = []
        self.known: set[bytes] = set()
        self.heard = float("-inf")
        self.failure: BaseException | None = None

    def __enter__(self) -> Hearing:
        self._thread.start()
        self.until(lambda: self.first is not None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "no word from the store for too long"

    def hears(self, key: bytes) -> None:
        """Wait until this ending is announced."""
        self.until(lambda: key in self.known)

    def catches_up(self) -> None:
        """Wait until all that was answered before this call is announced."""
        now = time.monotonic()
        self.until(lambda: self.heard > now)

    def until(self, happened: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.failure or happened(), PATIENCE), "the store doesn't announce it"
        if self.failure is not None:
            raise self.failure

    def _listen(self) -> None:
        assert isinstance(self._store, Pushed)
        try:
            with closing(self._store.changes()) as changes:
                for item in changes:
                    if self._stopped:
                        return
                    self._take(item)
            self._fail(AssertionError("the store has ceased to announce"))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._fail(error)

    def _take(self, item: bytes | Heard) -> None:
        with self._changed:
            self.first = item if self.first is None else self.first
            if isinstance(item, Heard):
                self.heard = max(self.heard, item.at)
            else:
                self.keys.append(item)
                self.known.add(item)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()


class PushContract:
    """The tests."""

    @needs("pushed")
    def test_an_ending_is_announced(self, store: Store) -> None:
        with Hearing(store) as hearing:
            for key in (KEY, b"\0", LONGEST_KEY):
                end(store, key)
                hearing.hears(key)

    @needs("pushed")
    def test_the_first_word_is_that_announcements_arrive(self, store: Store) -> None:
        with Hearing(store) as hearing:
            end(store)
            hearing.hears(KEY)
            assert isinstance(hearing.first, Heard)

    @needs("pushed")
    def test_a_word_follows_all_endings_before_its_moment(self, store: Store) -> None:
        with Hearing(store) as hearing:
            for number in range(2):
                keys = [b"%d of %d" % (each, number) for each in range(50)]
                for key in keys:
                    end(store, key)
                hearing.catches_up()
                assert set(keys) <= hearing.known
                assert hearing.heard <= time.monotonic()

    @needs("pushed")
    def test_what_ends_nothing_is_not_announced(self, store: Store) -> None:
        with Hearing(store) as hearing:
            version = put(store)
            put(store, expected=version)
            assert put(store, ends=True) is None
            end(store, b"another")
            hearing.catches_up()
            assert set(hearing.keys) == {b"another"}

    @needs("pushed")
    def test_every_listener_is_told(self, store: Store) -> None:
        with Hearing(store) as one, Hearing(store) as two:
            end(store)
            one.hears(KEY)
            two.hears(KEY)

    @needs("pushed", "persistent")
    def test_an_ending_by_another_handle_is_announced(self, another: Open) -> None:
        one, two = another(), another()
        with Hearing(one) as hearing:
            end(two)
            hearing.hears(KEY)

    @needs("pushed")
    def test_endings_of_many_threads_are_announced(self, store: Store) -> None:
        def end_many(thread: int) -> None:
            for number in range(25):
                end(store, b"%d of %d" % (number, thread))

        with Hearing(store) as hearing:
            at_once(4, end_many)
            hearing.catches_up()
            assert len(set(hearing.keys)) == 100

    @needs("pushed")
    def test_listening_after_close(self, store: Store) -> None:
        with Hearing(store):
            store.close()
        with Hearing(store) as hearing:
            end(store)
            hearing.hears(KEY)
