"""What failed: of one request, or of the requests of an operation in a window, the most frequent first.

Failures are alike when the same kind of error came out of the same place: type, status code, service, span, and whom it
called. Messages differ from request to request (they name ids), so one stands for its group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from layerline_correlator.entity import Entity, Naming
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import LONG_NS, cover
from layerline_correlator.times import rfc3339
from layerline_correlator.verdict.ledgers import Request
from layerline_correlator.verdict.model import Against, Failure, Verdict

#: Groups of failures that a verdict over a window names, and traces that each names.
MOST, EXAMPLES = 5, 3
#: The time before a window that it is compared with is as long as the window, and at least this long.
BEFORE_NS = 15 * 60 * 10**9
#: An operation fails when so large a share of its requests does; or a smaller one, of some requests, that is twice what
#: it was before.
FAILS, FAILS_MORE, SOME, TIMES = 0.05, 0.01, 3, 2.0

_ERROR = 2  # OTLP's status
_END_OF_TIME = 2**63 - 1

#: One row for each kind of failure of each operation: its newest message stands for all. ``{counted}`` says which
#: requests of the window count.
_GROUPS = """
SELECT request.service, request.operation,
       failure.type, failure.status_code, failure.service, failure.failed_name, failure.dependency,
       arg_max(failure, failure.start_ns) FILTER (is_now AND {counted}) AS newest,
       count(*) FILTER (is_now AND {counted}) AS now,
       count(*) FILTER (NOT is_now)  AS before,
       list(request.trace_id ORDER BY request.start_ns DESC) FILTER (is_now AND {counted}) AS traces
FROM (
    SELECT *, start_ns >= $window_ns AND start_ns < $window_to_ns AS is_now FROM request
    WHERE start_ns >= $from_ns AND start_ns < $to_ns AND failed(status) AND {matching}
      AND (is_now OR (start_ns >= $before_ns AND start_ns < $before_to_ns))
) AS request
JOIN failure ON failure.trace_id = request.trace_id AND failure.span_id = request.span_id
    AND failure.start_ns = request.start_ns
WHERE failure.start_ns >= $from_ns AND failure.start_ns < $to_ns
GROUP BY ALL HAVING now > 0
ORDER BY now DESC, request.service, request.operation, failure.type, failure.failed_name, failure.status_code
"""

#: Of each operation: requests and failed ones, in the window and before it, how long they took, and how long the three
#: longest of the window took together.
_COUNTS = """
SELECT service, operation,
       count(*) FILTER (is_now) AS requests,
       count(*) FILTER (is_now AND failed(status)) AS errors,
       count(*) FILTER (is_before) AS requests_before,
       count(*) FILTER (is_before AND failed(status)) AS errors_before,
       quantile_disc(end_ns - start_ns, 0.5) FILTER (is_before) AS p50_ns,
       quantile_disc(end_ns - start_ns, 0.95) FILTER (is_before) AS p95_ns,
       quantile_disc(end_ns - start_ns, 0.5) FILTER (is_now) AS p50_now_ns,
       quantile_disc(end_ns - start_ns, 0.95) FILTER (is_now) AS p95_now_ns,
       list_sum(max(end_ns - start_ns, 3) FILTER (is_now)) AS longest_ns
