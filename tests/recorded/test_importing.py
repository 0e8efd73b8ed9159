"""`layerline import`: whole, restartable, into a store of its own that answers for its time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from recordings import ZERO_US, document, shop, span, trace
from test_rcaeval import ZERO_S, case

from layerline_api.app import create_app
from layerline_api.commands import recorded as command
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Store
from waiting import eventually

pytestmark = pytest.mark.long

#: What a store holds, without the moments at which it was written.
CONTENT = {
    "span": "* EXCLUDE received_no",
    "point": "*",
    "event": "*",
    "resource": "* EXCLUDE seen_ns",
    "series": "*",
    "request": "* EXCLUDE judged_ns",
    "part": "*",
    "blind": "*",
    "recording": "*",
}


def content(store: Path) -> dict[str, list[Any]]:
    with duckdb.connect(str(store / "hot.duckdb"), read_only=True) as database:
        return {
            table: sorted(map(repr, database.execute(f"SELECT {columns} FROM {table}").fetchall()))
            for table, columns in CONTENT.items()
        }


@contextmanager
def opened(store: Path, **settings: Any) -> Iterator[Correlator]:
    correlator = Correlator.open(Settings(store=store, **settings))
    try:
        yield correlator
    finally:
        correlator.close()


def run(*arguments: object) -> int:
    return command.main([str(argument) for argument in arguments])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "traces.json"
    path.write_text(document(list(shop(200))))
    return path


def test_the_window_that_it_names_is_answered_at_once(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old requests are judged against their usual, settled, and found under the window that the import tells."""
    assert run("--store", tmp_path / "store", recording) == 0
    told = capsys.readouterr().out
    assert told.startswith("imported 1,600 spans from 2025-10-09T08:53:20Z to 2025-10-09T08:53:41Z\n")
    assert f"layerline serve --store {tmp_path / 'store'}\n" in told
    window = re.search(r"layerline why --from (\S+) --to (\S+)", told)
    assert window is not None
    with opened(tmp_path / "store") as correlator:
        client = create_app(correlator).test_client()
        answer = client.get("/api/v1/verdicts", query_string={"from": window[1], "to": window[2]})
        (web,) = [verdict for verdict in answer.json["items"] if verdict["service"] == "web"]
        assert (web["requests"], web["slow"], web["settled"]) == (200, 4, True)
        assert web["duration_ns"] - web["usual_ns"] == 4 * 400_000_000
        assert sum(part["lost_ns"] for part in web["parts"]) + web["unexplained_ns"] == web["duration_ns"]
        services = client.get("/api/v1/services", query_string={"from": window[1], "to": window[2]}).json["items"]
        assert {one["service"] for one in services} == {"stock", "web"}


def test_what_is_old_stays(tmp_path: Path, recording: Path) -> None:
    """Retention by age and by size leaves a recording alone, and still deletes from a store that is none."""
    run("--store", tmp_path / "store", recording)
    with opened(tmp_path / "store", retain_ns=1, retain_bytes=1) as correlator:
        correlator._retain()
        assert correlator.verdict(f"{50:032x}") is not None
    with duckdb.connect(str(tmp_path / "store" / "hot.duckdb")) as database:
        database.execute("DELETE FROM recording").fetchall()
    with opened(tmp_path / "store", retain_ns=1) as correlator:
        correlator._retain()
        assert correlator.verdict(f"{50:032x}") is None


