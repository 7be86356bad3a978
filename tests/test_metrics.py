"""What is measured: the figures of each backend are what has happened."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from rig import ModelStore, always
from servers.serving import until

from jwtguard import ConfigError, Guard, JWTGuardError, Settings
from jwtguard.errors import ScopeMissing, StoreError
from jwtguard.gate import Gate
from jwtguard.metrics import INSTRUMENTS, Metrics
from jwtguard.model import Coherence
from jwtguard.otel import OTelObserver
from jwtguard.prometheus import PrometheusObserver, _name_of
from jwtguard.telemetry import Readings, Telemetry
from jwtguard.testing import FakeClock

SECRET = "kK3-8h2mQzLr0bVtY7xPdW5nSfJ1gA9cEuHi"
DOCS = Path(__file__).parents[1] / "docs"

Figures = dict[tuple[str, tuple[str, ...]], float]


class Prometheus:
    """Figures as Prometheus reads them, by the name of the instrument and the values of its labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.observer: Metrics = PrometheusObserver(self.registry)

    def read(self) -> Figures:
        found = {}
        for family in self.registry.collect():
            name = family.name.removeprefix("jwtguard_").removesuffix("_seconds")
            for sample in family.samples:
                if not sample.name.endswith(("_created", "_bucket", "_sum")):
                    found[name, tuple(sample.labels.values())] = sample.value
        return found


