"""`jwtguard watch`: what happens, as it happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from ..errors import StoreError
from ..model import Event
from ..watch import Looker, events_in, follow
from .output import Exit, fail, moment, note, open_guard, print_text

__all__ = ["watch"]

STYLES: Final = {
    "opened": "green",
    "refreshed": "",
    "rejected": "yellow",
    "refresh_reused": "bold red",
    "store_behind": "bold red",
    "store_down": "bold red",
    "push_down": "bold red",
}


def watch(
    subject: Annotated[list[str] | None, typer.Argument(help="The users to watch; left out, all.")] = None,
    log: Annotated[
        str | None, typer.Option(metavar="FILE", help="Follow a log of JSON lines, or - to read one, instead of the store.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds between two looks at the store.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show logins, refreshes and endings as they happen; from a log, refusals too. Ends with Ctrl-C."""
    try:
        for event in _of_log(log, subject) if log else _of_store(subject, interval):
            if as_json:
                typer.echo(json.dumps(event.to_dict()))
            else:
                print_text(_line(event), STYLES.get(event.name, "cyan"))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _of_log(path: str, subjects: list[str] | None) -> Iterator[Event]:
    try:
        lines = sys.stdin if path == "-" else follow(path, sleep=time.sleep)
        for event in events_in(lines):
            if not subjects or event.subject in subjects:
                yield event
    except OSError as error:
        fail(f"{path!a} can't be read: {error.strerror}", Exit.WRONG)


def _of_store(subjects: list[str] | None, interval: float) -> Iterator[Event]:
    with open_guard() as guard:
        if not guard._store.blocking:
            fail("memory:// is in the app's own process, so it can't be seen from here: watch its log by --log", Exit.WRONG)
        try:
            looker = Looker(guard._store, guard.settings.issuer, subjects or None)
        except ValueError as error:
            fail(str(error), Exit.WRONG)
        answers = True
        while True:
            try:
                yield from looker.look()
                answers = True
            except StoreError as error:
                if answers:
                    note(f"jwtguard: the store can't be asked, and will be again: {error}")
                answers = False
            time.sleep(interval)


def _line(event: Event) -> str:
    """An event on one line: when, what, who, and what else is known of it."""
    session = f"session {event.session_id}" if event.session_id else ""
    status = "" if event.status is None else str(event.status)
    rest = (event.subject, event.code, status, session, event.device, event.ip or "", event.detail)
    return "  ".join([moment(event.time), f"{event.name:<16}", *filter(None, rest)])
