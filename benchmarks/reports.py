"""What all benchmarks share: their options, tables in Markdown, and on what they ran."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Report", "options", "parser", "percentile", "server_version"]


def options(about: str, **counts: int) -> argparse.Namespace:
    """The options of a benchmark. `counts`: more options, each with its default; with --quick it is a tenth of that."""
    found = parser(about)
    for name in counts:
        found.add_argument(f"--{name}", type=int)
    given = found.parse_args()
    for name, default in counts.items():
        if getattr(given, name) is None:
            setattr(given, name, max(1, default // 10) if given.quick else default)
    return given


def parser(about: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    found = argparse.ArgumentParser(description=about)
    found.add_argument("--quick", action="store_true", help="a tenth of everything")
    found.add_argument("--json", type=Path, help="where to write the figures, as JSON")
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def server_version(command: Sequence[str]) -> str:
    """What a server's program says of itself, in short."""
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    allocator = re.search(r"malloc=(\S+)", said)
    return (found[0] if found else said.strip()) + (f" ({allocator[1]})" if allocator else "")


class Report:
    """The tables of one benchmark, printed as they come."""

    def __init__(self, given: argparse.Namespace, title: str, *packages: str, **servers: str) -> None:
        self._file: Path | None = given.json
        self._figures: dict[str, Any] = {"title": title, "quick": given.quick, "tables": {}}
        versions = {name: version(name) for name in packages} | servers
        where = ", ".join(f"{name} {number}" for name, number in versions.items())
        self._figures["versions"] = {"CPython": platform.python_version(), **versions}
        load = os.getloadavg()[0]
        self._figures["cores"], self._figures["load when it began"] = os.cpu_count(), load
        machine = f"{os.cpu_count()} shared cores, load {load:.1f} when it began; CPython {platform.python_version()}"
        self._say(f"## {title}\n\n{machine}, {where}\n")

    def table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table, and keep its figures."""
        shown = [[_shown(value) for value in row] for row in rows]
        marks = ["---"] + ["---:"] * (len(heads) - 1)
        lines = (f"| {' | '.join(row)} |" for row in (heads, marks, *shown))
        self._say(f"**{name}**\n\n" + "\n".join(lines) + "\n")
        self._figures["tables"][name] = [dict(zip(heads, row, strict=True)) for row in rows]

    def keep(self, name: str, curve: object) -> None:
        """Keep something for the plots that isn't printed."""
        self._figures.setdefault("curves", {})[name] = curve

    def note(self, text: str) -> None:
        """Print a sentence, and keep it."""
        self._say(text + "\n")
        self._figures.setdefault("notes", []).append(text)

    def close(self) -> None:
        """Write the file, if one was asked for."""
        if self._file is not None:
            self._file.write_text(json.dumps(self._figures, indent=1, default=str) + "\n")

    def _say(self, text: str) -> None:
        print(text)
        sys.stdout.flush()


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
