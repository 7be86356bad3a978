"""A guarded WSGI app without a framework: `gunicorn examples.plain_wsgi:application`."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from jwtguard import Guard

guard = Guard.from_env(public="POST /login/*", endpoints="/auth")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/login/"):  # any name logs in: an app checks a password here
        answer = guard.login(path.removeprefix("/login/")).to_dict()
    else:
        answer = {"sub": environ["jwtguard.identity"].subject}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


application = guard.wrap(app)
