"""Readings: an ExportMetricsServiceRequest becomes series and points, in the catalogue's names, units and attributes.

A sum is cumulative or delta, a cumulative sum that may fall is a gauge, a gauge is a gauge; of the catalogue's signals
the catalogue knows better (others send counters as gauges, and levels as counters). Histograms, exponential histograms
and summaries are kept as two series, ``<name>.count`` and ``<name>.sum``; their buckets and quantiles are not stored.
Points without a recorded value, and NaN, are skipped: they say nothing. What cannot have been measured (``bounds.py``),
infinity among it, is rejected. What is not a signal of ours is kept under its own name, with its own unit and
attributes; a point that says something else under a signal's own name as ``<name>.other``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import isnan
from typing import NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric

from layerline.aliases import Attributes
from layerline.signals import Kind, find, translate
from layerline_api.doors.bounds import LONGEST_NS, SIGNAL_LIMIT, VALUE_LIMIT, Bounds, shown
from layerline_api.doors.otlp.entities import is_scraped, whose
from layerline_api.doors.otlp.envelope import groups, parse
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.doors.otlp.values import texts
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SeriesRow, resource_key, series_key

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


def decode_metrics(
    body: bytes, bounds: Bounds | None = None, rejections: Rejections | None = None
) -> tuple[Batch, Rejections]:
    """The rows of the points that can be kept, and the points that cannot. ``Malformed``, ``TooLarge``."""
    batch, budget = Batch(), Budget()
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    series_seen: set[str] = set()
    for sender, items in groups(body, budget):
        sent_by = texts(sender.attributes, budget)
        sent_by_key, sent_by_items = resource_key(sent_by), tuple(sorted(sent_by.items()))
        for raw in items:
            metric = parse(Metric, raw)
            scraped = is_scraped(metric.name)
            for found in _values(metric, bounds, rejections, budget):
                attributes, resource, known = sent_by, sent_by_key, True
                own = tuple(sorted(texts(found.attributes, budget).items()))
                if scraped:
                    attributes, own, known = whose(sent_by_items, metric.name, own)
                    resource = resource_key(attributes)
                kept = _kept(resource, metric.name, metric.unit, found.suffix, found.kind, known, own)
                value = found.value * kept.factor
                if isnan(value) or (value == 0 and not kept.zero):
                    continue
                if (reason := _absurd(value, kept)) is not None:
                    rejections.add(f"metric {metric.name[:80]!r}", reason, found=f"{found.value:g}")
                    continue
                if resource not in resources:
                    resources.add(resource)
                    batch.resources.append(ResourceRow(resource, attributes))
                series = kept.row.series
                if series not in series_seen:
                    series_seen.add(series)
                    batch.series.append(kept.row)
                batch.points.append(PointRow(series, found.start_ns, found.time_ns, value))
    return batch, rejections


class _Kept(NamedTuple):
    """The series that a value belongs to."""

    row: SeriesRow
    factor: float  # from the value as it came
    zero: bool  # False: its zeros say nothing
    limit: float  # of its values, up and down


@lru_cache(maxsize=65_536)
def _kept(resource: str, name: str, unit: str, suffix: str, kind: str, known: bool, attributes: Attributes) -> _Kept:
    """In the catalogue's words, or in its own where it is no signal of ours; every export names the same series again.

    ``known`` is False where the point tells of nothing that we know as an entity.
    """
    ours = translate(name, unit, attributes) if known and not suffix else None
    if ours:
        signal, words = ours.signal.name, ours.attributes
        unit = ours.signal.unit
        if kind != "delta":
            kind = "cumulative" if ours.signal.kind is Kind.COUNTER else "gauge"
    else:
        signal, words = name + (suffix or (".other" if find(name) else "")), dict(attributes)
        unit = "1" if suffix == ".count" else unit
    row = SeriesRow(series_key(resource, signal, words), resource, signal, unit, kind, words)
    if ours:
        return _Kept(row, ours.factor, ours.zero, SIGNAL_LIMIT)
    return _Kept(row, 1.0, True, VALUE_LIMIT)


def _absurd(value: float, kept: _Kept) -> str | None:
    """Why no such value can have been measured; None when it can."""
    if abs(value) > kept.limit:
        return f"a value of {kept.row.signal} is beyond {kept.limit:.2g} {kept.row.unit}".rstrip()
    row, ours = kept.row, kept.limit == SIGNAL_LIMIT
    only_grows = row.kind == "cumulative" or (ours and row.kind == "delta")
    if value < 0 and only_grows and (ours or not row.signal.endswith(".sum")):  # a histogram's sum may fall
        return f"the counter {kept.row.signal} is below zero"
    return None


def _values(metric: Metric, bounds: Bounds, rejections: Rejections, budget: Budget) -> Iterator[_Value]:
    """Every value that the metric's points hold; points that cannot be kept are counted in ``rejections``."""
    which = metric.WhichOneof("data")
    if which is None:
        return
    data = getattr(metric, which)
    budget.items(len(data.data_points))
    named = f"metric {metric.name[:80]!r}"
    if not metric.name:
        rejections.add("metric ''", "it has no name", max(1, len(data.data_points)))
        return
    kind = {"gauge": "gauge", "summary": "cumulative"}.get(which) or _KIND.get(data.aggregation_temporality)
    if kind is None:
        rejections.add(named, "it is neither cumulative nor delta", len(data.data_points))
        return
    if which == "sum" and not data.is_monotonic and kind == "cumulative":
        kind = "gauge"  # the running total of something that also falls is a level
    for point in data.data_points:
        if point.flags & _NOT_RECORDED:
            continue
        start_ns, time_ns = point.start_time_unix_nano, point.time_unix_nano
        if (reason := bounds.wrong_time(time_ns)) is not None:
            rejections.add(f"a point of {named}", reason, found=shown(time_ns))
            continue
        if kind == "delta" and 0 < start_ns < time_ns - LONGEST_NS:
            rejections.add(f"a point of {named}", "its interval is longer than a day", found=f"since {shown(start_ns)}")
            continue
        if start_ns > time_ns:
            start_ns = 0  # not known
        if which in ("gauge", "sum"):
            number = point.WhichOneof("value")
            if number is not None:
                yield _Value("", kind, start_ns, time_ns, float(getattr(point, number)), point.attributes)
            continue
        yield _Value(".count", kind, start_ns, time_ns, float(point.count), point.attributes)
        if which == "summary" or point.HasField("sum"):
            yield _Value(".sum", kind, start_ns, time_ns, point.sum, point.attributes)
