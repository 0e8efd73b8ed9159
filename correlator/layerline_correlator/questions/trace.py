"""One trace, as it was received: its spans, and the segments of its root request's critical path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
from typing_extensions import TypedDict

from layerline_correlator.ledger import work as ledger
from layerline_correlator.store.model import ERROR, WARN
from layerline_correlator.store.sealed import narrow_to_traces
from layerline_correlator.store.statements import first_row
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.ledgers import status_word

_KIND = ("unspecified", "internal", "server", "client", "producer", "consumer")

_SPANS = """
SELECT node.span_no, node.span_id, node.parent_span_id, coalesce(service, '') AS service, node.name, node.kind,
       node.start_ns - shift_ns AS start_ns,
       node.end_ns - node.start_ns AS duration_ns, node.status, container_id, node.account, node.account_reason,
       shift_ns, node.thread_id, host, join_method, join_confidence, join_reason,
       node.status_message, exception, node.attributes, events, links, trace_state, left_out
FROM node
LEFT JOIN span ON span.received_no = node.received_no AND span.trace_id = node.trace_id AND span.span_id = node.span_id
{}
ORDER BY node.start_ns, span_no
"""

#: Log records shown, at most; and how long after a trace's begin those that name no trace are looked for.
LOGS, FOLLOWED_NS = 500, 3600 * 10**9

#: The trace's own log records, then warnings and errors that name no trace, from a process or container while it was at
#: work for this one. The first of the trace, however many there are; `shown` are in order of time.
_LOGS = """
WITH
places AS (
    SELECT instance, container_id, min(start_ns - shift_ns) AS from_ns, max(end_ns - shift_ns) AS to_ns
    FROM node GROUP BY ALL
),
bounds AS (
    SELECT min(from_ns) AS from_ns, least(max(to_ns), least(min(from_ns), $last_ns) + $followed_ns) AS to_ns
    FROM places
),
near AS (
    SELECT log.*, 'trace' AS tied_by FROM log WHERE log.trace_id = $trace_id
    UNION ALL
    SELECT log.*, CASE WHEN bool_or(sender.instance = places.instance) THEN 'process' ELSE 'container' END AS tied_by
    FROM bounds
    JOIN log ON log.time_ns BETWEEN bounds.from_ns AND bounds.to_ns
    JOIN resource AS sender ON sender.resource = log.resource
    JOIN places ON (sender.instance = places.instance OR sender.container_id = places.container_id)
        AND log.time_ns BETWEEN places.from_ns AND places.to_ns
    WHERE log.trace_id IS NULL AND log.severity >= $warn
    GROUP BY ALL
),
shown AS (
    SELECT *, count(*) OVER () AS found FROM near
    ORDER BY tied_by = 'trace' DESC, severity >= $error DESC, time_ns LIMIT $most
)
SELECT shown.time_ns, shown.severity, shown.severity_text, shown.body, shown.attributes, shown.span_id, tied_by,
       shown.left_out, coalesce(resource.service, '') AS service, resource.container_id, resource.host, found
FROM shown LEFT JOIN resource ON resource.resource = shown.resource
ORDER BY shown.time_ns, shown.severity, shown.body
"""

_SEGMENTS = """
WITH asked AS (FROM entry WHERE root ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1)
SELECT node.span_id, coalesce(node.service, '') AS service, node.kind,
       segment.from_ns - asked.start_ns AS offset_ns, segment.to_ns - segment.from_ns AS length_ns
FROM segment
JOIN asked ON asked.request_no = segment.request_no
JOIN node ON node.span_no = segment.span_no
ORDER BY offset_ns
"""


class SpanJoin(TypedDict):
    """How a span was tied to its container."""

    container: str | None
    confidence: float
    reason: str | None


class SpanException(TypedDict):
    """An exception that was recorded within a span."""

    type: str | None
    message: str | None


class TraceEvent(TypedDict):
    """Something that happened within a span; ``exception`` has ``exception.stacktrace`` among its attributes."""

    time: str
    name: str
    attributes: dict[str, str]


class TraceLink(TypedDict):
    """Another span that a span has to do with."""

    trace_id: str
    span_id: str
    attributes: dict[str, str]


class LeftOutCounts(TypedDict):
    """How many attributes, events and links are not kept, by the sender or here; how many values were cut."""

    attributes: int
    events: int
    links: int
    shortened: int


class TraceSpan(TypedDict):
    """A span of a trace, its start where clocks agree."""

    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str  # "unspecified" | "internal" | "server" | "client" | "producer" | "consumer"
    start: str
    duration_ns: int
    status: str  # "unset" | "ok" | "error"
    container_id: str | None
    account: str  # "thread" | "task" | "none"
    account_reason: str | None
    skew_adjusted_ns: int
    thread_id: int | None
    host: str | None
    join: SpanJoin
    status_message: str | None
    exception: SpanException | None  # the last that was recorded within it, also where it was handled
    attributes: dict[str, str]  # lists and objects as JSON
    events: list[TraceEvent]
    links: list[TraceLink]
    trace_state: str | None
    left_out: LeftOutCounts | None  # null where everything is there


class TraceLog(TypedDict):
    """A log record of a trace, or of a process or container that was at work for it at that time."""

    time: str
    severity: int  # OTLP's SeverityNumber; 0 where it is not said
    severity_text: str
    body: str
    attributes: dict[str, str]
    service: str
    span_id: str | None
    container_id: str | None
    host: str | None
    tied_by: str  # "trace" | "process" | "container"
    left_out: LeftOutCounts | None


class TraceSegment(TypedDict):
    """A piece of the critical path: the offset is from the root request's start.

    Caller and callee may share a span id; service and kind tell them apart.
    """

    span_id: str
    service: str
    kind: str
    offset_ns: int
    length_ns: int


class Trace(TypedDict):
    """A trace as it was received, and its root request's critical path."""

    trace_id: str
    spans: list[TraceSpan]
    segments: list[TraceSegment]
    logs: list[TraceLog]  # at most 500, in order of time
    logs_left_out: int  # how many more there are


