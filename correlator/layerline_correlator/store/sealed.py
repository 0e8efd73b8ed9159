"""Hours that are no longer hot lie in Parquet files beside the database, and are read as if they did not.

Of points, spans and log records (``KINDS``). New rows are written to the table ``hot_point``. The view ``point``
spans it and the files that the table ``sealed_file`` names. Both change in one transaction: every reader sees each
row once. An hour is written under a temporary name, synced, and renamed to a name made of its hour and its contents
before that transaction commits: a process that is killed meanwhile leaves at most a file that no row names, and the
next start removes it. A row that comes later for an hour that is sealed goes to the table, as any other.

A file that is not named any more is kept for a while, because a question may still read what it saw when it began.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from layerline_correlator.store.statements import begin, literal
from layerline_correlator.store.version import has_table, sync

HOUR_NS = 3600 * 10**9
#: An hour is not sealed before it ended so long ago, whatever is set: who reads what is younger needs no file.
LEAST_HOT_NS = HOUR_NS
#: By how much earlier than that ``within`` wants a window to begin: that long a pass may take.
_MARGIN_NS = 10 * 60 * 10**9
_END_OF_TIME = 2**63 - 1
#: An hour that was sealed is written again when so much of it came later; until then that stays in the table.
_LATE_SHARE = 0.1
#: How long a file stays after nobody names it any more, in seconds: longer than any question may take.
_KEPT_S = 300.0
#: What must be free beside what sealing needs, in bytes.
_SPARE_BYTES = 64 * 2**20

_log = logging.getLogger("layerline.store")

FOLDER = "sealed"
_PARTIAL = ".partial"
#: Spans of a trace are looked for so long around its requests (``ledger/work.py``). Hours with others are noted.
NEAR_NS = 15 * 60 * 10**9


@dataclass(frozen=True, slots=True)
class Kind:
    """What is sealed by the hour: the rows of a table, and the view of it and its files."""

    name: str
    """Of the view, of the folder, and in ``sealed_file``."""
    time: str
    """The column that says in which hour a row is."""
    row_bytes: int
    """What sealing a row needs at most: of what must be free on the disk."""
    around_ns: int = 0
    """Readers of a window look so far around it."""

    @property
    def table(self) -> str:
        """Where new rows are written to."""
        return f"hot_{self.name}"


POINT = Kind("point", "time_ns", 40)
SPAN = Kind("span", "start_ns", 1_000, around_ns=600 * 10**9)  # answers_within_ns() of summaries/calls.sql
LOG = Kind("log", "time_ns", 1_000)
KINDS = (POINT, SPAN, LOG)
#: What a span in the table has beside its columns: in a file it is one of them.
_NUMBER = ", rowid AS received_no"
#: Where points are written to.
HOT_POINT = POINT.table

_DUE = """
WITH hot AS (
    SELECT {time} // $hour_ns AS hour, count(*) AS rows FROM {table} WHERE {time} < $before_ns GROUP BY ALL
),
kept AS (SELECT from_ns // $hour_ns AS hour, sum(rows) AS rows FROM sealed_file WHERE kind = '{name}' GROUP BY ALL)
SELECT hour, hot.rows, coalesce(kept.rows, 0)
FROM hot LEFT JOIN kept USING (hour)
WHERE hot.rows >= $late_share * coalesce(kept.rows, 0) ORDER BY hour
"""

#: Whether a trace of an hour has yet to be worked out, as ``backlog.sql`` has it: a start looks for those in the table.
_UNSETTLED = """
SELECT 1 FROM (SELECT DISTINCT trace_id FROM hot_span WHERE start_ns >= $from_ns AND start_ns < $to_ns)
ANTI JOIN (
    SELECT trace_id FROM request WHERE (weight > 0 AND judged_ns >= end_ns + $settle_ns) OR planned = 0
    UNION ALL SELECT trace_id FROM failed
) AS settled USING (trace_id)
LIMIT 1
"""

#: The rows of an hour in the order of the file. Points: what one sender read at once has the same times, and side by
#: side they take a quarter of the room. Spans: a trace lies together, in the order in which it was received, which is
#: less than that of any row in the table.
_SORTED = {
    POINT: """
SELECT {columns} FROM ({spanning}) AS point
LEFT JOIN (SELECT series, min(resource) AS sender FROM series GROUP BY series) AS sent USING (series)
WHERE time_ns >= {from_ns} AND time_ns < {to_ns}
ORDER BY sender, point.series, time_ns, point.start_ns
""",
    SPAN: """
SELECT {columns}, {from_ns} // 3_600_000_000_000 * 4_294_967_296 + row_number() OVER () - 4_611_686_018_427_387_904
    AS received_no
FROM (
    SELECT * FROM ({spanning}) WHERE start_ns >= {from_ns} AND start_ns < {to_ns} ORDER BY trace_id, received_no
) AS span
""",
    LOG: """
SELECT {columns} FROM ({spanning}) AS log
WHERE time_ns >= {from_ns} AND time_ns < {to_ns} ORDER BY trace_id, time_ns, resource
""",
}

#: Traces with rows in an hour that is far from all of their requests, so that these do not say where they are. Of log
#: records only those of traces that are known: of many others no span was sent.
_FAR = """
INSERT INTO sealed_trace
SELECT DISTINCT trace_id, '{name}', $from_ns
FROM {table}
ANTI JOIN (
    SELECT trace_id FROM request WHERE start_ns - $near_ns < $to_ns AND end_ns + $near_ns >= $from_ns
) AS near USING (trace_id)
WHERE {time} >= $from_ns AND {time} < $to_ns AND trace_id IS NOT NULL {known}
"""
_KNOWN = "AND trace_id IN (SELECT trace_id FROM request)"


class NoRoomToSeal(OSError):
    """The disk has too little room for another file."""


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour that is to be sealed."""

    kind: Kind
    from_ns: int
    hot_rows: int
    """In the table."""
    sealed_rows: int
    """In files already: they are written again, together with the others."""
    settle_ns: int = 0
    """How long after the end of a request its ledger is worked out."""


class _File(NamedTuple):
    name: str
    columns: tuple[str, ...]


def due(cursor: duckdb.DuckDBPyConnection, hot_ns: int, now_ns: int, settle_ns: int = 0) -> list[Hour]:
    """The hours that are no longer hot and of which there are rows in a table, the oldest first.

    Spans stay while the ledger of any of them has yet to be worked out; ``settle_ns`` after its end it is.
    """
    before_ns = (now_ns - max(hot_ns, LEAST_HOT_NS)) // HOUR_NS * HOUR_NS
    hours = [
        Hour(kind, hour * HOUR_NS, hot_rows, sealed_rows, settle_ns)
        for kind in KINDS
        for hour, hot_rows, sealed_rows in cursor.execute(
            _DUE.format(name=kind.name, table=kind.table, time=kind.time),
            {"hour_ns": HOUR_NS, "before_ns": before_ns, "late_share": _LATE_SHARE},
        ).fetchall()
    ]
    return sorted((hour for hour in hours if _is_settled(cursor, hour)), key=lambda hour: hour.from_ns)


def _is_settled(cursor: duckdb.DuckDBPyConnection, hour: Hour) -> bool:
    bounds = {"from_ns": hour.from_ns, "to_ns": hour.from_ns + HOUR_NS, "settle_ns": hour.settle_ns}
    return hour.kind is not SPAN or not cursor.execute(_UNSETTLED, bounds).fetchall()


def seal(cursor: duckdb.DuckDBPyConnection, folder: Path, hour: Hour) -> list[Path]:
    """Write an hour's rows to a file, and take them out of the table. Returns files that nobody names any more.

    ``NoRoomToSeal``; ``duckdb.TransactionException`` where somebody else deleted rows of it meanwhile.
    """
    kind = hour.kind
    need_room(folder, (hour.hot_rows + hour.sealed_rows) * kind.row_bytes)
    to_ns = hour.from_ns + HOUR_NS
    bounds = {"from_ns": hour.from_ns, "to_ns": to_ns}
    title = title_of(hour.from_ns)
    cursor.execute("BEGIN").fetchall()
    try:
        if not _is_settled(cursor, hour):  # more of it arrived just now
            cursor.execute("ROLLBACK").fetchall()
            return []
        columns = _columns(cursor, kind)
        written = _SORTED[kind].format(
            columns=_listed(columns, f"{kind.name}."),
            spanning=_spanning(cursor, folder, kind, _files(cursor, folder, kind, hour.from_ns, to_ns)),
            **bounds,
        )
        made, copied = write_file(cursor, folder, kind, hour.from_ns, written)
        if kind is not POINT:
            far = _FAR.format(name=kind.name, table=kind.table, time=kind.time, known=_KNOWN if kind is LOG else "")
            cursor.execute(far, {**bounds, "near_ns": NEAR_NS}).fetchall()
        ((deleted,),) = cursor.execute(
            f"DELETE FROM {kind.table} WHERE {kind.time} >= $from_ns AND {kind.time} < $to_ns", bounds
        ).fetchall()
        before = cursor.execute(
            "DELETE FROM sealed_file WHERE kind = $kind AND from_ns = $from_ns RETURNING file, rows",
            {"kind": kind.name, "from_ns": hour.from_ns},
        ).fetchall()
        again = sum(rows for name, rows in before if (folder / name).is_file())
        if copied != deleted + again:
            raise RuntimeError(
                f"hour {title}: {deleted:,} rows of {kind.table} and {again:,} of files were to be sealed, "
                f"and {copied:,} were written"
            )
        name_file(cursor, folder, kind, hour.from_ns, made, copied, columns)
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            cursor.execute("ROLLBACK").fetchall()
        # Whether a commit that failed is durable is not known: a file of that name may be named. Starts look.
        raise
    return [path for path in (folder / name for name, _ in before) if path != made]


def title_of(from_ns: int) -> str:
    """An hour, as names of files have it."""
    return datetime.fromtimestamp(from_ns // 10**9, UTC).strftime("%Y-%m-%dT%H")


def write_file(
    cursor: duckdb.DuckDBPyConnection, folder: Path, kind: Kind, from_ns: int, query: str
) -> tuple[Path, int]:
    """Write the rows of a query to a file of this hour, durably: the file, and how many rows it has.

    It is no part of the store until ``name_file``.
    """
    below = folder / FOLDER / kind.name
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = below / f"{title_of(from_ns)}{_PARTIAL}"
    try:
        ((copied,),) = cursor.execute(
            f"COPY ({query}) TO {literal(str(partial))} (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)"
        ).fetchall()
        partial.chmod(0o600)
        made = below / f"{title_of(from_ns)}-{_synced_sum(partial)[:16]}.parquet"
        partial.rename(made)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    for each in (below, below.parent, folder):
        sync(each)
    return made, copied


def name_file(
    cursor: duckdb.DuckDBPyConnection,
    folder: Path,
    kind: Kind,
    from_ns: int,
    made: Path,
    rows: int,
    columns: Collection[str],
    step_ns: int | None = None,
) -> None:
    """Make a file part of the store, in the transaction under way. ``step_ns``: of points that were rolled up."""
    cursor.execute(
        "INSERT INTO sealed_file BY NAME SELECT $kind AS kind, $file AS file, $from_ns AS from_ns, $to_ns AS to_ns,"
        " $rows AS rows, $bytes AS bytes, $columns AS columns, $now_ns AS sealed_ns, $step_ns AS step_ns",
        {
            "kind": kind.name,
            "file": made.relative_to(folder).as_posix(),
            "from_ns": from_ns,
            "to_ns": from_ns + HOUR_NS,
            "rows": rows,
            "bytes": made.stat().st_size,
            "columns": list(columns),
            "now_ns": time.time_ns(),
            "step_ns": step_ns,
        },
    ).fetchall()
    _renew(cursor, folder, kind)


def coarsest_ns(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> int:
    """The longest step to which points of ``[from_ns, to_ns)`` were rolled up; 0 where they are as they came."""
    ((found,),) = cursor.execute(
        "SELECT coalesce(max(step_ns), 0) FROM sealed_file"
        " WHERE kind = 'point' AND to_ns > $from_ns AND from_ns < $to_ns",
        {"from_ns": from_ns, "to_ns": to_ns},
    ).fetchall()
    return int(found)


def forget(cursor: duckdb.DuckDBPyConnection, folder: Path, before_ns: int) -> tuple[list[Path], int]:
    """Take out all files whose hour ended by then: what nobody names any more, and how many rows it was."""
    cursor.execute("BEGIN").fetchall()
    try:
        gone = cursor.execute(
            "DELETE FROM sealed_file WHERE to_ns <= $before_ns RETURNING file, rows", {"before_ns": before_ns}
        ).fetchall()
        if gone:
            cursor.execute(
                "DELETE FROM sealed_trace WHERE from_ns <= $last_ns", {"last_ns": before_ns - HOUR_NS}
            ).fetchall()
            renew_views(cursor, folder)
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            cursor.execute("ROLLBACK").fetchall()
        raise
    return [folder / name for name, _ in gone], sum(rows for _, rows in gone)


def renew_views(cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Make the views as the table ``sealed_file`` says now, in the transaction that is under way."""
    for kind in KINDS:
        if has_table(cursor, kind.table):  # a store of an earlier version may lack it
            _renew(cursor, folder, kind)


def _renew(cursor: duckdb.DuckDBPyConnection, folder: Path, kind: Kind) -> None:
    spanning = _spanning(cursor, folder, kind, _files(cursor, folder, kind))
    cursor.execute(f"CREATE OR REPLACE VIEW {kind.name} AS {spanning}").fetchall()


def narrow(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, *kinds: Kind) -> None:
    """Let the views (of these kinds, else all) on this cursor hold what is of ``[from_ns, to_ns)``.

    They may hold more; but no file of another hour is opened. For a cursor that sees one moment, and is used for one
    question or within one transaction.
    """
    for kind in kinds or KINDS:
        if cursor.execute("SELECT 1 FROM sealed_file WHERE kind = $kind LIMIT 1", {"kind": kind.name}).fetchall():
            folder = _folder(cursor)
            files = _files(cursor, folder, kind, from_ns - kind.around_ns, to_ns + kind.around_ns)
            _look_at(cursor, kind, _spanning(cursor, folder, kind, files))


def narrow_to_traces(
    cursor: duckdb.DuckDBPyConnection,
    trace_ids: Collection[str],
    around: tuple[int | None, int | None] | None = None,
) -> tuple[int | None, int | None]:
    """Let ``span`` and ``log`` on this cursor hold all rows of these traces: ``narrow`` to where their requests are.

    Returns when the first of these requests began and the last one ended. A caller that narrows again passes it as
    ``around``, because finding it reads all requests.
    """
    if not cursor.execute("SELECT 1 FROM sealed_file WHERE kind <> 'point' LIMIT 1").fetchall():
        return None, None
    ids = {"ids": list(trace_ids)}
    if around is None:
        (around,) = cursor.execute(
            "SELECT min(start_ns), max(end_ns) FROM request WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))", ids
        ).fetchall()
    from_ns, to_ns = around
    far = cursor.execute(
        "SELECT kind, from_ns FROM sealed_trace WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))", ids
    ).fetchall()
    folder = _folder(cursor)
    for kind in (SPAN, LOG):
        files = set()
        if from_ns is not None and to_ns is not None:
            files.update(_files(cursor, folder, kind, from_ns - NEAR_NS, to_ns + NEAR_NS + 1))
        for hour_ns in {hour_ns for name, hour_ns in far if name == kind.name}:
            files.update(_files(cursor, folder, kind, hour_ns, hour_ns + HOUR_NS))
        _look_at(cursor, kind, _spanning(cursor, folder, kind, sorted(files)))
    return around


def widen(cursor: duckdb.DuckDBPyConnection) -> None:
    """Let the views on this cursor hold every row again."""
    _drop_views(cursor, KINDS)


def _drop_views(cursor: duckdb.DuckDBPyConnection, kinds: Iterable[Kind]) -> None:
    for kind in kinds:
        cursor.execute(f"DROP VIEW IF EXISTS temp.{kind.name}").fetchall()


@contextmanager
def within(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int, *kinds: Kind) -> Iterator[None]:
    """``narrow`` for a block, on any cursor.

    A window of the last half hour needs no file, as nothing of it will be sealed soon: the block may last for minutes,
    over several transactions. For an older one a cursor that is in no transaction begins a read-only one, in which
    it can make temporary tables only: what is sealed meanwhile must not be missing in the view.
    """
    last_ns = dict(cursor.execute("SELECT kind, max(to_ns) FROM sealed_file GROUP BY kind").fetchall())
    sealed = [kind for kind in kinds or KINDS if kind.name in last_ns]
    began = False
    if not sealed:
        pass  # the tables alone; what is sealed meanwhile is in the views
    elif from_ns >= time.time_ns() - LEAST_HOT_NS + _MARGIN_NS and all(
        last_ns[kind.name] <= from_ns - kind.around_ns for kind in sealed
    ):
        for kind in sealed:
            _look_at(cursor, kind, f"SELECT *{_NUMBER if kind is SPAN else ''} FROM {kind.table}")
    else:
        began = not _in_transaction(cursor)
        if began:
            begin(cursor)
        narrow(cursor, from_ns, to_ns, *sealed)
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # a transaction that failed takes no statement but its end
            if began:
                cursor.execute("ROLLBACK").fetchall()
            _drop_views(cursor, sealed)
        raise
    _drop_views(cursor, sealed)
    if began:
        cursor.execute("COMMIT").fetchall()


def extent(cursor: duckdb.DuckDBPyConnection) -> tuple[int | None, int | None]:
    """The times of the first point and of the last. Two files are opened at most."""
    found = cursor.execute(f"SELECT min(time_ns), max(time_ns) FROM {HOT_POINT}").fetchall()
    folder = _folder(cursor)
    hours = cursor.execute("SELECT min(from_ns), max(from_ns) FROM sealed_file WHERE kind = 'point'").fetchall()
    for hour in {*hours[0]} - {None}:
        for file in _files(cursor, folder, POINT, hour, hour + HOUR_NS):
            found += cursor.execute(
                f"SELECT min(time_ns), max(time_ns) FROM read_parquet({literal(str(folder / file.name))})"
            ).fetchall()
    return (
        min((first for first, _ in found if first is not None), default=None),
        max((last for _, last in found if last is not None), default=None),
    )


def sealed_bytes(cursor: duckdb.DuckDBPyConnection) -> int:
    """How much the files take that are named."""
    ((found,),) = cursor.execute("SELECT coalesce(sum(bytes), 0) FROM sealed_file").fetchall()
    return int(found)


def remove_unnamed(cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Remove what lies below ``sealed`` and is not named. Only where nobody reads the store yet."""
    named = _named(cursor, folder)
    for path in (folder / FOLDER).rglob("*"):
        if path.is_file() and path not in named:
            path.unlink(missing_ok=True)


class Unnamed:
    """Files that nobody names any more, until they can be removed. Several threads add to it."""

    def __init__(self) -> None:
        self._since: dict[Path, float] = {}

    def add(self, paths: list[Path]) -> None:
        """They are not named from now on."""
        self._since |= dict.fromkeys(paths, time.monotonic())

    def remove_old(self, cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
        """Remove those that no question can still read; one that is named again, as its contents are back, stays."""
        old = [path for path, since in list(self._since.items()) if time.monotonic() - since > _KEPT_S]
        named = _named(cursor, folder) if old else set()
        for path in old:
            if path not in named:
                path.unlink(missing_ok=True)
            self._since.pop(path, None)


def _named(cursor: duckdb.DuckDBPyConnection, folder: Path) -> set[Path]:
    return {folder / file for (file,) in cursor.execute("SELECT file FROM sealed_file").fetchall()}


def _folder(cursor: duckdb.DuckDBPyConnection) -> Path:
    """Where the store of this cursor is."""
    ((path,),) = cursor.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    return Path(path).parent


def _in_transaction(cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether its statements belong together: outside of a transaction each has a number of its own."""
    first, second = (cursor.execute("SELECT txid_current()").fetchall() for _ in range(2))
    return first == second


def _look_at(cursor: duckdb.DuckDBPyConnection, kind: Kind, query: str) -> None:
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW {kind.name} AS {query}").fetchall()


def _files(
    cursor: duckdb.DuckDBPyConnection, folder: Path, kind: Kind, from_ns: int = 0, to_ns: int = _END_OF_TIME
) -> list[_File]:
    """The files with rows of ``[from_ns, to_ns)``. One that is missing costs its own rows, not every question."""
    found = cursor.execute(
        "SELECT file, columns FROM sealed_file"
        " WHERE kind = $kind AND to_ns > $from_ns AND from_ns < $to_ns ORDER BY file",
        {"kind": kind.name, "from_ns": from_ns, "to_ns": to_ns},
    ).fetchall()
    for name, _ in found:
        if not (folder / name).is_file():
            _log.error("a sealed hour is missing in the store: %s", folder / name)
    return [_File(name, tuple(columns)) for name, columns in found if (folder / name).is_file()]


def _spanning(cursor: duckdb.DuckDBPyConnection, folder: Path, kind: Kind, files: list[_File]) -> str:
    """The query of a view. A view takes no parameters; names of files are ours, and quoted."""
    together: dict[tuple[str, ...], list[str]] = {}
    for file in files:  # files of one read have the same columns: only the first is looked at then
        together.setdefault(file.columns, []).append(literal(str((folder / file.name).absolute())))
    columns = _columns(cursor, kind)
    number = ", received_no" if kind is SPAN else ""
    return " UNION ALL BY NAME ".join(
        [
            f"SELECT {_listed(columns)}{_NUMBER if kind is SPAN else ''} FROM {kind.table}",
            *(
                f"SELECT {_listed([one for one in kept if one in columns])}{number}"
                f" FROM read_parquet([{', '.join(names)}])"
                for kept, names in together.items()
            ),
        ]
    )


def _columns(cursor: duckdb.DuckDBPyConnection, kind: Kind) -> tuple[str, ...]:
    cursor.execute(f"FROM {kind.table} LIMIT 0").fetchall()
    return tuple(name for name, *_ in cursor.description or ())


def _listed(columns: list[str] | tuple[str, ...], of: str = "") -> str:
    return ", ".join(f'{of}"{name}"' for name in columns)


def _synced_sum(path: Path) -> str:
    """The sum over a file's contents, once they are durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def need_room(folder: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < wanted_bytes + _SPARE_BYTES:
        raise NoRoomToSeal(f"{wanted_bytes + _SPARE_BYTES:,} bytes must be free in {folder}, and {free_bytes:,} are")
