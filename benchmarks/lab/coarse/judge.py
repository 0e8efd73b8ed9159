"""What Layerline says of a case: by ``why`` over each window, and by the incidents that it found in the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from benchmarks.lab.coarse.floors import calls, largest_gap, most_unusual_cpu, uses
from benchmarks.lab.coarse.labels import Labels, Window, read_labels
from benchmarks.lab.coarse.messages import read_messages
from layerline_api.recorded.importing import import_files
from layerline_api.recorded.sources import sources
from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings

TRACES, METRICS = "traces.binpb", "metrics.binpb"
#: An incident belongs to the window in which it began, give or take so much.
NEAR_NS = 10 * 10**9


@dataclass(frozen=True, slots=True)
class Named:
    """Who is named first, and as what."""

    entity: tuple[str, ...]
    """Id and name."""
    cause: str | None
    layer: str | None
    how: str
    """``culprit``; ``slow``, where there was nothing to compare with: of what slow requests lose most to; ``failure``,
    ``edge`` or ``suspect``."""


@dataclass(frozen=True, slots=True)
class Found:
    """An incident."""

    id: str
    start_ns: int
    noticed_ns: int
    named: Named | None
    summary: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said of one window of one case."""

    case: str
    window: Window
    why: Named | None
    incidents: tuple[Found, ...]
    """Those that began in it."""
    cpu_floor: str | None
    gap_floor: str | None


def judge(case: Path) -> list[Judged]:
    """Every window of a case: a folder with spans, readings and labels."""
    labels = read_labels(case)
    cpu = uses(read_messages(case / METRICS, ExportMetricsServiceRequest))
    made = calls(read_messages(case / TRACES, ExportTraceServiceRequest))
    with imported(case) as correlator:
        incidents = list(found_incidents(correlator, labels))
        return [
            Judged(
                case.name,
                window,
                first_of_why(correlator, window),
                tuple(one for one in incidents if owner(one, labels) is window),
                most_unusual_cpu(cpu, window, labels),
                largest_gap(made, window, labels),
            )
            for window in labels.windows
        ]


@contextmanager
def imported(case: Path) -> Iterator[Correlator]:
    """A correlator of a store of its own that holds the case, worked out; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="layerline-coarse-") as name:
        settings = Settings(store=Path(name) / "store")
        told = StringIO()
        files = [case / TRACES, case / METRICS]
        _, failed = import_files(sources(files, "otlp"), settings, Console(file=told, force_terminal=False))
        if failed:
            raise ValueError(f"{case} cannot be imported: {told.getvalue().strip()}")
        correlator = Correlator.open(settings)
        try:
            yield correlator
        finally:
            correlator.close()


def first_of_why(correlator: Correlator, window: Window) -> Named | None:
    """Who ``layerline why --from … --to …`` names first; None where it names nobody."""
    items = plain(correlator.verdicts(RequestQuery(window.from_ns, window.to_ns, limit=10))).get("items", [])
    return next((named for item in items if (named := first_named(item, of_change=True)) is not None), None)


def first_named(verdict: Mapping[str, Any], *, of_change: bool = False) -> Named | None:
    """A verdict's first culprit, else where it failed, else its first suspect. ``of_change``: of what changed."""
    for how in ("culprit", "failure", "suspect"):
        for one in verdict.get(f"{how}s") or ():
            entity, cause = one.get("entity") or {}, one.get("cause")
            layer = one.get("layer") or (cause.partition(".")[0] if cause and "." in cause else None)
            if how == "failure":
                layer = "dependency" if one.get("dependency") else "app"
            elif how == "culprit" and of_change and verdict.get("ranked_by") != "change":
                how = "slow"
            return Named((str(entity.get("id", "")), str(entity.get("name", ""))), cause, layer, how)
    return None


def found_incidents(correlator: Correlator, labels: Labels) -> Iterator[Found]:
    """The incidents of the recording, in order of time."""
    from_ns, to_ns = labels.windows[0].from_ns - 600 * 10**9, labels.windows[-1].to_ns + 600 * 10**9
    items = correlator.incidents.list(IncidentQuery(from_ns, to_ns, limit=1_000)).items
    for item in sorted(items, key=lambda one: str(one["start"])):
        whole = correlator.incidents.one(item["id"]) or item
        named = None
        if whole.get("cause") is not None and whole.get("entity"):
            entity = whole["entity"]
            layer = whole["cause"].partition(".")[0]
            named = Named((str(entity["id"]), str(entity["name"])), whole["cause"], layer, "culprit")
        if named is None:
            named = first_named({**(whole.get("verdict") or {}), "failures": whole.get("failures")})
        is_open = named is None or named.how == "suspect"
        if is_open and (edge := next((one for one in whole.get("edges") or () if one["side"]), None)) is not None:
            named = by_edge(edge)
        yield Found(item["id"], _ns(item["start"]), _ns(item["noticed"]), named, item["summary"])


def by_edge(edge: Mapping[str, Any]) -> Named:
    """Where time passes between services, if nobody is to blame for it."""
    name = str(edge["caller"] if edge["side"] == "caller" else edge["callee"])
    layer = "network" if edge["side"] == "way" else "dependency" if edge["callee_type"] == "dependency" else "app"
    return Named((name, name), None, layer, "edge")


def owner(incident: Found, labels: Labels) -> Window | None:
    """The window that an incident belongs to: a fault's where it began in one, else a quiet one; None in between."""
    for window in sorted(labels.windows, key=lambda one: one.fault is None):
        slack_ns = 0 if window.fault is None else NEAR_NS
        if window.from_ns - slack_ns <= incident.start_ns < window.to_ns + slack_ns:
            return window
    return None


def _ns(text: str) -> int:
    whole, _, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(rest.ljust(9, "0")[:9] or 0)
