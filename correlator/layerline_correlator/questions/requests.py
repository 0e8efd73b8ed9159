"""Requests of a window: the slow ones, or those of at least some duration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb

from layerline_correlator.questions.paging import Order, Page
from layerline_correlator.store.statements import first_row
from layerline_correlator.tagquery.condition import tag_condition
from layerline_correlator.tagquery.model import Selection
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.ledgers import Request, select_requests, status_word


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Which requests: a half-open window on their start, and filters."""

    from_ns: int
    to_ns: int
    service: str | None = None
    operation: str | None = None
    tags: tuple[Selection, ...] = ()  # all of them
    min_duration_ns: int | None = None  # replaces "slow"
    order: str = "excess"  # "excess" | "duration" | "start", descending
    limit: int = 50
    cursor: str | None = None
    absolute: bool = False  # rank without usual
    against: tuple[int, int] | None = None  # the time that a window is compared with; None: right before it


@dataclass(frozen=True, slots=True)
class RequestItem:
    """A request in a list."""

    trace_id: str
    span_id: str
    service: str
    operation: str
    start: str
    duration_ns: int
    usual_ns: int | None
    excess_ns: int | None
    slow: bool
    status: str  # "unset" | "ok" | "error"
    cause: str | None  # first culprit


#: What ``RequestQuery.order`` sorts by: in SQL, and of a row.
_SORTED_BY: dict[str, tuple[str, Callable[[Request], int]]] = {
    "excess": (
        "coalesce(end_ns - start_ns - usual_ns, end_ns - start_ns)",
        lambda row: row.duration_ns - (row.usual_ns or 0),
    ),
    "duration": ("end_ns - start_ns", lambda row: row.duration_ns),
    "start": ("start_ns", lambda row: row.start_ns),
}


def read_requests(cursor: duckdb.DuckDBPyConnection, query: RequestQuery, waiting: int) -> Page[RequestItem]:
    """A page of them. ``waiting`` is how many traces have yet to be worked out. ``BadCursor``."""
    sql, value = _SORTED_BY[query.order]
    order = Order(f"requests by {query.order}", {sql: int, "span_id": str}, descending=True)
    page = order.slice(query.cursor, query.limit)
    matching, bound = matching_requests(query)
    chosen, least = chosen_requests(query)
    rows = select_requests(
        cursor, f"{matching} AND {chosen} AND {page.condition} {page.end}", bound | least | page.bound
    )
    shown, following = page.cut(rows, lambda row: (value(row), row.span_id))
    return Page([_item(row) for row in shown], following, None if rows else why_none(cursor, query, waiting))


def matching_requests(query: RequestQuery, *, at_any_time: bool = False) -> tuple[str, dict[str, Any]]:
    """SQL for the requests that match window and filters, however long they took, and what it binds.

    ``at_any_time`` leaves the window out: for what is also asked about the time before.
    """
    conditions = ["true"] if at_any_time else ["start_ns >= $from_ns AND start_ns < $to_ns"]
    bound: dict[str, Any] = {} if at_any_time else {"from_ns": query.from_ns, "to_ns": query.to_ns}
    if query.service is not None:
        conditions.append("service = $service")
        bound["service"] = query.service
    if query.operation is not None:
        conditions.append("operation = $operation")
        bound["operation"] = query.operation
    for number, selection in enumerate(query.tags):
        condition, words = tag_condition(number, selection)
        conditions.append(condition)
        bound |= words
    return " AND ".join(conditions), bound


def chosen_requests(query: RequestQuery) -> tuple[str, dict[str, Any]]:
    """SQL for the requests that took long enough to be asked for, and what it binds."""
    if query.min_duration_ns is None:
        return "slow", {}
    return "end_ns - start_ns >= $min_duration_ns", {"min_duration_ns": query.min_duration_ns}


def why_none(cursor: duckdb.DuckDBPyConnection, query: RequestQuery, waiting: int) -> str:
    """Why no request was chosen."""
    if waiting:
        return f"{waiting} traces are still being worked out; ask again in a moment"
    received = _count(cursor, *matching_requests(RequestQuery(query.from_ns, query.to_ns)))
    if not received:
        return "no request was received in this window"
    matching = _count(cursor, *matching_requests(query))
    if not matching:
        return f"none of the {received} requests received in this window matches the filters"
    if query.min_duration_ns is not None:
        return f"none of the {matching} requests in this window took that long"
    return f"none of the {matching} requests in this window was slow"


def _count(cursor: duckdb.DuckDBPyConnection, condition: str, bound: dict[str, Any]) -> int:
    found = first_row(cursor.execute(f"SELECT count(*) FROM request WHERE {condition}", bound))
    return found[0] if found else 0


def _item(row: Request) -> RequestItem:
    return RequestItem(
        trace_id=row.trace_id,
        span_id=row.span_id,
        service=row.service,
        operation=row.operation,
        start=rfc3339(row.start_ns),
        duration_ns=row.duration_ns,
        usual_ns=row.usual_ns,
        excess_ns=None if row.usual_ns is None else row.duration_ns - row.usual_ns,
        slow=row.slow,
        status=status_word(row.status),
        cause=row.cause,
    )
