"""One peer behind a server of one worker: `python -m benchmarks.peers.serving MODULE VARIANT REDIS_URL SERVER WHICH PORT`.

SERVER: uvicorn as it is alone, uvicorn[standard] (with uvloop and httptools), or gunicorn with 4 threads. WHICH: bare, or
guarded. It says which tokens are good and bad, and then serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.peers.asking import Subject, built

THREADS = 4
KEEP_ALIVE = 300


async def prepared(module: str, variant: str, redis_url: str) -> Subject:
    subject = await built(module, variant, redis_url)
    if subject.warm is not None:
        await subject.warm()
    return subject


def say(subject: Subject) -> None:
    print(json.dumps({"good": subject.good, "bad": list(subject.bad.values())}), flush=True)


def serve_uvicorn(which: str, port: int, *peer: str, standard: bool = False) -> None:
    import uvicorn
    import uvloop  # type: ignore[import-not-found] # only the peers' environments have it

    async def serve() -> None:
        subject = await prepared(*peer)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(100)
            config = uvicorn.Config(
                getattr(subject, which),
                http="httptools" if standard else "h11",
                access_log=False,
                log_level="warning",
                lifespan="off",
                timeout_keep_alive=KEEP_ALIVE,
            )
            say(subject)
            await uvicorn.Server(config).serve([listener])

    (uvloop if standard else asyncio).run(serve())


def serve_gunicorn(which: str, port: int, *peer: str) -> None:
    from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {"bind": f"127.0.0.1:{port}", "workers": 1, "threads": THREADS, "keepalive": KEEP_ALIVE,
                       "worker_class": "gthread", "loglevel": "warning"}  # fmt: skip
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            subject = asyncio.run(prepared(*peer))
            say(subject)
            return getattr(subject, which)

    Application().run()


def main() -> None:
    module, variant, redis_url, server, which, port = sys.argv[1:]
    logging.disable(logging.INFO)  # of every peer alike: a line per refusal is no part of what is measured
    serves: dict[str, Callable[..., None]] = {
        "uvicorn": serve_uvicorn,
        "uvicorn[standard]": partial(serve_uvicorn, standard=True),
        "gunicorn": serve_gunicorn,
    }
    serves[server](which, int(port), module, variant, redis_url)


if __name__ == "__main__":
    main()
