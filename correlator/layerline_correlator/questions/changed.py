"""What the requests of a window lost to whom, and those of the time before: figures for ``verdict/changed.py``.

Up to ``ROWS`` ledgers are read one by one. Where there are more, minutes are read as they are summed up, and rows only
of those that are not: what a day costs follows from its minutes, operations and causes, not from its requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import duckdb

from layerline_correlator.incidents.describe import calm
from layerline_correlator.store.graph import graph
from layerline_correlator.store.sealed import SPAN, within
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.store.statements import first_row
from layerline_correlator.summaries.cover import REQUESTS, cover
from layerline_correlator.verdict.changed import ENOUGH_BEFORE, Compared, Loss, Lost, Who, is_open
from layerline_correlator.verdict.edges import EdgeChange, read_edges
from layerline_correlator.verdict.failures import Times

LOSSES = ("questions/changed_losses.sql",), (*REQUESTS, "compared_sender")
CHANGES = (
    ("questions/changed.sql",),
    (*("request_loss", "minute_loss", "compared_home", "compared_callee", "compared_block", "called_under"),),
)
#: Ledgers of both times that are read one by one, at most.
ROWS = 20_000
#: Into so many blocks the time before is divided, none shorter than this.
_BLOCKS, _SHORTEST_NS = 30, 10**9
#: Where a callee is not known by the name that it was called under, it is looked for in so many calls of each name,
#: among those of so long before the window's end.
_CALLS, _CALLS_NS = 5, 15 * 60 * 10**9

#: Edges are compared in windows no longer than this: what they tell of a moment is lost in a day.
_EDGES_NS = 3600 * 10**9
#: What is left out after an incident.
_SETTLES_NS = 10 * 10**9

Operation = tuple[str, str]


def read_changed(
    cursor: duckdb.DuckDBPyConnection,
    times: Times,
    matching: str,
    bound: Mapping[str, Any],
    longest_ns: Mapping[Operation, int],
) -> dict[Operation, Compared]:
    """The operations of which the SQL ``matching`` (of columns of ``request`` that summaries have too) finds requests.

    ``longest_ns``: how long the three longest requests of each took together.
    """
    from_ns, to_ns = times.around()
    count = first_row(
        cursor.execute(
            "SELECT count(*) FROM request WHERE weight > 0 AND ((start_ns >= $from_ns AND start_ns < $to_ns)"
            " OR (start_ns >= $before_ns AND start_ns < $before_to_ns))",
            _bounds(times),
        )
    )
    summed = count is not None and count[0] > ROWS
    ends = (times.from_ns, times.to_ns, times.before_ns, times.before_to_ns)
    cover(cursor, "request", from_ns, to_ns, summed=summed, apart={one // MINUTE_NS for one in ends})
    senders = " UNION ".join(
        f"SELECT service, operation, resource, container_id FROM {view}"
        for view in ("request_summed", "request_beside")
    )
    values = dict(bound)
    if "$from_ns" in matching:  # a tag, which is looked for around both times
        values |= {"from_ns": from_ns, "to_ns": to_ns}
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE compared_sender AS"
        f" SELECT row(service, operation, resource, container_id) AS sender FROM ({senders}) WHERE {matching}",
        values,
    ).fetchall()
    block_ns, origin_ns = _block_ns(times, summed), 0 if summed else times.before_ns
    middle_ns = (times.before_ns + times.before_to_ns) // 2
    parameters = {
        **_bounds(times),
        "block_ns": block_ns,
        "origin_ns": origin_ns,
        "enough": ENOUGH_BEFORE,
        "middle_block": (middle_ns - origin_ns) // block_ns,
    }
    graph(*LOSSES).run(cursor, parameters)
    _look_for_callees(cursor, times)
    graph(*CHANGES).run(cursor, parameters)
    found = _operations(cursor)
    losses = _losses(cursor)
    totals: dict[Operation, Lost] = {}
    lost: dict[Operation, dict[Who, Lost]] = defaultdict(dict)
    summed_up = _lost(cursor)
    for (operation, who), one in summed_up.items():
        if summed and operation in found:
            # Nobody can have gained more in three requests than these took longer than a mean one.
            whole = summed_up[operation, Who("all", "")]
            gained_ns = longest_ns.get(operation, 0) - 3 * found[operation].mean_before(whole)
            one = replace(one, hardest=(max(0.0, min(one.now_ns, gained_ns)), 0.0), squares=None)
        if who.type == "all":
            totals[operation] = one
        else:
            lost[operation][who] = replace(one, losses=tuple(losses[operation, who]))
    versions = _versions(cursor, times)
    found = {
        operation: replace(one, total=totals.get(operation, one.total), lost=lost[operation])
        for operation, one in found.items()
    }
    edges = _edges(cursor, times) if any(_may_have_grown(one) for one in found.values()) else ()
    return {
        operation: replace(
            one,
            edges=edges,
            versions=tuple(
                f"{service} {version}"
                for service, version in versions
                if service == operation[0] or Who("owner", service) in lost[operation]
            ),
        )
        for operation, one in found.items()
    }


def _may_have_grown(compared: Compared) -> bool:
    """Whether it makes a difference what the calls between services say."""
    return bool(compared.requests_before) and any(is_open(compared, lost) for lost in compared.lost.values())


def _edges(cursor: duckdb.DuckDBPyConnection, times: Times) -> tuple[EdgeChange, ...]:
    """Which calls between services got slower, against the time before in which there was no incident."""
    if times.to_ns - times.from_ns > _EDGES_NS:
        return ()
    before_ns = max(times.before_ns, times.before_to_ns - _EDGES_NS)
    incidents = cursor.execute(
        "SELECT start_ns, coalesce(end_ns, $before_to_ns) + $settles_ns FROM incident WHERE merged_into IS NULL"
        " AND start_ns < $before_to_ns AND coalesce(end_ns, $before_to_ns) > $before_ns ORDER BY start_ns",
        {"before_ns": before_ns, "before_to_ns": times.before_to_ns, "settles_ns": _SETTLES_NS},
    ).fetchall()
    before = calm(before_ns, times.before_to_ns, incidents)
    return tuple(read_edges(cursor, (times.from_ns, times.to_ns), before))


def _bounds(times: Times) -> dict[str, int]:
    return {
        "from_ns": times.from_ns,
        "to_ns": times.to_ns,
        "before_ns": times.before_ns,
        "before_to_ns": times.before_to_ns,
    }


def _block_ns(times: Times, summed: bool) -> int:
    """The length of a block: whole minutes where those are read."""
    block_ns = max(_SHORTEST_NS, (times.before_to_ns - times.before_ns) // _BLOCKS)
    return -(-block_ns // MINUTE_NS) * MINUTE_NS if summed else block_ns


def _look_for_callees(cursor: duckdb.DuckDBPyConnection, times: Times) -> None:
    """Make ``called_under``: which service answered calls under names that do not say it."""
    cursor.execute("CREATE OR REPLACE TEMP TABLE called_under (entity_id VARCHAR, service VARCHAR)").fetchall()
    from_ns = max(times.from_ns, times.to_ns - _CALLS_NS)
    calls = cursor.execute(
        "SELECT entity_id, trace_id, start_ns FROM part"
        " WHERE start_ns >= $from_ns AND start_ns < $to_ns AND entity_type = 'service'"
        " AND entity_id IN (SELECT entity_id FROM request_loss WHERE entity_type = 'service'"
        " UNION SELECT entity_id FROM minute_loss WHERE entity_type = 'service')"
        " AND entity_id NOT IN (SELECT entity_id FROM compared_callee)"
        " QUALIFY row_number() OVER (PARTITION BY entity_id ORDER BY start_ns DESC) <= $calls",
        {"from_ns": from_ns, "to_ns": times.to_ns, "calls": _CALLS},
    ).fetchall()
    if not calls:
        return
    first_ns, last_ns = min(call[2] for call in calls), max(call[2] for call in calls)
    with within(cursor, first_ns, last_ns + _CALLS_NS, SPAN):
        cursor.execute(
            "INSERT INTO called_under"
            " WITH made AS (SELECT trace_id, span_id, resource,"
            " coalesce(nullif(called_address(attributes), ''), called_system(attributes), name) AS entity_id, name"
            " FROM span WHERE trace_id IN (SELECT unnest($traces::VARCHAR[])) AND is_client(kind)),"
            " answered AS (SELECT trace_id, unnest([parent_span_id, span_id]) AS span_id, service FROM span"
            " JOIN resource USING (resource) WHERE trace_id IN (SELECT unnest($traces::VARCHAR[])) AND is_server(kind))"
            " SELECT entity_id, mode(answered.service) FROM (SELECT trace_id, span_id, resource,"
            " unnest(list_distinct([entity_id, name])) AS entity_id FROM made) AS made"
            " JOIN answered USING (trace_id, span_id) JOIN resource AS caller ON caller.resource = made.resource"
            " WHERE answered.service <> caller.service AND entity_id IN (SELECT unnest($names::VARCHAR[]))"
            " GROUP BY entity_id HAVING count(DISTINCT answered.service) = 1",
            {"traces": list({call[1] for call in calls}), "names": list({call[0] for call in calls})},
        ).fetchall()


def _operations(cursor: duckdb.DuckDBPyConnection) -> dict[Operation, Compared]:
    found: dict[Operation, Compared] = {}
    for service, operation, now, worth, before, worth_before in cursor.execute(
        "SELECT service, operation, coalesce(sum(weight) FILTER (is_now), 0) AS now,"
        " coalesce(now * now / sum(squares) FILTER (is_now), 0),"
        " coalesce(sum(weight) FILTER (NOT is_now), 0) AS before,"
        " coalesce(before * before / sum(squares) FILTER (NOT is_now), 0) FROM compared_block GROUP BY ALL"
    ).fetchall():
        if now > 0:
            found[service, operation] = Compared(now, worth, before, worth_before, Lost(0.0, 0.0))
    return found


def _lost(cursor: duckdb.DuckDBPyConnection) -> dict[tuple[Operation, Who], Lost]:
    return {
        ((service, operation), Who(kind, identity)): Lost(
            now_ns=now_ns,
            before_ns=before_ns,
            blocks=blocks or 0,
            variance=variance or 0.0,
            squares=squares or 0.0,
            halves=((first_ns or 0.0, first or 0.0), (second_ns or 0.0, second or 0.0)),
            hardest=(hardest_ns, hardest),
            examples=tuple(zip(traces, spans, strict=True)),
        )
        for (
            service,
            operation,
            kind,
            identity,
            now_ns,
            before_ns,
            blocks,
            variance,
            squares,
            first_ns,
            first,
            second_ns,
            second,
            hardest_ns,
            hardest,
            traces,
            spans,
        ) in cursor.execute(
            "SELECT service, operation, who_type, who, now_ns, before_ns, blocks, variance, squares, first_half_ns,"
            " first_half, second_half_ns, second_half, hardest_ns, hardest, traces, spans FROM changed_who"
        ).fetchall()
    }


def _losses(cursor: duckdb.DuckDBPyConnection) -> dict[tuple[Operation, Who], list[Loss]]:
    losses: dict[tuple[Operation, Who], list[Loss]] = defaultdict(list)
    for service, operation, kind, identity, *loss in cursor.execute(
        "SELECT service, operation, who_type, who, cause, entity_type, entity_id, now_ns, low_ns, before_ns,"
        " before_high_ns FROM changed_cause ORDER BY ALL"
    ).fetchall():
        losses[(service, operation), Who(kind, identity)].append(Loss(*loss))
    return losses


def _versions(cursor: duckdb.DuckDBPyConnection, times: Times) -> list[tuple[str, str]]:
    """Services and versions of them that answered requests of the window, and none of the time before.

    A service that is new as a whole is no new version.
    """
    return cursor.execute(
        "SELECT request.service, attributes['service.version'] AS version"
        " FROM (SELECT DISTINCT service, resource, start_ns >= $from_ns AND start_ns < $to_ns AS is_now FROM request"
        " WHERE (start_ns >= $from_ns AND start_ns < $to_ns) OR (start_ns >= $before_ns AND start_ns < $before_to_ns)"
        " ) AS request JOIN resource USING (resource)"
        " GROUP BY ALL HAVING version IS NOT NULL AND bool_and(is_now)"
        " AND request.service IN"
        " (SELECT service FROM request WHERE start_ns >= $before_ns AND start_ns < $before_to_ns)"
        " ORDER BY ALL",
        _bounds(times),
    ).fetchall()
