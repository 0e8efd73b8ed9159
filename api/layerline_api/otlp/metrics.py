"""Readings: an ExportMetricsServiceRequest becomes series and points, in the catalogue's names, units and attributes.

A sum is cumulative or delta, a cumulative sum that may fall is a gauge, a gauge is a gauge; of the catalogue's signals
the catalogue knows better (others send counters as gauges, and levels as counters). Histograms, exponential histograms
and summaries are kept as two series, ``<name>.count`` and ``<name>.sum``; their buckets and quantiles are not stored.
Points without a recorded value, and values that are not finite, are skipped: they say nothing. What is not a signal of
ours is kept under its own name, with its own unit and attributes; a point that says something else under a signal's own
name as ``<name>.other``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric

from layerline.aliases import Attributes
from layerline.signals import Kind, find, meant, translate
from layerline_api.otlp.entities import is_scraped, whose
from layerline_api.otlp.envelope import groups, parse
from layerline_api.otlp.problems import Budget, Rejections
from layerline_api.otlp.values import texts
from layerline_correlator.model import Batch, PointRow, ResourceRow, SeriesRow, resource_key, series_key

LAST_NS = 2**63 - 1
_NOT_RECORDED = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_KIND = {
    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative",
    AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA: "delta",
}


class _Value(NamedTuple):
    """One value of one point, before its series is known."""

    suffix: str  # "", ".count", ".sum"
    kind: str
    start_ns: int
    time_ns: int
    value: float
    attributes: Sequence[KeyValue]


def decode_metrics(body: bytes) -> tuple[Batch, Rejections]:
    """The rows of the points that can be kept, and the points that cannot. ``Malformed``, ``TooLarge``."""
    batch, rejections, budget = Batch(), Rejections(), Budget()
    resources: set[str] = set()
    series_seen: set[str] = set()
    for sender, items in groups(body, budget):
        sent_by = texts(sender.attributes, budget)
        sent_by_key, sent_by_items = resource_key(sent_by), tuple(sorted(sent_by.items()))
        for raw in items:
            metric = parse(Metric, raw)
            scraped, is_meant = is_scraped(metric.name), meant(metric.name)
            for found in _values(metric, rejections, budget):
                attributes, resource, known = sent_by, sent_by_key, True
                own = tuple(sorted(texts(found.attributes, budget).items()))
                if scraped:
                    attributes, own, known = whose(sent_by_items, metric.name, own)
                    resource = resource_key(attributes)
                one = _one(metric, found, own, known and is_meant)
                if one is None:
                    continue
                series = _series(resource, one.signal, tuple(sorted(one.attributes.items())))
                if resource not in resources:
                    resources.add(resource)
                    batch.resources.append(ResourceRow(resource, attributes))
                if series not in series_seen:
                    series_seen.add(series)
                    batch.series.append(SeriesRow(series, resource, one.signal, one.unit, one.kind, one.attributes))
                batch.points.append(PointRow(series, found.start_ns, found.time_ns, one.value))
    return batch, rejections


class _One(NamedTuple):
    """A value as it is kept."""

    signal: str
    unit: str
    kind: str
    attributes: dict[str, str]
    value: float


def _one(metric: Metric, found: _Value, attributes: Attributes, is_meant: bool) -> _One | None:
    """The value in the catalogue's words, or in its own where it is no signal of ours; None where it says nothing."""
    ours = translate(metric.name, metric.unit, attributes) if is_meant and not found.suffix else None
    value = found.value * ours.factor if ours else found.value
    if not isfinite(value) or (ours and not ours.zero and value == 0):
        return None
    if ours:
        signal = ours.signal
        kind = found.kind
        if kind != "delta":
            kind = "cumulative" if signal.kind is Kind.COUNTER else "gauge"
        return _One(signal.name, signal.unit, kind, ours.attributes, value)
    name = metric.name + (found.suffix or (".other" if find(metric.name) else ""))
    return _One(name, "1" if found.suffix == ".count" else metric.unit, found.kind, dict(attributes), value)


@lru_cache(maxsize=65_536)
def _series(resource: str, signal: str, attributes: Attributes) -> str:
    """``series_key``, remembered: every export names the same series again."""
    return series_key(resource, signal, dict(attributes))


def _values(metric: Metric, rejections: Rejections, budget: Budget) -> Iterator[_Value]:
    """Every value that the metric's points hold; points that cannot be kept are counted in ``rejections``."""
    which = metric.WhichOneof("data")
    if which is None:
        return
    data = getattr(metric, which)
    budget.items(len(data.data_points))
    named = f"metric {metric.name[:80]!r}"
    if not metric.name:
        rejections.add("a metric without a name", max(1, len(data.data_points)))
        return
    kind = {"gauge": "gauge", "summary": "cumulative"}.get(which) or _KIND.get(data.aggregation_temporality)
    if kind is None:
        rejections.add(f"{named}: it is neither cumulative nor delta", len(data.data_points))
        return
    if which == "sum" and not data.is_monotonic and kind == "cumulative":
        kind = "gauge"  # the running total of something that also falls is a level
    for point in data.data_points:
        if point.flags & _NOT_RECORDED:
            continue
        start_ns, time_ns = point.start_time_unix_nano, point.time_unix_nano
        if not 0 < time_ns <= LAST_NS or start_ns > LAST_NS:
            rejections.add(f"{named}: a point has no time, or one after the year 2262")
            continue
        if which in ("gauge", "sum"):
            number = point.WhichOneof("value")
            if number is not None:
                yield _Value("", kind, start_ns, time_ns, float(getattr(point, number)), point.attributes)
            continue
        yield _Value(".count", kind, start_ns, time_ns, float(point.count), point.attributes)
        if which == "summary" or point.HasField("sum"):
            yield _Value(".sum", kind, start_ns, time_ns, point.sum, point.attributes)
