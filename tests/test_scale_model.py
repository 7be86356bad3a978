"""The model behind docs/scale.md against guards that are really asked: what it predicts is what is counted."""

from __future__ import annotations

import pytest

from benchmarks.growth import Given, Predicted, predict
from benchmarks.world import World

pytestmark = pytest.mark.exhaustive

TOLERANCE = 0.1
DAY = 86_400.0

WORLDS = {
    "one worker": Given(users=300, sessions=1, requests=12, workers=1, access_ttl=DAY),
    "four workers, three sessions a user": Given(users=150, sessions=3, requests=12, workers=4, access_ttl=DAY),
    "refreshes": Given(users=100, sessions=2, requests=20, workers=3, access_ttl=150),
    "refreshes and endings": Given(users=100, sessions=3, requests=20, workers=4, endings=0.5, access_ttl=200),
    "less room than users": Given(users=400, sessions=1, requests=20, workers=2, room=100, access_ttl=DAY),
    "a short lease": Given(users=30, sessions=1, requests=20, workers=2, lease=5, access_ttl=DAY),
}


@pytest.mark.parametrize("given", WORLDS.values(), ids=WORLDS.keys())
def test_what_is_predicted_is_what_is_counted(given: Given) -> None:
    """Within a tenth: these are ten minutes of a random world, always the same one."""
    counted = World(given).run(warm=300, seconds=600)
    predicted = predict(given._replace(logins=given.endings))  # who is logged out logs in again
    for name in Predicted._fields:
        assert getattr(predicted, name) == pytest.approx(getattr(counted, name), rel=TOLERANCE), name


def test_a_million_requests_a_second_are_predicted_too() -> None:
    """Sizes that can't be run: the numbers stay numbers, and follow from each other."""
    given = Given(users=33e6, sessions=3, requests=1e6, workers=2000, endings=100, logins=1000)
    found = predict(given)
    assert 0 <= found.hit_rate <= 1
    assert found.loads > found.fills == pytest.approx((1 - found.hit_rate) * given.requests)
    assert found.deliveries == given.endings * given.workers
