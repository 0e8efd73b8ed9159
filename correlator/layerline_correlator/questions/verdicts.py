"""Verdicts: of one request, and of all requests of a window: what changed in them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import duckdb

from layerline_correlator.entity import Naming
from layerline_correlator.questions.changed import read_changed
from layerline_correlator.questions.paging import Page, read_cursor, write_cursor
from layerline_correlator.questions.requests import RequestQuery, chosen_requests, matching_requests, why_none
from layerline_correlator.store.statements import begin_anew
from layerline_correlator.verdict.changed import (
    CHANGED,
    NO_BEFORE,
    NOTHING,
    QUICKER,
    Compared,
    grown,
    state_of,
    with_change,
    with_neighbours,
)
from layerline_correlator.verdict.failures import (
    BEFORE_NS,
    Failing,
    Times,
    before,
    read_failing,
    timeless,
    with_failure,
)
from layerline_correlator.verdict.judge import judge
from layerline_correlator.verdict.ledgers import Request, around, read_ledgers, select_requests
from layerline_correlator.verdict.model import Change, Verdict
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
    *,
    began: tuple[int, int] | None = None,
) -> Verdict | None:
    """The verdict of the trace's root request (the longest, if several), or of the entry span ``span_id``.

    ``began``: when the first and the last of its requests began, where that is known. Others are not looked at then.
    """
    first_ns, last_ns = began or (0, 2**63 - 1)
    rows = select_requests(
        cursor,
        "start_ns BETWEEN $first_ns AND $last_ns"
        " AND trace_id = $trace_id AND (span_id = $span_id OR ($span_id IS NULL AND root))"
        " ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1",
        {"trace_id": trace_id, "span_id": span_id, "first_ns": first_ns, "last_ns": last_ns},
    )
    if not rows:
        return None
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
    verdict = judge(ledgers, usuals, name, absolute=absolute)
    return with_failure(_completed(verdict, cursor, Calls(cursor, around(rows)), rows, name), cursor, rows[0], name)


def read_verdicts(
    cursor: duckdb.DuckDBPyConnection, query: RequestQuery, name: Naming, settle_ns: int, waiting: int
) -> Page[Verdict]:
    """One verdict per service and operation that changed, failed or had slow requests in the window.

    All requests of the window are compared with those of the time before; who takes more of them is blamed. Those that
    fail come first, those that fail most often before the others; then what changed, most time added first; then what
    was slow without a change, in which nobody is named. Where there is nothing to compare with, where requests of some
    duration are asked for, or without usual, slow requests are judged by what exceeds their usual. ``waiting`` is how
    many traces have yet to be worked out. ``BadCursor``.
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
    times = _times(cursor, query)
    matching_anywhere, filters_anywhere = matching_requests(query, at_any_time=True)
    failing = read_failing(cursor, times, matching_anywhere, filters_anywhere, name)
    compared: dict[tuple[str, str], Compared] = {}
    if query.min_duration_ns is None and failing:
        longest_ns = {operation: found.longest_ns for operation, found in failing.items()}
        compared = read_changed(cursor, times, matching_anywhere, filters_anywhere, longest_ns)
    only_failing: list[tuple[str, str]] = []
    if query.min_duration_ns is None:
        only_failing = sorted(
            (operation for operation, found in failing.items() if found.fails and operation not in slow),
            key=lambda operation: (-failing[operation].errors, operation),
        )[:_OPERATIONS]
    changed = {} if query.absolute else {one: found for one, found in compared.items() if state_of(found) == CHANGED}
    added_ns = {
        operation: found.change_ns(found.total) * failing[operation].requests
        for operation, found in changed.items()
        if operation in failing
    }
    shown_too = {*slowest, *only_failing}
    only_changed = sorted((one for one in added_ns if one not in shown_too), key=lambda one: (-added_ns[one], one))
    examples = {operation: _examples(compared[operation]) for operation in added_ns}
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
    rows += _rows_of(cursor, query, [(one, examples[one]) for one in only_changed[: _OPERATIONS - len(slowest)]])
    ledgers, usuals = read_ledgers(cursor, rows, settle_ns)
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
        if query.min_duration_ns is None:
            figures = _figures(times, found)
            if query.absolute:
                verdict = replace(verdict, change=replace(figures, state=state_of(compared.get(operation))))
            else:
                verdict = with_change(verdict, compared.get(operation), figures, name)
            if examples.get(operation):
                shown = dict.fromkeys(trace_id for trace_id, _ in examples[operation])
                verdict = replace(verdict, examples=list(shown)[:5])
        verdicts.append((verdict, numbers))

    def rank(item: tuple[Verdict, list[int]]) -> tuple[float, ...]:
        verdict, _ = item
        operation = verdict.service, verdict.operation
        found = failing[operation]
        weight = verdict.duration_ns if query.absolute else verdict.excess_ns or verdict.duration_ns
        fails = -found.errors if found.fails and not query.absolute else 0
        has_changed = operation in added_ns
        return fails, not has_changed, not verdict.culprits, -max(0, added_ns.get(operation, weight))

    verdicts.sort(key=rank)
    last = first + query.limit
    calls = Calls(cursor, around(rows)) if rows else None
    shown_verdicts = [
        _completed(verdict, cursor, calls, [rows[number] for number in numbers], name)
        if calls is not None and _is_about_time(verdict, (verdict.service, verdict.operation) in slow)
        else timeless(verdict)
        for verdict, numbers in verdicts[first:last]
    ]
    reason = None if rows else _why_none(cursor, query, waiting, compared, failing)
    return Page(shown_verdicts, write_cursor("verdicts", last) if last < len(verdicts) else None, reason)


