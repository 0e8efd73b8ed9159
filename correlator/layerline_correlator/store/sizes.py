"""How much a store holds and what that takes on the disk, table by table.

Bytes are those of the blocks that a table's columns have in the database's file. Rows that are still in its log count
as rows and not yet as bytes, so figures per row are of the rows that are in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from layerline_correlator.store.version import DATABASE, found_version
from layerline_correlator.times import rfc3339

#: What is kept of a span: itself, and its share of the ledgers.
SPAN_TABLES = ("hot_span", "request", "part", "blind_spot", "stay", "refused", "failed", "failure")
#: What is kept of the readings.
POINT_TABLES = ("hot_point", "point_minute", "point_quarter")
#: The column that says when a row was, of the tables whose rows are found by time.
TIMES = {
    "hot_span": "start_ns",
    "hot_point": "time_ns",
    "event": "time_ns",
    "hot_log": "time_ns",
    "request": "start_ns",
}
#: Fewer rows than that say nothing about one of them: a table takes whole blocks.
_ENOUGH_ROWS = 10_000

_TABLES = """
SELECT table_name FROM duckdb_tables()
WHERE schema_name = 'main' AND NOT temporary AND database_name = current_database() ORDER BY table_name
"""
_BLOCKS = """
WITH segment AS (
    SELECT column_id, "count", block_id, additional_block_ids, segment_type
    FROM pragma_storage_info($table) WHERE persistent
),
used AS (
    SELECT block_id FROM segment WHERE block_id >= 0
    UNION
    SELECT unnest(additional_block_ids) FROM segment
)
SELECT (SELECT count(*) FROM used),
       (SELECT coalesce(sum("count"), 0) FROM segment WHERE column_id = 0 AND segment_type <> 'VALIDITY')
"""
_SEALED = """
SELECT kind, count(*), sum(rows)::BIGINT, sum(bytes)::BIGINT, min(from_ns), max(to_ns)
FROM sealed_file GROUP BY kind HAVING sum(rows) > 0 ORDER BY kind
"""
#: Containers that were read, in days: each minute in which one was read counts for it.
_CONTAINER_DAYS = """
SELECT count(*) / (24 * 60.0) FROM (
    SELECT DISTINCT minute, entity_id FROM point_minute JOIN series USING (series) WHERE entity_type = 'container'
)
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table of the store."""

    table: str
    rows: int
    bytes: int
    """Of the database's file."""
    row_bytes: float | None
    """Bytes a row, of the rows that are in the file; null where they are too few to say."""
    oldest: str | None
    newest: str | None
    """When its rows are of; null where it is empty, or has no times."""


@dataclass(frozen=True, slots=True)
class SealedSize:
    """Hours that lie in files beside the database."""

    kind: str
    """What of: ``point``, ``span`` or ``log``."""
    files: int
    rows: int
    bytes: int
    row_bytes: float
    oldest: str
    newest: str
    """The begin of the first hour and the end of the last."""


@dataclass(frozen=True, slots=True)
class StoreSize:
    """What a store holds and takes. Field for field the JSON of ``layerline store info --json``."""

    folder: str
    version: int | None
    bytes: int
    """All of it on the disk: the database's file, its log, and sealed hours."""
    used_bytes: int
    """The part of the database's file that is in use; the rest is used again before the file grows."""
    log_bytes: int
    """Of the database's log: what was written since it was last emptied."""
    oldest: str | None
    newest: str | None
    span_bytes: float | None
    """Bytes a span, its share of the ledgers included; null where too little is stored to say."""
    container_day_bytes: float | None
    """Bytes of readings for a container that is read for a day, those of its machine included; null as above."""
    tables: list[TableSize]
    sealed: list[SealedSize]


def read_sizes(cursor: duckdb.DuckDBPyConnection, folder: Path) -> StoreSize:
    """What the store in this folder holds; ``cursor`` is one of its database."""
    ((block_bytes, used_bytes),) = cursor.execute(
        "SELECT block_size, used_blocks * block_size FROM pragma_database_size()"
        " WHERE database_name = current_database()"
    ).fetchall()
    blocks: dict[str, tuple[int, int]] = {}
    tables = []
    for (table,) in cursor.execute(_TABLES).fetchall():
        ((rows,),) = cursor.execute(f"SELECT count(*) FROM {table}").fetchall()
        ((held, in_blocks),) = cursor.execute(_BLOCKS, {"table": table}).fetchall()
        blocks[table] = held * block_bytes, int(in_blocks)
        oldest, newest = _bounds(cursor, table)
        tables.append(TableSize(table, rows, held * block_bytes, _each(blocks, (table,)), oldest, newest))
    known = {one.table for one in tables}
    sealed = _sealed(cursor) if "sealed_file" in known else []
    in_files = sum(one.bytes for one in sealed)
    days = 0.0
    if {"point_minute", "series"} <= known:
        ((days,),) = cursor.execute(_CONTAINER_DAYS).fetchall()
    file_bytes, log_bytes = _bytes(folder / DATABASE), _bytes(folder / f"{DATABASE}.wal")
    bounds = [(one.oldest, one.newest) for one in tables] + [(one.oldest, one.newest) for one in sealed]
    return StoreSize(
        folder=str(folder),
        version=found_version(cursor),
        bytes=file_bytes + log_bytes + in_files,
        used_bytes=int(used_bytes or 0),
        log_bytes=log_bytes,
        oldest=min((oldest for oldest, _ in bounds if oldest), default=None),
        newest=max((newest for _, newest in bounds if newest), default=None),
        span_bytes=_each(blocks, SPAN_TABLES, *_of(sealed, "span")),
        container_day_bytes=_each(blocks, POINT_TABLES, *_of(sealed, "point"), days),
        tables=sorted(tables, key=lambda one: (-one.bytes, -one.rows, one.table)),
        sealed=sealed,
    )


def _bounds(cursor: duckdb.DuckDBPyConnection, table: str) -> tuple[str | None, str | None]:
    """When the first and the last row of a table were."""
    if table not in TIMES:
        return None, None
    ((first_ns, last_ns),) = cursor.execute(f"SELECT min({TIMES[table]}), max({TIMES[table]}) FROM {table}").fetchall()
    return (None, None) if first_ns is None else (rfc3339(first_ns), rfc3339(last_ns))


def _sealed(cursor: duckdb.DuckDBPyConnection) -> list[SealedSize]:
    return [
        SealedSize(kind, files, rows, size, round(size / rows, 2), rfc3339(from_ns), rfc3339(to_ns))
        for kind, files, rows, size, from_ns, to_ns in cursor.execute(_SEALED).fetchall()
    ]


def _of(sealed: list[SealedSize], kind: str) -> tuple[int, int]:
    """How many rows of a kind are sealed, and the bytes they take."""
    return sum(one.rows for one in sealed if one.kind == kind), sum(one.bytes for one in sealed if one.kind == kind)


def _each(
    blocks: dict[str, tuple[int, int]],
    tables: tuple[str, ...],
    more_rows: int = 0,
    more_bytes: int = 0,
    by: float | None = None,
) -> float | None:
    """What these tables take for each row of the first, or by so many; None where there are too few rows to say.

    ``more_rows`` of it take ``more_bytes`` elsewhere.
    """
    rows = blocks.get(tables[0], (0, 0))[1] + more_rows
    number = rows if by is None else by
    if rows < _ENOUGH_ROWS or not number:
        return None
    return round((more_bytes + sum(blocks[table][0] for table in tables if table in blocks)) / number, 2)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
