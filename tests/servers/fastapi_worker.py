"""The FastAPI example as it stands; each answer tells the process that gave it."""

import os
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Receive, Scope, Send

from examples.fastapi_app import app as example


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    async def tell(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            worker = (b"x-worker", str(os.getpid()).encode())
            message = {**message, "headers": [*message.get("headers", ()), worker]}
        await send(message)

    await example(scope, receive, tell)
