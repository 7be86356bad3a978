"""Awaited Redis stores on an event loop that is busy with something else: what has been answered meanwhile counts."""

from __future__ import annotations

import asyncio
import time

import pytest

from jwtguard._contract_kit import KEY
from jwtguard.stores.adapters import Within
from jwtguard.stores.redis import AsyncRedisStore

pytestmark = pytest.mark.servers

TIMEOUT = 0.5


@pytest.mark.parametrize("server", ["redis_server", "redis_cluster"])
def test_an_answer_that_a_busy_loop_has_not_seen_yet_counts(server: str, request: pytest.FixtureRequest) -> None:
    async def drive() -> None:
        alone = AsyncRedisStore(request.getfixturevalue(server).url, timeout=TIMEOUT)
        guarded = Within(AsyncRedisStore(request.getfixturevalue(server).url, timeout=TIMEOUT), TIMEOUT)
        for store in (alone, guarded):
            await store.load(KEY)  # connects
        for _ in range(3):
            tasks = [asyncio.create_task(store.load(KEY)) for store in (alone, guarded)]
            for _ in range(10):
                await asyncio.sleep(0)  # they ask
            time.sleep(2 * TIMEOUT)  # what a view that computes does to its loop
            assert [loaded.data for loaded in await asyncio.gather(*tasks)] == [None, None]
        await alone.close()
        await guarded.close()

    asyncio.run(drive())
