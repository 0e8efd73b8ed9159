"""The version of a store, and how an older one becomes this one.

A program that opens a store of a newer version refuses it, because it may lose or misread what it does not know. One
that opens an older store copies the database first, and changes it in one transaction: whoever is killed meanwhile
finds it as it was.

The version rises when an earlier program could no longer work with what this one writes, or this one could not work
with what an earlier one wrote. Columns that are only added need no new version.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import duckdb

_log = logging.getLogger("layerline.store")

#: The version that this program writes. 1 is what was written before stores had a version.
VERSION = 5
#: Programs that write an earlier version do not note which minutes they wrote to (stale.py).
SUMMED_SINCE = 3
#: Programs that write an earlier version have all points in a table ``point`` (sealed.py).
SEALED_SINCE = 4
#: Programs that write an earlier version have all spans and log records in tables ``span`` and ``log`` (sealed.py).
SPANS_SEALED_SINCE = 5
#: Programs that write an earlier version have a row of ``blind`` for each cause of each request (older_blind.sql).
SPOTS_SINCE = 5
DATABASE = "hot.duckdb"

#: What each database of DuckDB begins with: three headers of 4,096 bytes, the first with this at its ninth byte.
_HEADERS_BYTES, _MAGIC = 3 * 4096, b"DUCK"

_VERSION_OF = "SELECT max(version) FROM store_version"
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"


class NewerStore(RuntimeError):
    """A newer program wrote this store."""


class NoRoomForBackup(OSError):
    """An older store cannot be copied, so it is not changed."""


def found_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The version of the database; None where there is nothing in it yet."""
    tables = {name for (name,) in connection.execute(_TABLES).fetchall()}
    if "store_version" in tables:
        rows = connection.execute(_VERSION_OF).fetchall()
        if rows and rows[0][0] is not None:
            return int(rows[0][0])
    return 1 if "span" in tables else None


def has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether it has a table of this name, be it empty; a view is none."""
    found = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main'"
        " AND table_name = $name",
        {"name": name},
    ).fetchall()
    return bool(found)


def backup_path(folder: Path, version: int) -> Path:
    """Where the database is copied to before it is changed."""
    return folder / f"{DATABASE}.version-{version}"


def opened(folder: Path, connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
    """The folder's database, with a copy beside it where it is older. ``NewerStore``, ``NoRoomForBackup``."""
    partial = folder / f"{DATABASE}.copying"
    partial.unlink(missing_ok=True)  # of one that was killed meanwhile
    remove_unborn(folder / DATABASE)
    connection = connect()
    try:
        version = found_version(connection)
        refuse_newer(version, "it", ", or another folder (--store DIR)")
        if version is None or version == VERSION:
            return connection
        connection.execute("CHECKPOINT").fetchall()  # all of it in one file
    except BaseException:
        connection.close()
        raise
    connection.close()
    _copy(folder / DATABASE, partial, backup_path(folder, version))
    _log.warning(
        "the store in %s has version %d and becomes version %d; a copy of it as it was is kept in %s",
        folder,
        version,
        VERSION,
        backup_path(folder, version),
    )
    return connect()


def refuse_newer(version: int | None, what: str, otherwise: str = "") -> None:
    """``NewerStore``, with what has that version and what else can be done, where it is newer than this program's."""
    if version is not None and version > VERSION:
        raise NewerStore(
            f"{what} has version {version}, and this program knows versions up to {VERSION}: "
            f"use the program that wrote it{otherwise}"
        )


def remove_unborn(database: Path) -> None:
    """Delete what a process left that was killed, or found no room, before it had made its database.

    Such a file never held anything, but DuckDB takes it for a database that is damaged: no later start would succeed.
    Files of anything else stay: an unfinished database is empty, zero, or begins as all of them do.
    """
    try:
        if database.stat().st_size >= _HEADERS_BYTES or database.with_name(f"{database.name}.wal").exists():
            return
        content = database.read_bytes()
    except FileNotFoundError:
        return
    if not content.strip(b"\0") or content[8:12] == _MAGIC:
        database.unlink()


def stamp(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the version; the last step of the transaction that makes the store so."""
    connection.execute("CREATE TABLE IF NOT EXISTS store_version (version INTEGER)").fetchall()
    if connection.execute(_VERSION_OF).fetchall() != [(VERSION,)]:
        connection.execute("DELETE FROM store_version").fetchall()
        connection.execute("INSERT INTO store_version VALUES ($version)", {"version": VERSION}).fetchall()


def sync(path: Path) -> None:
    """Make durable what is in a file, or which files are in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _shape() -> str:
    """Tables, views and macros as this program has them, in a word: another program may have them otherwise."""
    found = hashlib.blake2b(digest_size=16)
    for file in sorted(Path(__file__).parent.parent.rglob("*.sql")):
        found.update(file.read_bytes())
    return found.hexdigest()


def stamp_shape(connection: duckdb.DuckDBPyConnection) -> None:
    """Write down that tables, views and macros are as this program has them."""
    connection.execute("CREATE TABLE IF NOT EXISTS store_shape (shape VARCHAR)").fetchall()
    if not has_our_shape(connection):
        connection.execute("DELETE FROM store_shape").fetchall()
        connection.execute("INSERT INTO store_shape VALUES ($shape)", {"shape": _shape()}).fetchall()


def has_our_shape(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether this program wrote them: then it can answer without writing anything."""
    if ("store_shape",) not in connection.execute(_TABLES).fetchall():
        return False
    return connection.execute("SELECT shape FROM store_shape").fetchall() == [(_shape(),)]


def _copy(database: Path, partial: Path, backup: Path) -> None:
    """Copy it as a whole or not at all."""
    size, free = database.stat().st_size, shutil.disk_usage(database.parent).free
    try:
        if size > free:
            raise OSError(f"it takes {size:,} bytes, and {free:,} are free")
        with partial.open("xb") as copy, database.open("rb") as original:
            shutil.copyfileobj(original, copy, 2**20)
            copy.flush()
            os.fsync(copy.fileno())
        partial.replace(backup)
        sync(database.parent)
    except OSError as problem:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise NoRoomForBackup(
            f"it is of an older version and could not be copied to {backup} before it is changed: {problem}"
        ) from None
