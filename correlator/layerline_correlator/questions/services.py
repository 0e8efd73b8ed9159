"""Services over a window: how many requests each answered, how slow, and who called whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb

from layerline_correlator.store.sealed import SPAN, narrow
from layerline_correlator.store.statements import run
from layerline_correlator.summaries.cover import DAY_PART_NS, LONG_NS, cover


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """A service and the requests it answered in the window; quantiles of their durations."""

    service: str
    requests: int
    errors: int
    p50_ns: int
    p95_ns: int


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from one service to another, or to a dependency; quantiles of the caller's spans."""

    caller: str
    callee_type: str  # "service" | "dependency" (seen only from outside)
    callee: str  # the service's name; server.address:server.port of a dependency
    calls: int
    errors: int
    p50_ns: int
    p95_ns: int


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """A list of services, and the calls between them."""

    items: list[ServiceItem] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    next: str | None = None
    reason: str | None = None


def read_services(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    """The services a span was received from."""
    rows = cursor.execute("SELECT DISTINCT service FROM resource WHERE service IS NOT NULL ORDER BY service").fetchall()
    return [name for (name,) in rows]


def read_service_map(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> ServiceMap:
    """The services that answered requests in the window, and who called whom."""
    narrow(cursor, from_ns, to_ns, SPAN)
    for kind in ("request", "span"):
        cover(
            cursor,
            kind,
            from_ns,
            to_ns,
            summed=to_ns - from_ns > LONG_NS,
            quarters=to_ns - from_ns > DAY_PART_NS,
        )
    answered, calls = run(cursor, "questions/services.sql")
    items = [ServiceItem(*row) for row in answered]
    edges = [Edge(*row) for row in calls]
    reason = None if items else "no request was received in this window"
    return ServiceMap(items, edges, reason=reason)
