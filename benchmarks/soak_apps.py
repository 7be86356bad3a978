"""The example apps with a crowd of users, for the soak: each tells at /vitals what its process holds, to who asks before
the guard."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from servers.crowd_fastapi import app as fastapi_app
from servers.crowd_flask import app as flask_app
from starlette.types import Receive, Scope, Send

__all__ = ["asgi", "vitals", "wsgi"]

PATH = "/vitals"


def vitals(tasks: int = 0) -> dict[str, int]:
    """What this process holds: its share of memory in kB, and all that it has in memory; tasks, threads, descriptors."""
    told = Path("/proc/self/smaps_rollup").read_text()
    sizes = {name: int(number) for name, number in re.findall(r"^(Pss|Rss): +(\d+) kB", told, re.MULTILINE)}
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of numbers, not of files
    return {
        "pss": sizes["Pss"],
        "rss": sizes["Rss"],
        "tasks": tasks,
        "threads": threading.active_count(),
        "fds": descriptors,
    }


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == PATH:
        body = json.dumps(vitals(len(asyncio.all_tasks()))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
    else:
        await fastapi_app(scope, receive, send)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == PATH:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(vitals()).encode()]
    return flask_app(environ, start_response)
