"""What is done to a store while no server has it: look at it, make its file smaller, back it up, restore it.

A backup is a tar file: the database, whatever else belongs to the store, and last a list of what must be in it, so that
one that was cut off is recognized. Each result is written under another name, synced and then renamed: who is killed
meanwhile leaves what was there before, and a file that the next run removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import duckdb

from layerline_correlator.settings import Rule
from layerline_correlator.store.private import make_private
from layerline_correlator.store.rollup import due_for_rollup, roll_up
from layerline_correlator.store.sealed import FOLDER, due, remove_unnamed, renew_views, seal
from layerline_correlator.store.sizes import StoreSize, read_sizes
from layerline_correlator.store.statements import literal
from layerline_correlator.store.store import connect, lock
from layerline_correlator.store.version import (
    DATABASE,
    SEALED_SINCE,
    SPANS_SEALED_SINCE,
    found_version,
    has_our_shape,
    refuse_newer,
    sync,
)

#: Called with what is done of the work, and how much it is.
Progress = Callable[[int, int], None]

#: The last member of a backup: what must be in it.
_CONTENTS = "layerline-store.json"
_VACUUMED = f"{DATABASE}.vacuumed"
#: Room that must be left beside what is written, and how much is read at a time, in bytes.
_SPARE_BYTES, _CHUNK_BYTES = 64 * 2**20, 2**20
#: What DuckDB may use while a store is looked at or copied.
_MEMORY_BYTES = 2**30

_HOME_TABLES = """
SELECT schema_name, table_name, estimated_size FROM duckdb_tables()
WHERE database_name = current_database() AND NOT temporary ORDER BY schema_name, table_name
"""


class NoStore(OSError):
    """There is no store in the folder."""


class OlderStore(ValueError):
    """What is asked for cannot be done with this store."""


class NoRoom(OSError):
    """The disk has too little room for what is to be written."""


class NotABackup(ValueError):
    """The file is no backup of a store, or not all of one."""


class AlreadyThere(OSError):
    """What is to be written is there already, and stays as it is."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """How large the database's file was, and is."""

    before_bytes: int
    after_bytes: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup holds."""

    file: Path
    version: int | None
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written for other tools: the folder, its bytes, and how many rows each file has."""

    path: Path
    bytes: int
    rows: dict[str, int]


def sizes(folder: Path) -> StoreSize:
    """What the store in this folder holds. ``NoStore``, ``StoreInUse``, ``NewerStore``."""
    with _alone(folder), _database(folder) as database:
        return read_sizes(database, folder)


def seal_all(
    folder: Path,
    hot_ns: int,
    settle_ns: int,
    progress: Progress = lambda done, of: None,
    rollup: tuple[Rule, ...] = (),
) -> StoreSize:
    """Seal every hour that is ``due``, and roll up those that are old.

    ``NoStore``, ``StoreInUse``, ``NoRoomToSeal``, ``OlderStore``.
    """
    with _alone(folder), _database(folder) as database:
        version = found_version(database)
        if version is None or version < SPANS_SEALED_SINCE:
            raise OlderStore(
                f"the store in {folder} has version {version}, and hours can be sealed from version"
                f" {SPANS_SEALED_SINCE} on: start the server once, which takes it over"
            )
        ((is_recording,),) = database.execute("SELECT count(*) > 0 FROM recording").fetchall()
        if is_recording:
            raise OlderStore(f"the store in {folder} is a recording: it stays as it was imported")
        hours = due(database, hot_ns, time.time_ns(), settle_ns)
        database.execute("ALTER TABLE sealed_file ADD COLUMN IF NOT EXISTS step_ns BIGINT").fetchall()
        for done, hour in enumerate(hours):
            seal(database, folder, hour)
            progress(done + 1, len(hours))
        old = due_for_rollup(database, rollup, time.time_ns())
        for done, one in enumerate(old):
            roll_up(database, folder, one)
            progress(done + 1, len(old))
        remove_unnamed(database, folder)
        database.execute("CHECKPOINT").fetchall()
        return read_sizes(database, folder)


def vacuum(folder: Path, progress: Progress = lambda done, of: None) -> Vacuumed:
    """Write the database anew without the room of what was deleted. ``NoStore``, ``StoreInUse``, ``NoRoom``."""
    with _alone(folder):
        made = folder / _VACUUMED
        before = (folder / DATABASE).stat().st_size
        with _database(folder) as database:
            database.execute("CHECKPOINT").fetchall()
            ((used,),) = database.execute(
                "SELECT used_blocks * block_size FROM pragma_database_size() WHERE database_name = current_database()"
            ).fetchall()
            _need_room(folder, int(used))
            try:
                _copy_tables(database, made, progress)
                sync(made)
            except BaseException:
                _remove_database(made)
                raise
        # What the log held is in the file since the checkpoint: no log of the old file may meet the new one.
        with suppress(FileNotFoundError):
            (folder / f"{DATABASE}.wal").unlink()
        made.replace(folder / DATABASE)
        sync(folder)
        return Vacuumed(before, (folder / DATABASE).stat().st_size)


