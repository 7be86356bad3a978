"""For OpenTelemetry: what a guard does, as metrics, and on the spans of requests. It needs only the API; without an SDK
all of this does nothing.

    guard = AsyncGuard.from_env(observers=[OTelObserver()])

The current span is given `jwtguard.code`, what was decided, and `session.id`; and an event for each event that happens
during it. `enduser.id`, the subject, is personal data by the semantic conventions, so it is there on request only.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ._version import __version__
from .errors import ConfigError
from .metrics import BUCKETS, INSTRUMENTS, Instrument, Metrics
from .model import Event, Identity

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
except ImportError as error:
    raise ConfigError("jwtguard.otel needs opentelemetry-api: pip install 'jwtguard-middleware[otel]'") from error

__all__ = ["OTelObserver"]


class OTelObserver(Metrics):
    """Measures guards, and marks spans.

    Arguments: `meter_provider`, in place of the global one. `each_request`: mark also the spans of requests whose token is
    known, which are most; each costs the warm path a few calls instead of a counter. `enduser`: mark the subject, too.
    """

    def __init__(
        self, *, meter_provider: MeterProvider | None = None, each_request: bool = False, enduser: bool = False
    ) -> None:
        super().__init__()
        self.each_request = each_request
        self._enduser = enduser
        self._totals: defaultdict[Instrument, dict[tuple[str, ...], float]] = defaultdict(dict)
        self._adding = threading.Lock()
        meter = metrics.get_meter("jwtguard", __version__, meter_provider)
        self._histograms: dict[Instrument, Any] = {}
        for instrument in INSTRUMENTS:
            self._make(meter, instrument)

    def _make(self, meter: metrics.Meter, instrument: Instrument) -> None:
        name, unit = f"jwtguard.{instrument.name}", "s" if instrument.unit else ""
        if instrument.kind == "histogram":
            self._histograms[instrument] = meter.create_histogram(
                name, unit, instrument.description, explicit_bucket_boundaries_advisory=BUCKETS
            )
            return
        make: Callable[..., Any] = meter.create_observable_counter
        if instrument.kind == "gauge":
            make = meter.create_observable_gauge if instrument.across == "max" else meter.create_observable_up_down_counter
        make(name, [partial(self._observe, instrument)], unit, instrument.description)

    def _observe(self, instrument: Instrument, options: CallbackOptions) -> Iterator[Observation]:
        del options
        self.sample()
        with self._adding:
            totals = list(self._totals[instrument].items())
        for labels, total in totals:
            yield Observation(total, dict(zip(instrument.labels, labels, strict=True)))

    def add(self, instrument: Instrument, amount: int, *labels: str) -> None:
        with self._adding:
            totals = self._totals[instrument]
            totals[labels] = totals.get(labels, 0) + amount

    def record(self, instrument: Instrument, value: float, *labels: str) -> None:
        self._histograms[instrument].record(value, dict(zip(instrument.labels, labels, strict=True)))

    def set(self, instrument: Instrument, value: float) -> None:
        with self._adding:
            self._totals[instrument][()] = value

    # -- spans -------------------------------------------------------------------------------------------------------------

    def decided(self, code: str, identity: Identity | None) -> None:
        super().decided(code, identity)
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("jwtguard.code", code)
            if identity is not None and identity.is_authenticated:
                span.set_attributes(self._whose(identity.subject, identity.session_id))

    def recalled(self, identity: Identity) -> None:
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes({"jwtguard.code": "admitted", **self._whose(identity.subject, identity.session_id)})

    def event(self, event: Event) -> None:
        super().event(event)
        span = trace.get_current_span()
        if span.is_recording():
            found = {"jwtguard.code": event.code, **self._whose(event.subject, event.session_id)}
            span.add_event(f"jwtguard.{event.name}", {name: value for name, value in found.items() if value})

    def _whose(self, subject: str, session_id: str | None) -> dict[str, str]:
        found = {"session.id": session_id or ""}
        return {**found, "enduser.id": subject} if self._enduser else found