FROM (
    SELECT
        request.*, start_ns >= $window_ns AND start_ns < $window_to_ns AS is_now,
        start_ns >= $before_ns AND start_ns < $before_to_ns AND NOT EXISTS (
            FROM unusual WHERE unusual.service = request.service AND unusual.operation = request.operation
            AND request.start_ns >= unusual.start_ns AND request.start_ns < unusual.end_ns) AS is_before
    FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns
) AS request
WHERE {matching}
GROUP BY service, operation HAVING requests > 0
"""

#: The same where the window or the time before it is long: of minutes and quarters as they are summed up (quantiles and
#: what took longest by classes of durations), and of rows beside them.
_COUNTS_SUMMED = """
WITH
summed AS (
    SELECT
        service, operation, requests, errors, durations,
        minute_begins(minute) >= $window_ns AND minute_begins(minute) < $window_to_ns AS is_now,
        minute_begins(minute) >= $before_ns AND minute_begins(minute) < $before_to_ns AND NOT EXISTS (
            FROM unusual WHERE unusual.service = request.service AND unusual.operation = request.operation
            AND minute_begins(minute) >= unusual.start_ns AND minute_begins(minute) < unusual.end_ns) AS is_before
    FROM request_summed AS request WHERE {matching}
),
row_by_row AS (
    SELECT
        service, operation, 1 AS requests, failed(status)::BIGINT AS errors, duration_class(end_ns - start_ns) AS class,
        start_ns >= $window_ns AND start_ns < $window_to_ns AS is_now,
        start_ns >= $before_ns AND start_ns < $before_to_ns AND NOT EXISTS (
            FROM unusual WHERE unusual.service = request.service AND unusual.operation = request.operation
            AND request.start_ns >= unusual.start_ns AND request.start_ns < unusual.end_ns) AS is_before
    FROM request_beside AS request WHERE {matching}
),
counted AS (
    SELECT service, operation, sum(requests) FILTER (is_now) AS requests, sum(errors) FILTER (is_now) AS errors,
           sum(requests) FILTER (is_before) AS requests_before, sum(errors) FILTER (is_before) AS errors_before
    FROM (
        SELECT * EXCLUDE (durations) FROM summed UNION ALL BY NAME SELECT * EXCLUDE (class) FROM row_by_row
    )
    GROUP BY ALL HAVING sum(requests) FILTER (is_now) > 0
),
each_class AS (
    SELECT service, operation, is_now, is_before, unnest(map_keys(durations)) AS class,
           unnest(map_values(durations)) AS number
    FROM summed
    UNION ALL
    SELECT service, operation, is_now, is_before, class, 1 FROM row_by_row
),
by_class AS (
    SELECT service, operation, TRUE AS in_window, class, sum(number) AS number FROM each_class WHERE is_now GROUP BY ALL
    UNION ALL
    SELECT service, operation, FALSE, class, sum(number) FROM each_class WHERE is_before GROUP BY ALL
),
ranked AS (
    SELECT *, sum(number) OVER (each ORDER BY class) AS up_to, sum(number) OVER each AS all_requests
    FROM by_class WINDOW each AS (PARTITION BY service, operation, in_window)
),
quantiles AS (
    SELECT
        service, operation,
        duration_of(min(class) FILTER (NOT in_window AND up_to >= 0.5 * all_requests)) AS p50_ns,
        duration_of(min(class) FILTER (NOT in_window AND up_to >= 0.95 * all_requests)) AS p95_ns,
        duration_of(min(class) FILTER (in_window AND up_to >= 0.5 * all_requests)) AS p50_now_ns,
        duration_of(min(class) FILTER (in_window AND up_to >= 0.95 * all_requests)) AS p95_now_ns,
        -- Of a class as many as are left of three when longer ones are taken.
        sum(duration_of(class) * greatest(0, least(number, 3 - (all_requests - up_to)))) FILTER (in_window)
            AS longest_ns
    FROM ranked GROUP BY ALL
)
SELECT
    service, operation, requests::BIGINT, errors::BIGINT, coalesce(requests_before, 0)::BIGINT,
    coalesce(errors_before, 0)::BIGINT, p50_ns, p95_ns, p50_now_ns, p95_now_ns, longest_ns::BIGINT
FROM counted JOIN quantiles USING (service, operation)
"""

#: The minutes in which trouble of the time before began or ended: they are read row by row.
_TURNS = """
SELECT DISTINCT unnest([minute_of(start_ns), minute_of(end_ns)]) FROM unusual
WHERE start_ns < $before_to_ns AND end_ns > $before_ns
"""

#: When the operations of a window began to be in the trouble in which they were when it began: the first of them.
_IN_TROUBLE = """
SELECT min(start_ns) FROM unusual
WHERE start_ns < $from_ns AND end_ns >= $from_ns AND start_ns >= $earliest_ns
  AND ($service IS NULL OR service = $service) AND ($operation IS NULL OR operation = $operation)
