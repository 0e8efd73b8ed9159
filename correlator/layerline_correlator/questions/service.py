"""One service, or one operation of it, in a window: a heatmap of latency, and who and what its requests were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb

from layerline_correlator.entity import Entity
from layerline_correlator.questions.requests import RequestQuery, matching_requests, why_none
from layerline_correlator.questions.senders import choose_senders, whole_minutes_ns
from layerline_correlator.store.graph import graph
from layerline_correlator.summaries.cover import LONG_NS, QUARTER_NS, REQUESTS, cover
from layerline_correlator.times import rfc3339

FILES = ("questions/service.sql",), (*REQUESTS, "wanted_sender")
#: Rows of the heatmap at most, and so many classes of durations (1 % each) are a row at least.
_ROWS, _CLASSES = 36, 12
#: Operations, containers, versions and kinds of errors that are listed, at most.
_LISTED = 50


@dataclass(frozen=True, slots=True)
class Heatmap:
    """How many requests took how long when: ``cells[row][step]``. Row *i* is from ``bounds_ns[i]`` to the next."""

    bounds_ns: list[int] = field(default_factory=list)
    cells: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ServicePart:
    """The requests of one operation, container or version, most first."""

    name: str
    entity: Entity | None  # of a container
    requests: int
    errors: int
    slow: int
    p50_ns: int
    p95_ns: int
    first: str  # when the first of them began, in the window


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Failed requests of the same kind: the exception's or error's type, and the service in which they failed."""

    type: str | None
    status_code: str | None
    service: str | None
    requests: int
    example: str  # a trace id
    message: str | None  # of the example


@dataclass(frozen=True, slots=True)
class Service:
    """A service in a window. Step *i* begins at ``origin`` + *i* · ``step_ns``."""

    from_: str
    to: str
    origin: str
    step_ns: int
    points: int
    service: str
    operation: str | None
    requests: int
    errors: int
    heatmap: Heatmap
    operations: list[ServicePart] = field(default_factory=list)
    containers: list[ServicePart] = field(default_factory=list)
    versions: list[ServicePart] = field(default_factory=list)
    failures: list[ErrorKind] = field(default_factory=list)
    reason: str | None = None  # why there is nothing


def read_service(
    cursor: duckdb.DuckDBPyConnection, query: RequestQuery, name: Callable[[str, str], Entity], waiting: int
) -> Service:
    """The requests that ``query.service`` answered (and of ``query.operation`` only, where that is given)."""
    from_ns, to_ns = query.from_ns, query.to_ns
    step_ns = whole_minutes_ns(to_ns - from_ns)
    origin_ns = from_ns // step_ns * step_ns
    points = -(-(to_ns - origin_ns) // step_ns)
    choose_senders(cursor, query, from_ns)
    is_long = to_ns - from_ns > LONG_NS
    cover(cursor, "request", from_ns, to_ns, summed=is_long, quarters=step_ns % QUARTER_NS == 0)
    parameters = {"origin_ns": origin_ns, "step_ns": step_ns, "classes": _CLASSES}
    graph(*FILES).run(cursor, parameters)
    parts: dict[str, list[ServicePart]] = {}
    for what, named, requests, errors, slow, p50_ns, p95_ns, first_ns in cursor.execute(
        "SELECT * FROM service_part QUALIFY row_number() OVER (PARTITION BY what ORDER BY requests DESC, name) <= $most"
        " ORDER BY what, requests DESC, name",
        {"most": _LISTED},
    ).fetchall():
        entity = name("container", named) if what == "container" else None
        part = ServicePart(
            named if entity is None else entity.name, entity, requests, errors, slow, p50_ns, p95_ns, rfc3339(first_ns)
        )
        parts.setdefault(what, []).append(part)
    ((requests, errors),) = cursor.execute(
        "SELECT coalesce(sum(requests), 0)::BIGINT, coalesce(sum(errors), 0)::BIGINT FROM service_row"
    ).fetchall()
    return Service(
        from_=rfc3339(from_ns),
        to=rfc3339(to_ns),
        origin=rfc3339(origin_ns),
        step_ns=step_ns,
        points=points,
        service=query.service or "",
        operation=query.operation,
        requests=requests,
        errors=errors,
        heatmap=_heatmap(cursor, points),
        operations=parts.get("operation", []),
        containers=parts.get("container", []),
        versions=parts.get("version", []),
        failures=_failures(cursor, query) if errors else [],
        reason=None if requests else why_none(cursor, query, waiting),
    )


def _heatmap(cursor: duckdb.DuckDBPyConnection, points: int) -> Heatmap:
    """The cells, with rows put together where there are too many."""
    found = cursor.execute("SELECT step, level, requests FROM service_cell").fetchall()
    if not found:
        return Heatmap()
    least, most = min(level for _, level, _ in found), max(level for _, level, _ in found)
    together = -(-(most - least + 1) // _ROWS)
    rows = (most - least) // together + 1
    cells = [[0] * points for _ in range(rows)]
    for step, level, requests in found:
        cells[(level - least) // together][step] += requests
    # A class has the durations around its power of 1.01: it begins half a class below.
    bounds = [round(1.01 ** (max(0, (least + row * together) * _CLASSES) - 0.5)) for row in range(rows + 1)]
    return Heatmap(bounds, cells)


def _failures(cursor: duckdb.DuckDBPyConnection, query: RequestQuery) -> list[ErrorKind]:
    matching, bound = matching_requests(query)
    rows = cursor.execute(
        "SELECT failure.type, failure.status_code, failure.service, count(*), arg_max(trace_id, start_ns),"
        " arg_max(failure.message, start_ns)"
        f" FROM (FROM request WHERE {matching} AND failed(status)) AS request"
        " LEFT JOIN failure USING (trace_id, span_id, start_ns)"
        " GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3 LIMIT $most",
        {**bound, "most": _LISTED},
    ).fetchall()
    return [ErrorKind(*row) for row in rows]
