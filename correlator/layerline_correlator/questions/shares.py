"""What some requests have in common, against the others of a window: a rectangle drawn in a heatmap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from layerline_correlator.incidents.lift import Count, shares
from layerline_correlator.incidents.model import Share
from layerline_correlator.questions.requests import RequestQuery, matching_requests, why_none
from layerline_correlator.store.sealed import SPAN, narrow
from layerline_correlator.store.statements import text
from layerline_correlator.times import rfc3339

#: Examples that are named.
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Picked:
    """Which of the requests of a window are compared with the others: when they began, and how long they took."""

    from_ns: int | None = None
    to_ns: int | None = None
    least_ns: int | None = None
    most_ns: int | None = None  # not reached


@dataclass(frozen=True, slots=True)
class PickedRequest:
    """One of those that were picked, the longest first."""

    trace_id: str
    span_id: str
    operation: str
    start: str
    duration_ns: int
    cause: str | None
    status: str  # "ok" | "error"


@dataclass(frozen=True, slots=True)
class Shares:
    """What the picked requests have in common; ``items`` are the most telling first."""

    picked: int
    others: int
    items: list[Share] = field(default_factory=list)
    examples: list[PickedRequest] = field(default_factory=list)
    next: str | None = None
    reason: str | None = None  # why there is nothing to tell them by


def read_shares(cursor: duckdb.DuckDBPyConnection, query: RequestQuery, picked: Picked, waiting: int) -> Shares:
    """Tags and attributes that the picked requests of the window have clearly more often than the others."""
    matching, bound = matching_requests(query)
    conditions, values = ["true"], dict[str, Any]()
    for name, sql, value in (
        ("picked_from_ns", "start_ns >= $picked_from_ns", picked.from_ns),
        ("picked_to_ns", "start_ns < $picked_to_ns", picked.to_ns),
        ("least_ns", "end_ns - start_ns >= $least_ns", picked.least_ns),
        ("most_ns", "end_ns - start_ns < $most_ns", picked.most_ns),
    ):
        if value is not None:
            conditions.append(sql)
            values[name] = value
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_request AS SELECT trace_id, span_id, start_ns, end_ns, resource,"
        f" container_id, host, operation, cause, status, {' AND '.join(conditions)} AS picked"
        f" FROM request WHERE {matching}",
        bound | values,
    ).fetchall()
    ((of_picked, of_others),) = cursor.execute(
        "SELECT count(*) FILTER (picked), count(*) FILTER (NOT picked) FROM wanted_request"
    ).fetchall()
    if not of_picked:
        none = why_none(cursor, replace(query, min_duration_ns=0), waiting) if not of_others else "nothing was picked"
        return Shares(0, of_others, reason=none)
    narrow(cursor, query.from_ns, query.to_ns, SPAN)
    counts = cursor.execute(text("questions/shares.sql"), {"from_ns": query.from_ns, "to_ns": query.to_ns}).fetchall()
    items = shares(Count(*row) for row in counts)
    examples = cursor.execute(
        "SELECT trace_id, span_id, operation, start_ns, end_ns - start_ns, cause, failed(status) FROM wanted_request"
        " WHERE picked ORDER BY end_ns - start_ns DESC, start_ns, span_id LIMIT $most",
        {"most": _EXAMPLES},
    ).fetchall()
    reason = None if items else "no tag and no attribute is clearly more frequent among them than among the others"
    return Shares(
        of_picked,
        of_others,
        items,
        [
            PickedRequest(trace, span, operation, rfc3339(start_ns), duration_ns, cause, "error" if failed else "ok")
            for trace, span, operation, start_ns, duration_ns, cause, failed in examples
        ],
        reason=reason,
    )