"""
#: The time before a window is looked for so much earlier, at most.
_EARLIEST_NS = 6 * 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Times:
    """A window, and the time that it is compared with; both half-open."""

    from_ns: int
    to_ns: int
    before_ns: int
    before_to_ns: int

    def around(self) -> tuple[int, int]:
        """From the first to the last moment of both."""
        return min(self.from_ns, self.before_ns), max(self.to_ns, self.before_to_ns)


def before(
    cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, service: str | None, operation: str | None
) -> Times:
    """The window with the time before it: as long as it is, at least a quarter of an hour, right before it, or before
    the trouble in which these operations were when it began.
    """
    row = first_row(
        cursor.execute(
            _IN_TROUBLE,
            {
                "from_ns": from_ns,
                "earliest_ns": max(0, from_ns - _EARLIEST_NS),
                "service": service,
                "operation": operation,
            },
        )
    )
    until_ns = row[0] if row and row[0] is not None else from_ns
    return Times(from_ns, to_ns, max(0, until_ns - max(to_ns - from_ns, BEFORE_NS)), until_ns)


@dataclass(frozen=True, slots=True)
class Failing:
    """How often an operation failed in a window, and in the time before it."""

    requests: int
    errors: int
    against: Against
    failures: list[Failure]
    p50_ns: int | None = None
    p95_ns: int | None = None
    longest_ns: int = 0
    """The three longest together."""

    @property
    def fails(self) -> bool:
        """Whether it fails, rather than now and then as everything does."""
        ratio = self.errors / self.requests if self.requests else 0.0
        before = self.against.errors / self.against.requests if self.against.requests else 0.0
        more = self.errors >= SOME and ratio >= FAILS_MORE and ratio >= TIMES * before
        return self.errors > 0 and (ratio >= FAILS or more)


def read_failing(
    cursor: duckdb.DuckDBPyConnection,
    times: Times,
    matching: str,
    bound: Mapping[str, Any],
    name: Naming,
) -> dict[tuple[str, str], Failing]:
    """Every operation that the SQL ``matching`` (of columns of ``request``, binding ``bound``) finds requests of."""
    # What matches by its tags is looked for in the whole time, from the beginning of what it is compared with.
    from_ns, to_ns = times.around()
    values = dict(bound) | _bounds(times) | {"from_ns": from_ns, "to_ns": to_ns}
    counts = _COUNTS
    if max(times.to_ns - times.from_ns, times.before_to_ns - times.before_ns) > LONG_NS:
        ends = (times.from_ns, times.to_ns, times.before_ns, times.before_to_ns)
        apart = {end_ns // MINUTE_NS for end_ns in ends}
        bounds = {"before_ns": times.before_ns, "before_to_ns": times.before_to_ns}
        apart |= {minute for (minute,) in cursor.execute(_TURNS, bounds).fetchall()}
        cover(cursor, "request", from_ns, to_ns, apart=apart, quarters=True)
        counts = _COUNTS_SUMMED
        if "$from_ns" not in matching:
            values = {key: value for key, value in values.items() if key not in ("from_ns", "to_ns")}
    rows = cursor.execute(counts.replace("{matching}", matching), values).fetchall()
    groups: Mapping[tuple[str, str], list[Failure]] = defaultdict(list)
    if any(errors for _, _, _, errors, *_ in rows):
        groups = _grouped(cursor, matching, "true", values | {"from_ns": from_ns, "to_ns": to_ns}, name)
    compared = rfc3339(times.before_ns), rfc3339(times.before_to_ns)
    return {
        (service, operation): Failing(
            requests,
            errors,
            Against(*compared, requests_before, errors_before, p50_ns, p95_ns),
            groups[service, operation][:MOST],
            *now,
        )
        for service, operation, requests, errors, requests_before, errors_before, p50_ns, p95_ns, *now in rows
    }


def _bounds(times: Times) -> dict[str, int]:
    return {
        "window_ns": times.from_ns,
        "window_to_ns": times.to_ns,
        "before_ns": times.before_ns,
        "before_to_ns": times.before_to_ns,
    }


def _grouped(
    cursor: duckdb.DuckDBPyConnection, matching: str, counted: str, values: Mapping[str, Any], name: Naming
) -> defaultdict[tuple[str, str], list[Failure]]:
    """The failures of each operation, the most frequent first."""
    groups: defaultdict[tuple[str, str], list[Failure]] = defaultdict(list)
    sql = _GROUPS.replace("{matching}", matching).replace("{counted}", counted)
    for service, operation, *_, newest, now, before, traces in cursor.execute(sql, dict(values)).fetchall():
        groups[service, operation].append(
            replace(_failure(newest, name), requests=now, before=before, examples=traces[:EXAMPLES], span_id=None)
        )
    return groups


def read_concerned_failures(
    cursor: duckdb.DuckDBPyConnection, operation: tuple[str, str], start_ns: int, name: Naming
) -> list[Failure]:
    """The failures of one operation among the affected requests in the table ``concerned``, and before these began."""
    values = {
        "service": operation[0],
        "operation": operation[1],
        "from_ns": max(0, start_ns - BEFORE_NS),
        "to_ns": _END_OF_TIME,
        **_bounds(Times(start_ns, _END_OF_TIME, max(0, start_ns - BEFORE_NS), start_ns)),
    }
    found = _grouped(
        cursor,
        "service = $service AND operation = $operation",
        "(request.trace_id, request.span_id) IN (SELECT trace_id, span_id FROM concerned WHERE affected)",
        values,
        name,
    )
    return found[operation][:MOST]


def read_failure(cursor: duckdb.DuckDBPyConnection, row: Request, name: Naming) -> Failure | None:
    """Why this request failed; None where it did not."""
    if row.status != _ERROR:
        return None
    found = first_row(
        cursor.execute(
            "SELECT failure FROM failure WHERE trace_id = $trace_id AND span_id = $span_id AND start_ns = $start_ns",
            {"trace_id": row.trace_id, "span_id": row.span_id, "start_ns": row.start_ns},
        )
    )
    # A request that an earlier version worked out has none.
    told = found[0] if found else {"service": row.service, "failed_name": row.operation, "services": [row.service]}
    return replace(_failure(told, name), requests=1, examples=[row.trace_id])


def with_failure(verdict: Verdict, cursor: duckdb.DuckDBPyConnection, row: Request, name: Naming) -> Verdict:
    """The verdict of a request, with why it failed, and how often its operation failed before.

    A request that failed and was not slow is not blamed on any time that it took.
    """
    failure = read_failure(cursor, row, name)
    if failure is None:
        return verdict
    failing = read_failing(
        cursor,
        Times(row.start_ns, row.start_ns + 1, max(0, row.start_ns - BEFORE_NS), row.start_ns),
        "service = $service AND operation = $operation",
        {"service": row.service, "operation": row.operation},
        name,
    ).get((row.service, row.operation))
    verdict = replace(verdict, failures=[failure], against=failing.against if failing else None)
    return verdict if row.slow or (verdict.ranked_by == "lost" and verdict.usual_ns is not None) else timeless(verdict)


def timeless(verdict: Verdict) -> Verdict:
    """The verdict without culprits: its requests failed, and no time is to blame for that."""
    return replace(verdict, culprits=[], suspects=[], conclusive=(verdict.excess_ns or 0) <= 0)


def _failure(told: Mapping[str, Any], name: Naming) -> Failure:
    service, dependency, system = told["service"] or "", told.get("dependency"), told.get("dependency_system")
    entity: Entity
    if dependency:
        is_named = system and system not in dependency
        entity = Entity("service", dependency, f"{system} at {dependency}" if is_named else dependency)
    elif told.get("container_id"):
        entity = name("container", told["container_id"])
    else:
        entity = Entity("service", service, service)
    failure = Failure(
        type=told.get("type"),
        message=told.get("message"),
        status_code=told.get("status_code"),
        status_of=told.get("status_of"),
        service=service,
        span=told["failed_name"] or "",
        span_id=told.get("failed_span_id"),
        dependency=bool(dependency),
        entity=entity,
        services=list(told.get("services") or ()),
        said_by=told.get("said_by") or "status",
        because="",
        requests=1,
    )
    return replace(failure, because=because(failure))


def because(failure: Failure) -> str:
    """``KeyError: 'cart' (HTTP 500) in stock``, ``HTTP 503 in stock, calling prices:8000``: one line."""
    said = " ".join((failure.message or "").split())
    said = said if len(said) <= 200 else f"{said[:199]}…"
    kind = failure.type or ""
    # Some instrumentations write the type into the message too.
    what = said if kind and said.startswith(kind.rpartition(".")[2]) else ": ".join(filter(None, (kind, said)))
    is_its_own = failure.status_of in (None, failure.service)
    if failure.status_code and failure.status_code not in what and is_its_own:
        what = f"{what} ({failure.status_code})" if what else failure.status_code
    what = what or "an error without a message"
    where = f"in {failure.service}" if failure.service else f"in “{failure.span}”"
    called = f", calling {failure.entity.name}" if failure.dependency else ""
    answered = "" if is_its_own else f"; {failure.status_of} answered {failure.status_code}"
    return f"{what} {where}{called}{answered}"
