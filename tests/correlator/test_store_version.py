"""A store says which version it is: newer ones are refused, older ones are copied and then changed in one step."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from layerline_correlator.settings import Settings
from layerline_correlator.store import store as store_module
from layerline_correlator.store import version
from layerline_correlator.store.model import Batch, EventRow, ResourceRow, resource_key
from layerline_correlator.store.store import Store
from layerline_correlator.store.version import VERSION, NewerStore, NoRoomForBackup, backup_path


def settings(folder: Path) -> Settings:
    return Settings(store=folder, group_ns=0)


def fill(folder: Path, *told: str) -> None:
    """A store with these events."""
    store = Store(settings(folder))
    nobody = ResourceRow(resource_key({}), {})
    store.append(
        Batch([nobody], events=[EventRow(nobody.resource, time.time_ns(), "deploy", text, {}) for text in told])
    )
    store.close()


def told(database: Path) -> list[str]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM event ORDER BY body").fetchall()]


def change(folder: Path, *statements: str) -> None:
    with duckdb.connect(str(folder / "hot.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)


def columns(folder: Path) -> set[str]:
    with duckdb.connect(str(folder / "hot.duckdb"), read_only=True) as connection:
        return {name for (name,) in connection.execute("SELECT column_name FROM (DESCRIBE stay)").fetchall()}


#: Two requests in which the same could not be seen, one of them more than the other; of a third nothing is known.
OLD_BLIND = (
    "'t', 'a', 5, 'host.cpu_contended', 'web', ['system.cpu.time', 'x'], NULL",
    "'t', 'a', 5, 'app.cpu_busy', 'web', ['layerline.account'], 'no thread'",
    "'u', 'b', 6, 'host.cpu_contended', 'web', ['system.cpu.time', 'x'], NULL",
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as it was written before stores had a version; it lacks a column, too."""
    folder = tmp_path / "store"
    fill(folder, "kept")
    change(
        folder,
        "DROP TABLE store_version",
        "ALTER TABLE stay DROP COLUMN ready_ns",
        *(f"DROP VIEW {kind}" for kind in ("point", "span", "log")),
        *(f"ALTER TABLE hot_{kind} RENAME TO {kind}" for kind in ("point", "span", "log")),
        "DROP TABLE sealed_file",
        "DROP TABLE sealed_trace",
        "DROP VIEW blind",
        "DROP TABLE blind_spot",
        "ALTER TABLE request DROP COLUMN blind_spots",
        "CREATE TABLE blind (trace_id VARCHAR, span_id VARCHAR, start_ns BIGINT, cause VARCHAR, service VARCHAR,"
        " facts VARCHAR[], why VARCHAR)",
        "INSERT INTO request (trace_id, span_id, start_ns) VALUES ('t', 'a', 5), ('u', 'b', 6), ('v', 'c', 7)",
        *(f"INSERT INTO blind VALUES ({row})" for row in OLD_BLIND),
        "INSERT INTO point VALUES ('s', 0, 1, 2)",
        "INSERT INTO span (trace_id) VALUES ('t')",
        "INSERT INTO log (body) VALUES ('said')",
    )
    return folder


def test_a_new_store_has_this_version(tmp_path: Path) -> None:
    """Opened again it is as it is: no copy is made."""
    fill(tmp_path / "store", "a")
    fill(tmp_path / "store", "b")
    with duckdb.connect(str(tmp_path / "store/hot.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT version FROM store_version").fetchall() == [(VERSION,)]
    assert sorted(os.listdir(tmp_path / "store")) == ["hot.duckdb", "lock"]


def test_an_older_store_is_copied_and_changed(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was in it is in both; the copy is named, and is its owner's alone."""
    fill(old, "later")
    assert told(old / "hot.duckdb") == ["kept", "later"]
    assert "ready_ns" in columns(old)
    with duckdb.connect(str(old / "hot.duckdb"), read_only=True) as connection:
        assert connection.execute("FROM point").fetchall() == [("s", 0, 1, 2.0)]
        assert connection.execute("SELECT span.trace_id, log.body FROM span, log").fetchall() == [("t", "said")]
        kept = "SELECT trace_id, span_id, start_ns, cause, service, facts, why FROM blind"
        expected = " UNION ALL ".join(f"SELECT {row}" for row in OLD_BLIND)
        assert (
            connection.execute(f"{kept} ORDER BY ALL").fetchall()
            == connection.execute(f"{expected} ORDER BY ALL").fetchall()
        )
        assert connection.execute("SELECT count(*) FROM blind_spot").fetchall() == [(2,)]
    backup = backup_path(old, 1)
    assert told(backup) == ["kept"]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert f"has version 1 and becomes version {VERSION}; a copy of it as it was is kept in {backup}" in caplog.text
    caplog.clear()
    fill(old, "last")
    assert told(backup) == ["kept"]
    assert caplog.text == ""


def test_a_change_that_does_not_come_to_its_end(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is as it was, the copy is whole, and the next start does it all; what was half copied is removed."""
    (old / "hot.duckdb.copying").write_bytes(b"half")

    def stopped(connection: duckdb.DuckDBPyConnection) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(store_module, "stamp", stopped)
        with pytest.raises(KeyboardInterrupt):
            Store(settings(old))
    assert "ready_ns" not in columns(old)
    assert told(backup_path(old, 1)) == told(old / "hot.duckdb") == ["kept"]
    fill(old, "later")
    assert told(old / "hot.duckdb") == ["kept", "later"]
    assert sorted(os.listdir(old)) == ["hot.duckdb", "hot.duckdb.version-1", "lock"]


def test_no_room_for_the_copy(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is not changed, and the reason says how much is needed."""
    monkeypatch.setattr(version.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(NoRoomForBackup, match=r"could not be copied to .*version-1 .* bytes, and 10 are free"):
        Store(settings(old))
    assert "ready_ns" not in columns(old)
    assert sorted(os.listdir(old)) == ["hot.duckdb", "lock"]
    monkeypatch.undo()
    fill(old, "later")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """The reason says which version it has, which are known, and what to do; the store is left alone."""
    folder = tmp_path / "store"
    fill(folder, "kept")
    change(folder, "UPDATE store_version SET version = 99", "ALTER TABLE stay DROP COLUMN ready_ns")
    with pytest.raises(NewerStore, match=f"has version 99, and this program knows versions up to {VERSION}: use the"):
        Store(settings(folder))
    assert "ready_ns" not in columns(folder)
    assert sorted(os.listdir(folder)) == ["hot.duckdb", "lock"]


# ---- who may read it


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_lets_others_in_is_closed(tmp_path: Path) -> None:
    """Folder and files of a store that others could read are its owner's alone once it was opened."""
    folder = tmp_path / "store"
    folder.mkdir()
    fill(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(path.stat().st_mode | 0o055)
    fill(folder, "x")
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_a_folder_of_others_keeps_its_mode(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that holds more than the store is left as it is, which is said; the store's files are closed."""
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").touch(0o644)
    old_mode = mode(tmp_path / "notes.txt")
    fill(tmp_path, "x")
    assert (mode(tmp_path), mode(tmp_path / "notes.txt")) == (0o755, old_mode)
    assert mode(tmp_path / "hot.duckdb") == mode(tmp_path / "lock") == 0o600
    assert f"others may look into the folder {tmp_path} (mode 0755)" in caplog.text
