"""Rows of ``series`` and ``resource`` are deleted when nothing refers to them any more.

Retention deletes by time what was measured and recorded. What it was measured of, and who sent it, has no time: in a
fleet of short-lived containers these rows would pile up for ever.

Which rows are unused is worked out table by table and file by file, while data arrives as always: what arrives
meanwhile is noted (``Store.noting_used``) and counts as used. Then they are deleted, a few thousand in one transaction:
series first, then senders that have none. What a kill leaves is deleted the next time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from layerline_correlator.store.store import Store

#: How many rows are deleted at once, in a few hundredths of a second. Nothing is written meanwhile.
AT_ONCE = 5_000

#: Those that were first received before retention's limit; younger ones may be used in a moment.
_CANDIDATES = {
    "series": "FROM series LEFT JOIN resource USING (resource) WHERE coalesce(seen_ns, 0) < $before_ns",
    "resource": "FROM resource WHERE seen_ns < $before_ns",
}
#: The tables that refer to them: all that have a column of that name.
_REFERRING = """
SELECT table_name FROM duckdb_columns() SEMI JOIN duckdb_tables() USING (database_oid, schema_oid, table_name)
WHERE column_name = $column AND database_name = current_database() AND schema_name = 'main'
  AND table_name <> $column
ORDER BY table_name
"""
_REFERRING_FILES = "SELECT file FROM sealed_file WHERE list_contains(columns, $column) ORDER BY from_ns DESC, file"


def delete_unused(
    store: Store, cursor: duckdb.DuckDBPyConnection, before_ns: int, rest: Callable[[], bool] = lambda: True
) -> int:
    """Delete them, and return how many those were. ``before_ns``: retention has deleted what is older.

    ``rest`` is called between two steps, and ends it by returning False. Nobody may seal hours meanwhile: their rows
    would be neither in the table nor in a file when these are looked at.
    """
    deleted = 0
    with store.noting_used():
        for table in _CANDIDATES:
            for keys in _unused(cursor, store.folder, table, before_ns, rest):
                deleted += store.delete_unused(cursor, table, keys)
                if not rest():
                    return deleted
    return deleted


def _unused(
    cursor: duckdb.DuckDBPyConnection, folder: Path, table: str, before_ns: int, rest: Callable[[], bool]
) -> list[list[str]]:
    """The keys of a table's unused rows, in pieces."""
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE unused AS SELECT DISTINCT {table} AS key {_CANDIDATES[table]}",
        {"before_ns": before_ns},
    ).fetchall()
    try:
        names = cursor.execute(_REFERRING, {"column": table}).fetchall()
        files = cursor.execute(_REFERRING_FILES, {"column": table}).fetchall()
        places: list[tuple[str, dict[str, str]]] = [(f'"{name}"', {}) for (name,) in names]
        paths = [folder / name for (name,) in files]
        places += [("read_parquet($path)", {"path": str(path)}) for path in paths if path.is_file()]
        for place, bound in places:
            if not cursor.execute("SELECT 1 FROM unused LIMIT 1").fetchall() or not rest():
                return []
            cursor.execute(f"DELETE FROM unused WHERE key IN (SELECT {table} FROM {place})", bound).fetchall()
        keys = [key for (key,) in cursor.execute("SELECT key FROM unused ORDER BY key").fetchall()]
    finally:
        cursor.execute("DROP TABLE IF EXISTS temp.unused").fetchall()
    return [keys[place : place + AT_ONCE] for place in range(0, len(keys), AT_ONCE)]
