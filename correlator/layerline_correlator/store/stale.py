"""Which minutes were written to since they were summed up (table ``stale_minute``).

Whoever writes or deletes rows notes their minutes in the same transaction. Summing up (``summaries``) deletes the notes
that it sees; one that is written meanwhile belongs to a transaction that it does not see, and stays.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping

import duckdb

MINUTE_NS = 60 * 10**9
#: How many minutes are summed up further together.
QUARTER = 15
#: What is summed up by itself: the rows of ``point``, of ``span``, and of ``request`` with all that hangs below them.
KINDS = ("point", "span", "request")


def runs_of(minutes: Collection[int], near: int = 1) -> Iterator[tuple[int, int]]:
    """Minutes as half-open stretches: those that are no more than ``near`` apart are one."""
    begin = last = None
    for minute in sorted(minutes):
        if begin is None or last is None or minute - last > near:
            if begin is not None and last is not None:
                yield begin, last + 1
            begin = minute
        last = minute
    if begin is not None and last is not None:
        yield begin, last + 1


def mark(cursor: duckdb.DuckDBPyConnection, kind: str, times_ns: Iterable[int]) -> None:
    """Note the minutes of these times, as part of the transaction that writes rows of them."""
    mark_each(cursor, {kind: times_ns})


def mark_each(cursor: duckdb.DuckDBPyConnection, times_ns: Mapping[str, Iterable[int]]) -> None:
    """``mark`` for several kinds, in one statement."""
    minutes = [
        (kind, minute) for kind, times in times_ns.items() for minute in sorted({at // MINUTE_NS for at in times})
    ]
    if minutes:
        cursor.execute(
            "INSERT INTO stale_minute SELECT unnest($kinds::VARCHAR[]), unnest($minutes::BIGINT[]), $now_ns",
            {
                "kinds": [kind for kind, _ in minutes],
                "minutes": [minute for _, minute in minutes],
                "now_ns": time.time_ns(),
            },
        ).fetchall()


def mark_all(cursor: duckdb.DuckDBPyConnection) -> None:
    """Note every minute of which there are rows: nothing is summed up yet."""
    for kind, column in zip(KINDS, ("time_ns", "start_ns", "start_ns"), strict=True):
        cursor.execute(
            f"INSERT INTO stale_minute SELECT DISTINCT '{kind}', {column} // $minute_ns, 0 FROM {kind}",
            {"minute_ns": MINUTE_NS},
        ).fetchall()


def mark_requests(
    cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, traces: Iterable[str] | None = None
) -> None:
    """Note the minutes of the requests of these traces (``None``: of those in the table ``batch``).

    Called when their rows are written, and before they are deleted.
    """
    if traces is not None:
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE batch AS SELECT unnest($ids::VARCHAR[]) AS trace_id", {"ids": list(traces)}
        ).fetchall()
    cursor.execute(
        "INSERT INTO stale_minute SELECT DISTINCT 'request', start_ns // $minute_ns, $now_ns"
        " FROM request SEMI JOIN batch USING (trace_id) WHERE start_ns BETWEEN $from_ns AND $to_ns",
        {"minute_ns": MINUTE_NS, "now_ns": time.time_ns(), "from_ns": from_ns, "to_ns": to_ns},
    ).fetchall()


def forget_quarters(cursor: duckdb.DuckDBPyConnection, kind: str, minutes: Iterable[int]) -> set[int]:
    """What is summed up of the quarters of these minutes no longer holds. Which those are, by their first minutes."""
    quarters = {minute // QUARTER * QUARTER for minute in minutes}
    cursor.execute(
        "DELETE FROM summed_quarter WHERE kind = $kind AND quarter IN (SELECT unnest($quarters::BIGINT[]))",
        {"kind": kind, "quarters": sorted(quarters)},
    ).fetchall()
    return quarters
