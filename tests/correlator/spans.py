"""Spans and readings for the tests of the correlator, written down as one would draw them on paper."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from layerline.attributes import SPAN_FIGURES, column
from layerline.signals import find
from layerline_correlator.store.model import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    Batch,
    EventRow,
    PointRow,
    ResourceRow,
    SeriesRow,
    SpanRow,
    attribute_text,
    resource_key,
    series_key,
)

MS = 1_000_000
KINDS = {"internal": INTERNAL, "server": SERVER, "client": CLIENT, "producer": PRODUCER, "consumer": CONSUMER}
#: Short words of the drawings, and the figures they stand for (milliseconds for times).
TIMES = {
    "cpu": "thread_cpu_ns",
    "wait": "thread_runqueue_ns",
    "system": "thread_system_ns",
    "blkio": "thread_blkio_ns",
    "gc": "gc_ns",
    "throttled": "container_throttled_ns",
    "usage": "container_usage_ns",
    "runnable": "container_runnable_ns",
    "io_pressure": "container_io_pressure_ns",
    "accept_wait": "accept_wait_ns",
    "accept_busy": "accept_busy_ns",
    "accept_runqueue": "accept_runqueue_ns",
    "pool_wait": "pool_wait_ns",
    "loop_wait": "loop_wait_ns",
    "loop_wait_low": "loop_wait_low_ns",
    "loop_queued": "loop_queued_ns",
    "samples_every": "samples_every_ns",
    "cpu_quota": "container_cpu_quota_ns",
    "cpu_period": "container_cpu_period_ns",
}
COUNTS = {
    "switches": "thread_voluntary_switches",
    "faults": "thread_major_faults",
    "blocks_read": "thread_blocks_read",
    "blocks_written": "thread_blocks_written",
    "refaults": "container_refaults",
    "oom_kills": "container_oom_kills",
    "first": "process_first_request",
    "throttled_periods": "container_throttled_periods",
}
_COLUMNS = [column(name) for name in SPAN_FIGURES]


def container_id(name: str) -> str:
    """64 hex digits for a container's name."""
    return name.encode().hex().ljust(64, "0")[:64]


def resource(
    service: str | None,
    container: str | None = None,
    host: str | None = "host-1",
    pid: int | None = None,
    cpus: int | None = None,
) -> ResourceRow:
    """A process, or (``service=None``) what the agent says of a container or of the host."""
    attributes = {}
    if service is not None:
        pid = pid or (1 if service == "web" else 2 + sum(service.encode()))  # another service is another process
        attributes |= {"service.name": service, "process.pid": str(pid)}
        if cpus is not None:
            attributes["layerline.cpus"] = str(cpus)
    if host is not None:
        attributes["layerline.boot_id"] = host
    if container is not None:
        attributes["container.id"] = container_id(container)
        if service is None:
            attributes["container.name"] = container
    elif service is None:
        attributes |= {"host.id": f"{host}-id", "host.name": f"{host}-name"}
    return ResourceRow(resource_key(attributes), attributes)


