"""Readings: an ExportMetricsServiceRequest becomes series and points, in the catalogue's names, units and attributes.

A sum is cumulative or delta, a cumulative sum that may fall is a gauge, a gauge is a gauge; of the catalogue's signals
the catalogue knows better (others send counters as gauges, and levels as counters). Histograms, exponential histograms
and summaries are kept as two series, ``<name>.count`` and ``<name>.sum``; their buckets and quantiles are not stored.
Of a summary by CloudWatch, which sums up one period of a level, the mean is kept.
Points without a recorded value, and NaN, are skipped: they say nothing. What cannot have been measured (``bounds.py``),
infinity among it, is rejected. What is not a signal of ours is kept under its own name, with its own unit and
attributes; a point that says something else under a signal's own name as ``<name>.other``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import isnan
from typing import Any, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric

from layerline.aliases import Attributes, reader
from layerline.signals import Kind, find, translate
from layerline_api.doors.bounds import LONGEST_NS, SIGNAL_LIMIT, VALUE_LIMIT, Bounds, shown
from layerline_api.doors.otlp.clouds import AWS, is_of_a_cloud, machine
from layerline_api.doors.otlp.entities import is_scraped, whose
from layerline_api.doors.otlp.envelope import groups, parse
from layerline_api.doors.otlp.forms import BYTES, Form, Forms, form_of
from layerline_api.doors.otlp.problems import Budget, Rejections
from layerline_api.doors.otlp.slim import SlimMetric, SlimNumbers
from layerline_api.doors.otlp.values import texts
from layerline_correlator.store.model import Batch, PointRow, ResourceRow, SeriesRow, resource_key, series_key

_NOT_RECORDED = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
#: What holds single numbers, and is read by the slim classes.
_NUMBERS = frozenset({"gauge", "sum"})
#: Attributes of a point that are longer together are read each time they come, in bytes.
_REMEMBERED_BYTES = 2_048
#: The same for resources with more characters than this: the cache must stay bounded whatever is sent.
_REMEMBERED_CHARS = 4_096
_KIND = {
    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative",
    AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA: "delta",
}
_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


class _Sender:
    """Who sent points: the resource as it came. One object for each, so that what is remembered of it is found fast."""

    __slots__ = ("attributes", "is_short", "items", "key")

    def __init__(self, items: Attributes) -> None:
        self.items = items
        self.is_short = _is_short(items)
        self.attributes = dict(items)
        self.key = resource_key(self.attributes)


_remembered_sender = lru_cache(maxsize=4_096)(_Sender)


def _is_short(items: Attributes) -> bool:
    return sum(len(key) + len(value) for key, value in items) <= _REMEMBERED_CHARS


def _sender(items: Attributes) -> _Sender:
    return _remembered_sender(items) if _is_short(items) else _Sender(items)


def decode_metrics(
    body: bytes, bounds: Bounds | None = None, rejections: Rejections | None = None
) -> tuple[Batch, Rejections]:
    """The rows of the points that can be kept, and the points that cannot. ``Malformed``, ``TooLarge``."""
    batch, budget = Batch(), Budget()
    bounds = bounds or Bounds.now()
    rejections = Rejections() if rejections is None else rejections
    resources: set[str] = set()
    series_seen: set[str] = set()
    for resource, items in groups(body, budget):
        sender = _sender(tuple(sorted(texts(resource.attributes, budget).items())))
        for place, raw in enumerate(items):
            key = sender, place
            form = _forms.get(key)
            values = form.read(raw, bounds) if isinstance(form, Form) else None
            if values is None:
                metric = parse(SlimNumbers, raw)
                values = list(_values(metric, raw, sender, bounds, rejections, budget))
                _remember(raw, metric, key, values, bounds)
            elif isinstance(form, Form):
                budget.items(len(form))
                budget.attributes(form.attributes)
            for kept, start_ns, time_ns, sent in values:
                value = sent * kept.factor
                if not 0 < value <= kept.limit and not (value == 0 and kept.zero):  # seldom
                    if isnan(value) or value == 0:
                        continue
                    if (reason := _absurd(value, kept)) is not None:
                        name = parse(SlimNumbers, raw).name
                        rejections.add(f"metric {name[:80]!r}", reason, found=f"{sent:g}")
                        continue
                series = kept.row.series
                if series not in series_seen:
                    series_seen.add(series)
                    if kept.row.resource not in resources:
                        resources.add(kept.row.resource)
                        batch.resources.append(ResourceRow(kept.row.resource, kept.resource))
                    batch.series.append(kept.row)
                batch.points.append(PointRow(series, start_ns, time_ns, value))
    return batch, rejections


class _Kept(NamedTuple):
    """The series that a value belongs to."""

    row: SeriesRow
    resource: dict[str, str]  # the attributes of what it tells of
    factor: float  # from the value as it came
    zero: bool  # False: its zeros say nothing
    limit: float  # of its values, up and down


#: A value that a metric holds: its series, start and time (0: no start), and the value as it came.
_Value = tuple[_Kept, int, int, float]

#: By sender and place among what it sends, the form of the metric that comes there.
_forms: Forms[tuple[_Sender, int], _Kept] = Forms()


def _remember(raw: bytes, metric: SlimMetric, key: tuple[_Sender, int], values: list[_Value], bounds: Bounds) -> None:
    """Keep the form of a metric that comes for the second time, where all of its points were taken."""
    if not key[0].is_short or len(raw) > BYTES:
        return
    if _forms.get(key) != len(raw):
        _forms.keep(key, len(raw))
        return
    which = metric.WhichOneof("data")
    if which not in _NUMBERS or (which == "sum" and metric.sum.aggregation_temporality == _DELTA):
        return
    points = getattr(metric, which).data_points
    if not any(point.flags for point in points):
        form = form_of(raw, points, values, bounds)
        if form is not None:
            _forms.keep(key, form)


@lru_cache(maxsize=32_768)
def _remembered(
    sender: _Sender, name: str, unit: str, kind: str, is_number: bool, *attributes: bytes
) -> tuple[_Kept, ...]:
    """The series of a point; every export names the same ones again."""
    # A budget of its own: so few bytes cannot hold much.
    return _series(sender, name, unit, kind, is_number, texts([parse(KeyValue, raw) for raw in attributes], Budget()))


def _series(
    sender: _Sender, name: str, unit: str, kind: str, is_number: bool, attributes: dict[str, str]
) -> tuple[_Kept, ...]:
    """One, or those of count and sum."""
    suffixes = ("",) if is_number else (".count", ".sum")
    return tuple(_kept(sender, name, unit, suffix, kind, attributes) for suffix in suffixes)


def _kept(sender: _Sender, name: str, unit: str, suffix: str, kind: str, attributes: dict[str, str]) -> _Kept:
    """In the catalogue's words, or in its own where it is no signal of ours.

    Whose it is, where the sender only scraped it, is said in its attributes.
    """
    resource, known, own = sender.attributes, True, tuple(sorted(attributes.items()))
    key = sender.key
    if is_scraped(name) or is_of_a_cloud(name):
        resource, own, known = (whose if is_scraped(name) else machine)(sender.items, name, own)
        key = resource_key(resource)
    # Not known: it tells of nothing that we know as an entity.
    ours = translate(name, unit, own) if known and not suffix else None
    if ours:
        signal, words = ours.signal.name, ours.attributes
        unit = ours.signal.unit
        if kind != "delta":
            kind = "cumulative" if ours.signal.kind is Kind.COUNTER else "gauge"
    else:
        signal, words = name + (suffix or (".other" if find(name) else "")), dict(own)
        unit = "1" if suffix == ".count" else unit
    source = reader(ours.source, resource, ours.signal.entity) if ours else ""
    row = SeriesRow(series_key(key, signal, words), key, signal, unit, kind, words, source)
    if ours:
        return _Kept(row, resource, ours.factor, ours.zero, SIGNAL_LIMIT)
    return _Kept(row, resource, 1.0, True, VALUE_LIMIT)


def _absurd(value: float, kept: _Kept) -> str | None:
    """Why no such value can have been measured; None when it can."""
    if abs(value) > kept.limit:
        return f"a value of {kept.row.signal} is beyond {kept.limit:.2g} {kept.row.unit}".rstrip()
    row, ours = kept.row, kept.limit == SIGNAL_LIMIT
    only_grows = row.kind == "cumulative" or (ours and row.kind == "delta")
    if value < 0 and only_grows and (ours or not row.signal.endswith(".sum")):  # a histogram's sum may fall
        return f"the counter {kept.row.signal} is below zero"
    return None


def _values(
    metric: SlimMetric, raw: bytes, sender: _Sender, bounds: Bounds, rejections: Rejections, budget: Budget
) -> Iterator[_Value]:
    """Every value that the metric's points hold: its series, start, time, and the value as it came.

    Points that cannot be kept are counted in ``rejections``.
    """
    which = metric.WhichOneof("data")
    if which is None:
        return
    is_number = which in _NUMBERS
    data: Any = getattr(metric if is_number else parse(Metric, raw), which)
    points, name, unit = data.data_points, metric.name, metric.unit
    budget.items(len(points))
    if not name:
        rejections.add("metric ''", "it has no name", max(1, len(points)))
        return
    kind = "gauge"
    if which != "gauge":
        kind = "cumulative" if which == "summary" else _KIND.get(data.aggregation_temporality, "")
    if not kind:
        rejections.add(f"metric {name[:80]!r}", "it is neither cumulative nor delta", len(points))
        return
    if which == "sum" and kind == "cumulative" and not data.is_monotonic:
        kind = "gauge"  # the running total of something that also falls is a level
    is_mean = which == "summary" and name.startswith(AWS)
    if is_mean:
        kind = "gauge"
    is_short = sender.is_short and len(raw) <= _REMEMBERED_BYTES
    for point in points:
        if point.flags & _NOT_RECORDED:
            continue
        start_ns, time_ns = point.start_time_unix_nano, point.time_unix_nano
        if (reason := bounds.wrong_time(time_ns)) is not None:
            rejections.add(f"a point of metric {name[:80]!r}", reason, found=shown(time_ns))
            continue
        if kind == "delta" and 0 < start_ns < time_ns - LONGEST_NS:
            rejections.add(
                f"a point of metric {name[:80]!r}",
                "its interval is longer than a day",
                found=f"since {shown(start_ns)}",
            )
            continue
        if start_ns > time_ns:
            start_ns = 0  # not known
        attributes = point.attributes if is_number else [item.SerializeToString() for item in point.attributes]
        budget.attributes(len(attributes))
        key = sender, name, unit, kind
        if is_short or (sender.is_short and sum(map(len, attributes)) <= _REMEMBERED_BYTES):
            found = _remembered(*key, is_number or is_mean, *attributes)
        else:
            found = _series(*key, is_number or is_mean, texts([parse(KeyValue, each) for each in attributes], budget))
        if is_number:
            number = point.WhichOneof("value")
            if number is not None:
                yield found[0], start_ns, time_ns, float(point.as_int if number == "as_int" else point.as_double)
            continue
        if is_mean:
            if point.count:
                yield found[0], start_ns, time_ns, point.sum / point.count
            continue
        count, total = found
        yield count, start_ns, time_ns, float(point.count)
        if which == "summary" or point.HasField("sum"):
            yield total, start_ns, time_ns, point.sum