def read_trace(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> dict[str, Any] | None:
    """``{"trace_id", "spans": […], "segments": […]}``; None when no span of it was received."""
    around = narrow_to_traces(cursor, [trace_id])
    known = first_row(cursor.execute("SELECT min(start_ns), max(start_ns) FROM span WHERE trace_id = ?", [trace_id]))
    if known is None or known[0] is None:
        return None
    ledger.work_out_paths(cursor, trace_id, known[0], known[1])
    narrow_to_traces(cursor, [trace_id], around)
    segments = cursor.execute(_SEGMENTS).fetchall()
    logs, more_logs = read_logs(cursor, trace_id)
    return {
        "trace_id": trace_id,
        "logs": logs,
        "logs_left_out": more_logs,
        "spans": list(read_spans(cursor).values()),
        "segments": [
            {
                "span_id": span_id,
                "service": service,
                "kind": kind_word(kind),
                "offset_ns": offset_ns,
                "length_ns": length_ns,
            }
            for span_id, service, kind, offset_ns, length_ns in segments
        ],
    }


def read_spans(cursor: duckdb.DuckDBPyConnection, shown: Sequence[int] | None = None) -> dict[int, dict[str, Any]]:
    """The spans of the table ``node`` as ``TraceSpan``, all or those of these numbers, by number, in order of time."""
    if shown is None:
        rows = cursor.execute(_SPANS.format("")).fetchall()
    else:
        only = "WHERE node.span_no IN (SELECT unnest($shown::BIGINT[]))"
        rows = cursor.execute(_SPANS.format(only), {"shown": list(shown)}).fetchall()
    return {span_no: _span(*row) for span_no, *row in rows}


def read_logs(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> tuple[list[dict[str, Any]], int]:
    """Log records of the trace as ``TraceLog``, in order of time, and how many more there are."""
    rows = cursor.execute(
        _LOGS,
        {
            "trace_id": trace_id,
            "followed_ns": FOLLOWED_NS,
            "last_ns": 2**63 - 1 - FOLLOWED_NS,
            "warn": WARN,
            "error": ERROR,
            "most": LOGS,
        },
    ).fetchall()
    return [_log(*row) for row in rows], max((row[-1] for row in rows), default=0) - len(rows)


def kind_word(kind: int) -> str:
    return _KIND[kind] if 0 <= kind < len(_KIND) else _KIND[0]


def _span(
    span_id: str,
    parent_span_id: str | None,
    service: str,
    name: str,
    kind: int,
    start_ns: int,
    duration_ns: int,
    status: int,
    container_id: str | None,
    account: str | None,
    account_reason: str | None,
    shift_ns: int,
    thread_id: int | None,
    host: str | None,
    join_method: str | None,
    join_confidence: float,
    join_reason: str | None,
    status_message: str | None,
    exception: dict[str, str | None] | None,
    attributes: dict[str, str] | None,
    events: list[dict[str, Any]] | None,
    links: list[dict[str, Any]] | None,
    trace_state: str | None,
    left_out: dict[str, int] | None,
) -> dict[str, Any]:
    return {
        "span_id": span_id,
        "parent_span_id": parent_span_id,
        "service": service,
        "name": name,
        "kind": kind_word(kind),
        "start": rfc3339(start_ns),
        "duration_ns": duration_ns,
        "status": status_word(status),
        "container_id": container_id,
        "account": account or "none",
        "account_reason": account_reason,
        "skew_adjusted_ns": shift_ns,
        "thread_id": thread_id,
        "host": host,
        "join": {"container": join_method, "confidence": join_confidence, "reason": join_reason},
        "status_message": status_message,
        "exception": exception,
        "attributes": dict(attributes or {}),
        "events": [
            {"time": rfc3339(each["time_ns"]), "name": each["name"], "attributes": dict(each["attributes"] or {})}
            for each in events or ()
        ],
        "links": [each | {"attributes": dict(each["attributes"] or {})} for each in links or ()],
        "trace_state": trace_state,
        "left_out": left_out,
    }


def _log(
    time_ns: int,
    severity: int,
    severity_text: str,
    body: str,
    attributes: dict[str, str] | None,
    span_id: str | None,
    tied_by: str,
    left_out: dict[str, int] | None,
    service: str,
    container_id: str | None,
    host: str | None,
    _: int,
) -> dict[str, Any]:
    return {
        "time": rfc3339(time_ns),
        "severity": severity,
        "severity_text": severity_text,
        "body": body,
        "attributes": dict(attributes or {}),
        "service": service,
        "span_id": span_id,
        "container_id": container_id,
        "host": host,
        "tied_by": tied_by,
        "left_out": left_out,
    }
