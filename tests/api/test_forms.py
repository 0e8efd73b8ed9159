"""Metrics that come again with other numbers are read as if they came first."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from layerline_api.doors.bounds import Bounds
from layerline_api.doors.otlp import forms, metrics
from layerline_api.doors.otlp.metrics import decode_metrics
from layerline_api.doors.otlp.problems import Rejections
from layerline_correlator.store.model import Batch
from profiles import examples

NOW_NS = time.time_ns()
BOUNDS = Bounds.at(NOW_NS, retain_ns=3600 * 10**9)

_TIMES = st.sampled_from([0, 1, NOW_NS - 10**9, NOW_NS, NOW_NS + 5 * 3600 * 10**9, 2**63])
_VALUES = st.sampled_from([0, 5, -5, 2**62]) | st.sampled_from(
    [0.0, -0.0, 0.5, -2.5, 1e300, float("nan"), float("inf")]
)
_POINTS = st.lists(st.tuples(_TIMES, _TIMES, _VALUES, st.sampled_from([0, 0, 0, 1])), max_size=3)
_NAMES = st.sampled_from(["container.cpu.time", "container.memory.usage", "app.orders", ""])
_METRICS = st.lists(st.tuples(_NAMES, st.sampled_from(["gauge", "level", "counter", "delta"]), _POINTS), max_size=4)


def body(sent: list[tuple[str, str, list[tuple[int, int, float, int]]]]) -> bytes:
    """A request of one container; each metric's points differ in an attribute."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.add(key="container.id").value.string_value = "a" * 64
    scope = group.scope_metrics.add()
    for name, kind, points in sent:
        metric = Metric(name=name, unit="ns")
        if kind != "gauge":
            delta = kind == "delta"
            metric.sum.is_monotonic = kind != "level"
            metric.sum.aggregation_temporality = (
                AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
                if delta
                else AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
            )
        for number, (start_ns, time_ns, value, flags) in enumerate(points):
            point = (metric.gauge if kind == "gauge" else metric.sum).data_points.add(
                start_time_unix_nano=start_ns, time_unix_nano=time_ns, flags=flags
            )
            point.attributes.add(key="part").value.int_value = number
            if isinstance(value, float):
                point.as_double = value
            else:
                point.as_int = value
        scope.metrics.append(metric)
    return request.SerializeToString()


def read(raw: bytes) -> tuple[Batch, Rejections]:
    return decode_metrics(raw, BOUNDS)


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    metrics._forms.clear()
    yield
    metrics._forms.clear()


@settings(max_examples=examples(60, 1_000))
@given(st.lists(_METRICS, min_size=1, max_size=3))
def test_they_are_read_as_if_they_came_first(
    bodies: list[list[tuple[str, str, list[tuple[int, int, float, int]]]]],
) -> None:
    """Whatever was sent before from the same place, rows and rejections are those of a first request."""
    raws = [body(sent) for sent in bodies for _ in range(3)]
    again = [read(raw) for raw in raws]
    for raw, (batch, rejections) in zip(raws, again, strict=True):
        metrics._forms.clear()
        first, first_rejections = read(raw)
        assert (batch, rejections) == (first, first_rejections)


def test_other_numbers_are_other_points() -> None:
    """Of a metric that came before with other numbers, times and values are those that came now."""

    def second(number: int) -> bytes:
        return body([("container.cpu.time", "counter", [(1, NOW_NS + number, 7 + number, 0), (1, NOW_NS, 3, 0)])])

    for number in range(3):
        read(second(number))
    assert any(isinstance(form, metrics.Form) for form in metrics._forms.values())
    batch, _ = read(second(3))
    assert [(row.start_ns, row.time_ns, row.value) for row in batch.points] == [(1, NOW_NS + 3, 10), (1, NOW_NS, 3)]
    late, rejections = read(second(10 * 3600 * 10**9))
    assert (len(late.points), rejections.count) == (1, 1), "what cannot be is still refused"


@pytest.mark.parametrize("bound", ["KEPT", "KEPT_BYTES"])
def test_few_are_remembered(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """However many metrics come, only so many forms are kept, and forms of so many bytes."""
    sent = [(f"app.orders.{number}", "counter", [(1, NOW_NS, number, 0)]) for number in range(9)]
    monkeypatch.setattr(forms, bound, 3 if bound == "KEPT" else len(body(sent)) // 3)
    for _ in range(4):
        assert len(read(body(sent))[0].points) == 9
        assert len([form for form in metrics._forms.values() if isinstance(form, forms.Form)]) <= 3
