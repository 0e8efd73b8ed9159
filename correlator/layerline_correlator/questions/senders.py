"""Whose requests are wanted, for questions that read summaries: a table of senders, and steps of whole minutes."""

from __future__ import annotations

import duckdb

from layerline_correlator.questions.requests import RequestQuery, matching_requests
from layerline_correlator.questions.timeline import STEPS_NS
from layerline_correlator.store.stale import MINUTE_NS
from layerline_correlator.summaries.cover import DAY_PART_NS, cover

#: Steps of a window, at most.
POINTS = 60


def whole_minutes_ns(length_ns: int) -> int:
    """A step of whole minutes that divides a window into at most ``POINTS``."""
    days = -(-length_ns // POINTS // STEPS_NS[-1]) * STEPS_NS[-1]
    return next((one for one in STEPS_NS if one % MINUTE_NS == 0 and length_ns // one <= POINTS), days)


def is_filtered(query: RequestQuery) -> bool:
    """Whether some requests only are wanted."""
    return bool(query.service or query.operation or query.tags)


def choose_senders(cursor: duckdb.DuckDBPyConnection, query: RequestQuery, before_ns: int) -> None:
    """Make ``wanted_sender``: whose requests are asked for, in the window and before it."""
    none = "CREATE OR REPLACE TEMP TABLE wanted_sender AS SELECT row('', '', '', '') AS sender WHERE FALSE"
    cursor.execute(none).fetchall()
    if not is_filtered(query):
        return
    cover(cursor, "request", before_ns, query.to_ns, quarters=query.to_ns - before_ns > DAY_PART_NS)
    matching, bound = matching_requests(query, at_any_time=True)
    if "$from_ns" in matching:  # tags are looked for in a window
        bound |= {"from_ns": before_ns, "to_ns": query.to_ns}
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE wanted_sender AS"
        " SELECT DISTINCT row(service, operation, resource, container_id) AS sender FROM ("
        "SELECT service, operation, resource, container_id FROM request_summed"
        " UNION SELECT service, operation, resource, container_id FROM request_beside)"
        f" WHERE {matching}",
        bound,
    ).fetchall()
