"""A window as its summed-up minutes, and beside them the rows of those that are not.

``cover`` makes temporary views on a question's cursor. Of the points, ``point_summed`` has the rows of ``point_minute``
for whole minutes of the window that nobody wrote to since (``stale_minute``), and ``point_beside`` has the rows of
``point`` for the rest; so it is for the other kinds. Together they are the window, each row once. What a question makes
of both must be the same, whichever minutes are summed up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import duckdb

from layerline_correlator.store.stale import MINUTE_NS

#: Windows longer than this are answered from summaries also where only those differ slightly (quantiles).
LONG_NS = 3600 * 10**9
#: Minutes that are not summed up and have fewer than so many others between them are read in one go; and how many of
#: these stretches a window may have. Where there are more, the oldest are read as they were summed up.
_NEAR, _STRETCHES = 3, 40

#: Of each kind: the tables of its summaries; where its rows are read; and by which column they are found.
_SUMMED = {
    "point": ("point_minute",),
    "span": ("span_minute", "edge_minute"),
    "request": ("request_minute", "part_minute", "stay_minute", "blind_minute"),
}
_ROWS = {
    "point": (("point_beside", "FROM point WHERE time_ns >= {0} AND time_ns < {1}"),),
    "span": (
        ("span_beside", "FROM span WHERE start_ns >= {0} AND start_ns < {1}"),
        ("call_beside", "FROM calls_in({0}, {1})"),
    ),
    "request": tuple(
        (f"{table}_beside", f"FROM {table} WHERE start_ns >= {{0}} AND start_ns < {{1}}")
        for table in ("request", "part", "stay", "blind")
    ),
}


def _views(kind: str) -> tuple[str, ...]:
    return (*(table.replace("_minute", "_summed") for table in _SUMMED[kind]), *(name for name, _ in _ROWS[kind]))


#: All that ``cover`` makes, for graphs of steps that read it.
POINTS, SPANS, REQUESTS = _views("point"), _views("span"), _views("request")
VIEWS = (*POINTS, *SPANS, *REQUESTS)


def cover(
    cursor: duckdb.DuckDBPyConnection,
    kind: str,
    from_ns: int,
    to_ns: int,
    *,
    summed: bool = True,
    apart: Collection[int] = (),
) -> None:
    """Make the views of a kind (``store.stale.KINDS``) for the window ``[from_ns, to_ns)``.

    Without ``summed`` all of it is read row by row, and so are the minutes that are to be kept ``apart``.
    """
    first, end = -(-from_ns // MINUTE_NS), to_ns // MINUTE_NS
    stretches, skipped = [(from_ns, to_ns)], list[tuple[int, int]]()
    if summed and first < end:
        skipped = list(_together(_stale(cursor, kind, first, end) | {one for one in apart if first <= one < end}))
        skipped = skipped[-_STRETCHES:]
        stretches = [
            (from_ns, first * MINUTE_NS),
            *((begin * MINUTE_NS, after * MINUTE_NS) for begin, after in skipped),
            (end * MINUTE_NS, to_ns),
        ]
    else:
        end = first
    # A view takes no parameters; these are whole numbers of our own.
    where = " AND ".join(
        [f"minute >= {first}", f"minute < {end}", *(f"NOT minute BETWEEN {a} AND {b - 1}" for a, b in skipped)]
    )
    for table in _SUMMED[kind]:
        name = table.replace("_minute", "_summed")
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {table} WHERE {where}").fetchall()
    for name, rows in _ROWS[kind]:
        read = " UNION ALL ".join(rows.format(a, b) for a, b in stretches if a < b) or rows.format(0, 0)
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {read}").fetchall()


def turns(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> set[int]:
    """The minutes in which a container began or ended, and those before: spans may begin a little before the life."""
    found = cursor.execute(
        "SELECT DISTINCT minute_of(time_ns) FROM event WHERE name IN ('container.start', 'container.die')"
        " AND time_ns >= $from_ns AND time_ns < $to_ns",
        {"from_ns": from_ns, "to_ns": to_ns},
    ).fetchall()
    return {number for (minute,) in found for number in (minute - 1, minute)}


def _stale(cursor: duckdb.DuckDBPyConnection, kind: str, first: int, end: int) -> set[int]:
    return {
        minute
        for (minute,) in cursor.execute(
            "SELECT DISTINCT minute FROM stale_minute WHERE kind = $kind AND minute >= $first AND minute < $end",
            {"kind": kind, "first": first, "end": end},
        ).fetchall()
    }


def _together(minutes: Collection[int]) -> Iterator[tuple[int, int]]:
    """Neighbours as half-open stretches."""
    begin = last = None
    for minute in sorted(minutes):
        if begin is None or last is None or minute - last > _NEAR:
            if begin is not None and last is not None:
                yield begin, last + 1
            begin = minute
        last = minute
    if begin is not None and last is not None:
        yield begin, last + 1
