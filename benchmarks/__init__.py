"""Measurements. Each is a script: `python -m benchmarks.redis_memory --quick`. They start their own servers on loopback."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the kits that start servers are those of the tests
