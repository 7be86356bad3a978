"""`jwtguard check`: whether the environment holds what will bite later."""

from __future__ import annotations

import os
from collections.abc import Iterable

import typer

from ..errors import ConfigError
from ..guard import Guard
from ..settings import Settings
from ..values import redacted
from . import checks
from .checks import Finding
from .output import AsJSON, Exit, print_json, print_text

__all__ = ["check"]


def check(as_json: AsJSON = False) -> None:
    """Check the settings in the environment, reach the store, and warn of what will bite.

    Ends with 0 if nothing is found, 1 if something is, 2 if the settings can't be used at all.
    """
    with checks.warnings_logged() as found:
        try:
            settings = Settings.from_env()
            guard = Guard(settings)
        except ConfigError as error:
            _tell([Finding("settings", line) for line in _lines(error)], None, as_json)
            raise typer.Exit(Exit.WRONG) from None
        try:
            by_use = list(checks.store(guard))
        finally:
            guard.close()
    found += checks.several_workers(settings, os.environ)
    found += checks.files_others_can_read(os.environ)
    found += checks.without_effect(settings, os.environ)
    found += by_use
    _tell(found, settings, as_json)
    raise typer.Exit(Exit.NO if found else Exit.YES)


def _lines(error: ConfigError) -> Iterable[str]:
    """Each setting that can't be used, or all that is known."""
    first, *others = str(error).split("\n  ")
    return others or [first]


def _tell(found: list[Finding], settings: Settings | None, as_json: bool) -> None:
    place = None if settings is None else redacted(settings.store)
    if as_json:
        print_json({"ok": not found, "store": place, "findings": [finding._asdict() for finding in found]})
        return
    for name, message in found:
        print_text(f"{name}: {message}", "yellow")
    if place is not None:
        print_text(f"Store: {place}")
    if not found:
        print_text("Nothing was found that will bite.", "green")