def span_row(drawn: Mapping[str, Any], trace_id: str, zero_ns: int) -> tuple[ResourceRow, SpanRow]:
    """One drawn span: ``{id, parent, service, container, kind, name, ms = [from, to], cpu, wait, …}``."""
    owner = resource(
        drawn.get("service", "web"),
        drawn.get("container"),
        drawn.get("host", "host-1"),
        drawn.get("pid"),
        drawn.get("cpus"),
    )
    from_ms, to_ms = drawn["ms"]
    figures = {name: round(drawn[word] * MS) for word, name in TIMES.items() if word in drawn}
    figures |= {name: drawn[word] for word, name in COUNTS.items() if word in drawn}
    measured = "cpu" in drawn and "reason" not in drawn
    slices = [round(number * MS) for piece in drawn.get("slices", []) for number in piece]
    if measured and not slices:
        begun = round((drawn.get("accept_wait", 0) + drawn.get("pool_wait", 0)) * MS)
        length = round((to_ms - from_ms) * MS) - begun
        slices = [begun, length, figures["thread_cpu_ns"], figures.get("thread_runqueue_ns", 0)]
    attributes = dict(drawn.get("attributes", {}))
    if "samples" in drawn:
        attributes["layerline.samples"] = attribute_text(drawn["samples"])
    if "holder_wait" in drawn:
        low, high = drawn["holder_wait"]
        attributes |= {"layerline.holder.wait_low_ratio": str(low), "layerline.holder.wait_high_ratio": str(high)}
    if "lock_held_by" in drawn:
        attributes["layerline.lock.held_by"] = drawn["lock_held_by"]
    if "loop_stood" in drawn:
        low, high = drawn["loop_stood"]
        attributes |= {"layerline.loop.runqueue_low_ns": str(low * MS), "layerline.loop.runqueue_ns": str(high * MS)}
    if "held_by" in drawn:
        attributes["layerline.loop.held_by"] = drawn["held_by"]
    return owner, SpanRow(
        trace_id=trace_id,
        span_id=hex_id(drawn["id"]),
        parent_span_id=hex_id(drawn["parent"]) if "parent" in drawn else None,
        resource=owner.resource,
        name=drawn.get("name", drawn["id"]),
        kind=KINDS[drawn.get("kind", "internal")],
        start_ns=zero_ns + round(from_ms * MS),
        end_ns=zero_ns + round(to_ms * MS),
        status=0,
        thread_id=drawn.get("thread", 1),
        account=drawn.get("account", "thread") if measured else ("none" if "reason" in drawn else None),
        account_reason=drawn.get("reason"),
        slices=slices or None,
        figures=tuple(figures.get(name) for name in _COLUMNS),
        attributes=attributes,
    )


def event_row(drawn: Mapping[str, Any], zero_ns: int) -> tuple[ResourceRow, EventRow]:
    """One drawn event of a container: ``{name, container, at}``."""
    owner = resource(None, drawn["container"], drawn.get("host", "host-1"))
    return owner, EventRow(owner.resource, zero_ns + round(drawn["at"] * MS), drawn["name"], "", {})


def hex_id(text: str) -> str:
    """A span id for a short name."""
    return text.encode().hex().rjust(16, "0")[:16]


def series_rows(drawn: Mapping[str, Any], zero_ns: int) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    """One drawn series: ``{signal, container or host, tags, resource, at = [ms …], values = […]}``; times are ms."""
    owner = resource(None, drawn.get("container"), drawn.get("host", "host-1"))
    if "resource" in drawn:
        attributes = owner.attributes | drawn["resource"]
        owner = ResourceRow(resource_key(attributes), attributes)
    signal = find(drawn["signal"])
    assert signal is not None, f"{drawn['signal']} is not in the catalogue"
    factor = MS if signal.unit == "ns" else 1
    tags = dict(drawn.get("tags", {}))
    row = SeriesRow(
        series_key(owner.resource, signal.name, tags),
        owner.resource,
        signal.name,
        signal.unit,
        "gauge" if signal.kind == "gauge" else "cumulative",
        tags,
    )
    start_ns = zero_ns + round(drawn.get("start", -3_600_000) * MS)
    points = [
        PointRow(row.series, start_ns, zero_ns + round(at * MS), float(value * factor))
        for at, value in zip(drawn["at"], drawn["values"], strict=True)
    ]
    return owner, row, points


def told_by_docker_stats(drawn: Mapping[str, Any], zero_ns: int) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    """The same series as a Collector on the same machine sends it."""
    return as_collector(*series_rows(drawn, zero_ns))


def told_after_rename(drawn: Mapping[str, Any], zero_ns: int) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    """The same series as our agent sends it after `docker rename`."""
    return as_renamed(*series_rows(drawn, zero_ns))


