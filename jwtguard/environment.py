"""Reading settings from the environment: variables, files that variables name, names that are nearly right.

- Files are read when `given_in` is called, never at import. What can't be read is a `Wrong` in place of the value.
- A misspelt variable is an error, as its meaning would be lost without a word; other unknown ones are a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .values import Wrong, complaint, nearest, shown, size_of
from .variables import PREFIX, VARIABLES, Given, Variable

__all__ = ["given_in", "misspelt_in"]

LARGEST_FILE: Final = 64 * 1024
# What Kubernetes and Docker put into the environment of every container for a service named jwtguard or jwtguard-...
_INJECTED: Final = re.compile(
    r"(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


def given_in(variable: Variable, environ: Mapping[str, str]) -> Given:
    """What the environment says for a variable, itself or by the file that its `_FILE` twin names."""
    name, in_file = variable.name, variable.name + "_FILE"
    path = environ.get(in_file)
    if not path:
        return Given(name, environ.get(name))
    if environ.get(name):
        return Given(name, Wrong(f"one of {name} and {in_file}", "both"))
    return Given(in_file, _contents(path, hidden=variable.hidden))


def _contents(path: str, *, hidden: bool) -> str | Wrong:
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        text = data.decode() if len(data) <= LARGEST_FILE else None
        why = "is too large"
    except (OSError, ValueError) as error:
        text, why = None, f"can't be read as text ({getattr(error, 'strerror', None) or type(error).__name__})"
    if text is not None:
        return re.sub(r"\r?\n\Z", "", text)
    # What isn't a whole path may be the secret itself, put into the wrong variable.
    named = size_of(path) if hidden and not Path(path).is_absolute() else shown(path)
    return Wrong("the path of a file of UTF-8 text, of at most 64 KiB", f"{named}, which {why}")


def misspelt_in(environ: Mapping[str, str]) -> list[str]:
    """A line for each misspelt name. The other unknown ones are logged, by name."""
    known = {variable.name.removeprefix(PREFIX) + end for variable in VARIABLES.values() for end in ("", "_FILE")}
    names = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    strange = [name for name in names if name not in known and not _INJECTED.fullmatch(name)]
    misspelt = {name: meant for name in strange if (meant := nearest(name.upper(), known))}
    if others := [ascii(PREFIX + name)[1:-1] for name in strange if name not in misspelt]:
        logging.getLogger("jwtguard").warning("unknown variables, ignored: %s", ", ".join(others))
    return [
        complaint(PREFIX + name, "an unknown variable", f"{PREFIX}{misspelt[name]}, if you mean that") for name in misspelt
    ]
