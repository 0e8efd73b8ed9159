"""A disk that is full stops writing and nothing else, says so, and recovers by itself."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from spans import a_while_ago, batch, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.events import EventQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store import checkpoint, version
from layerline_correlator.store import disk as module
from layerline_correlator.store import store as store_module
from layerline_correlator.store.disk import Disk, disk_problem, why_not_opened
from layerline_correlator.store.model import Batch, EventRow, ResourceRow, resource_key
from layerline_correlator.store.store import Overloaded, Store
from waiting import eventually


def test_what_is_about_the_disk() -> None:
    """By number, by DuckDB's text, and through the exception that hides it; nothing else."""
    full = OSError(errno.ENOSPC, "no room")
    assert disk_problem(full) == "No space left on device"
    assert disk_problem(duckdb.IOException("Could not write file x.wal: No space left on device"))
    assert disk_problem(OSError(errno.EDQUOT, "quota")) == "Disk quota exceeded"
    hidden = duckdb.TransactionException("cannot rollback - no transaction is active")
    hidden.__context__ = full
    assert disk_problem(hidden)
    assert disk_problem(ValueError("x")) is None
    assert disk_problem(OSError(errno.ENOENT, "nothing there")) is None


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """``free.bytes`` is what the disk says is free."""
    said = SimpleNamespace(bytes=2**40)
    monkeypatch.setattr(
        module.os, "statvfs", lambda folder: SimpleNamespace(f_bavail=said.bytes // 4096, f_frsize=4096)
    )
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    return said


def test_a_disk_that_fills_and_empties(tmp_path: Path, free: SimpleNamespace) -> None:
    """Where little is free, or writing failed, it is a problem; it is none when some room can be taken again."""
    disk = Disk(tmp_path)
    assert disk.problem() is None
    free.bytes = 4096
    assert disk.problem() == f"nothing can be written to the folder {tmp_path}: No space left on device"
    free.bytes = 2**40
    assert disk.problem() is None
    assert disk.failed(OSError(errno.ENOSPC, "x"))
    assert not disk.failed(ValueError("x"))
    assert disk.problem() is None  # there is room: it can be tried again
    assert os.listdir(tmp_path) == []


def test_answers_go_on(tmp_path: Path, free: SimpleNamespace) -> None:
    """Nothing is taken while the disk is full, and what was taken is still told; afterwards everything goes on."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=10**6))
    now = time.time_ns()
    nobody = ResourceRow(resource_key({}), {})

    def tell(text: str) -> None:
        correlator.append(Batch([nobody], events=[EventRow(nobody.resource, now, "deploy", text, {})]))

    def told() -> list[str]:
        return sorted(item.body for item in correlator.events(EventQuery(now - 1, now + 1)).items)

    try:
        tell("before")
        free.bytes = 0
        with pytest.raises(Overloaded, match=f"folder {tmp_path / 'store'}: No space left on device"):
            tell("meanwhile")
        assert "No space left on device" in correlator.health().problems[0]
        assert told() == ["before"]
        assert correlator.services() == []
        free.bytes = 2**40
        eventually(lambda: correlator.health().problems == ())
        tell("after")
        assert told() == ["after", "before"]
    finally:
        correlator.close()


@pytest.mark.parametrize("has_room", [True, False])
def test_the_log_is_emptied_where_there_is_room(
    tmp_path: Path, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    """A log that is long is taken into the file; where there is no room for that it stays, also when the store is
    closed, and nothing is lost."""
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 1)
    monkeypatch.setattr(checkpoint, "LOOK_S", 0.01)
    log = tmp_path / "store" / "hot.duckdb.wal"
    free.bytes = 2**40 if has_room else 2 * module._ROOM_BYTES  # enough to write, but not to take the log in
    store = Store(Settings(store=tmp_path / "store", group_ns=0))
    nobody = ResourceRow(resource_key({}), {})
    store.append(Batch([nobody], events=[EventRow(nobody.resource, 1, "deploy", "kept", {})]))
    if has_room:
        eventually(lambda: not log.exists())
    store.close()
    assert log.exists() is not has_room
    free.bytes = 2**40
    again = Store(Settings(store=tmp_path / "store", group_ns=0))
    with again.cursor() as cursor:
        assert cursor.execute("SELECT body FROM event").fetchall() == [("kept",)]
    again.close()


def test_the_log_is_emptied_while_everything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that keeps an eye on the store holds a transaction open: a log that is long is emptied in between."""
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 1)
    monkeypatch.setattr(checkpoint, "LOOK_S", 0.01)
    log = tmp_path / "store" / "hot.duckdb.wal"
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=10**6))
    try:
        zero_ns = a_while_ago()
        drawn = {"id": "a", "kind": "server", "container": "web-1", "ms": [0, 40], "cpu": 40}
        read = {"signal": "container.cpu.time", "container": "web-1", "at": [-1000, 1000], "values": [0, 40]}
        correlator.append(batch([span_row(drawn, "0c" * 16, zero_ns)], [series_rows(read, zero_ns)]))
        assert correlator.verdict("0c" * 16) is not None
        eventually(lambda: not log.exists())
    finally:
        correlator.close()


