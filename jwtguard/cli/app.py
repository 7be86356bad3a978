"""The commands, put together."""

from __future__ import annotations

import logging

import typer

from . import checking, demo, environment, inspection, keys, sessions, watching
from .output import reporting

__all__ = ["app"]

app = typer.Typer(
    name="jwtguard",
    help="Sessions that you can see, limit and end at once. Settings are read from the environment (JWTGUARD_...).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # which would show variables, and so secrets
    rich_markup_mode=None,
)


@app.callback()
def begin() -> None:
    """Sessions that you can see, limit and end at once. Settings are read from the environment (JWTGUARD_...)."""
    logging.getLogger("jwtguard").addHandler(logging.NullHandler())  # what matters of it, a command says itself


app.command()(reporting(environment.init))
app.command()(reporting(checking.check))
app.command()(reporting(sessions.purge))
app.command()(reporting(watching.watch))
app.command()(reporting(demo.demo))

_keys = typer.Typer(help="A folder of private keys.", no_args_is_help=True, rich_markup_mode=None)
_keys.command()(reporting(keys.new))
_keys.command("list")(reporting(keys.show))
_keys.command()(reporting(keys.rotate))
app.add_typer(_keys, name="keys")

_tokens = typer.Typer(help="Look into tokens, and make them.", no_args_is_help=True, rich_markup_mode=None)
_tokens.command()(reporting(inspection.inspect))
_tokens.command()(reporting(inspection.issue))
app.add_typer(_tokens, name="token")

_sessions = typer.Typer(help="See a user's sessions, and end them.", no_args_is_help=True, rich_markup_mode=None)
_sessions.command("list")(reporting(sessions.show))
_sessions.command(context_settings={"ignore_unknown_options": True})(reporting(sessions.revoke))  # ids may begin with -
_sessions.command()(reporting(sessions.revoke_all))
app.add_typer(_sessions, name="sessions")
