"""An overview of a window: a row per service, and its slow requests grouped by operation and cause.

Where the time of a service goes is said by layer, per request, beside the time before: as long as the window, at least
15 minutes, right before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from layerline_correlator.questions.requests import RequestQuery, chosen_requests, matching_requests, why_none
from layerline_correlator.questions.senders import choose_senders, is_filtered, whole_minutes_ns
from layerline_correlator.store.graph import graph
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import DAY_PART_NS, LONG_NS, QUARTER_NS, REQUESTS, cover
from layerline_correlator.times import rfc3339

LAYERS = ("app", "dependency", "network", "container", "host", "unexplained")
FIGURES = ("questions/overview.sql",), (*REQUESTS, "wanted_sender")
WHERE_TIME_WENT = ("questions/overview_layers.sql",), (*REQUESTS, "wanted_sender", "overview_service")
#: The time before is at least so long.
_BEFORE_NS = 15 * 60 * 10**9
#: Requests of a group that are listed, and groups.
_EXAMPLES, _GROUPS = 5, 30


@dataclass(frozen=True, slots=True)
class LayerTime:
    """How much of a request's time a layer took, on average, and in the time before (null where there was none)."""

    layer: str  # "app" | "dependency" | "network" | "container" | "host" | "unexplained"
    lost_ns: int
    before_ns: int | None


@dataclass(frozen=True, slots=True)
class ServiceOverview:
    """A service in a window. Of a step without requests the quantiles are null."""

    service: str
    requests: int
    errors: int
    slow: int
    p50_ns: int
    p95_ns: int
    p99_ns: int
    counts: list[int]
    errors_by_step: list[int]
    p50: list[int | None]
    p95: list[int | None]
    p99: list[int | None]
    layers: list[LayerTime]


@dataclass(frozen=True, slots=True)
class SlowExample:
    """One of a group of slow requests."""

    trace_id: str
    span_id: str
    start: str
    duration_ns: int
    usual_ns: int | None


@dataclass(frozen=True, slots=True)
class SlowGroup:
    """The slow requests of an operation with the same first cause; ``excess_ns``: by how much they were too slow."""

    service: str
    operation: str
    cause: str | None
    requests: int
    excess_ns: int
    longest_ns: int
    examples: list[SlowExample]


@dataclass(frozen=True, slots=True)
class Overview:
    """What happened in a window, service by service. Step *i* begins at ``origin`` + *i* · ``step_ns``."""

    from_: str
    to: str
    origin: str
    step_ns: int
    points: int
    items: list[ServiceOverview] = field(default_factory=list)
    left_out: int = 0  # services beside those in `items`
    slow: list[SlowGroup] = field(default_factory=list)
    slow_left_out: int = 0  # groups beside those in `slow`
    next: str | None = None
    reason: str | None = None  # why there is no service
    slow_reason: str | None = None  # why nothing was slow


