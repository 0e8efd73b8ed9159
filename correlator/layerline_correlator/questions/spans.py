"""Spans as they were received, of traces that are looked for by what one of their spans is; and what requests lost.

Nothing is worked out for it: other tools' clients ask for twenty whole traces at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from layerline.attributes import SPAN_FIGURES, column
from layerline_correlator.store.sealed import SPAN, narrow, narrow_to_traces

#: Spans that one answer has at most, over all of its traces.
MOST_SPANS = 20_000
#: Names of spans that are listed of a service, at most.
MOST_OPERATIONS = 2_000

_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_FIGURES = tuple((name, column(name)) for name in SPAN_FIGURES)

_FOUND = """
SELECT span.trace_id FROM span JOIN resource USING (resource)
WHERE start_ns >= $from_ns AND start_ns < $to_ns
  AND ($service IS NULL OR resource.service = $service)
  AND ($operation IS NULL OR span.name = $operation)
  AND ($min_duration_ns IS NULL OR end_ns - start_ns >= $min_duration_ns)
  AND ($max_duration_ns IS NULL OR end_ns - start_ns <= $max_duration_ns)
  {conditions}
GROUP BY span.trace_id ORDER BY max(start_ns) DESC, span.trace_id LIMIT $limit
"""

_SPANS = """
SELECT
    trace_id, span_id, parent_span_id, span.name, kind, start_ns, end_ns, status, status_message, trace_state,
    span.attributes, events, links, thread_id, account, account_reason, resource, coalesce(resource.service, ''),
    resource.attributes, {figures}
FROM span LEFT JOIN resource USING (resource)
WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
ORDER BY start_ns, received_no LIMIT $most
"""

_REQUESTS = """
SELECT trace_id, span_id, usual_ns, slow, cause, unexplained_ns, weight > 0 FROM request
WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
"""

_LOST = """
SELECT trace_id, span_id, cause, sum(lost_ns)::BIGINT FROM part
WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))
GROUP BY ALL ORDER BY ALL
"""

_OPERATIONS = """
SELECT DISTINCT name, kind FROM (
    SELECT span.name, span.kind FROM span JOIN resource USING (resource)
    WHERE resource.service = $service AND start_ns >= $from_ns
    UNION
    SELECT operation, 2 FROM request WHERE service = $service
)
ORDER BY name, kind LIMIT $most
"""
#: Names of spans are looked for in so much of what was received last; those of requests in all of it.
_LATEST_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class SpanQuery:
    """Which traces: those with a span that is all of this. ``attributes`` are its own or its sender's."""

    from_ns: int
    to_ns: int
    service: str | None = None
    operation: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Lost:
    """What a request lost, by cause; and how it compares with its usual."""

    usual_ns: int | None
    slow: bool
    cause: str | None
    unexplained_ns: int | None  # null where it has no ledger
    by_cause: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as its sender sent it. ``lost`` where it is a request's entry span."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    status_message: str | None
    trace_state: str | None
    attributes: Mapping[str, str | int]
    events: Sequence[Mapping[str, Any]]
    links: Sequence[Mapping[str, Any]]
    resource: str
    service: str
    resource_attributes: Mapping[str, str]
    lost: Lost | None = None


@dataclass(frozen=True, slots=True)
class ReceivedSpans:
    """Spans of traces in the order in which they began; ``cut`` where there are more."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    cut: bool = False


def read_trace_ids(cursor: duckdb.DuckDBPyConnection, query: SpanQuery) -> list[str]:
    """The traces that have such a span, the latest first."""
    values: dict[str, Any] = {
        "from_ns": query.from_ns,
        "to_ns": query.to_ns,
        "service": query.service,
        "operation": query.operation,
        "min_duration_ns": query.min_duration_ns,
        "max_duration_ns": query.max_duration_ns,
        "limit": query.limit,
    }
    conditions = []
    for number, (key, value) in enumerate(query.attributes):
        if key == "error" and value in ("true", "false"):
            conditions.append(f"AND {'' if value == 'true' else 'NOT '}failed(span.status)")
        elif key == "span.kind" and value in _KINDS:
            conditions.append(f"AND span.kind = {_KINDS[value]}")
        else:
            conditions.append(
                f"AND coalesce(span.attributes[$key_{number}], resource.attributes[$key_{number}]) = $value_{number}"
            )
            values |= {f"key_{number}": key, f"value_{number}": value}
    narrow(cursor, query.from_ns, query.to_ns, SPAN)
    rows = cursor.execute(_FOUND.format(conditions=" ".join(conditions)), values).fetchall()
    return [trace_id for (trace_id,) in rows]


def read_spans(cursor: duckdb.DuckDBPyConnection, trace_ids: Sequence[str]) -> ReceivedSpans:
    """The spans of these traces, with the ledgers of their requests."""
    ids = {"ids": list(trace_ids)}
    narrow_to_traces(cursor, trace_ids)
    figures = ", ".join(f"span.{name}" for _, name in _FIGURES)
    rows = cursor.execute(_SPANS.format(figures=figures), {**ids, "most": MOST_SPANS + 1}).fetchall()
    by_cause: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for trace_id, span_id, cause, lost_ns in cursor.execute(_LOST, ids).fetchall():
        by_cause.setdefault((trace_id, span_id), []).append((cause, lost_ns))
    lost = {
        (trace_id, span_id): Lost(
            usual_ns, bool(slow), cause, unexplained_ns if known else None, tuple(by_cause.get((trace_id, span_id), ()))
        )
        for trace_id, span_id, usual_ns, slow, cause, unexplained_ns, known in cursor.execute(_REQUESTS, ids).fetchall()
    }
    return ReceivedSpans([_span(row, lost) for row in rows[:MOST_SPANS]], cut=len(rows) > MOST_SPANS)


def read_operations(cursor: duckdb.DuckDBPyConnection, service: str) -> list[tuple[str, int]]:
    """The names and kinds of a service's spans, of all its requests and of what else was received last."""
    latest_ns = cursor.execute("SELECT coalesce(max(start_ns), 0) FROM request").fetchall()[0][0]
    from_ns = max(0, latest_ns - _LATEST_NS)
    narrow(cursor, from_ns, 2**62, SPAN)
    wanted = {"service": service, "from_ns": from_ns, "most": MOST_OPERATIONS}
    return [(name, kind) for name, kind in cursor.execute(_OPERATIONS, wanted).fetchall()]


def _span(row: tuple[Any, ...], lost: Mapping[tuple[str, str], Lost]) -> ReceivedSpan:
    trace_id, span_id, parent, name, kind, start_ns, end_ns, status, message, state, *rest = row
    attributes, events, links, thread_id, account, account_reason, resource, service, of_resource, *figures = rest
    measured = {
        "thread.id": thread_id,
        "layerline.account": account,
        "layerline.account.reason": account_reason,
        **{key: value for (key, _), value in zip(_FIGURES, figures, strict=True)},
    }
    own = {**(attributes or {}), **{key: value for key, value in measured.items() if value is not None}}
    return ReceivedSpan(
        trace_id,
        span_id,
        parent,
        name,
        kind,
        start_ns,
        end_ns,
        status,
        message,
        state,
        own,
        events or (),
        links or (),
        resource,
        service,
        of_resource or {},
        lost.get((trace_id, span_id)),
    )
