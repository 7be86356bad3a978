"""A guarded WSGI app without a framework: `gunicorn examples.plain_wsgi:application`."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from jwtguard import Guard

guard = Guard.from_env(public="POST /login/*", endpoints="/auth")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Look at the method and the path both: a CORS preflight (OPTIONS) of any path gets here without a token."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    status, answer = "200 OK", {}
    if method == "POST" and path.startswith("/login/"):  # any name logs in: an app checks a password here
        answer = guard.login(path.removeprefix("/login/")).to_dict()
    elif method == "GET" and path == "/me":
        answer = {"sub": environ["jwtguard.identity"].subject}
    else:
        status = "404 Not Found"
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


application = guard.wrap(app)