def back_up(folder: Path, file: Path, progress: Progress = lambda done, of: None) -> Copied:
    """Write all of a store into one file. ``NoStore``, ``StoreInUse``, ``NewerStore``, ``NoRoom``, ``AlreadyThere``."""
    if file.exists():
        raise AlreadyThere(f"{file} is there already: remove it, or name another file")
    with _alone(folder):
        with _database(folder) as database:
            database.execute("CHECKPOINT").fetchall()  # all of it in one file
            version = found_version(database)
        names = list(_files(folder))
        total = sum((folder / name).stat().st_size for name in names)
        _need_room(file.parent, total)
        partial = file.with_name(f"{file.name}.partial")
        try:
            done, sums = 0, {}
            with _private(partial) as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name in names:
                    with (folder / name).open("rb") as source:
                        member = tarfile.TarInfo(name)
                        member.size, member.mode = (folder / name).stat().st_size, 0o600
                        counted = _Counted(source, _after(progress, done, total))
                        tar.addfile(member, counted)
                        sums[name] = counted.sum.hexdigest()
                        done += member.size
                contents = json.dumps({"version": version, "files": sums}, indent=1).encode()
                member = tarfile.TarInfo(_CONTENTS)
                member.size, member.mode = len(contents), 0o600
                tar.addfile(member, BytesIO(contents))
            sync(partial)
            os.link(partial, file)  # unlike a rename it fails where there is a file by now
            partial.unlink()
            sync(file.parent)
        except FileExistsError:
            partial.unlink(missing_ok=True)
            raise AlreadyThere(f"{file} is there already: remove it, or name another file") from None
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return Copied(file, version, len(names), total)


def export(folder: Path, into: Path, progress: Progress = lambda done, of: None) -> Exported:
    """Write each documented view (``layerline docs sql``) to a Parquet file of its name, in a new folder.

    ``NoStore``, ``StoreInUse``, ``NewerStore``, ``OlderStore``, ``NoRoom``, ``AlreadyThere``.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise AlreadyThere(f"{into} is there already, and nothing in it is overwritten: name a new folder")
    with _alone(folder), _database(folder) as database:
        if not has_our_shape(database):
            raise OlderStore(
                f"another version of this program wrote the store in {folder} last: start the server once, which takes"
                " it over"
            )
        into.parent.mkdir(parents=True, exist_ok=True)
        _need_room(into.parent, sum((folder / name).stat().st_size for name in _files(folder)))
        partial = into.with_name(f"{into.name}.exporting")
        shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
        make_private(partial)
        try:
            names = [
                name
                for (name,) in database.execute(
                    "SELECT view_name FROM duckdb_views() WHERE schema_name = 'views' ORDER BY view_name"
                ).fetchall()
            ]
            # With one thread, and in no order, millions of rows of `blind` fit: what does not is put on the disk.
            database.execute("SET threads = 1").execute("SET preserve_insertion_order = false")
            rows: dict[str, int] = {}
            for done, name in enumerate(names):
                progress(done, len(names))
                made = partial / f"{name}.parquet"
                with _private(made):
                    pass
                ((rows[name],),) = database.execute(
                    f"COPY (FROM views.{name}) TO {literal(str(made))} (FORMAT parquet, COMPRESSION zstd)"
                ).fetchall()
                sync(made)
            if into.exists():
                into.rmdir()
            size = sum(path.stat().st_size for path in partial.iterdir())
            partial.rename(into)
            sync(into.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        progress(len(names), len(names))
        return Exported(into, size, rows)


def restore(file: Path, folder: Path, progress: Progress = lambda done, of: None) -> Copied:
    """Make the store of a backup in a folder that has none.

    ``NotABackup``, ``NewerStore``, ``NoRoom``, ``AlreadyThere``.
    """
    if folder.exists() and any(name.name not in ("lock", "probe") for name in folder.iterdir()):
        raise AlreadyThere(
            f"the folder {folder} is not empty, and nothing in it is overwritten: name a new folder with --store DIR"
        )
    partial = folder.with_name(f"{folder.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
    folder.parent.mkdir(parents=True, exist_ok=True)
    _need_room(folder.parent, file.stat().st_size)
    make_private(partial)
    try:
        version, names = _unpack(file, partial, progress)
        refuse_newer(version, f"the backup {file}")
        with _database(partial) as database:
            version = found_version(database)
        if folder.exists():
            for name in ("lock", "probe"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        partial.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Copied(file, version, len(names), sum((folder / name).stat().st_size for name in names))


def _unpack(file: Path, into: Path, progress: Progress) -> tuple[int | None, list[str]]:
    """Write the members of a backup, and compare them with its list. Their version and names."""
    total, done, sums, contents = file.stat().st_size, 0, dict[str, str](), None
    try:
        with tarfile.open(file, mode="r:") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isfile() else None
                if source is None or not _is_ours(member.name):
                    raise NotABackup(f"{file} is no backup of a store: it holds {member.name!r}")
                if member.name == _CONTENTS:
                    contents = json.load(source)
                    continue
                path = into / member.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                counted = _Counted(source, _after(progress, done, total))
                with _private(path) as out:
                    shutil.copyfileobj(counted, out, _CHUNK_BYTES)
                    out.flush()
                    os.fsync(out.fileno())
                sync(path.parent)
                sums[member.name] = counted.sum.hexdigest()
                done += member.size
    except (tarfile.TarError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise NotABackup(f"{file} is no backup of a store, or not all of one: {problem}") from None
    if not isinstance(contents, dict) or not isinstance(contents.get("files"), dict):
        raise NotABackup(f"{file} is not all of a backup: its list of contents is missing, so it was cut off")
    for name in sorted({*contents["files"], *sums}):
        if contents["files"].get(name) != sums.get(name):
            raise NotABackup(f"{file} is damaged: {name} is not what was backed up")
    version = contents.get("version")
    return version if isinstance(version, int) else None, sorted(sums)


def _is_ours(name: str) -> bool:
    """Whether a member may be in a backup: never anything outside of the store's folder."""
    parts = PurePosixPath(name).parts
    return name in (DATABASE, _CONTENTS) or (len(parts) > 1 and parts[0] == FOLDER and ".." not in parts)


