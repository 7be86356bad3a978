"""What observers cost a request whose token is known, in process.

python -m benchmarks.observers                        # rounds of all variants, interleaved and shuffled
python -m benchmarks.observers --count prometheus:2000   # so many requests and nothing else, for callgrind
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from jwtguard import AsyncGuard
from jwtguard.otel import OTelObserver
from jwtguard.prometheus import PrometheusObserver
from jwtguard.stores.memory import MemoryStore
from jwtguard.telemetry import Observer

from .engines import SETTINGS
from .reports import Report, options
from .warm_path import Serve, asgi_app, known_token, serve_asgi

VARIANTS: Final[dict[str, Callable[[], list[Observer]]]] = {
    "none": list,
    "prometheus": lambda: [PrometheusObserver(CollectorRegistry())],
    "otel": lambda: [OTelObserver(meter_provider=MeterProvider())],
    "otel, each request, in no span": lambda: [OTelObserver(meter_provider=MeterProvider(), each_request=True)],
    "otel, each request, in a span": lambda: [OTelObserver(meter_provider=MeterProvider(), each_request=True)],
}


def serving(name: str) -> Serve:
    """What serves a request under a variant."""
    arguments: dict[str, Any] = {**SETTINGS}
    guard = AsyncGuard.from_env(store=MemoryStore(), observers=VARIANTS[name](), **arguments)
    return in_span(name, serve_asgi(guard.wrap(asgi_app), known_token(guard.sync)))


def bare(name: str) -> Serve:
    """The same without a guard: what its span costs is not the guard's."""
    return in_span(name, serve_asgi(asgi_app, ""))


def in_span(name: str, serve: Serve) -> Serve:
    """In a span, under a variant that has one."""
    if not name.endswith("in a span"):
        return serve
    tracer = TracerProvider().get_tracer("benchmark")

    def serve_in_span() -> None:
        with tracer.start_as_current_span("request"):
            serve()

    return serve_in_span


def microseconds(serve: Serve, requests: int) -> float:
    began = time.perf_counter()
    for _ in range(requests):
        serve()
    return (time.perf_counter() - began) / requests * 1e6


def main() -> None:
    if sys.argv[1:2] == ["--count"]:
        name, _, number = sys.argv[2].rpartition(":")
        serve = serving(name)
        for _ in range(int(number)):
            serve()
        return
    given = options("What observers cost.", rounds=100, requests=500)
    report = Report(given, "What observers cost a known token", "prometheus-client", "opentelemetry-api")
    pairs = {name: (serving(name), bare(name)) for name in VARIANTS}
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(given.rounds):
        for name in random.sample(list(VARIANTS), len(VARIANTS)):
            guarded, alone = (microseconds(serve, given.requests) for serve in pairs[name])
            taken[name].append(guarded - alone)
    middle = {name: statistics.median(costs) for name, costs in taken.items()}
    rows = [(name, cost, cost - middle["none"], cost / middle["none"]) for name, cost in middle.items()]
    report.table("A known token, ASGI, in memory", ("observer", "above bare, us", "more than none, us", "x none"), rows)
    report.close()


if __name__ == "__main__":
    main()
