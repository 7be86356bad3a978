"""One peer, in its own interpreter: `python -m benchmarks.peers.worker MODULE VARIANT REDIS_URL SECONDS`.

It says when it is ready. For each line that it then reads it times the bare app and the guarded one for
about SECONDS each, by turns, and says how many microseconds a request took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from benchmarks.peers.asking import SLICES, Asker, built, sample


def say(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


async def count_for(asker: Asker, seconds: float) -> int:
    """How many requests take about so long."""
    count = 1
    while True:
        began = time.perf_counter()
        await asker.ask(count)
        took = time.perf_counter() - began
        if took > seconds / 2:
            return max(1, int(count * seconds / took))
        count *= 2


async def work(module: str, variant: str, redis_url: str, seconds: float) -> None:
    subject = await built(module, variant, redis_url)
    if subject.warm is not None:
        await subject.warm()
    bare = Asker(subject.kind, subject.bare, subject.good)  # the same request, so that it costs the server the same
    guarded = Asker(subject.kind, subject.guarded, subject.good)
    counts = (await count_for(bare, seconds / SLICES), await count_for(guarded, seconds / SLICES))
    say({"ready": True})
    for _line in sys.stdin:
        found = await sample(bare, guarded, counts)
        say({"bare": found[0], "guarded": found[1]})


def main() -> None:
    module, variant, redis_url, seconds = sys.argv[1:]
    asyncio.run(work(module, variant, redis_url, float(seconds)))


if __name__ == "__main__":
    main()