def _times(cursor: duckdb.DuckDBPyConnection, query: RequestQuery) -> Times:
    """The window, and what it is compared with."""
    if query.against is not None:
        return Times(query.from_ns, query.to_ns, *query.against)
    return before(cursor, query.from_ns, query.to_ns, query.service, query.operation)


def _figures(times: Times, found: Failing) -> Change:
    """What is counted of both times, before anything is said of it."""
    window_s, before_s = (times.to_ns - times.from_ns) / 1e9, (times.before_to_ns - times.before_ns) / 1e9
    return Change(
        state=NO_BEFORE,
        because="",
        requests_per_second=round(found.requests / window_s, 6),
        requests_per_second_before=round(found.against.requests / before_s, 6) if before_s > 0 else 0.0,
        p50_ns=found.p50_ns,
        p95_ns=found.p95_ns,
    )


def _examples(compared: Compared) -> list[tuple[str, str]]:
    """Requests that show the change, of those that were read one by one: those that lost most to who grew most."""
    for who in grown(compared):
        if compared.lost[who].examples:
            return list(compared.lost[who].examples)
    return list(compared.total.examples)


def _rows_of(
    cursor: duckdb.DuckDBPyConnection,
    query: RequestQuery,
    wanted: Sequence[tuple[tuple[str, str], Sequence[tuple[str, str]]]],
) -> list[Request]:
    """The examples of operations without slow requests; where there are none, their longest of the last minutes."""
    if not wanted:
        return []
    named = [one for _, examples in wanted for one in examples]
    bare = [operation for operation, examples in wanted if not examples]
    return select_requests(
        cursor,
        "start_ns >= $from_ns AND start_ns < $to_ns AND weight > 0 AND ("
        "(trace_id, span_id) IN (SELECT (unnest($traces::VARCHAR[]), unnest($spans::VARCHAR[])))"
        " OR (start_ns >= $late_ns AND (service, operation) IN"
        " (SELECT (unnest($services::VARCHAR[]), unnest($operations::VARCHAR[])))))"
        " QUALIFY row_number() OVER (PARTITION BY service, operation ORDER BY end_ns - start_ns DESC) <= 5",
        {
            "from_ns": query.from_ns,
            "to_ns": query.to_ns,
            "late_ns": max(query.from_ns, query.to_ns - BEFORE_NS),
            "traces": [trace_id for trace_id, _ in named],
            "spans": [span_id for _, span_id in named],
            "services": [service for service, _ in bare],
            "operations": [operation for _, operation in bare],
        },
    )


def _is_about_time(verdict: Verdict, has_slow: bool) -> bool:
    """Whether somebody may be blamed for time: it changed, or it was slow and cannot be compared."""
    state = verdict.change.state if verdict.change is not None else NO_BEFORE
    if verdict.ranked_by == "change":
        return state == CHANGED
    return has_slow


def _why_none(
    cursor: duckdb.DuckDBPyConnection,
    query: RequestQuery,
    waiting: int,
    compared: dict[tuple[str, str], Compared],
    failing: dict[tuple[str, str], Failing],
) -> str:
    """Why there is no verdict: nothing was received, or nothing changed."""
    reason = why_none(cursor, query, waiting)
    states = {state_of(compared.get(operation)) for operation in failing}
    if waiting or not states or query.min_duration_ns is not None:
        return reason
    if states <= {NOTHING, QUICKER}:
        before = sum(found.against.requests for found in failing.values())
        return f"nothing changed: {reason}, and they took what the {before} before them took"
    if states & {NOTHING, QUICKER}:
        return f"nothing changed where there was enough to compare: {reason}"
    return reason


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
        suspected = with_neighbours(_of_the_culprits(with_suspects(verdict, cursor, judged, name)))
        return with_sides(suspected, calls, around(judged), name)
    except duckdb.DataError:  # an absurd reading must not cost the verdict
        _log.exception("what else was measured cannot be put beside the verdict of %s", verdict.operation)
        begin_anew(cursor)
        return verdict


def _of_the_culprits(verdict: Verdict) -> Verdict:
    """Of a window that was compared, without those as suspects whose own time is always there."""
    if verdict.ranked_by != "change":
        return verdict
    named = {
        (one.entity.type, one.entity.id) for culprit in verdict.culprits for one in (culprit, *(culprit.causes or ()))
    }
    kept = [one for one in verdict.suspects if one.excess_ns is None or (one.entity.type, one.entity.id) in named]
    return replace(verdict, suspects=kept)
