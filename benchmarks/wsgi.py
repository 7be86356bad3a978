"""The smallest WSGI app, and how it is asked in process."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from .peers.asking import BROWSERS, PATH

__all__ = ["ask", "asking", "wsgi_app"]


def wsgi_app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def asking(token: str) -> dict[str, Any]:
    """What a server makes of a browser's request with this token."""
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in BROWSERS.items()}
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        **headers,
        "HTTP_AUTHORIZATION": f"Bearer {token}",
    }


def ask(app: Any, environ: dict[str, Any]) -> None:
    """Ask once. Raises AssertionError if it isn't let in."""
    answer = app({**environ, "wsgi.input": BytesIO()}, _start_response)
    assert answer == [b"ok"], answer


def _start_response(status: str, _headers: Any, _exc_info: Any = None) -> None:
    assert status == "200 OK", status
