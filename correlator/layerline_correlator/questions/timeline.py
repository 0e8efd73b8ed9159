"""The timeline: what every layer did at the same moment, for a request, an operation, an entity or tags.

Series are aligned on one grid of steps. A step that nobody looked at is null; a step in which a counter was read and
did not rise is 0. The dataclasses are, name for name, the JSON of ``GET /api/v1/timeline``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import POINT, coarsest_ns, extent, narrow
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import QUARTER_NS, VIEWS, cover
from layerline_correlator.tagquery.condition import tag_condition
from layerline_correlator.tagquery.model import Selection
from layerline_correlator.times import rfc3339

_MS, _S, _M, _H = 10**6, 10**9, 60 * 10**9, 3600 * 10**9
#: The steps that are chosen from; beyond them whole days.
STEPS_NS = (
    *(100 * _MS, 200 * _MS, 500 * _MS, 1 * _S, 2 * _S, 5 * _S, 10 * _S, 30 * _S),
    *(1 * _M, 5 * _M, 15 * _M, 30 * _M, 1 * _H, 3 * _H, 6 * _H, 12 * _H, 24 * _H),
)
#: Points of a series where the step is chosen, and where it is asked for.
POINTS, MOST_POINTS = 240, 2_000
#: Entities of a kind, series of readings and events shown, at most.
_ENTITIES, _SERIES, _EVENTS = 20, 500, 500
#: A request is shown with so much around it, at least.
_AROUND_NS = 5 * _S
#: Readings that reach into the window began at most so long before it, and end so long after.
_READINGS_AROUND_NS = 130 * _S
#: What requests lose within the window counts there, too, where they began so long before it, at most.
_REQUESTS_BEFORE_NS = _H
_LAST_NS = 2**62

#: The files of a timeline that reads every row, and of one that reads minutes; and what they are given.
BY_ROW = (("questions/timeline.sql", "questions/timeline_rows.sql"), ("picked",))
BY_MINUTE = (
    ("questions/timeline.sql", "summaries/stretches.sql", "questions/timeline_minutes.sql"),
    ("picked", *VIEWS),
)

#: What is shown of containers and hosts unless signals are asked for.
SIGNALS = (
    "container.cpu.time",
    "container.cpu.throttled",
    "container.cpu.limit",
    "container.memory.working_set",
    "container.memory.limit",
    "container.memory.refaults",
    "container.memory.oom_kills",
    "container.disk.io",
    "container.io.pressure",
    "container.network.io",
    "container.network.tcp.retransmits",
    "system.cpu.time",
    "system.cpu.pressure",
    "system.memory.available",
    "system.memory.pressure",
    "system.disk.io",
    "system.disk.io_time",
    "system.io.pressure",
    "system.network.io",
    "system.network.tcp.retransmits",
)


class StepTooFine(ValueError):
    """A step that would give more points than are shown; the message says which would do."""


@dataclass(frozen=True, slots=True)
class TimelineQuery:
    """What the timeline is of: one request, or what service, operation, entity and tags leave together; all if none.

    The window may be left out for a request: it is then the request and a little around it.
    """

    from_ns: int | None = None
    to_ns: int | None = None
    trace_id: str | None = None
    service: str | None = None
    operation: str | None = None
    entity: tuple[str, str] | None = None  # ("container" | "host", id or name)
    tags: tuple[Selection, ...] = ()
    step_ns: int | None = None  # None: chosen
    signals: tuple[str, ...] = SIGNALS  # patterns with *
    most_entities: int = _ENTITIES  # of a kind


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the timeline: a value for each step, null where nobody looked."""

    layer: str  # "app" | "dependency" | "network" | "container" | "host"
    about: str  # "requests" | "causes" | "readings"
    name: str  # "requests.p95", a cause or "unexplained", or a signal
    kind: str  # "count" in the step, "quantile" over it, "rate" per second, "level" (the mean over time)
    unit: str  # "1", "ns", "s/s", "By/s", …; of rates of time "s/s": 1 is one CPU, or one request waiting, all the time
    entity: Entity | None  # whose; null for the requests together
    attributes: dict[str, str]  # what tells it from others of that name: {"disk.io.direction": "write"}
    values: list[float | int | None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the window."""

    time: str
    name: str
    body: str
    entity: Entity | None  # null where it concerns everybody
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class IncidentMark:
    """An incident that touches the window; ``end`` is null while it lasts."""

    id: str
    start: str
    end: str | None
    services: list[str]
    cause: str | None  # first culprit
    summary: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many there were beside those shown."""

    entities: int = 0
    series: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Aligned series over a window. Step *i* begins at ``from`` + *i* · ``step_ns``; ``to`` ends the last."""

    from_: str
    to: str
    step_ns: int
    points: int
    trace_id: str | None
    service: str | None
    operation: str | None
    series: list[Series] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    incidents: list[IncidentMark] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    reason: str | None = None  # why there is nothing to show


#: The incidents that touch ``[from_ns, to_ns)``, of the service and operation asked for where they are.
Incidents = Callable[[int, int, str | None, str | None], Iterable[IncidentMark]]


def read_timeline(
    cursor: duckdb.DuckDBPyConnection,
    query: TimelineQuery,
    name: Callable[[str, str], Entity],
    incidents: Incidents = lambda *_: (),
) -> Timeline | None:
    """The timeline; None where the request asked for is unknown. ``StepTooFine``."""
    service, operation, window = query.service, query.operation, (query.from_ns or 0, query.to_ns or 0)
    if query.trace_id is not None:
        row = first_row(
            cursor.execute(
                "SELECT service, operation, start_ns, end_ns FROM request WHERE trace_id = $trace_id AND root"
                " ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1",
                {"trace_id": query.trace_id},
            )
        )
        if row is None:
            return None
        service, operation, start_ns, end_ns = row
        around_ns = max(_AROUND_NS, end_ns - start_ns)
        if query.to_ns is None:
            window = start_ns - around_ns, end_ns + around_ns
    # Of an hour that was rolled up nothing is known within a step.
    coarse_ns = coarsest_ns(cursor, *window)
    from_ns, to_ns, step_ns = grid(*window, query.step_ns, coarse_ns)
    points = (to_ns - from_ns) // step_ns
    _pick(cursor, query.tags, from_ns, to_ns)
    entity_type, entity = query.entity or (None, None)
    since_ns, until_ns = max(0, from_ns - _READINGS_AROUND_NS), to_ns + _READINGS_AROUND_NS
    narrow(cursor, since_ns, until_ns + 1, POINT)
    by_minute = query.trace_id is None and step_ns % MINUTE_NS == 0
    if by_minute:
        quarters = step_ns % QUARTER_NS == 0
        cover(cursor, "point", since_ns, until_ns + 1, quarters=quarters)
        cover(cursor, "request", max(0, from_ns - _REQUESTS_BEFORE_NS), to_ns, quarters=quarters)
    graph(*(BY_MINUTE if by_minute else BY_ROW)).run(
        cursor,
        {
            "from_ns": from_ns,
            "to_ns": to_ns,
            "step_ns": step_ns,
            "since_ns": since_ns,
            "until_ns": until_ns,
            "coarse_ns": coarse_ns,
            "trace_id": query.trace_id,
            "service": service,
            "operation": operation,
            "entity_type": entity_type,
            "entity": entity,
            "by_tag": bool(query.tags),
            "everything": not (service or operation or entity or query.tags),
            "signals": list(query.signals),
            "entities": query.most_entities,
        },
    )
    readings = _readings(cursor, points, name)
    series = [*_requests(cursor, from_ns, to_ns, step_ns, points), *_causes(cursor, points), *readings[:_SERIES]]
    events = _events(cursor, name)
    reason = None
    if not series and not events:
        reason = _why_empty(cursor, query, from_ns, to_ns)
    return Timeline(
        from_=rfc3339(from_ns),
        to=rfc3339(to_ns),
        step_ns=step_ns,
        points=points,
        trace_id=query.trace_id,
        service=service,
        operation=operation,
        series=series,
        events=events[:_EVENTS],
        incidents=list(incidents(from_ns, to_ns, service, operation)),
        left_out=LeftOut(
            _count(cursor, "shown_entity WHERE was_read AND NOT shown"),
            max(0, len(readings) - _SERIES),
            max(0, len(events) - _EVENTS),
        ),
        reason=reason,
    )


def grid(from_ns: int, to_ns: int, step_ns: int | None, least_ns: int = 0) -> tuple[int, int, int]:
    """The window widened to whole steps, and the step: as asked for, else the finest that gives at most ``POINTS``
    and is at least ``least_ns``.

    ``StepTooFine`` where the one asked for gives more than ``MOST_POINTS``.
    """
    to_ns = min(to_ns, _LAST_NS)
    from_ns = max(0, min(from_ns, to_ns - 1))

    def widened(step_ns: int) -> tuple[int, int, int]:
        return from_ns // step_ns * step_ns, -(-to_ns // step_ns) * step_ns, step_ns

    def points(step_ns: int) -> int:
        begin, end, _ = widened(step_ns)
        return (end - begin) // step_ns

    def chosen(most: int) -> int:
        days = -(-(to_ns - from_ns) // (most - 1) // STEPS_NS[-1]) * STEPS_NS[-1]
        return next((step for step in STEPS_NS if step >= least_ns and points(step) <= most), days)

    if step_ns is None:
        return widened(chosen(POINTS))
    if step_ns <= 0 or points(step_ns) > MOST_POINTS:
        raise StepTooFine(
            f"it would give more than {MOST_POINTS:,} points; expected {chosen(MOST_POINTS) / _S:g}s or more"
        )
    return widened(step_ns)


def _pick(cursor: duckdb.DuckDBPyConnection, tags: Sequence[Selection], from_ns: int, to_ns: int) -> None:
    """Fill ``picked`` with those that carry all of the tags; nobody where there are none."""
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE picked (resource VARCHAR, container_id VARCHAR, host VARCHAR)"
    ).fetchall()
    if not tags:
        return
    conditions: list[str] = []
    values: dict[str, Any] = {"from_ns": from_ns, "to_ns": to_ns}
    for number, selection in enumerate(tags):
        condition, bound = tag_condition(number, selection)
        conditions.append(condition)
        values |= bound
    cursor.execute(
        "INSERT INTO picked SELECT resource, container_id, host FROM tagged($from_ns, $to_ns)"
        f" WHERE {' AND '.join(conditions)}",
        values,
    ).fetchall()


def _requests(
    cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, step_ns: int, points: int
) -> Iterable[Series]:
    """Latency and counts. Nothing counted is 0 only while the store was receiving requests at all."""
    rows = {step: rest for step, *rest in cursor.execute("SELECT * FROM request_step").fetchall()}
    if not rows:
        return
    first, last = cursor.execute("SELECT min(start_ns), max(start_ns) FROM request").fetchall()[0]
    for number, what in enumerate(("requests.count", "requests.errors", "requests.slow")):
        counts = [
            rows[step][number]
            if step in rows
            else (0 if first < from_ns + (step + 1) * step_ns and from_ns + step * step_ns <= last else None)
            for step in range(points)
        ]
        yield Series("app", "requests", what, "count", "1", None, {}, counts)
    for number, what in enumerate(("requests.p50", "requests.p95", "requests.p99")):
        latency = [rows[step][3][number] if step in rows else None for step in range(points)]
        yield Series("app", "requests", what, "quantile", "ns", None, {}, latency)


def _causes(cursor: duckdb.DuckDBPyConnection, points: int) -> list[Series]:
    """Where time went, most first. A cause that took nothing of a step with requests took 0."""
    lost: dict[str, dict[int, float]] = {}
    for cause, step, value in cursor.execute("SELECT cause, step, lost FROM cause_step").fetchall():
        lost.setdefault(cause, {})[step] = value
    seen = lost.get("unexplained", {})
    return [
        Series(
            layer="app" if cause == "unexplained" else cause.partition(".")[0],
            about="causes",
            name=cause,
            kind="rate",
            unit="s/s",
            entity=None,
            attributes={},
            values=[round(steps.get(step, 0.0), 9) if step in seen else None for step in range(points)],
        )
        for cause, steps in sorted(lost.items(), key=lambda item: (item[0] == "unexplained", -sum(item[1].values())))
    ]


def _readings(cursor: duckdb.DuckDBPyConnection, points: int, name: Callable[[str, str], Entity]) -> list[Series]:
    """The containers', then the hosts', then what services tell of themselves; each entity's in the order of names."""
    lines: dict[tuple[str, str, str, str, bool, tuple[tuple[str, str], ...]], list[float | int | None]] = {}
    # Lists, because a row for each value costs more to hand over than to work out.
    for kind, identity, signal, unit, is_level, attributes, steps, amounts in cursor.execute(
        "SELECT entity_type, entity_id, signal, unit, is_level, shown_attributes, steps, amounts FROM"
        " (SELECT shown_as, is_level, list(step) AS steps, list(value) AS amounts FROM reading_step GROUP BY ALL)"
        " JOIN (SELECT DISTINCT ON (shown_as) * FROM shown_line) USING (shown_as)"
    ).fetchall():
        key = (kind, identity, signal, unit, is_level, tuple(sorted((attributes or {}).items())))
        line = lines.setdefault(key, [None] * points)
        for step, value in zip(steps, amounts, strict=True):
            line[step] = value
    found = []
    for (kind, identity, signal, unit, is_level, attributes), values in lines.items():
        rate = not is_level
        in_time = rate and unit == "ns"
        found.append(
            Series(
                layer="app" if kind == "service" else kind,
                about="readings",
                name=signal,
                kind="rate" if rate else "level",
                unit="s/s" if in_time else (f"{unit}/s" if rate else unit),
                entity=name(kind, identity),
                attributes=dict(attributes),
                values=[
                    None if value is None else float(f"{value / 1e9 if in_time else value:.6g}") for value in values
                ],
            )
        )
    order = {"container": 0, "host": 1}
    return sorted(
        found,
        key=lambda one: (
            order.get(one.layer, 2),
            *((one.entity.name, one.entity.id) if one.entity else ("", "")),
            one.name,
            sorted(one.attributes.items()),
        ),
    )


def _events(cursor: duckdb.DuckDBPyConnection, name: Callable[[str, str], Entity]) -> list[Event]:
    return [
        Event(rfc3339(time_ns), what, body, name(kind, identity) if kind else None, attributes or {})
        for time_ns, what, body, attributes, kind, identity in cursor.execute(
            "SELECT time_ns, name, body, attributes, entity_type, entity_id FROM shown_event ORDER BY ALL"
        ).fetchall()
    ]


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _why_empty(cursor: duckdb.DuckDBPyConnection, query: TimelineQuery, from_ns: int, to_ns: int) -> str:
    if query.entity is not None and not _count(cursor, "asked_entity"):
        kind, identity = query.entity
        return f"nothing was ever received of a {kind} with the name or id {identity!r}"
    if query.tags and not _count(cursor, "picked"):
        return "nothing that was received carries these tags"
    first_point, last_point = extent(cursor)
    ((first, last),) = cursor.execute(
        "SELECT min(first), max(last) FROM (SELECT min(start_ns) AS first, max(start_ns) AS last FROM request"
        " UNION ALL SELECT $first_point::BIGINT, $last_point::BIGINT"
        " UNION ALL SELECT min(time_ns), max(time_ns) FROM event)",
        {"first_point": first_point, "last_point": last_point},
    ).fetchall()
    if first is None:
        return "nothing was received yet"
    if to_ns <= first:
        return f"the window is older than the data, which begins at {rfc3339(first)}"
    if from_ns > last:
        return f"the window is younger than the data, which ends at {rfc3339(last)}"
    return "nothing that was received in this window matches"
