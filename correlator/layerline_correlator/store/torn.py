"""A block of the database that was half written when its process was killed is made readable again.

DuckDB keeps what it knows of its tables in blocks that are partly in use and partly free, and writes such a block anew
in its own place. ``kill -9``, or the kernel for want of memory, can cut that write off between two pages. What is in
use is the same in both halves; but the block's checksum is that of the whole, and DuckDB (2.0.1) does not open the
database any more. Seen once in some thousand kills (``make crash``): all rows were there.

So the block is kept beside the database, its checksum is made that of what is there, and the descriptions of all tables
are read. If one of them cannot be read, the block is put back as it was and the error is raised. If this process ends
meanwhile, for whatever reason, the next start puts the block back and does not try again. Rows themselves are in
blocks that are never written in place, with checksums of their own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from layerline_correlator.store.version import DATABASE, sync

_log = logging.getLogger("layerline.store")

_SAYS = re.compile(r"computed checksum (\d+) does not match stored checksum (\d+) in block at location (\d+)")
_BLOCK_BYTES, _CHECKSUM_BYTES = 262_144, 8
#: A process writes one block at a time; more are no torn write.
_MOST = 3
#: After a kill the descriptions of all tables are read at the start where the database is not larger: half a second.
_LOOKED_THROUGH_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class _Block:
    """Where it is, what its checksum should be, and its bytes as they were found."""

    location: int
    computed: int
    found: bytes

    def mend(self, database: Path) -> None:
        self._write(database, self.computed.to_bytes(_CHECKSUM_BYTES, "little"))

    def put_back(self, database: Path) -> None:
        self._write(database, self.found[:_CHECKSUM_BYTES])

    def _write(self, database: Path, checksum: bytes) -> None:
        with database.open("r+b") as file:
            file.seek(self.location)
            file.write(checksum)
        sync(database)


def kept_path(folder: Path, location: int) -> Path:
    """Where a mended block is kept as it was found."""
    return folder / f"{DATABASE}.block-{location}"


def _trying_path(folder: Path, location: int) -> Path:
    return folder / f"{DATABASE}.block-{location}.trying"


def connected(folder: Path, connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
    """``connect()``, with torn blocks mended. ``duckdb.Error`` as it was raised where that is not what is wrong."""
    database = folder / DATABASE
    given_up = _put_back_what_was_tried(folder)
    mended: list[_Block] = []
    while True:
        try:
            connection = _looked_through(database, connect, bool(mended))
            break
        except duckdb.Error as problem:
            block = _torn(database, problem)
            known = {one.location for one in mended} | given_up
            if block is None or len(mended) >= _MOST or block.location in known:
                for one in mended:
                    one.put_back(database)
                    _trying_path(folder, one.location).unlink()
                raise
            trying = _trying_path(folder, block.location)
            trying.write_bytes(block.found)
            sync(trying)
            sync(folder)
            block.mend(database)
            mended.append(block)
    for one in mended:
        _trying_path(folder, one.location).rename(kept_path(folder, one.location))
        _log.warning(
            "a block of the database in %s was half written when its process was killed; it is readable again, with"
            " everything that was acknowledged, and is kept as it was found in %s",
            folder,
            kept_path(folder, one.location),
        )
    return connection


def _put_back_what_was_tried(folder: Path) -> set[int]:
    """Where blocks are that are not to be tried: a process ended while it did so, just now or some time ago."""
    database = folder / DATABASE
    for path in folder.glob(f"{DATABASE}.block-*.trying"):
        _Block(_location(path), 0, path.read_bytes()).put_back(database)
        path.rename(path.with_suffix(".given-up"))
    return {
        _location(path)
        for path in folder.glob(f"{DATABASE}.block-*.given-up")
        if _block_at(database, _location(path)) == path.read_bytes()
    }


def _location(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _block_at(database: Path, location: int) -> bytes:
    with database.open("rb") as file:
        file.seek(location)
        return file.read(_BLOCK_BYTES)


def _looked_through(
    database: Path, connect: Callable[[], duckdb.DuckDBPyConnection], is_mended: bool
) -> duckdb.DuckDBPyConnection:
    """``connect()``; after a kill, and after a block was mended, what the database knows of its tables is read."""
    log = database.with_name(f"{DATABASE}.wal")
    was_killed = log.exists() and database.exists() and database.stat().st_size <= _LOOKED_THROUGH_BYTES
    connection = connect()
    try:
        if is_mended or was_killed:
            tables = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND NOT temporary"
                " AND schema_name = 'main'"
            ).fetchall()
            for (table,) in tables:
                connection.execute(f"SELECT count(*) FROM pragma_storage_info('{table}')").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _torn(database: Path, problem: duckdb.Error) -> _Block | None:
    """The block that the error names, if its checksum is the one that the error says it found there."""
    said = _SAYS.search(str(problem))
    if said is None:
        return None
    computed, stored, location = (int(number) for number in said.groups())
    found = _block_at(database, location)
    if int.from_bytes(found[:_CHECKSUM_BYTES], "little") != stored:
        return None
    return _Block(location, computed, found)