def test_whoever_reads_for_long_does_not_stop_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is far too long is emptied by force; where a transaction that does not end is in the way, that is soon
    given up, and data are taken as before."""
    for name, value in {"LOG_BYTES": 1, "LONG_LOG_BYTES": 1, "LOOK_S": 0.01, "FORCED_S": 0.2}.items():
        monkeypatch.setattr(checkpoint, name, value)
    log = tmp_path / "hot.duckdb.wal"
    store = Store(Settings(store=tmp_path, group_ns=0))
    nobody = ResourceRow(resource_key({}), {})
    try:
        with store.cursor() as cursor:
            cursor.execute("BEGIN").fetchall()
            cursor.execute("INSERT INTO store_version VALUES (0)").fetchall()
            for number in range(3):
                store.append(Batch([nobody], events=[EventRow(nobody.resource, number, "deploy", "kept", {})]))
            assert log.exists()
            cursor.execute("ROLLBACK").fetchall()
        store.append(Batch([nobody], events=[EventRow(nobody.resource, 4, "deploy", "kept", {})]))
        eventually(lambda: not log.exists())
        with store.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM event").fetchall() == [(4,)]
    finally:
        store.close()


@pytest.mark.parametrize("content", [b"", bytes(4096), bytes(8) + b"DUCK" + bytes(500)], ids=["empty", "zero", "begun"])
def test_a_store_that_was_never_made_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """What a start left behind that found no room, or was killed before it had a database, hinders no later start."""
    database = tmp_path / "hot.duckdb"
    database.write_bytes(content)
    for _ in range(2):
        store = Store(Settings(store=tmp_path))
        store.close()
    assert database.stat().st_size >= 12288


@pytest.mark.parametrize("content", [b"a letter", bytes(8) + b"DUCK" + bytes(20_000)], ids=["a letter", "damaged"])
def test_what_is_no_unfinished_store_is_not_touched(tmp_path: Path, content: bytes) -> None:
    """A file of somebody else's, and a database that held something, are refused and left as they are."""
    database = tmp_path / "hot.duckdb"
    database.write_bytes(content)
    with pytest.raises(duckdb.Error):
        Store(Settings(store=tmp_path))
    assert database.read_bytes() == content


def test_a_start_without_room_says_where_and_what_to_do(tmp_path: Path) -> None:
    """The folder, what the disk said, and the way out stand in one line; for other reasons, what was said."""
    full = duckdb.IOException(f'IO Error: Could not write file "{tmp_path}/hot.duckdb.wal": No space left on device')
    said = why_not_opened(tmp_path, full)
    assert f"{tmp_path} cannot be opened, because nothing can be written there: No space left on device." in said
    assert "--store DIR" in said
    assert "\n" not in said
    assert why_not_opened(tmp_path, ValueError("odd")) == f"the store in {tmp_path} cannot be opened: odd"


def test_a_server_starts_on_a_full_disk(tmp_path: Path, free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written at its start it answers what was stored, takes nothing, says why, and recovers."""
    settings = Settings(store=tmp_path / "store", group_ns=0)
    zero_ns = a_while_ago(60)
    event = EventRow(resource_key({}), zero_ns, "deployment.finished", "deployed", {})
    deploy = Batch(resources=[ResourceRow(event.resource, {})], events=[event])
    first = Store(settings)
    first.append(deploy)
    first.close()

    def full(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        connection.close()
        raise duckdb.IOException("Could not write file hot.duckdb.wal: No space left on device")

    monkeypatch.setattr(store_module, "_bring_to_shape", full)
    free.bytes = 0
    correlator = Correlator.open(settings)
    window = EventQuery(zero_ns - 10**9, zero_ns + 10**9)
    assert [item.name for item in correlator.events(window).items] == ["deployment.finished"]
    assert any("No space left" in problem for problem in correlator.health().problems)
    with pytest.raises(Overloaded, match="No space left"):
        correlator.append(deploy)
    free.bytes = 2**40
    late = event._replace(time_ns=zero_ns + 1)
    correlator.append(Batch(resources=deploy.resources, events=[late]))
    assert len(correlator.events(window).items) == 2
    correlator.close()


def test_a_store_of_another_program_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of another program would answer wrongly: where they cannot be renewed the store is not opened."""
    settings = Settings(store=tmp_path / "store", group_ns=0)
    Store(settings).close()
    monkeypatch.setattr(version, "_shape", lambda: "another")

    def full(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        connection.close()
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(store_module, "_bring_to_shape", full)
    with pytest.raises(duckdb.IOException, match="No space left"):
        Store(settings)
    monkeypatch.undo()
    Store(settings).close()  # and it was not left locked
