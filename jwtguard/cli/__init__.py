"""`jwtguard` on the command line, by the extra `cli`. See docs/cli.md."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name. Ends the process."""
    try:
        from .app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write("the command line needs typer and rich: pip install 'jwtguard-middleware[cli]'\n")
        sys.exit(2)
    app()