def read_overview(cursor: duckdb.DuckDBPyConnection, query: RequestQuery, search: str, waiting: int) -> Overview:
    """The services that answered requests, those with slow and failed ones first; at most ``query.limit``.

    ``search`` is part of a service's name. ``waiting``: how many traces have yet to be worked out.
    """
    from_ns, to_ns = query.from_ns, query.to_ns
    step_ns = whole_minutes_ns(to_ns - from_ns)
    origin_ns = from_ns // step_ns * step_ns
    points = -(-(to_ns - origin_ns) // step_ns)
    before_ns = max(0, from_ns - max(_BEFORE_NS, to_ns - from_ns))
    choose_senders(cursor, query, before_ns)
    parameters = {
        "from_ns": from_ns,
        "origin_ns": origin_ns,
        "step_ns": step_ns,
        "filtered": is_filtered(query),
        "search": search.lower(),
        "limit": query.limit,
    }
    is_long = to_ns - from_ns > LONG_NS
    cover(cursor, "request", from_ns, to_ns, summed=is_long, quarters=step_ns % QUARTER_NS == 0)
    graph(*FIGURES).run(cursor, parameters)
    cover(
        cursor,
        "request",
        before_ns,
        to_ns,
        apart={from_ns // MINUTE_NS},
        quarters=to_ns - before_ns > DAY_PART_NS,
    )
    graph(*WHERE_TIME_WENT).run(cursor, parameters)
    items = _services(cursor, query.limit, points)
    known = first_row(cursor.execute("SELECT count(*) FROM overview_service"))
    slow, slow_left_out = _slow(cursor, query)
    reason = None
    if not items:
        reason = f"no service has {search!r} in its name" if search else why_none(cursor, query, waiting)
    return Overview(
        from_=rfc3339(from_ns),
        to=rfc3339(to_ns),
        origin=rfc3339(origin_ns),
        step_ns=step_ns,
        points=points,
        items=items,
        left_out=(known[0] if known else 0) - len(items),
        slow=slow,
        slow_left_out=slow_left_out,
        reason=reason,
        slow_reason=None if slow else why_none(cursor, query, waiting),
    )


def _services(cursor: duckdb.DuckDBPyConnection, limit: int, points: int) -> list[ServiceOverview]:
    steps: dict[str, dict[int | None, tuple[int, int, list[int]]]] = {}
    for service, step, requests, errors, latency in cursor.execute("FROM overview_step").fetchall():
        steps.setdefault(service, {})[step] = requests, errors, latency
    layers: dict[str, dict[tuple[str, bool], float]] = {}
    for service, is_now, layer, lost_ns, _ in cursor.execute("FROM overview_layer").fetchall():
        layers.setdefault(service, {})[layer, is_now] = lost_ns
    found = []
    for service, slow in cursor.execute(
        "SELECT service, slow FROM overview_service WHERE place <= $limit ORDER BY place", {"limit": limit}
    ).fetchall():
        by_step = steps[service]
        requests, errors, (p50_ns, p95_ns, p99_ns) = by_step[None]
        lines = [[by_step[step][2][which] if step in by_step else None for step in range(points)] for which in range(3)]
        lost = layers.get(service, {})
        has_before = any(not is_now for _, is_now in lost)
        found.append(
            ServiceOverview(
                service=service,
                requests=requests,
                errors=errors,
                slow=slow,
                p50_ns=p50_ns,
                p95_ns=p95_ns,
                p99_ns=p99_ns,
                counts=[by_step[step][0] if step in by_step else 0 for step in range(points)],
                errors_by_step=[by_step[step][1] if step in by_step else 0 for step in range(points)],
                p50=lines[0],
                p95=lines[1],
                p99=lines[2],
                layers=[
                    LayerTime(
                        layer,
                        round(lost.get((layer, True), 0.0)),
                        round(lost.get((layer, False), 0.0)) if has_before else None,
                    )
                    for layer in LAYERS
                    if (layer, True) in lost or (layer, False) in lost
                ],
            )
        )
    return found


def _slow(cursor: duckdb.DuckDBPyConnection, query: RequestQuery) -> tuple[list[SlowGroup], int]:
    """The groups with most excess, and how many others there are."""
    matching, bound = matching_requests(query)
    chosen, least = chosen_requests(query)
    values: dict[str, Any] = bound | least
    rows = cursor.execute(
        "WITH slow AS (SELECT *, end_ns - start_ns AS duration_ns,"
        " end_ns - start_ns - coalesce(usual_ns, 0) AS excess_ns"
        f" FROM request WHERE {matching} AND {chosen}),"
        " ranked AS (SELECT *, row_number() OVER (PARTITION BY service, operation, cause"
        " ORDER BY excess_ns DESC, start_ns, span_id) AS place FROM slow)"
        " SELECT service, operation, cause, count(*), sum(excess_ns)::BIGINT, max(duration_ns),"
        " list([trace_id, span_id] ORDER BY place) FILTER (place <= $examples),"
        " list([start_ns, duration_ns, usual_ns] ORDER BY place) FILTER (place <= $examples),"
        " count(*) OVER ()"
        " FROM ranked GROUP BY service, operation, cause ORDER BY 5 DESC, 1, 2, 3 LIMIT $groups",
        {**values, "examples": _EXAMPLES, "groups": _GROUPS},
    ).fetchall()
    groups = [
        SlowGroup(
            service,
            operation,
            cause,
            requests,
            excess_ns,
            longest_ns,
            [
                SlowExample(trace_id, span_id, rfc3339(start_ns), duration_ns, usual_ns)
                for (trace_id, span_id), (start_ns, duration_ns, usual_ns) in zip(ids, times, strict=True)
            ],
        )
        for service, operation, cause, requests, excess_ns, longest_ns, ids, times, _ in rows
    ]
    return groups, (rows[0][-1] if rows else 0) - len(groups)