class OpenTelemetry:
    """The same, as an SDK exports them."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.observer: Metrics = OTelObserver(meter_provider=MeterProvider([self.reader]))

    def read(self) -> Figures:
        data: Any = self.reader.get_metrics_data()
        found = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                value = point.count if hasattr(point, "count") else point.value
                found[metric.name.removeprefix("jwtguard."), tuple(point.attributes.values())] = value
        return found


@pytest.fixture(params=[Prometheus, OpenTelemetry])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param()


def guard_of(observer: Metrics, store: ModelStore) -> Guard:
    return Guard(Settings(secret=SECRET), store=store, clock=store.clock, observers=[observer])


def test_figures_are_what_has_happened(backend: Any) -> None:
    store = ModelStore(FakeClock())
    guard = guard_of(backend.observer, store)
    gate = Gate(guard.core)
    pair = guard.login("alice")
    other = guard.login("alice")
    guard.authenticate(pair.access_token)
    for _ in range(10):
        assert gate.recall(f"Bearer {pair.access_token}".encode()) is not None
    guard.core.telemetry.denied(ScopeMissing(["admin"]))
    with suppress(JWTGuardError):
        guard.authenticate("nonsense")
    guard.revoke("alice", other.session_id)
    guard.revoke_all("alice")
    guard.revoke_everyone()
    guard.core.telemetry.heard(0.003)
    store.on_load = always(StoreError("torn"))
    with suppress(JWTGuardError):
        guard.sessions("bob")
    figures = backend.read()
    assert {labels[0]: count for (name, labels), count in figures.items() if name == "decisions"} == {
        "admitted": 10,
        "scope_missing": 1,
        "token_invalid": 1,
    }
    assert figures["cache_lookups", ("hit",)] == 10
    assert figures["cache_lookups", ("miss",)] == 2
    assert figures["sessions_opened", ()] == 2
    assert figures["sessions_ended", ("revoked",)] == 2
    assert figures["events", ("revoked",)] == 3
    assert figures["store_down", ("read",)] == 1
    assert figures["store_call", ("load", "error")] == 1
    assert figures["store_call", ("save", "ok")] == sum(verb == "save" for verb, _ in store.calls)
    assert figures["revocation_lag", ()] == 1
    assert figures["revocation_bound", ()] == 5
    assert figures["connections", ()] == 0
    assert backend.read() == figures, "reading changes nothing"
    store.on_load = lambda _key: None
    store.clock.advance(1)
    guard.sessions("bob")
    assert backend.read()["store_down", ("read",)] == 0


def test_guards_that_share_an_observer_are_added_up(backend: Any) -> None:
    for subject in ("alice", "bob"):
        guard = guard_of(backend.observer, ModelStore(FakeClock()))
        pair = guard.login(subject)
        guard.authenticate(pair.access_token)
        assert Gate(guard.core).recall(f"Bearer {pair.access_token}".encode()) is not None
    figures = backend.read()
    assert (figures["sessions_opened", ()], figures["cache_lookups", ("hit",)]) == (2, 2)
    assert figures["decisions", ("admitted",)] == 4


class Scripted:
    """Readings that the test sets."""

    def __init__(self, observer: Metrics) -> None:
        self.hits = self.admitted = self.open = 0
        bound = Coherence("cached", 5.0)
        observer.attach(Readings(lambda: self.hits, lambda: self.admitted, lambda: self.open, lambda: bound))


def test_a_counter_never_goes_back(backend: Any) -> None:
    """A hit that is denied just now is counted as one before it is counted as the other."""
    scripted = Scripted(backend.observer)
    for scripted.hits, scripted.admitted, expected in ((5, 5, 5), (5, 4, 5), (6, 5, 5), (9, 8, 8)):
        assert backend.read()["decisions", ("admitted",)] == expected


def test_what_the_parent_has_counted_is_the_parent_s_to_tell(backend: Any) -> None:
    scripted = Scripted(backend.observer)
    scripted.hits = scripted.admitted = 5
    backend.observer._renew()  # what a fork does in the child
    scripted.hits = scripted.admitted = 7
    assert backend.read()["cache_lookups", ("hit",)] == 2


# -- Prometheus ------------------------------------------------------------------------------------------------------------


def exposed() -> set[str]:
    """The names of all samples, once each instrument has moved."""
    prometheus = Prometheus()
    telemetry = Telemetry(FakeClock(), [], [prometheus.observer])
    telemetry.attach(lambda: 0, lambda: Coherence("exact", 0.0))
    telemetry.tell("revoked", "alice", count=1)
    telemetry.changed("store_down", "read", "")
    telemetry.stored("load", 0.001, "ok")
    text = generate_latest(prometheus.registry).decode()
    return set(re.findall(r"^(jwtguard_\w+)", text, re.MULTILINE))


def test_the_page_s_table_of_metrics_is_that_of_the_code() -> None:
    page = (DOCS / "telemetry.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(jwtguard_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    expected = []
    for instrument in INSTRUMENTS:
        name = _name_of(instrument) + ("_total" if instrument.kind == "counter" else "")
        expected.append((name, ", ".join(f"`{label}`" for label in instrument.labels)))
    assert sorted((name, labels.strip()) for name, labels in rows) == sorted(expected)
    assert {name for name, _ in rows} <= {re.sub("_(bucket|count|sum)$", "", name) for name in exposed()}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((DOCS / "grafana" / "jwtguard.json").read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for expression in expressions for name in re.findall(r"jwtguard_\w+", expression)}
    assert asked <= exposed()
    shown = {re.sub("_(bucket|count|sum|total)$", "", name) for name in asked}
    assert shown >= {_name_of(instrument) for instrument in INSTRUMENTS}, "and nothing is left out"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert dashboard["schemaVersion"] >= 39
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}


def test_a_registry_has_them_once() -> None:
    registry = CollectorRegistry(auto_describe=True)
    PrometheusObserver(registry)
    PrometheusObserver(None)
    with pytest.raises(ConfigError, match="give the same PrometheusObserver to each guard"):
        PrometheusObserver(registry)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PrometheusObserver]:
    """An observer that takes itself for one of several processes'."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("jwtguard.prometheus.INTERVAL", 0.01)
    observer = PrometheusObserver(None)
    yield observer
    observer.close()


def value_of(observer: PrometheusObserver, name: str, *labels: str) -> float:
    """A figure, read without sampling."""
    metric = next(metric for instrument, metric in observer._metrics.items() if instrument.name == name)
    value: float = (metric.labels(*labels) if labels else metric)._value.get()
    return value


