"""Driving a generator that yields what it needs: the only loops that do, one for each colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

__all__ = ["adrive", "drive"]

N = TypeVar("N")
T = TypeVar("T")


def drive(generator: Generator[N, Any, T], perform: Callable[[N], Any]) -> T:
    """Run a generator to its end, blocking: perform each need, send its result back, and throw its error in."""
    try:
        need = next(generator)
        while True:
            try:
                result = perform(need)
            except BaseException as error:  # noqa: BLE001 - handed to the generator, which lets it out
                need = generator.throw(error)
            else:
                need = generator.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def adrive(generator: Generator[N, Any, T], perform: Callable[[N], Awaitable[Any]]) -> T:
    """The same, awaiting."""
    try:
        need = next(generator)
        while True:
            try:
                result = await perform(need)
            except BaseException as error:  # noqa: BLE001 - handed to the generator, which lets it out
                need = generator.throw(error)
            else:
                need = generator.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
