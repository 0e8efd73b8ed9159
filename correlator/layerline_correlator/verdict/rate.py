"""Rates requests whose ledgers were just worked out: what is usual, which are slow, and what is first to blame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb

from layerline_correlator.entity import Naming
from layerline_correlator.store.statements import text
from layerline_correlator.verdict.judge import is_slow, judge
from layerline_correlator.verdict.ledgers import Request, read_ledgers, select_requests, usual_durations

_WRITE = """
UPDATE request SET usual_ns = rated.usual_ns, slow = rated.slow, cause = rated.cause
FROM (
    SELECT
        unnest($traces) AS trace_id, unnest($spans) AS span_id, unnest($starts) AS start_ns,
        unnest($usual::BIGINT[]) AS usual_ns, unnest($slow) AS slow, unnest($causes::VARCHAR[]) AS cause
) AS rated
WHERE rated.trace_id = request.trace_id AND rated.span_id = request.span_id
  AND rated.start_ns = request.start_ns
"""


def usual_now(
    cursor: duckdb.DuckDBPyConnection, operations: Sequence[tuple[str, str]], now_ns: int
) -> dict[tuple[str, str], int]:
    """What is usual for a request that begins now, of each of these operations (service, operation) that has one."""
    found = cursor.execute(
        text("verdict/usual_now.sql"),
        {
            "services": [service for service, _ in operations],
            "operations": [operation for _, operation in operations],
            "now_ns": now_ns,
        },
    ).fetchall()
    return {(service, operation): usual_ns for service, operation, usual_ns in found}


def rate(
    cursor: duckdb.DuckDBPyConnection, trace_ids: Iterable[str], name: Naming, slow_ns: int, settle_ns: int
) -> list[Request]:
    """Rate every request of these traces, in the table ``request``. Returns them as they were before.

    ``slow_ns``: from which duration on a request without a usual is slow.
    """
    rows = select_requests(cursor, "trace_id IN (SELECT unnest($ids))", {"ids": list(trace_ids)})
    if not rows:
        return []
    usuals = usual_durations(cursor, rows)
    slow = {number: row for number, row in enumerate(rows) if is_slow(row.duration_ns, usuals.get(number), slow_ns)}
    ledgers, usual_ledgers = read_ledgers(cursor, list(slow.values()), settle_ns)
    causes = {
        number: next((culprit.cause for culprit in judge([ledger], [usual], name).culprits), None)
        for number, ledger, usual in zip(slow, ledgers, usual_ledgers, strict=True)
    }
    numbers = range(len(rows))
    cursor.execute(
        _WRITE,
        {
            "traces": [row.trace_id for row in rows],
            "spans": [row.span_id for row in rows],
            "starts": [row.start_ns for row in rows],
            "usual": [usuals.get(number) for number in numbers],
            "slow": [number in slow for number in numbers],
            "causes": [causes.get(number) for number in numbers],
        },
    ).fetchall()
    return rows