def test_with_several_processes_a_thread_samples(shared: PrometheusObserver) -> None:
    shared.close()
    thread = shared._thread
    assert thread is None, "nothing is begun before the first decision, so there is nothing to end"
    shared._renew()
    scripted = Scripted(shared)
    scripted.hits, scripted.open = 5, 3
    shared.decided("admitted", None)
    shared.decided("token_missing", None)
    until("it samples", lambda: value_of(shared, "cache_lookups", "hit") == 5)
    until("all of it", lambda: value_of(shared, "connections") == 3)
    thread = shared._thread
    scripted.hits = 6
    shared.close()
    assert thread is not None
    assert not thread.is_alive()
    assert value_of(shared, "cache_lookups", "hit") == 6
    assert value_of(shared, "connections") == 0


def test_a_thread_that_can_not_write_says_so_and_goes_on(
    shared: PrometheusObserver, caplog: pytest.LogCaptureFixture
) -> None:
    scripted = Scripted(shared)
    del scripted.open
    shared.decided("admitted", None)
    until("it is logged", lambda: "the metrics can't be written" in caplog.text)
    scripted.open = 3
    until("it samples again", lambda: value_of(shared, "connections") == 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_begins_its_own_thread(shared: PrometheusObserver) -> None:
    shared.decided("admitted", None)
    before, parents = shared._thread, shared._stopped
    shared._renew()
    after_the_fork = shared._thread
    assert after_the_fork is None
    shared.decided("admitted", None)
    assert shared._thread is not before
    parents.set()
    assert before is not None
    before.join(60)


def test_two_first_decisions_begin_one_thread(shared: PrometheusObserver) -> None:
    shared.decided("admitted", None)
    before = shared._thread
    shared._begin()
    assert shared._thread is before


# -- OpenTelemetry's spans -------------------------------------------------------------------------------------------------


class Traced:
    """A guard whose requests are spans."""

    def __init__(self, **arguments: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("tests")
        observer = OTelObserver(meter_provider=MeterProvider(), **arguments)
        self.guard = guard_of(observer, ModelStore(FakeClock()))
        self.gate = Gate(self.guard.core)

    def span(self, act: Any) -> Any:
        """What a request's span is given."""
        with self.tracer.start_as_current_span("request"), suppress(JWTGuardError):
            act()
        return self.exporter.get_finished_spans()[-1]


@pytest.mark.parametrize("enduser", [False, True])
def test_a_span_has_the_decision_and_the_session(enduser: bool) -> None:
    traced = Traced(enduser=enduser)
    opened = traced.span(lambda: traced.guard.login("alice"))
    pair = traced.guard.login("bob")
    span = traced.span(lambda: traced.guard.authenticate(pair.access_token))
    expected = {"jwtguard.code": "admitted", "session.id": pair.session_id}
    assert dict(span.attributes) == (expected | {"enduser.id": "bob"} if enduser else expected)
    (event,) = opened.events
    assert event.name == "jwtguard.opened"
    assert set(event.attributes) == ({"session.id", "enduser.id"} if enduser else {"session.id"})
    refused = traced.span(lambda: traced.guard.authenticate("nonsense"))
    assert refused.attributes["jwtguard.code"] == "token_invalid"
    assert [event.name for event in refused.events] == ["jwtguard.rejected"]


@pytest.mark.parametrize("each_request", [False, True])
def test_the_span_of_a_known_token_is_marked_on_request(each_request: bool) -> None:
    traced = Traced(each_request=each_request)
    pair = traced.guard.login("alice")
    traced.guard.authenticate(pair.access_token)
    authorization = f"Bearer {pair.access_token}".encode()
    span = traced.span(lambda: traced.gate.recall(authorization))
    expected = {"jwtguard.code": "admitted", "session.id": pair.session_id}
    assert dict(span.attributes) == (expected if each_request else {})
    assert traced.gate.recall(authorization) is not None, "outside of a span there is nothing to mark"
    assert trace.get_current_span().is_recording() is False


# -- what is not installed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "driver"), [("prometheus", "prometheus_client"), ("otel", "opentelemetry")])
def test_a_missing_extra_is_named(module: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.delitem(sys.modules, f"jwtguard.{module}")
    with pytest.raises(ConfigError, match=rf"pip install 'jwtguard-middleware\[{module}\]'"):
        importlib.import_module(f"jwtguard.{module}")
