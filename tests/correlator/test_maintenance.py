"""What is done to a store that no server has: sizes, vacuum, backup, restore and export lose and overwrite nothing."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from spans import a_while_ago
from test_summaries import carts, readings

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.sql import VIEWS
from layerline_correlator.settings import Settings
from layerline_correlator.store import maintenance
from layerline_correlator.store.maintenance import AlreadyThere, NoRoom, NoStore, NotABackup
from layerline_correlator.store.store import StoreInUse
from layerline_correlator.store.version import VERSION, NewerStore


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with some requests and readings, as its server left it."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    with_rows(folder)
    return folder


def with_rows(folder: Path) -> None:
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    zero_ns = a_while_ago(600)
    correlator.append(carts(0, 40, zero_ns, seed=1))
    correlator.append(readings(zero_ns))
    correlator.look_for_incidents()
    correlator.close()


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "store"))


def rows(folder: Path) -> dict[str, Any]:
    """Everything in a store, as a reader finds it."""
    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True) as database:
        tables = [
            name
            for (name,) in database.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT temporary ORDER BY ALL"
            ).fetchall()
        ]
        return {table: database.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in tables}


def test_sizes_say_what_there_is(store: Path) -> None:
    """Each table has its rows; what was first and last is that of the rows; it holds the version of this program."""
    sizes = maintenance.sizes(store)
    assert sizes.version == VERSION
    assert {one.table: one.rows for one in sizes.tables if one.rows} == {
        table: len(found) for table, found in rows(store).items() if found
    }
    assert sizes.oldest is not None
    assert sizes.newest is not None
    assert sizes.oldest < sizes.newest
    assert sizes.bytes >= sizes.used_bytes > 0
    assert sizes.span_bytes is None, "so few spans say nothing: a table takes whole blocks"


def test_a_row_has_a_size_once_there_are_many(store: Path) -> None:
    """Bytes a row are those of the table's blocks, for each row in them."""
    with duckdb.connect(str(store / "hot.duckdb")) as database:
        database.execute(
            "INSERT INTO hot_point SELECT md5(i::VARCHAR), 0, i, random() FROM range(200_000) AS t(i)"
        ).fetchall()
        database.execute("CHECKPOINT").fetchall()
    (points,) = (one for one in maintenance.sizes(store).tables if one.table == "hot_point")
    assert points.row_bytes is not None
    assert points.bytes / points.rows == pytest.approx(points.row_bytes, rel=0.01)
    assert points.row_bytes > 8  # random figures cannot take less


def test_vacuum_gives_back_what_was_deleted(store: Path) -> None:
    """The file is smaller, holds the same rows, and a server opens it."""
    with duckdb.connect(str(store / "hot.duckdb")) as database:
        database.execute("CREATE TABLE filler AS SELECT random() AS x FROM range(500_000)").fetchall()
        database.execute("CHECKPOINT").fetchall()
        database.execute("CREATE TABLE behind AS FROM filler").fetchall()
        database.execute("CHECKPOINT").fetchall()
        database.execute("DROP TABLE filler; DELETE FROM behind WHERE x < 2").fetchall()
    before = rows(store)
    told: list[tuple[int, int]] = []
    done = maintenance.vacuum(store, lambda so_far, of: told.append((so_far, of)))
    assert done.after_bytes < done.before_bytes
    assert done.after_bytes == (store / "hot.duckdb").stat().st_size
    assert rows(store) == before
    assert told[-1][0] == told[-1][1] > 0
    assert stat.S_IMODE((store / "hot.duckdb").stat().st_mode) == 0o600
    Correlator.open(Settings(store=store)).close()
    assert sorted(os.listdir(store)) == ["hot.duckdb", "lock"]


def test_a_backup_becomes_the_same_store(store: Path, tmp_path: Path) -> None:
    """All rows are in it, it is its owner's alone, and a server opens what was restored."""
    file = tmp_path / "backup.tar"
    before = rows(store)
    copied = maintenance.back_up(store, file)
    assert (copied.version, copied.files) == (VERSION, 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = tmp_path / "new" / "store"
    maintenance.restore(file, restored)
    assert rows(restored) == before
    assert stat.S_IMODE(restored.stat().st_mode) == 0o700
    Correlator.open(Settings(store=restored)).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "new", "store"]


