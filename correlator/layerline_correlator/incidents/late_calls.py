"""Calls between services that are late, or fail, more often than usual, although no operation's requests do.

One request in twenty calls somebody, and each such call takes 600 ms longer: the operation as a whole looks as before,
and so do its causes, which are counted over all of its requests. Here calls are counted: of each caller, callee and
operation of the callee, over all operations of the caller. A call is late by what the same calls took in the last hour
in which neither end was in trouble (calls_usual.sql), and how often that usually happens is taken from the worst of
those minutes, too. Which requests were held up is found afterwards, because trouble is always an operation's.

Calls of the last quarter of an hour are kept on the cursor, and read again only as far back as something arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import duckdb

from layerline_correlator.incidents.detect import LEAST_HITS, STEP_NS, Step, Stretch, stretches, usual_ratio
from layerline_correlator.incidents.signs import FAILED_CALLS, LATE_CALLS, NEVER_NS, Base, Operation, Sign, calls_of
from layerline_correlator.store.sealed import SPAN, within
from layerline_correlator.store.stale import MINUTE_NS, runs_of
from layerline_correlator.store.statements import run
from layerline_correlator.verdict.edges import add_minutes

#: What is usual is worked out from two hours at most: the last one, and the one before the trouble that is ongoing.
_HOUR = 60
#: Calls younger than this do not say what is usual: trouble that nobody has noticed yet.
_YOUNG_NS = 60 * 10**9
#: How long before its call a request may have begun.
_AROUND_NS = 600 * 10**9
#: The first requests of a trouble may have begun so long before the first step in which calls were late.
_EARLIER_NS = 4 * STEP_NS
#: Requests of one trouble that are written down, at most.
MOST_HIT = 10_000
#: An operation is in trouble when at least such a share of the calls that were late is made for its requests.
_LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls of one operation of a callee, by one caller."""

    caller: str
    callee_type: str
    callee: str
    operation: str

    def sign(self, kind: str) -> Sign:
        """As a sign of the caller's operations."""
        return Sign(kind, self.callee_type, self.callee, self.operation)


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of time in which calls were late, or failed, too often."""

    caller: str
    sign: Sign
    usual: float
    stretch: Stretch
    operations: tuple[str, ...]
    """Of the caller: those whose requests were held up, the most first."""


class LateCalls:
    """Looks for such calls. Owns the tables ``seen_call`` and ``call_past`` of its cursor."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._seen: tuple[int, int] | None = None  # the time of the calls in seen_call
        self._past: set[int] = set()  # the minutes in call_past
        self._usual_ns: int | None = None  # as of when call_usual was made
        self._shares: dict[tuple[Edge, str], float] = {}

    def find(
        self,
        window_ns: int,
        from_ns: int,
        to_ns: int,
        open_since: Mapping[tuple[str, Sign], int],
        *,
        usual_for_ns: int,
    ) -> Iterator[Found]:
        """What is found in ``[window_ns, to_ns)``, where something arrived that began at ``from_ns`` or later.

        ``open_since``: since when those that are known to be ongoing are. What is usual is worked out again when it is
        older than ``usual_for_ns``.
        """
        if self._usual_ns is None or abs(from_ns - self._usual_ns) > usual_for_ns:
            self._learn(from_ns)
            self._usual_ns = from_ns
        if not self._shares:
            return
        self._see(window_ns, from_ns, to_ns)
        run(self._cursor, "incidents/calls_steps.sql", {"from_ns": window_ns, "to_ns": to_ns})
        for (edge, kind), steps in sorted(self._steps(open_since).items(), key=lambda one: repr(one[0])):
            sign, usual = edge.sign(kind), self._shares[edge, kind]
            since_ns = open_since.get((edge.caller, sign))
            if since_ns is None and sum(step.hits for step in steps) < LEAST_HITS:
                continue
            for stretch in stretches(steps, usual, None if since_ns is None else max(since_ns, window_ns)):
                yield Found(edge.caller, sign, usual, stretch, self._operations(edge, kind, stretch, to_ns))

    def write_down(self, found: Found, operations: Collection[str], to_ns: int) -> None:
        """Which requests of these operations were hit by such calls meanwhile."""
        from_ns = found.stretch.from_ns - _EARLIER_NS  # a request begins before its call
        to_ns = to_ns if found.stretch.to_ns is None else found.stretch.to_ns
        for operation in operations:
            run(
                self._cursor,
                "incidents/hit_by_calls.sql",
                calls_of((found.caller, operation), found.sign, from_ns, to_ns) | {"most": MOST_HIT},
            )

    def base_of(self, operation: Operation, before_ns: int) -> Base:
        """Of an operation that was called too rarely to have a usual: how long its last requests took."""
        rows = self._cursor.execute(
            "SELECT count(*), coalesce(median(duration_ns), 0)::BIGINT FROM (SELECT end_ns - start_ns AS duration_ns"
            " FROM ordinary_request WHERE service = $service AND operation = $operation AND start_ns < $before_ns"
            " ORDER BY start_ns DESC LIMIT 20)",
            {"service": operation[0], "operation": operation[1], "before_ns": before_ns},
        ).fetchall()
        requests, base_ns = rows[0]
        return Base(requests, base_ns, NEVER_NS, None, {}, {})

    def _learn(self, at_ns: int) -> None:
        """What is usual, seen from ``at_ns``."""
        rows = self._cursor.execute(
            "SELECT min(start_ns) FROM trouble WHERE end_ns IS NULL AND NOT lasting AND start_ns < $at_ns",
            {"at_ns": at_ns},
        ).fetchall()
        end = (at_ns - _YOUNG_NS) // MINUTE_NS
        ends = {end} if rows[0][0] is None else {end, min(end, rows[0][0] // MINUTE_NS)}
        wanted = {minute for one in ends for minute in range(one - _HOUR, one)}
        if not self._past:
            run(self._cursor, "incidents/calls_tables.sql")
        self._cursor.execute(
            "DELETE FROM call_past WHERE minute NOT IN (SELECT unnest($wanted::BIGINT[]))", {"wanted": sorted(wanted)}
        ).fetchall()
        for begin, after in runs_of(wanted - self._past):
            add_minutes(self._cursor, "call_past", (begin * MINUTE_NS, after * MINUTE_NS))
        self._past = wanted
        run(self._cursor, "incidents/calls_usual.sql", {"at_ns": at_ns})
        self._shares = {}
        for (
            caller,
            callee_type,
            callee,
            operation,
            calls,
            late,
            failed,
            late_ratio,
            failed_ratio,
        ) in self._cursor.execute(
            "SELECT caller, callee_type, callee, operation, calls, late_hits, failed_hits, late_ratio, failed_ratio"
            " FROM call_usual ORDER BY ALL"
        ).fetchall():
            edge = Edge(caller, callee_type, callee, operation)
            self._shares[edge, LATE_CALLS] = max(usual_ratio(late, calls), late_ratio)
            self._shares[edge, FAILED_CALLS] = max(usual_ratio(failed, calls), failed_ratio)

    def _see(self, window_ns: int, from_ns: int, to_ns: int) -> None:
        """Have the calls of this window in ``seen_call``; those since ``from_ns`` may have changed."""
        read_ns = window_ns
        if self._seen is not None and self._seen[0] <= window_ns <= self._seen[1] and from_ns <= self._seen[1]:
            read_ns = max(window_ns, from_ns)
        self._cursor.execute(
            "DELETE FROM seen_call WHERE start_ns < $window_ns OR start_ns >= $read_ns",
            {"window_ns": window_ns, "read_ns": read_ns},
        ).fetchall()
        with within(self._cursor, read_ns, to_ns, SPAN):
            run(
                self._cursor,
                "incidents/calls_seen.sql",
                {"from_ns": read_ns, "to_ns": to_ns, "around_ns": _AROUND_NS},
            )
        self._seen = window_ns, to_ns

    def _steps(self, open_since: Mapping[tuple[str, Sign], int]) -> dict[tuple[Edge, str], list[Step]]:
        """The steps of each sign that was seen, and of those that are ongoing."""
        found: dict[tuple[Edge, str], list[Step]] = defaultdict(list)
        ongoing = {(caller, sign.cause, sign.service, sign.address) for caller, sign in open_since}
        for caller, callee_type, callee, operation, step_ns, calls, late, failed in self._cursor.execute(
            "SELECT caller, callee_type, callee, operation, step_ns, calls, late, failed FROM call_step"
            " WHERE hits > 0 OR [caller, callee_type, callee, operation] IN (SELECT unnest($ongoing::VARCHAR[][]))"
            " ORDER BY ALL",
            {"ongoing": [list(one) for one in sorted(ongoing)]},
        ).fetchall():
            edge = Edge(caller, callee_type, callee, operation)
            found[edge, LATE_CALLS].append(Step(step_ns, calls, late))
            found[edge, FAILED_CALLS].append(Step(step_ns, calls, failed))
        return found

    def _operations(self, edge: Edge, kind: str, stretch: Stretch, to_ns: int) -> tuple[str, ...]:
        rows = self._cursor.execute(
            "SELECT request_operation, count(DISTINCT trace_id || span_id) AS requests FROM judged_call"
            " WHERE caller = $caller AND callee_type = $callee_type AND callee = $callee AND operation = $operation"
            " AND start_ns >= $from_ns AND start_ns < $to_ns AND request_operation IS NOT NULL"
            " AND CASE WHEN $kind = 'late_calls' THEN late ELSE failed END"
            " GROUP BY ALL ORDER BY requests DESC, request_operation",
            {
                "caller": edge.caller,
                "callee_type": edge.callee_type,
                "callee": edge.callee,
                "operation": edge.operation,
                "kind": kind,
                "from_ns": stretch.from_ns,
                "to_ns": stretch.to_ns if stretch.to_ns is not None else to_ns,
            },
        ).fetchall()
        together = sum(requests for _, requests in rows)
        return tuple(operation for operation, requests in rows if requests >= _LEAST_SHARE * together)
