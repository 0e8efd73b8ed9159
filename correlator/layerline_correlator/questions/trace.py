"""One trace, as it was received: its spans, and the segments of its root request's critical path."""

from __future__ import annotations

from typing import Any

import duckdb
from typing_extensions import TypedDict

from layerline_correlator.ledger import work as ledger
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.ledgers import status_word

_KIND = ("unspecified", "internal", "server", "client", "producer", "consumer")

_SPANS = """
SELECT span_id, parent_span_id, coalesce(service, '') AS service, name, kind, start_ns - shift_ns AS start_ns,
       end_ns - start_ns AS duration_ns, status, container_id, account, account_reason, shift_ns,
       thread_id, host, join_method, join_confidence, join_reason
FROM node ORDER BY start_ns, span_no
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


def read_trace(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> dict[str, Any] | None:
    """``{"trace_id", "spans": […], "segments": […]}``; None when no span of it was received."""
    known = cursor.execute("SELECT min(start_ns), max(start_ns) FROM span WHERE trace_id = ?", [trace_id]).fetchone()
    if known is None or known[0] is None:
        return None
    ledger.work_out_paths(cursor, trace_id, known[0], known[1])
    return {
        "trace_id": trace_id,
        "spans": [_span(*row) for row in cursor.execute(_SPANS).fetchall()],
        "segments": [
            {
                "span_id": span_id,
                "service": service,
                "kind": _kind_word(kind),
                "offset_ns": offset_ns,
                "length_ns": length_ns,
            }
            for span_id, service, kind, offset_ns, length_ns in cursor.execute(_SEGMENTS).fetchall()
        ],
    }


def _kind_word(kind: int) -> str:
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
) -> dict[str, Any]:
    return {
        "span_id": span_id,
        "parent_span_id": parent_span_id,
        "service": service,
        "name": name,
        "kind": _kind_word(kind),
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
    }
