"""For Prometheus: what a guard does, as metrics of prometheus_client.

    guard = Guard.from_env(observers=[PrometheusObserver()])

With PROMETHEUS_MULTIPROC_DIR set, the processes of a server share a folder, and whichever is asked answers for all of them
(prometheus_client, "Multiprocess Mode"). What is sampled is then written each second by a thread, which begins with the
process's first decision: a scrape may find the warm requests of up to a second ago missing, and never any twice. Without
it, a scrape samples, and is exact.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from .errors import ConfigError
from .metrics import BUCKETS, INSTRUMENTS, Instrument, Metrics

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.metrics_core import Metric
except ImportError as error:
    raise ConfigError(
        "jwtguard.prometheus needs prometheus-client: pip install 'jwtguard-middleware[prometheus]'"
    ) from error

__all__ = ["PrometheusObserver"]

logger = logging.getLogger("jwtguard")

INTERVAL: Final = 1.0
"""Seconds between two samples, where several processes are measured."""
GOODBYE: Final = 3.0
"""Seconds that closing waits for the thread."""


class PrometheusObserver(Metrics):
    """Measures guards. Give it to each guard of the process.

    Arguments: `registry`, where the metrics are to be collected from; in multiprocess mode, none is needed.

    Raises ConfigError if the registry has them already, from another of these.
    """

    def __init__(self, registry: CollectorRegistry | None = REGISTRY) -> None:
        super().__init__()
        self._is_registered_at_exit = False
        if registry is not None:
            try:
                registry.register(self)
            except ValueError as error:
                raise ConfigError(
                    "this registry has jwtguard's metrics already: give the same PrometheusObserver to each guard"
                ) from error

    def _renew(self) -> None:
        super()._renew()
        self._beginning = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._children: dict[tuple[Instrument, tuple[str, ...]], Any] = {}  # anew: the first of them begins the thread

    @cached_property
    def _metrics(self) -> dict[Instrument, Any]:
        """Made at the first use: in multiprocess mode, each opens a file."""
        return {instrument: _metric_of(instrument) for instrument in INSTRUMENTS}

    def describe(self) -> Iterator[Metric]:
        """For the registry: the names of the metrics."""
        for instrument in INSTRUMENTS:
            yield Metric(_name_of(instrument), instrument.description, instrument.kind)

    def collect(self) -> Iterator[Metric]:
        """For the registry: the metrics, as they are now."""
        self.sample()
        for metric in self._metrics.values():
            yield from metric.collect()

    def _child(self, instrument: Instrument, labels: tuple[str, ...]) -> Any:
        child = self._children.get((instrument, labels))
        if child is None:
            if self._thread is None and is_shared():
                self._begin()
            metric = self._metrics[instrument]
            child = self._children[instrument, labels] = metric.labels(*labels) if labels else metric
        return child

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        self._child(instrument, labels).inc(amount)

    def record(self, instrument: Instrument, value: float, *labels: str) -> None:
        self._child(instrument, labels).observe(value)

    def set(self, instrument: Instrument, value: float) -> None:
        self._child(instrument, ()).set(value)

    # -- several processes -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jwtguard-metrics", daemon=True)
                self._thread.start()
                if not self._is_registered_at_exit:
                    self._is_registered_at_exit = True
                    atexit.register(self.close)

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(INTERVAL):
            self._sample_safely()

    def _sample_safely(self) -> None:
        try:
            self.sample()
        except Exception:  # a full disk, say, and nobody waits for this
            logger.exception("the metrics can't be written")

    def close(self) -> None:
        """Write what is left, and that this process has nothing open. It is called when the process exits."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(GOODBYE)
            self._sample_safely()
            for (instrument, _), child in self._children.items():
                if instrument.kind == "gauge":
                    child.set(0)


def is_shared() -> bool:
    """Whether several processes are measured as one."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def _name_of(instrument: Instrument) -> str:
    return "_".join(filter(None, ("jwtguard", instrument.name, instrument.unit)))


def _metric_of(instrument: Instrument) -> Any:
    arguments = (_name_of(instrument), instrument.description, instrument.labels)
    if instrument.kind == "counter":
        return Counter(*arguments, registry=None)
    if instrument.kind == "histogram":
        return Histogram(*arguments, registry=None, buckets=BUCKETS)
    return Gauge(*arguments, registry=None, multiprocess_mode="livemax" if instrument.across == "max" else "livesum")