def test_nothing_is_overwritten(store: Path, tmp_path: Path) -> None:
    """Neither a file by a backup nor a store by what is restored; an empty folder is no store."""
    file = tmp_path / "backup.tar"
    file.write_text("precious")
    with pytest.raises(AlreadyThere, match="is there already"):
        maintenance.back_up(store, file)
    assert file.read_text() == "precious"
    file.unlink()
    maintenance.back_up(store, file)
    before = rows(store)
    with pytest.raises(AlreadyThere, match="is not empty, and nothing in it is overwritten"):
        maintenance.restore(file, store)
    assert rows(store) == before
    (tmp_path / "empty").mkdir()
    maintenance.restore(file, tmp_path / "empty")
    assert rows(tmp_path / "empty") == before


def test_a_store_in_use_is_left_alone(store: Path, tmp_path: Path) -> None:
    """While a server has it nothing is done to it."""
    correlator = Correlator.open(Settings(store=store))
    try:
        for what in (maintenance.sizes, maintenance.vacuum, lambda folder: maintenance.back_up(folder, tmp_path / "f")):
            with pytest.raises(StoreInUse, match="is in use by another process"):
                what(store)
    finally:
        correlator.close()
    assert not (tmp_path / "f").exists()


def test_where_there_is_no_store(tmp_path: Path) -> None:
    """It is said, and none is made."""
    with pytest.raises(NoStore, match="there is no store in the folder"):
        maintenance.vacuum(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_backup_that_was_cut_off(store: Path, tmp_path: Path, kept: float) -> None:
    """It is recognized, wherever it ends, and nothing is made of it."""
    file = tmp_path / "backup.tar"
    maintenance.back_up(store, file)
    os.truncate(file, int(kept * (file.stat().st_size - 10_240)))  # a tar ends with a record of zeros
    with pytest.raises(NotABackup):
        maintenance.restore(file, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "store"]


def test_a_backup_that_was_damaged(store: Path, tmp_path: Path) -> None:
    """A byte that changed is found."""
    file = tmp_path / "backup.tar"
    maintenance.back_up(store, file)
    with file.open("r+b") as damaged:
        damaged.seek(100_000)
        byte = damaged.read(1)
        damaged.seek(100_000)
        damaged.write(bytes([byte[0] ^ 1]))
    with pytest.raises(NotABackup, match=r"is damaged: hot\.duckdb is not what was backed up"):
        maintenance.restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 20_480])
def test_a_file_that_is_no_backup(tmp_path: Path, content: bytes) -> None:
    """It is refused, whatever it holds."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotABackup):
        maintenance.restore(tmp_path / "file", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_newer_store_is_refused(store: Path, tmp_path: Path) -> None:
    """A backup of one too: what this program does not know it could lose."""
    maintenance.back_up(store, tmp_path / "now")
    with duckdb.connect(str(store / "hot.duckdb")) as database:
        database.execute("UPDATE store_version SET version = version + 1").fetchall()
    with pytest.raises(NewerStore, match=f"knows versions up to {VERSION}"):
        maintenance.back_up(store, tmp_path / "newer")
    assert not (tmp_path / "newer").exists()


def test_a_disk_without_room(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how much it takes and how much there is; the store is as it was."""

    class Usage(NamedTuple):
        free: int = 1_000

    before = rows(store)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(NoRoom, match="and 1,000 are free: make room first"):
        maintenance.vacuum(store)
    with pytest.raises(NoRoom):
        maintenance.back_up(store, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert rows(store) == before


def test_export_holds_what_sql_shows(store: Path, tmp_path: Path) -> None:
    """An export has a file for each documented view with its rows, for its owner alone; nothing is overwritten."""
    into = tmp_path / "out"
    progress: list[tuple[int, int]] = []
    done = maintenance.export(store, into, lambda done, of: progress.append((done, of)))
    assert progress[-1][0] == progress[-1][1] == len(done.rows)
    assert {path.stem for path in into.iterdir()} == {*done.rows} == VIEWS
    assert done.rows["requests"] > 0
    assert done.rows["points"] > 0
    found = duckdb.execute(f"SELECT count(*), count(DISTINCT trace_id) FROM '{into}/spans.parquet'").fetchall()
    assert found == [(160, 40)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in into.iterdir()} == {0o600}
    with pytest.raises(AlreadyThere, match="nothing in it is overwritten"):
        maintenance.export(store, into)
    with duckdb.connect(str(store / "hot.duckdb")) as database:
        database.execute("UPDATE store_shape SET shape = 'another'")
    with pytest.raises(maintenance.OlderStore, match="start the server once"):
        maintenance.export(store, tmp_path / "more")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("out", "more"))] == ["out"]
