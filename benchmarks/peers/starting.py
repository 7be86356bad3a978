"""How long a process takes until it serves: `python -m benchmarks.peers.starting MODULE VARIANT REDIS_URL`.

Milliseconds to import the peer's app with all that it imports, to make it, and to serve its first request with a token. Or,
with one argument, to import that module: `python -m benchmarks.peers.starting jwtguard`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

began = time.perf_counter()


def since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000


def importing(name: str) -> dict[str, float]:
    import importlib

    before = len(sys.modules)
    start = time.perf_counter()
    importlib.import_module(name)
    return {"import": since(start), "modules": len(sys.modules) - before}


async def serving(module: str, variant: str, redis_url: str) -> dict[str, float]:
    import importlib
    import inspect

    from benchmarks.peers.asking import Asker

    make = importlib.import_module(f"benchmarks.peers.apps.{module}").make
    imported = since(began)
    start = time.perf_counter()
    made = make(variant, redis_url)
    subject = await made if inspect.isawaitable(made) else made
    making = since(start)
    bare = Asker(subject.kind, subject.bare, subject.good)
    guarded = Asker(subject.kind, subject.guarded, subject.good)
    found = {"import": imported, "make": making}
    for name, asker in (("first bare", bare), ("first guarded", guarded)):
        start = time.perf_counter()
        await asker.ask(1)
        found[name] = since(start)
        assert asker.status == 200, asker.status
    return found


def main() -> None:
    import asyncio
    import json

    found: Any = importing(sys.argv[1]) if len(sys.argv) == 2 else asyncio.run(serving(*sys.argv[1:]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