def _files(folder: Path) -> Iterator[str]:
    """What belongs to the store, below its folder; the database first."""
    yield DATABASE
    for path in sorted((folder / FOLDER).rglob("*.parquet")):
        yield path.relative_to(folder).as_posix()


def _copy_tables(database: duckdb.DuckDBPyConnection, made: Path, progress: Progress) -> None:
    """All that is in the database, into a new one. Tables are counted on both sides."""
    _remove_database(made)
    ((home,),) = database.execute("SELECT current_database()").fetchall()
    tables = database.execute(_HOME_TABLES).fetchall()
    total, done = sum(rows for *_, rows in tables), 0
    database.execute(f"ATTACH {literal(str(made))} AS vacuumed").fetchall()
    database.execute(f"COPY FROM DATABASE {_quoted(home)} TO vacuumed (SCHEMA)").fetchall()
    for schema, table, rows in tables:
        name = f"{_quoted(schema)}.{_quoted(table)}"
        database.execute(f"INSERT INTO vacuumed.{name} FROM {_quoted(home)}.{name}").fetchall()
        ((held, written),) = database.execute(
            f"SELECT (SELECT count(*) FROM {_quoted(home)}.{name}), (SELECT count(*) FROM vacuumed.{name})"
        ).fetchall()
        if held != written:
            raise RuntimeError(f"table {table}: {held:,} rows were expected in the new file, {written:,} found")
        done += rows
        progress(done, total)
    database.execute("CHECKPOINT vacuumed").fetchall()
    database.execute("DETACH vacuumed").fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _remove_database(path: Path) -> None:
    for each in (path, path.with_name(f"{path.name}.wal")):
        each.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the store, so that no server opens it meanwhile. ``NoStore``, ``StoreInUse``."""
    if not (folder / DATABASE).is_file():
        raise NoStore(f"there is no store in the folder {folder}: name the one that has it with --store DIR")
    handle = lock(folder)
    try:
        make_private(folder)
        yield
    finally:
        os.close(handle)


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The folder's database as it is, whatever its version, unless that is newer than ours."""
    database = connect(folder, _MEMORY_BYTES)
    try:
        version = found_version(database)
        refuse_newer(version, f"the store in {folder}")
        if version is not None and version >= SEALED_SINCE:
            renew_views(database, folder)  # the folder may have been moved
        yield database
    finally:
        database.close()


def _need_room(folder: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if wanted_bytes + _SPARE_BYTES > free_bytes:
        raise NoRoom(
            f"it takes {wanted_bytes + _SPARE_BYTES:,} bytes in {folder}, and {free_bytes:,} are free: make room first"
        )


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """A new file for its owner alone; one that was left there by a run that was killed goes."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
        yield out


def _after(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    """Tells how far a whole is, of whose parts those before this one are done."""
    return lambda more: progress(min(total, before + more), total)


class _Counted:
    """A file that is read to its end, with what was read of it so far, and the sum over it."""

    def __init__(self, source: IO[bytes], told: Callable[[int], None]) -> None:
        self._source, self._told, self._read = source, told, 0
        self.sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        chunk = self._source.read(size)
        self.sum.update(chunk)
        self._read += len(chunk)
        self._told(self._read)
        return chunk
