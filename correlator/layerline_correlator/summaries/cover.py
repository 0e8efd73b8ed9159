"""A window as its summed-up minutes, and beside them the rows of those that are not.

``cover`` makes temporary views on a question's cursor. Of the points, ``point_summed`` has the rows of ``point_minute``
for whole minutes of the window that nobody wrote to since (``stale_minute``), and ``point_beside`` has the rows of
``point`` for the rest; so it is for the other kinds. Together they are the window, each row once. What a question makes
of both must be the same, whichever minutes are summed up.

Where minutes are too many, ``point_summed`` has rows of ``point_quarter`` in their place: for whole quarters of an hour
of the window that are summed up and of which no minute is read row by row. They are rows as of one long minute.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import duckdb

from layerline_correlator.store.stale import MINUTE_NS, QUARTER, runs_of

QUARTER_NS = QUARTER * MINUTE_NS
#: Windows longer than this are answered from summaries also where only those differ slightly (quantiles).
LONG_NS = 3600 * 10**9
#: In windows longer than this minutes are so many that quarters are read.
DAY_PART_NS = 2 * LONG_NS
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
    quarters: bool = False,
) -> None:
    """Make the views of a kind (``store.stale.KINDS``) for the window ``[from_ns, to_ns)``.

    Without ``summed`` all of it is read row by row, and so are the minutes that are to be kept ``apart``. With
    ``quarters`` minutes are read together where they can be.
    """
    first, end = -(-from_ns // MINUTE_NS), to_ns // MINUTE_NS
    stretches, skipped = [(from_ns, to_ns)], list[tuple[int, int]]()
    if summed and first < end:
        skipped = list(runs_of(_stale(cursor, kind, first, end) | {one for one in apart if first <= one < end}, _NEAR))
        skipped = skipped[-_STRETCHES:]
        stretches = [
            (from_ns, first * MINUTE_NS),
            *((begin * MINUTE_NS, after * MINUTE_NS) for begin, after in skipped),
            (end * MINUTE_NS, to_ns),
        ]
    else:
        end = first
    whole = list(_quarters(cursor, kind, first, end, skipped)) if quarters and summed else []
    minutes = list(_between(first, end, sorted((*skipped, *whole))))
    for table in _SUMMED[kind]:
        name, longer = table.replace("_minute", "_summed"), table.replace("_minute", "_quarter")
        # A view takes no parameters; these are whole numbers of our own.
        rest = f" UNION ALL FROM {longer} WHERE {_within(whole)}" if whole else ""
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {table} WHERE {_within(minutes)}{rest}").fetchall()
    for name, rows in _ROWS[kind]:
        read = " UNION ALL ".join(rows.format(a, b) for a, b in stretches if a < b) or rows.format(0, 0)
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {read}").fetchall()


def _within(stretches: Collection[tuple[int, int]]) -> str:
    """A condition: the minute is in one of these half-open stretches. Of what is outside of all nothing is read."""
    if not stretches:
        return "FALSE"
    bounds = f"minute >= {min(begin for begin, _ in stretches)} AND minute < {max(end for _, end in stretches)}"
    each = " OR ".join(f"minute >= {begin} AND minute < {end}" for begin, end in stretches)
    return f"{bounds} AND ({each})"


def _between(first: int, end: int, taken: Collection[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of ``[first, end)`` beside these stretches of it, which are in order."""
    for begin, after in taken:
        if first < begin:
            yield first, begin
        first = max(first, after)
    if first < end:
        yield first, end


def _quarters(
    cursor: duckdb.DuckDBPyConnection, kind: str, first: int, end: int, skipped: Collection[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The quarters that are summed up and lie in ``[first, end)`` beside what is skipped, neighbours together."""
    found = cursor.execute(
        "SELECT DISTINCT quarter FROM summed_quarter WHERE kind = $kind AND quarter >= $first AND quarter <= $last"
        " ORDER BY quarter",
        {"kind": kind, "first": first, "last": end - QUARTER},
    ).fetchall()
    touched = {minute // QUARTER * QUARTER for begin, after in skipped for minute in range(begin, after)}
    begin = last = None
    for quarter in (one for (one,) in found if one not in touched):
        if last is not None and begin is not None and quarter != last + QUARTER:
            yield begin, last + QUARTER
            begin = None
        begin, last = quarter if begin is None else begin, quarter
    if begin is not None and last is not None:
        yield begin, last + QUARTER


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
