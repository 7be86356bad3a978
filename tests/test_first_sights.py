"""What the cold path asks of the store, counted; what it costs in time is measured by the benchmark, and not here."""

from __future__ import annotations

import pytest

from benchmarks.cold_path import ROUND, herd, rejections


@pytest.mark.parametrize("size", [2, 50, 200])
def test_many_first_sights_of_one_user_at_once_are_one_load(size: int) -> None:
    asked = herd(size)
    assert asked == {"requests": size, "sessions": min(size, 100), "loads": 1, "everyone": 1, "saves": 0}


def test_no_bad_token_of_a_known_user_costs_a_call_of_the_store() -> None:
    found = rejections(4 * ROUND)
    assert len(found) > 5
    assert {name: each["store calls"] for name, each in found.items()} == dict.fromkeys(found, 0)
