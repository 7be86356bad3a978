"""`jwtguard init`: an environment file to begin with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..values import Wrong
from ..variables import VARIABLES, Variable
from .output import AsJSON, Exit, fail, print_json, print_text

__all__ = ["init"]

SECRET_BYTES = 48

HEAD = """\
# Settings of jwtguard: for `docker run --env-file`, `uvicorn --env-file`, systemd's EnvironmentFile, or a shell:
#     set -a; . ./.env; set +a
# Every process of the app needs the same secret. Keep this file out of version control, and readable by the app alone.
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path(".env"),
    as_json: AsJSON = False,
) -> None:
    """Write an environment file with a fresh secret and all settings, commented. Never over an existing file."""
    text = "\n".join([HEAD, *_lines()])
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{str(path)!a} exists already, and is left as it is: name another file", Exit.NO)
    except OSError as error:
        fail(f"{str(path)!a} can't be written: {error.strerror}", Exit.WRONG)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if as_json:
        print_json({"file": str(path)})
        return
    print_text(f"{path} has a fresh secret, and every setting with its default. Keep it out of version control.")


def _lines() -> Iterator[str]:
    for variable in VARIABLES.values():
        yield f"# {variable.meaning} (default: {variable.default_text})"
        if variable.name == "JWTGUARD_SECRET":
            yield f"{variable.name}={secrets.token_urlsafe(SECRET_BYTES)}\n"
        else:
            yield f"# {variable.name}={_default(variable)}\n"


def _default(variable: Variable) -> str:
    """What a variable may be set to for its default; "" where only its absence says it."""
    try:
        return variable.default_text if variable.read(variable.default_text) == variable.default else ""
    except Wrong:
        return ""
