"""Readings: an ExportMetricsServiceRequest becomes series and points, in the catalogue's names and units.

A sum is cumulative or delta, a cumulative sum that may fall is a gauge, a gauge is a gauge. Histograms, exponential
histograms and summaries are kept as two series, ``<name>.count`` and ``<name>.sum``; their buckets and quantiles are
not stored. Points without a recorded value, and values that are not finite, are skipped: they say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric

from layerline.signals import canonical, find
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
        attributes = texts(sender.attributes, budget)
        resource = resource_key(attributes)
        for raw in items:
            metric = parse(Metric, raw)
            name, unit, factor = _named(metric.name, metric.unit)
            for found in _values(metric, rejections, budget):
                counts = found.suffix == ".count"
                value = found.value if counts else found.value * factor
                if not isfinite(value):
                    continue
                own = texts(found.attributes, budget)
                signal = name + found.suffix
                series = _series(resource, signal, tuple(sorted(own.items())))
                if resource not in resources:
                    resources.add(resource)
                    batch.resources.append(ResourceRow(resource, attributes))
                if series not in series_seen:
                    series_seen.add(series)
                    batch.series.append(SeriesRow(series, resource, signal, "1" if counts else unit, found.kind, own))
                batch.points.append(PointRow(series, found.start_ns, found.time_ns, value))
    return batch, rejections


def _named(name: str, unit: str) -> tuple[str, str, float]:
    """The catalogue's name and unit, and the factor of a value; both unchanged where it does not know the metric."""
    signal = find(name)
    canonical_name, factor = canonical(name, unit)
    return canonical_name, unit if signal is None else signal.unit, factor


@lru_cache(maxsize=65_536)
def _series(resource: str, signal: str, attributes: tuple[tuple[str, str], ...]) -> str:
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
