"""What all commands share: how they print, what their exit codes mean, and the guard that they work on.

- For a person: text and tables, in colour on a terminal only. With `--json`: one JSON document, and nothing else.
- Exit codes: 0 yes, or done; 1 no (a token is refused, a check has found something, there is nothing to end); 2 the command
  or a setting is wrong; 3 the store can't be asked.
- What comes from tokens and stores is printed as it is read, never as markup, and with no character that a terminal obeys.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from functools import wraps
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError, JWTGuardError, StoreUnavailable
from ..guard import Guard

__all__ = [
    "AsJSON",
    "Exit",
    "fail",
    "moment",
    "note",
    "open_guard",
    "print_json",
    "print_table",
    "print_text",
    "reporting",
    "right_arguments",
]

P = ParamSpec("P")

AsJSON = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]

WIDTH = 160
"""Columns where the output is no terminal."""


class Exit(IntEnum):
    """What exit codes mean."""

    YES = 0
    NO = 1
    WRONG = 2
    UNAVAILABLE = 3


def fail(message: str, code: Exit) -> NoReturn:
    """End with one line on stderr."""
    note(f"jwtguard: {message}")
    raise typer.Exit(code)


def note(message: str) -> None:
    """Say something beside the output."""
    typer.echo(printable(message), err=True)


def reporting(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with errors of jwtguard as one line and an exit code."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except ConfigError as error:
            fail(str(error), Exit.WRONG)
        except StoreUnavailable as error:
            fail(f"the store can't be asked: {error}", Exit.UNAVAILABLE)
        except JWTGuardError as error:
            fail(str(error), Exit.NO)

    return run


@contextmanager
def open_guard() -> Iterator[Guard]:
    """A guard by the environment. Raises ConfigError."""
    guard = Guard.from_env()
    try:
        yield guard
    finally:
        guard.close()


@contextmanager
def right_arguments() -> Iterator[None]:
    """Where a guard refuses its arguments, the command's are wrong."""
    try:
        yield
    except (ValueError, TypeError) as error:
        fail(str(error), Exit.WRONG)


def print_json(value: object) -> None:
    """One JSON document, in ASCII: a terminal obeys none of it."""
    typer.echo(json.dumps(value, indent=2))


def print_text(text: str = "", style: str = "") -> None:
    """A line for a person."""
    _console().print(Text(printable(text), style))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for a person."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    _console().print(table)


def printable(text: str) -> str:
    """A text without characters that a terminal might obey; line ends stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else f"\\u{ord(character):04x}" for character in text
    )


def moment(seconds: float) -> str:
    """A time for a person, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def flat(value: Mapping[str, Any] | Sequence[Any] | object) -> str:
    """A value of a token on one line, as JSON."""
    return json.dumps(value)


def _console() -> Console:
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console