def as_collector(
    owner: ResourceRow, row: SeriesRow, points: list[PointRow]
) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    """A series of our agent as a Collector's receiver on the same machine describes it: it knows no boot id."""
    attributes = dict(owner.attributes)
    host = attributes.pop("layerline.boot_id")
    return _described(attributes | {"host.id": f"{host}-id", "host.name": f"{host}-name"}, row, points)


def as_renamed(
    owner: ResourceRow, row: SeriesRow, points: list[PointRow]
) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    """A series of our agent as it describes it when the container, or the machine, has another name."""
    name = "container.name" if "container.name" in owner.attributes else "host.name"
    return _described(owner.attributes | {name: f"{owner.attributes[name]}-renamed"}, row, points)


def _described(
    attributes: dict[str, str], row: SeriesRow, points: list[PointRow]
) -> tuple[ResourceRow, SeriesRow, list[PointRow]]:
    owner = ResourceRow(resource_key(attributes), attributes)
    key = series_key(owner.resource, row.signal, row.attributes)
    return owner, row._replace(series=key, resource=owner.resource), [point._replace(series=key) for point in points]


def batch(
    spans: Iterable[tuple[ResourceRow, SpanRow]], series: Iterable[Any] = (), events: Iterable[Any] = ()
) -> Batch:
    """What the receivers would hand to the store."""
    spans, series, events = list(spans), list(series), list(events)
    owners = {row.resource: row for row, *_ in (*spans, *series, *events)}
    return Batch(
        resources=list(owners.values()),
        spans=[row for _, row in spans],
        series=[row for _, row, _ in series],
        points=[point for _, _, points in series for point in points],
        events=[row for _, row in events],
    )


def own(name: str, number: int) -> str:
    """A name of the drawing ``number`` alone; ``drawn_name`` gives the drawn name back."""
    return f"{name}~{number}"


def drawn_name(text: str) -> str:
    """What the drawing says for a name that ``alone`` changed."""
    return re.sub(r"~\d+", "", text)


def alone(drawn: Batch, number: int) -> Batch:
    """The same on machines, in containers and of services of its own, so that many drawings fit into one store.

    Ids of traces and spans stay as drawn: traces must differ already, spans need not.
    """
    named = ("service.name", "layerline.boot_id", "host.id", "host.name", "container.name")

    def renamed(row: ResourceRow) -> ResourceRow:
        attributes = {key: own(text, number) if key in named else text for key, text in row.attributes.items()}
        if "container.id" in attributes:
            attributes["container.id"] = f"{attributes['container.id'][:56]}{number:08x}"
        return ResourceRow(resource_key(attributes), attributes)

    def calling(row: SpanRow) -> dict[str, str]:
        return {key: own(text, number) if key == "server.address" else text for key, text in row.attributes.items()}

    owners = {row.resource: renamed(row) for row in drawn.resources}
    of = {old: new.resource for old, new in owners.items()}
    series = {row.series: series_key(of[row.resource], row.signal, row.attributes) for row in drawn.series}
    return replace(
        drawn,
        resources=list(owners.values()),
        spans=[row._replace(resource=of[row.resource], attributes=calling(row)) for row in drawn.spans],
        series=[row._replace(series=series[row.series], resource=of[row.resource]) for row in drawn.series],
        points=[row._replace(series=series[row.series]) for row in drawn.points],
        events=[row._replace(resource=of[row.resource]) for row in drawn.events],
    )


def together(batches: Iterable[Batch]) -> Batch:
    """Several batches as one: what is in one transaction is worked out in one pass."""
    batches = list(batches)
    return Batch(
        resources=[row for batch in batches for row in batch.resources],
        spans=[row for batch in batches for row in batch.spans],
        series=[row for batch in batches for row in batch.series],
        points=[row for batch in batches for row in batch.points],
        events=[row for batch in batches for row in batch.events],
    )


def a_while_ago(seconds: int = 60) -> int:
    """A zero for drawings: so long ago that everything is settled."""
    return time.time_ns() // MS * MS - seconds * 10**9
