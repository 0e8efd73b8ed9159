"""Hours of points that are no longer hot lie in Parquet files beside the database, and are read as if they did not.

New points are written to the table ``hot_point``. The view ``point`` spans it and the files that the table
``sealed_file`` names: both change in one transaction, so every reader sees each point once. An hour is written under a
temporary name, synced, and renamed to a name made of its hour and its contents before that transaction commits: who is
killed meanwhile leaves at most a file that nobody names, and the next start removes it. A point that comes later for an
hour that is sealed goes to the table, as any other.

A file that is not named any more is kept for a while, because a question may still read what it saw when it began.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from layerline_correlator.store.statements import begin, literal
from layerline_correlator.store.version import sync

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
#: What sealing a point needs at most, and what must be free beside it, in bytes.
_POINT_BYTES, _SPARE_BYTES = 40, 64 * 2**20

_log = logging.getLogger("layerline.store")

FOLDER = "sealed"
_PARTIAL = ".partial"
#: Where points are written to.
HOT_POINT = "hot_point"

_DUE = f"""
WITH hot AS (
    SELECT time_ns // $hour_ns AS hour, count(*) AS rows FROM {HOT_POINT} WHERE time_ns < $before_ns GROUP BY ALL
),
kept AS (SELECT from_ns // $hour_ns AS hour, sum(rows) AS rows FROM sealed_file WHERE kind = 'point' GROUP BY ALL)
SELECT hour, hot.rows, coalesce(kept.rows, 0)
FROM hot LEFT JOIN kept USING (hour)
WHERE hot.rows >= $late_share * coalesce(kept.rows, 0) ORDER BY hour
"""

#: The points of an hour. What one sender read at once has the same times: side by side they take a quarter of the room.
_SORTED = """
FROM ({spanning}) AS point
LEFT JOIN (SELECT series, min(resource) AS sender FROM series GROUP BY series) AS sent USING (series)
WHERE time_ns >= {from_ns} AND time_ns < {to_ns}
ORDER BY sender, point.series, time_ns, point.start_ns
"""


class NoRoomToSeal(OSError):
    """The disk has too little room for another file."""


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour that is to be sealed."""

    from_ns: int
    hot_rows: int
    """In the table."""
    sealed_rows: int
    """In files already: they are written again, together with the others."""


class _File(NamedTuple):
    name: str
    columns: tuple[str, ...]


def due(cursor: duckdb.DuckDBPyConnection, hot_ns: int, now_ns: int) -> list[Hour]:
    """The hours that are no longer hot and of which there are points in the table, the oldest first."""
    before_ns = (now_ns - max(hot_ns, LEAST_HOT_NS)) // HOUR_NS * HOUR_NS
    return [
        Hour(hour * HOUR_NS, hot_rows, sealed_rows)
        for hour, hot_rows, sealed_rows in cursor.execute(
            _DUE, {"hour_ns": HOUR_NS, "before_ns": before_ns, "late_share": _LATE_SHARE}
        ).fetchall()
    ]


def seal(cursor: duckdb.DuckDBPyConnection, folder: Path, hour: Hour) -> list[Path]:
    """Write an hour's points to a file, and take them out of the table. Returns files that nobody names any more.

    ``NoRoomToSeal``; ``duckdb.TransactionException`` where somebody else deleted points of it meanwhile.
    """
    _need_room(folder, (hour.hot_rows + hour.sealed_rows) * _POINT_BYTES)
    below = folder / FOLDER / "point"
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    to_ns = hour.from_ns + HOUR_NS
    bounds = {"from_ns": hour.from_ns, "to_ns": to_ns}
    title = datetime.fromtimestamp(hour.from_ns // 10**9, UTC).strftime("%Y-%m-%dT%H")
    partial = below / f"{title}{_PARTIAL}"
    made: Path | None = None
    cursor.execute("BEGIN").fetchall()
    try:
        columns = _columns(cursor)
        spanning = _spanning(cursor, folder, _files(cursor, folder, hour.from_ns, to_ns))
        ((copied,),) = cursor.execute(
            f"COPY (SELECT {_listed(columns, 'point.')} {_SORTED.format(spanning=spanning, **bounds)})"
            f" TO {literal(str(partial))} (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)"
        ).fetchall()
        partial.chmod(0o600)
        made = below / f"{title}-{_synced_sum(partial)[:16]}.parquet"
        partial.rename(made)
        for each in (below, below.parent, folder):
            sync(each)
        ((deleted,),) = cursor.execute(
            f"DELETE FROM {HOT_POINT} WHERE time_ns >= $from_ns AND time_ns < $to_ns", bounds
        ).fetchall()
        before = cursor.execute(
            "DELETE FROM sealed_file WHERE kind = 'point' AND from_ns = $from_ns RETURNING file, rows",
            {"from_ns": hour.from_ns},
        ).fetchall()
        again = sum(rows for name, rows in before if (folder / name).is_file())
        if copied != deleted + again:
            raise RuntimeError(
                f"hour {title}: {deleted:,} points of the table and {again:,} of files were to be sealed, "
                f"and {copied:,} were written"
            )
        cursor.execute(
            "INSERT INTO sealed_file VALUES ('point', $file, $from_ns, $to_ns, $rows, $bytes, $columns, $now_ns)",
            {
                **bounds,
                "file": made.relative_to(folder).as_posix(),
                "rows": copied,
                "bytes": made.stat().st_size,
                "columns": list(columns),
                "now_ns": time.time_ns(),
            },
        ).fetchall()
        renew_view(cursor, folder)
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            cursor.execute("ROLLBACK").fetchall()
        partial.unlink(missing_ok=True)
        # Whether a commit that failed is durable is not known: a file of that name may be named. Starts look.
        raise
    return [path for path in (folder / name for name, _ in before) if path != made]


def forget(cursor: duckdb.DuckDBPyConnection, folder: Path, before_ns: int) -> tuple[list[Path], int]:
    """Take out all files whose hour ended by then: what nobody names any more, and how many points it was."""
    cursor.execute("BEGIN").fetchall()
    try:
        gone = cursor.execute(
            "DELETE FROM sealed_file WHERE to_ns <= $before_ns RETURNING file, rows", {"before_ns": before_ns}
        ).fetchall()
        if gone:
            renew_view(cursor, folder)
        cursor.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            cursor.execute("ROLLBACK").fetchall()
        raise
    return [folder / name for name, _ in gone], sum(rows for _, rows in gone)


def renew_view(cursor: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Make the view ``point`` as the table ``sealed_file`` says now, in the transaction that is under way."""
    cursor.execute(f"CREATE OR REPLACE VIEW point AS {_spanning(cursor, folder, _files(cursor, folder))}").fetchall()


def narrow(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> None:
    """Let ``point`` on this cursor hold what is of ``[from_ns, to_ns)``, so that no other hour's file is opened.

    It may hold more. For a cursor that sees one moment, and is used for one question or within one transaction.
    """
    if not cursor.execute("SELECT 1 FROM sealed_file LIMIT 1").fetchall():
        return  # it is the table alone
    folder = _folder(cursor)
    files = _files(cursor, folder, from_ns, to_ns)
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW point AS {_spanning(cursor, folder, files)}").fetchall()


def widen(cursor: duckdb.DuckDBPyConnection) -> None:
    """Let ``point`` on this cursor hold every point again."""
    cursor.execute("DROP VIEW IF EXISTS temp.point").fetchall()


@contextmanager
def within(cursor: duckdb.DuckDBPyConnection, from_ns: int, to_ns: int) -> Iterator[None]:
    """``narrow`` for a block, on any cursor.

    A window of the last half hour needs no file, as nothing of it will be sealed soon: the block may last for minutes,
    over several transactions. For an older one a cursor that is in no transaction begins a read-only one, in which
    it can make temporary tables only: what is sealed meanwhile must not be missing in the view.
    """
    young = from_ns >= time.time_ns() - LEAST_HOT_NS + _MARGIN_NS
    any_file = "SELECT 1 FROM sealed_file WHERE to_ns > $from_ns LIMIT 1"
    if young and not cursor.execute(any_file, {"from_ns": from_ns}).fetchall():
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW point AS FROM {HOT_POINT}").fetchall()
        began = False
    else:
        began = not _in_transaction(cursor)
        if began:
            begin(cursor)
        narrow(cursor, from_ns, to_ns)
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # a transaction that failed takes no statement but its end
            if began:
                cursor.execute("ROLLBACK").fetchall()
            widen(cursor)
        raise
    widen(cursor)
    if began:
        cursor.execute("COMMIT").fetchall()


def extent(cursor: duckdb.DuckDBPyConnection) -> tuple[int | None, int | None]:
    """The times of the first point and of the last. Two files are opened at most."""
    found = cursor.execute(f"SELECT min(time_ns), max(time_ns) FROM {HOT_POINT}").fetchall()
    folder = _folder(cursor)
    hours = cursor.execute("SELECT min(from_ns), max(from_ns) FROM sealed_file WHERE kind = 'point'").fetchall()
    for file in (file for hour in {*hours[0]} - {None} for file in _files(cursor, folder, hour, hour + HOUR_NS)):
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


def _files(cursor: duckdb.DuckDBPyConnection, folder: Path, from_ns: int = 0, to_ns: int = _END_OF_TIME) -> list[_File]:
    """The files with points of ``[from_ns, to_ns)``. One that is missing costs its own points, not every question."""
    found = cursor.execute(
        "SELECT file, columns FROM sealed_file"
        " WHERE kind = 'point' AND to_ns > $from_ns AND from_ns < $to_ns ORDER BY file",
        {"from_ns": from_ns, "to_ns": to_ns},
    ).fetchall()
    for name, _ in found:
        if not (folder / name).is_file():
            _log.error("a sealed hour is missing in the store: %s", folder / name)
    return [_File(name, tuple(columns)) for name, columns in found if (folder / name).is_file()]


def _spanning(cursor: duckdb.DuckDBPyConnection, folder: Path, files: list[_File]) -> str:
    """The query of the view ``point``. A view takes no parameters; names of files are ours, and quoted."""
    together: dict[tuple[str, ...], list[str]] = {}
    for file in files:  # files of one read have the same columns: only the first is looked at then
        together.setdefault(file.columns, []).append(literal(str((folder / file.name).absolute())))
    columns = _columns(cursor)
    return " UNION ALL BY NAME ".join(
        [
            f"SELECT {_listed(columns)} FROM {HOT_POINT}",
            *(
                f"SELECT {_listed([one for one in kept if one in columns])} FROM read_parquet([{', '.join(names)}])"
                for kept, names in together.items()
            ),
        ]
    )


def _columns(cursor: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    cursor.execute(f"FROM {HOT_POINT} LIMIT 0").fetchall()
    return tuple(name for name, *_ in cursor.description or ())


def _listed(columns: list[str] | tuple[str, ...], of: str = "") -> str:
    return ", ".join(f'{of}"{name}"' for name in columns)


def _synced_sum(path: Path) -> str:
    """The sum over a file's contents, once they are durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need_room(folder: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < wanted_bytes + _SPARE_BYTES:
        raise NoRoomToSeal(f"{wanted_bytes + _SPARE_BYTES:,} bytes must be free in {folder}, and {free_bytes:,} are")
