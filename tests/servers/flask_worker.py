"""The Flask example as it stands; each answer tells the process that gave it."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from examples.flask_app import app as example


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *exc_info)

    return example(environ, start)
