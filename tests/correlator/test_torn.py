"""A block that was half written when the process was killed: the store opens, with everything that was in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from layerline_correlator.store.torn import connected, kept_path
from layerline_correlator.store.version import DATABASE

BLOCK = 262_144
#: The first block after three headers of 4,096 bytes.
FIRST = 3 * 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database whose first block holds what it knows of its tables, as a kill left it: with a log beside it."""
    with duckdb.connect(str(tmp_path / DATABASE)) as connection:
        for number in range(40):
            connection.execute(f"CREATE TABLE t{number} AS SELECT range AS a, 'x' || range AS b FROM range(3000)")
    shutil.copy(tmp_path / DATABASE, tmp_path / "whole")
    return tmp_path


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(folder / DATABASE))


def blocks(folder: Path) -> list[int]:
    return list(range(FIRST, (folder / DATABASE).stat().st_size, BLOCK))


def change(folder: Path, at: int, value: bytes) -> None:
    with (folder / DATABASE).open("r+b") as file:
        file.seek(at)
        file.write(value)


def first_needed(folder: Path) -> int:
    """The first block without which the database does not open."""
    for location in blocks(folder):
        change(folder, location, b"\1" * 8)
        try:
            connect(folder).close()
        except duckdb.Error:
            shutil.copy(folder / "whole", folder / DATABASE)
            return location
        shutil.copy(folder / "whole", folder / DATABASE)
    raise AssertionError("no block is needed")


def test_a_torn_block_is_mended_and_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As when the last pages of a block are of the write before: its checksum is not that of what is there."""
    location = first_needed(folder)
    change(folder, location, b"\1" * 8)
    torn_bytes = (folder / DATABASE).read_bytes()[location : location + BLOCK]
    with pytest.raises(duckdb.Error, match="computed checksum"):
        connect(folder)
    with connected(folder, lambda: connect(folder)) as connection:
        for number in range(40):
            assert connection.execute(f"SELECT count(*), sum(a) FROM t{number}").fetchall() == [(3000, 4498500)]
    assert kept_path(folder, location).read_bytes() == torn_bytes
    assert "half written when its process was killed" in caplog.text
    caplog.clear()
    connected(folder, lambda: connect(folder)).close()
    assert caplog.text == ""


def test_what_is_broken_stays_as_it_is(folder: Path) -> None:
    """A block full of nonsense is no torn write: it is put back byte for byte, and the error is DuckDB's."""
    location = first_needed(folder)
    change(folder, location + 8, bytes(range(256)) * ((BLOCK - 8) // 256))
    before = (folder / DATABASE).read_bytes()
    with pytest.raises((duckdb.Error, RuntimeError)):
        connected(folder, lambda: connect(folder))
    assert (folder / DATABASE).read_bytes() == before


def test_other_errors_are_not_touched(tmp_path: Path) -> None:
    """A file that is no database is refused as ever, and nothing is written beside it."""
    (tmp_path / DATABASE).write_bytes(b"no database" * 5000)
    with pytest.raises(duckdb.Error):
        connected(tmp_path, lambda: connect(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_who_ended_while_it_tried_is_not_followed(folder: Path) -> None:
    """A process that ended while it read a mended block may have ended of that: it is put back for good."""
    location = first_needed(folder)
    change(folder, location, b"\1" * 8)
    before = (folder / DATABASE).read_bytes()

    def end() -> duckdb.DuckDBPyConnection:
        if (folder / f"{DATABASE}.block-{location}.trying").exists():
            raise KeyboardInterrupt  # as good as any end
        return connect(folder)

    with pytest.raises(KeyboardInterrupt):
        connected(folder, end)
    assert (folder / DATABASE).read_bytes() != before
    for _ in range(2):
        with pytest.raises(duckdb.Error, match="computed checksum"):
            connected(folder, lambda: connect(folder))
        assert (folder / DATABASE).read_bytes() == before
