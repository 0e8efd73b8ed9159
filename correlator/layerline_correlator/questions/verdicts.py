"""Verdicts: of one request, and of all that was slow in a window."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import duckdb

from layerline_correlator.entity import Naming
from layerline_correlator.questions.paging import Page, read_cursor, write_cursor
from layerline_correlator.questions.requests import RequestQuery, chosen_requests, matching_requests, why_none
from layerline_correlator.store.statements import begin_anew
from layerline_correlator.verdict.failures import read_failing, timeless, with_failure
from layerline_correlator.verdict.judge import judge
from layerline_correlator.verdict.ledgers import Request, around, read_ledgers, select_requests
from layerline_correlator.verdict.model import Verdict
from layerline_correlator.verdict.sides import Calls, with_sides
from layerline_correlator.verdict.suspects import with_suspects

_log = logging.getLogger("layerline.correlator")

#: Slow requests of one operation that a verdict over a window adds up, at most; the newest.
_WINDOW_LEDGERS = 500
#: Requests of all operations that are judged together: 1,000 take a second and a half of CPU time. Where there are many
#: operations, of each as many as say enough, as long as they are no more than ``_MOST`` together.
_TOGETHER, _ENOUGH, _MOST = 1_000, 50, 20_000
#: Operations that are judged together, at most, those that lost most time. Where there are more, their names have ids
#: in them, and coverage says so.
_OPERATIONS = 1_000


def read_verdict(
    cursor: duckdb.DuckDBPyConnection,
    trace_id: str,
    span_id: str | None,
    name: Naming,
    settle_ns: int,
    absolute: bool = False,
) -> Verdict | None:
    """The verdict of the trace's root request (the longest, if several), or of the entry span ``span_id``."""
    rows = select_requests(
        cursor,
        "trace_id = $trace_id AND (span_id = $span_id OR ($span_id IS NULL AND root))"
        " ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1",
        {"trace_id": trace_id, "span_id": span_id},
    )
    if not rows:
        return None
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    verdict = judge(ledgers, usuals, name, absolute=absolute)
    return with_failure(_completed(verdict, cursor, Calls(cursor, around(rows)), rows, name), cursor, rows[0], name)


def read_verdicts(
    cursor: duckdb.DuckDBPyConnection, query: RequestQuery, name: Naming, settle_ns: int, waiting: int
) -> Page[Verdict]:
    """One verdict per service and operation that failed or was slow in the window.

    Those that fail come first, those that fail most often before the others; then most excess first. An operation that
    fails without being slow has the ledgers of requests that failed, and no time to blame. ``waiting`` is how many
    traces have yet to be worked out. ``BadCursor``.
    """
    first = 0 if query.cursor is None else max(0, read_cursor(query.cursor, "verdicts", int)[0])
    matching, filters = matching_requests(query)
    chosen, least = chosen_requests(query)
    bound = filters | least
    slow = {
        (service, operation): count
        for service, operation, count in cursor.execute(
            f"SELECT service, operation, count(*) FROM request WHERE {matching} AND {chosen}"
            " GROUP BY service, operation"
            " ORDER BY sum(end_ns::HUGEINT - start_ns - coalesce(usual_ns, 0)) DESC, service, operation",
            bound,
        ).fetchall()
    }
    slowest = list(slow)[:_OPERATIONS]
    matching_anywhere, filters_anywhere = matching_requests(query, at_any_time=True)
    failing = read_failing(cursor, query.from_ns, query.to_ns, matching_anywhere, filters_anywhere, name)
    only_failing: list[tuple[str, str]] = []
    if query.min_duration_ns is None:
        only_failing = sorted(
            (operation for operation, found in failing.items() if found.fails and operation not in slow),
            key=lambda operation: (-failing[operation].errors, operation),
        )[:_OPERATIONS]
    each = _each(len(slowest) + len(only_failing))
    rows = select_requests(
        cursor,
        f"{matching} AND (({chosen} AND (service, operation) IN (SELECT (unnest($services), unnest($operations))))"
        " OR (failed(status) AND (service, operation) IN"
        " (SELECT (unnest($failing_services::VARCHAR[]), unnest($failing_operations::VARCHAR[])))))"
        # Those with a ledger; of requests that are asked for whatever they are, a fair sample of all.
        f" AND {'fair AND' if query.min_duration_ns is not None else ''} weight > 0"
        " QUALIFY row_number() OVER (PARTITION BY service, operation ORDER BY start_ns DESC) <= $each",
        {
            **bound,
            "services": [service for service, _ in slowest],
            "operations": [operation for _, operation in slowest],
            "failing_services": [service for service, _ in only_failing],
            "failing_operations": [operation for _, operation in only_failing],
            "each": each,
        },
    )
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    reason = None if rows else why_none(cursor, query, waiting)
    operations: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, ledger in enumerate(ledgers):
        operations[ledger.service, ledger.operation].append(number)
    verdicts: list[tuple[Verdict, list[int]]] = []
    for operation, numbers in operations.items():
        found = failing[operation]
        verdict = judge(
            [ledgers[number] for number in numbers],
            [usuals[number] for number in numbers],
            name,
            window=True,
            absolute=query.absolute,
            received=found.requests,
            slow=slow.get(operation, 0),
        )
        verdict = replace(verdict, errors=found.errors, against=found.against, failures=found.failures)
        verdicts.append((verdict, numbers))

    def rank(item: tuple[Verdict, list[int]]) -> tuple[float, int]:
        verdict, _ = item
        found = failing[verdict.service, verdict.operation]
        weight = verdict.duration_ns if query.absolute else verdict.excess_ns or verdict.duration_ns
        return -found.errors if found.fails and not query.absolute else 0, -weight

    verdicts.sort(key=rank)
    last = first + query.limit
    calls = Calls(cursor, around(rows)) if rows else None
    shown = [
        _completed(verdict, cursor, calls, [rows[number] for number in numbers], name)
        if calls is not None and (verdict.service, verdict.operation) in slow
        else timeless(verdict)
        for verdict, numbers in verdicts[first:last]
    ]
    return Page(shown, write_cursor("verdicts", last) if last < len(verdicts) else None, reason)


def _each(operations: int) -> int:
    """How many requests of each operation are judged, where there are so many operations."""
    operations = max(1, operations)
    return min(_WINDOW_LEDGERS, max(_TOGETHER // operations, min(_ENOUGH, _MOST // operations), 1))


def _completed(
    verdict: Verdict,
    cursor: duckdb.DuckDBPyConnection,
    calls: Calls,
    judged: Sequence[Request],
    name: Naming,
) -> Verdict:
    """With suspects for what nobody measured, and the side on which time between two services passed."""
    try:
        return with_sides(with_suspects(verdict, cursor, judged, name), calls, around(judged), name)
    except duckdb.DataError:  # an absurd reading must not cost the verdict
        _log.exception("what else was measured cannot be put beside the verdict of %s", verdict.operation)
        begin_anew(cursor)
        return verdict
