"""What simple rules would have said of the same window: the container whose CPU use is most unusual, the largest gap.

They know nothing of Layerline: they read the messages of the case. A verdict that is no better than these is worth
little.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.lab.coarse.labels import Labels, Window

#: CPU use that varies by less than this, in cores, is taken to vary by as much.
LEAST_DEVIATION = 0.01
#: What an edge must have been called in a window to be compared.
LEAST_CALLS = 5
CPU = ("container_cpu_usage_seconds_total", "container.cpu.usage.total")


@dataclass(frozen=True, slots=True)
class Call:
    """One call from one service to another."""

    start_ns: int
    callee: str
    caller: str
    gap_ns: int
    """What it took longer than its answer; all of it where the answer was not seen."""


@dataclass(frozen=True, slots=True)
class Use:
    """A container's use of CPU between two readings, in cores."""

    from_ns: int
    to_ns: int
    cores: float


def uses(sent: Iterable[ExportMetricsServiceRequest]) -> dict[str, list[Use]]:
    """By container id."""
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for request in sent:
        for group in request.resource_metrics:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            for metric in (metric for scope in group.scope_metrics for metric in scope.metrics if metric.name in CPU):
                for point in metric.sum.data_points:
                    labels = {one.key: one.value.string_value for one in point.attributes}
                    container = resource.get("container.id") or labels.get("id", "").rpartition("/")[2]
                    seconds = point.as_double / (1e9 if metric.unit == "ns" else 1)
                    points[container].append((point.time_unix_nano, seconds))
    return {
        container: [
            Use(before[0], after[0], (after[1] - before[1]) / (after[0] - before[0]) * 1e9)
            for before, after in pairwise(own)
            if after[0] > before[0]
        ]
        for container, own in points.items()
    }


def calls(sent: Iterable[ExportTraceServiceRequest]) -> list[Call]:
    """The calls of a recording."""
    made: list[tuple[bytes, str, Span]] = []
    answers: dict[bytes, tuple[str, int]] = {}
    for request in sent:
        for group in request.resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            service = names.get("service.name", "")
            for span in (span for scope in group.scope_spans for span in scope.spans):
                if span.kind == Span.SPAN_KIND_CLIENT:
                    made.append((span.span_id, service, span))
                elif span.kind == Span.SPAN_KIND_SERVER:
                    answers[span.parent_span_id] = service, span.end_time_unix_nano - span.start_time_unix_nano
    found = []
    for span_id, caller, span in made:
        callee, answer_ns = answers.get(span_id, (_peer(span), 0))
        duration_ns = span.end_time_unix_nano - span.start_time_unix_nano
        found.append(Call(span.start_time_unix_nano, callee, caller, duration_ns - answer_ns))
    return found


def _peer(span: Span) -> str:
    words = {one.key: one.value.string_value for one in span.attributes}
    url = words.get("url.full") or words.get("http.url") or ""
    return urlsplit(url).hostname or words.get("server.address", span.name)


def most_unusual_cpu(found: Mapping[str, Sequence[Use]], window: Window, labels: Labels) -> str | None:
    """The service whose container's use is farthest from what it was in quiet time before, in standard deviations."""
    scores = {}
    for container, own in found.items():
        during = [use.cores for use in own if use.to_ns > window.from_ns and use.from_ns < window.to_ns]
        before = [use.cores for use in own if any(_inside(use, quiet) for quiet in _before(window, labels))]
        if during and len(before) >= 2:  # a standard deviation of one is none
            deviation = max(LEAST_DEVIATION, statistics.stdev(before))
            scores[container] = max(abs(cores - statistics.mean(before)) for cores in during) / deviation
    if not scores:
        return None
    first = max(scores, key=scores.__getitem__)
    return labels.containers.get(first, first)


def largest_gap(found: Sequence[Call], window: Window, labels: Labels) -> str | None:
    """The service at which calls now take most longer, on their way or where nobody looks; None where none does."""
    quiet = _before(window, labels)
    during: dict[tuple[str, str], list[int]] = defaultdict(list)
    before: dict[tuple[str, str], list[int]] = defaultdict(list)
    for call in found:
        if window.from_ns <= call.start_ns < window.to_ns:
            during[call.caller, call.callee].append(call.gap_ns)
        elif any(one.from_ns <= call.start_ns < one.to_ns for one in quiet):
            before[call.caller, call.callee].append(call.gap_ns)
    grown = {
        edge: statistics.mean(gaps) - statistics.mean(before[edge])
        for edge, gaps in during.items()
        if min(len(gaps), len(before.get(edge, ()))) >= LEAST_CALLS
    }
    return max(grown, key=grown.__getitem__)[1] if grown else None


def _before(window: Window, labels: Labels) -> list[Window]:
    return [one for one in labels.windows if one.fault is None and one.to_ns <= window.from_ns]


def _inside(use: Use, window: Window) -> bool:
    return window.from_ns <= use.from_ns and use.to_ns <= window.to_ns
