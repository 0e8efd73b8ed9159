"""From spans and readings to ledgers, for a batch of traces at once.

The steps are ``.sql`` files, run in this order on one cursor: ``batch`` (its spans), ``join`` (which container and
machine each came from), ``path`` (critical path and segments), ``pieces`` (what each span did with its own time),
``readings`` (the time join), ``infer`` (what the readings say of spans that nobody measured), then one cause after
another, then ``parts``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import duckdb

from layerline_correlator.facts.join import join
from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.store.statements import run

#: Spans of a trace are looked for this long around those that are known of.
AROUND_NS = 15 * 60 * 10**9
#: Readings are looked for this long around: the longest interval that counts as a reading, and a little more.
READINGS_AROUND_NS = 130 * 10**9
#: A request is followed through its readings for this long.
LONGEST_NS = 3600 * 10**9
_END_OF_TIME = 2**63 - 1


def work_out(
    cursor: duckdb.DuckDBPyConnection, trace_ids: Collection[str], from_ns: int, to_ns: int, keep: bool = True
) -> None:
    """Work out the ledgers of every request of these traces and replace what was stored of them.

    ``from_ns`` and ``to_ns`` bound the start of their spans. With ``keep=False`` nothing is stored: the temporary
    tables (``segment``, ``piece``, ``evidence`` …) are left on the cursor for whoever wants to look at them.
    """
    cursor.execute("CREATE OR REPLACE TEMP TABLE batch (trace_id VARCHAR)").fetchall()
    cursor.execute("INSERT INTO batch SELECT unnest($ids)", {"ids": list(trace_ids)}).fetchall()
    bounds = _widened(cursor, from_ns, to_ns)
    run(cursor, "ledger/batch.sql", bounds)
    join(cursor)
    run(cursor, "ledger/path.sql")
    if not keep:
        return
    run(cursor, "ledger/pieces.sql", bounds)
    around = _readings(cursor)
    run(cursor, "ledger/readings.sql", around)
    run(cursor, "ledger/infer.sql", around)
    run(cursor, "ledger/claims.sql")
    _take(cursor)
    cursor.execute("BEGIN").fetchall()
    try:
        run(cursor, "ledger/parts.sql", {**bounds, "now_ns": time.time_ns()})
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        cursor.execute("ROLLBACK").fetchall()
        raise


def _widened(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> dict[str, int]:
    """The bounds, so wide that spans of the same requests which came earlier are found too."""
    row = cursor.execute(
        "SELECT least($from_ns, min(start_ns)), greatest($to_ns, max(end_ns))"
        " FROM request SEMI JOIN batch USING (trace_id)",
        {"from_ns": from_ns, "to_ns": to_ns},
    ).fetchone()
    first, last = row if row and row[0] is not None else (from_ns, to_ns)
    return {"from_ns": max(0, first - AROUND_NS), "to_ns": min(_END_OF_TIME, last + AROUND_NS)}


def _readings(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Where readings are looked for: around the visits, and not for longer than ``LONGEST_NS`` after the last began."""
    row = cursor.execute("SELECT min(from_ns), max(from_ns), max(to_ns) FROM visit").fetchone()
    first, last, end = row if row and row[0] is not None else (0, 0, 0)
    return {
        "since_ns": max(0, first - READINGS_AROUND_NS),
        "until_ns": min(_END_OF_TIME, end + READINGS_AROUND_NS, last + LONGEST_NS),
    }


def _take(cursor: duckdb.DuckDBPyConnection) -> None:
    needs: list[tuple[str, int, str, str | None]] = []
    prepared: set[str] = set()
    for cause in all_causes():
        for file in cause.prepare:
            if file not in prepared:
                prepared.add(file)
                run(cursor, file)
        claims = cursor.execute(
            f"INSERT INTO claim BY NAME SELECT $cause AS cause, * FROM ({cause.sql})", {"cause": cause.name}
        ).fetchall()
        if claims[0][0]:
            run(cursor, "ledger/take.sql", {"cause": cause.name})
        needs += [
            (cause.name, number, fact, cause.applies) for number, facts in enumerate(cause.needs) for fact in facts
        ]
    _insert_needs(cursor, needs)


def _insert_needs(cursor: duckdb.DuckDBPyConnection, needs: Sequence[tuple[str, int, str, str | None]]) -> None:
    cursor.execute(
        "INSERT INTO need SELECT unnest($causes), unnest($numbers), unnest($facts), unnest($applies)",
        dict(zip(("causes", "numbers", "facts", "applies"), map(list, zip(*needs, strict=True)), strict=True)),
    ).fetchall()
