"""Points of hours that are old are kept at a coarser step: their files are written anew with two points a step.

Only the file changes. What is summed up per minute and quarter was made of all points and stays; ledgers were worked
out long before. A ledger that is worked out from such an hour (of a trace that comes late, or is asked for and was left
out) sees longer intervals, and says wider ranges. Points that come late for such an hour are kept as others are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from layerline_correlator.settings import Rule
from layerline_correlator.store.sealed import HOUR_NS, POINT, name_file, need_room, title_of, write_file
from layerline_correlator.store.statements import literal, text

_COLUMNS = ("series", "start_ns", "time_ns", "value")

#: Files of points that may be due, and whether a minute of theirs has yet to be summed up: that is done of all points.
_FILES = """
SELECT file, from_ns, rows, coalesce(step_ns, 0),
       EXISTS (
           FROM stale_minute
           WHERE kind = 'point' AND minute >= from_ns // 60_000_000_000 AND minute < to_ns // 60_000_000_000
       )
FROM sealed_file WHERE kind = 'point' AND to_ns <= $before_ns ORDER BY from_ns
"""


@dataclass(frozen=True, slots=True)
class Old:
    """The file of an hour that is to be rolled up."""

    file: str
    from_ns: int
    rows: int
    step_ns: int


def due_for_rollup(cursor: duckdb.DuckDBPyConnection, rules: tuple[Rule, ...], now_ns: int) -> list[Old]:
    """The files that are kept at a finer step than the rules say for their age, the oldest first."""
    if not rules:
        return []
    found = []
    for file, from_ns, rows, kept_ns, waits in cursor.execute(
        _FILES, {"before_ns": now_ns - min(rule.age_ns for rule in rules)}
    ).fetchall():
        ended_ns = from_ns + HOUR_NS
        step_ns = max((rule.step_ns for rule in rules if ended_ns <= now_ns - rule.age_ns), default=0)
        if step_ns > kept_ns and not waits:
            found.append(Old(file, from_ns, rows, step_ns))
    return found


def roll_up(cursor: duckdb.DuckDBPyConnection, folder: Path, old: Old) -> list[Path]:
    """Write an hour's file anew with fewer points. Returns files that nobody names any more. ``NoRoomToSeal``."""
    need_room(folder, old.rows * POINT.row_bytes)
    source = folder / old.file
    if not source.is_file():  # it is reported wherever it is read
        return []
    cursor.execute("BEGIN").fetchall()
    try:
        # Neither a view nor COPY takes parameters; this is a name and a number of our own.
        cursor.execute(
            f"CREATE OR REPLACE TEMP VIEW old_point AS SELECT series, start_ns, time_ns, value,"
            f" time_ns // {old.step_ns} AS step FROM read_parquet({literal(str(source.absolute()))})"
        ).fetchall()
        made, copied = write_file(cursor, folder, POINT, old.from_ns, text("store/rollup.sql"))
        if copied > old.rows:
            raise RuntimeError(
                f"hour {title_of(old.from_ns)}: {old.rows:,} points were to be rolled up, and {copied:,} were written"
            )
        gone = cursor.execute(
            "DELETE FROM sealed_file WHERE kind = 'point' AND file = $file RETURNING file", {"file": old.file}
        ).fetchall()
        if len(gone) != 1:  # it was sealed anew, or deleted, just now
            cursor.execute("ROLLBACK").fetchall()
            return [made]
        name_file(cursor, folder, POINT, old.from_ns, made, copied, _COLUMNS, old.step_ns)
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            cursor.execute("ROLLBACK").fetchall()
        raise
    return [source] if source != made else []
