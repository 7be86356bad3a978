"""What must not be shared across a fork (locks, waiting flows, threads, connections) is made anew in the child."""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewable(Protocol):
    def _renew(self) -> None: ...


_renewables: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_after_fork(thing: _Renewable) -> None:
    """Have `thing._renew()` called in every process that is forked from now on, as long as the thing lives."""
    _begin()
    _renewables.add(thing)


@cache
def _begin() -> None:
    os.register_at_fork(after_in_child=_renew_all)


def _renew_all() -> None:
    for thing in list(_renewables):
        thing._renew()