def test_importing_twice_changes_nothing(tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again says that it was done; the same spans in another or a touched file are not doubled."""
    run("--store", tmp_path / "store", recording)
    before = content(tmp_path / "store")
    assert run("--store", tmp_path / "store", recording) == 0
    assert "traces.json, jaeger: was imported before" in capsys.readouterr().err
    assert content(tmp_path / "store") == before
    other = tmp_path / "copy.json"
    other.write_text(recording.read_text())
    recording.touch()
    assert run("--store", tmp_path / "store", recording, other) == 0
    after = content(tmp_path / "store")
    assert len(after.pop("recording")) == 2
    before.pop("recording")
    assert after == before


def test_a_grown_file_brings_what_is_new(tmp_path: Path) -> None:
    """A file that was longer the second time is read again, and only what is new is added."""
    path = tmp_path / "traces.json"
    path.write_text(document(list(shop(5))))
    run("--store", tmp_path / "store", path)
    path.write_text(document(list(shop(9))))
    run("--store", tmp_path / "store", path)
    assert len(content(tmp_path / "store")["span"]) == 72
    assert len(content(tmp_path / "store")["request"]) == len(set(content(tmp_path / "store")["request"])) > 9


#: Imports in another process, and kills it at the third batch: before, in, or after its transaction.
KILLED = """
import os, signal, sys
from layerline_api.commands import recorded as command
from layerline_api.recorded import importing
from layerline_correlator.store import store

importing.BATCH_ROWS = int(sys.argv[2])
moment, seen, insert, insert_rows = sys.argv[1], 0, store.Store._insert, store._insert

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(self, cursor, batches):
    global seen
    seen += 1
    if seen == 3 and moment == "before":
        die()
    done = insert(self, cursor, batches)
    if seen == 3 and moment == "after":
        die()
    return done

def rows(cursor, table, *rest):
    if seen == 3 and moment == "within" and table == "recording":
        die()
    return insert_rows(cursor, table, *rest)

store.Store._insert, store._insert = counted, rows
sys.exit(command.main(sys.argv[3:]))
"""


def killed(moment: str, batch_rows: int, *arguments: object) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(batch_rows), *map(str, arguments)],
        capture_output=True, check=False, timeout=240,
    )  # fmt: skip
    assert process.returncode == -9, process.stderr.decode()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """A file of 2,400 spans, and what a store holds when nobody disturbed its import."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "traces.json").write_text(document(list(shop(300))))
    assert run("--store", folder / "store", folder / "traces.json") == 0
    return folder / "traces.json", content(folder / "store")


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_a_killed_import_goes_on_where_it_was(
    tmp_path: Path, large: tuple[Path, dict[str, list[Any]]], moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 in the middle, the same command again: the store is the one of an undisturbed import, span for span."""
    path, undisturbed = large
    killed(moment, 480, "--store", tmp_path / "store", path)
    Store(Settings(store=tmp_path / "store")).close()
    written = len(content(tmp_path / "store")["span"])
    assert written == (960 if moment != "after" else 1_440)
    assert run("--store", tmp_path / "store", path) == 0
    told = capsys.readouterr().err
    assert "going on at byte" in told
    assert f"{2_400 - written:,} rows" in told, "what was written is not read again"
    assert content(tmp_path / "store") == undisturbed


def test_an_import_killed_over_its_ledgers_is_finished_by_whoever_opens_the_store(
    tmp_path: Path, recording: Path
) -> None:
    """Where spans were written and no ledger was worked out, a server works them out, and until then says so."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("layerline_api.recorded.importing._judge", lambda *_, **__: None)
        run("--store", tmp_path / "store", recording)
    query = RequestQuery(ZERO_US * 1000, (ZERO_US + 3600 * 10**6) * 1000)
    with opened(tmp_path / "store") as correlator:
        assert correlator.verdict(f"{200:032x}") is not None, "a single request is worked out when it is asked for"
        eventually(lambda: correlator.behind() == 0, "that all is worked out")
        assert len(correlator.requests(query).items) == 8, "each slow request of web, and of stock"


def test_a_case_of_rcaeval_is_imported_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spans, points and events of the folder are in the store, and the summary counts what is not kept."""
    folder = case(tmp_path / "case", ".csv")
    assert run("--store", tmp_path / "store", folder) == 0
    told = capsys.readouterr().out
    assert told.startswith("imported 4 spans, 3 points, 3 events from 2024-01-15T21:00:00Z to 2024-01-15T21:12:01Z\n")
    assert "1 log records are not kept: they tell of no event and no error\n" in told
    held = content(tmp_path / "store")
    assert len(held["recording"]) == 4
    assert any(f"{(ZERO_S + 720) * 10**9}, 'rcaeval.fault_injected'" in row for row in held["event"])


def test_what_could_not_be_read_is_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first problems are told with file and line, the rest as a number; the good spans are there."""
    path = tmp_path / "traces.json"
    spans = [span("1", number, duration=-1 if number > 1 else 5) for number in range(1, 20)]
    path.write_text(document([trace("1", *spans)]))
    assert run("--store", tmp_path / "store", path) == 0
    out, err = capsys.readouterr()
    assert f"{path}, line 1: span 2 (0000000000000002) of its trace: its duration is -1; expected microseconds" in err
    assert "and 8 problems more" in err
    assert "18 items could not be read" in out
    assert len(content(tmp_path / "store")["span"]) == 1


def test_a_file_that_fails_does_not_cost_the_others(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code tells that a file failed, and the good one is in the store."""
    bad = tmp_path / "bad.json"
    bad.write_text('{"data" 1}')
    assert run("--store", tmp_path / "store", bad, recording) == 1
    assert "✗ bad.json, jaeger (1 of 2): expected ':', found '1}'" in capsys.readouterr().err
    assert len(content(tmp_path / "store")["span"]) == 1_600


REFUSED: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "no file": (lambda folder: [folder / "none.json"], "none.json: No such file or directory"),
    "other json": (lambda folder: [folder / "other.json"], "begins with 'spans': expected resourceSpans,"),
    "empty folder": (lambda folder: [folder / "empty"], "expected a case of RCAEval"),
    "folder of cases": (lambda folder: [folder / "cases"], "there are 1 cases of RCAEval below it; name one, such as"),
    "file as case": (lambda folder: ["--format", "rcaeval", folder / "other.json"], "is not a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is begun where the path is none of the formats; the error says what was expected and found."""
    (tmp_path / "other.json").write_text('{"spans": []}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "cases").mkdir()
    case(tmp_path / "cases" / "one", ".csv")
    arguments, told = REFUSED[name]
    assert run("--store", tmp_path / "store", *arguments(tmp_path)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_the_store_of_a_running_server_is_refused(
    tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is locked; the error says so, and what to do."""
    with opened(tmp_path / "store"):
        assert run("--store", tmp_path / "store", recording) == 2
    told = capsys.readouterr().err
    assert "is in use by another process: stop the server that has it, or name a folder of its own with --store" in told


def test_a_store_of_live_data_is_refused(tmp_path: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Live data would never be deleted again beside a recording: the import asks for another folder."""
    run("--store", tmp_path / "store", recording)
    with duckdb.connect(str(tmp_path / "store" / "hot.duckdb")) as database:
        database.execute("DELETE FROM recording").fetchall()
    assert run("--store", tmp_path / "store", recording) == 2
    assert "name a new folder with --store DIR" in capsys.readouterr().err


def test_without_a_store_it_has_one_beside_the_servers(
    tmp_path: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who names no folder gets one of its own, which the summary names."""
    monkeypatch.setenv("LAYERLINE_STORE", str(tmp_path / "live"))
    with opened(tmp_path / "live"):
        assert run(recording) == 0
    assert f"layerline serve --store {tmp_path / 'live' / 'recorded'}\n" in capsys.readouterr().out
