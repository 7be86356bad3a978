"""`jwtguard demo`: a guarded app on a store of its own, and what to type to use it."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
from typing import Annotated

import typer

from ..errors import ConfigError
from ..guard import AsyncGuard

__all__ = ["demo"]

HOST = "127.0.0.1"

COMMANDS = """
A guarded app runs on {url} (its OpenAPI page: /docs). In another terminal:

  # log in, and keep the tokens
  curl -sw '\\n' {url}/login -H 'Content-Type: application/json' \\
       -d '{{"username": "alice", "password": "wonderland"}}' | tee tokens.json
  ACCESS=$(python3 -c 'import json; print(json.load(open("tokens.json"))["access_token"])')
  REFRESH=$(python3 -c 'import json; print(json.load(open("tokens.json"))["refresh_token"])')

  # call
  curl -sw '\\n' {url}/me -H "Authorization: Bearer $ACCESS"

  # list your sessions
  curl -sw '\\n' {url}/auth/sessions -H "Authorization: Bearer $ACCESS"

  # refresh: the next pair, and the same one again if you repeat it
  curl -sw '\\n' {url}/auth/refresh -H 'Content-Type: application/json' \\
       -d "{{\\"refresh_token\\": \\"$REFRESH\\"}}" | tee tokens.json
  ACCESS=$(python3 -c 'import json; print(json.load(open("tokens.json"))["access_token"])')

  # log out: the token is dead at once
  curl -sw '\\n' -X POST {url}/auth/logout -H "Authorization: Bearer $ACCESS"
  curl -sw '\\n' {url}/me -H "Authorization: Bearer $ACCESS"

Ctrl-C ends it.
"""


def demo(
    port: Annotated[int, typer.Option(min=1, max=65_535, envvar="DEMO_PORT", help="Where to serve it.")] = 8000,
) -> None:
    """Serve a guarded app on this machine, and say what to type to use it. Secret and sessions are gone afterwards."""
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError("the demo needs uvicorn: pip install uvicorn") from error
    from ..fastapi import install  # first: it says which extra is missing
    from .demo_app import PUBLIC, create_app

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes then, too
    with tempfile.TemporaryDirectory(prefix="jwtguard-demo-") as folder:
        store = os.environ.get("JWTGUARD_STORE") or f"sqlite:///{folder}/sessions.db"
        guard = AsyncGuard.from_env(secret=secrets.token_urlsafe(48), store=store, public=PUBLIC)
        app = create_app(guard)
        install(app, guard)
        typer.echo(COMMANDS.format(url=f"http://{HOST}:{port}"))
        sys.stdout.flush()
        uvicorn.run(app, host=HOST, port=port, log_level="warning", ws="none", timeout_graceful_shutdown=2)
