"""Hours that are no longer hot lie in files: every question answers as before, and nothing is lost or doubled."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from spans import a_while_ago, batch, hex_id, series_rows, span_row
from test_summaries import carts, readings

from layerline_api.app import create_app
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings, at_least_an_hour_ns
from layerline_correlator.store import maintenance, sealed
from layerline_correlator.store.model import Batch, LogRow
from layerline_correlator.store.sealed import HOUR_NS, NoRoomToSeal, within
from layerline_correlator.times import rfc3339

pytestmark = pytest.mark.long

S, TRACE = 10**9, f"{7:032x}"
#: The hour in which everything happens: it ended three hours ago, and its last minutes lie in the next one.
ZERO_NS = (a_while_ago(4 * 3600) // HOUR_NS + 1) * HOUR_NS - 300 * S
#: When only one log record was written.
FAR_NS = ZERO_NS - 7 * HOUR_NS
WINDOW = {"from": rfc3339(ZERO_NS - 60 * S), "to": rfc3339(ZERO_NS + 900 * S)}
LONG = {"from": rfc3339(ZERO_NS - 3 * HOUR_NS), "to": rfc3339(ZERO_NS + 2 * HOUR_NS)}

SQL = (
    "SELECT * FROM points ORDER BY ALL LIMIT 500",
    "SELECT count(*), sum(value), max(time) FROM points",
    "SELECT * FROM spans ORDER BY ALL LIMIT 500",
    "SELECT * FROM logs ORDER BY ALL",
)


def logs() -> Iterator[LogRow]:
    """Of a trace: an error within it, and a word hours before, when nothing else was sent; a warning of no trace."""
    owner, row = span_row({"id": "a6", "service": "web", "container": "web-1", "ms": [0, 1]}, TRACE, ZERO_NS)
    at_ns = ZERO_NS + 13_050 * 10**6
    yield LogRow(owner.resource, at_ns, TRACE, row.span_id, 17, "ERROR", "no price", {"item": "7"})
    yield LogRow(owner.resource, FAR_NS, TRACE, None, 9, "INFO", "ordered", {})
    yield LogRow(owner.resource, at_ns, None, None, 13, "WARN", "slow today", {})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some requests and six minutes of readings in two hours that are over, worked out and summed up."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    correlator.keeping.stop()
    correlator.append(readings(ZERO_NS))
    correlator.append(carts(0, 40, ZERO_NS, seed=1))
    correlator.append(carts(150, 5, ZERO_NS, seed=1))  # in the second hour
    correlator.append(Batch(logs=list(logs())))
    correlator.look_for_incidents()
    correlator.summing.catch_up()
    correlator.close()
    return folder


@pytest.fixture
def correlator(filled: Path, tmp_path: Path) -> Iterator[Correlator]:
    shutil.copytree(filled, tmp_path / "store")
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    opened.keeping.stop()  # nothing is sealed unless the test says so
    yield opened
    opened.close()


def rows(correlator: Correlator, query: str) -> list[tuple[Any, ...]]:
    with correlator._store.cursor() as cursor:
        return cursor.execute(query).fetchall()


def points(correlator: Correlator) -> list[tuple[Any, ...]]:
    return rows(correlator, "FROM point ORDER BY ALL")


def in_table(correlator: Correlator, table: str = "hot_point") -> int:
    return int(rows(correlator, f"SELECT count(*) FROM {table}")[0][0])


def files(correlator: Correlator, kind: str = "") -> list[Path]:
    return sorted((correlator._store.folder / "sealed" / kind).rglob("*.*"))


def left_out(correlator: Correlator) -> None:
    """As if the ledger of the trace had never been worked out."""
    with correlator._store.cursor() as cursor:
        for table in ("part", "stay", "failure"):
            cursor.execute(f"DELETE FROM {table} WHERE trace_id = '{TRACE}'").fetchall()
        cursor.execute(f"UPDATE request SET weight = 0, blind_spots = NULL WHERE trace_id = '{TRACE}'").fetchall()


def answers(correlator: Correlator, *, of_all_time: bool = True) -> dict[str, bytes]:
    """What is answered to everything that can be asked, as bytes; else to what needs no more than some minutes."""
    client = create_app(correlator, ServerSettings()).test_client()
    asked: dict[str, dict[str, str]] = {
        "requests": {**WINDOW, "min_duration": "0ms"},
        f"requests/{TRACE}": {},
        f"traces/{TRACE}": {},
        "verdicts": WINDOW,
        "timeline": {**WINDOW, "service": "web"},
        "timeline?": LONG,
        "timeline??": {"trace_id": TRACE},
        "coverage": WINDOW,
        "coverage?": LONG,
        "entities": WINDOW,
        "services": WINDOW,
        "events": WINDOW,
        "incidents": LONG,
        "containers": {"q": "container.memory.working_set > 1 over 20m", "to": WINDOW["to"]},
    }
    found = {}
    for path, parameters in asked.items():
        if parameters is LONG and not of_all_time:
            continue
        answer = client.get(f"/api/v1/{path.rstrip('?')}", query_string=parameters)
        assert answer.status_code == 200, (path, answer.text)
        found[path] = answer.data
    for query in SQL if of_all_time else ():
        found[query] = json.dumps(plain(correlator.sql(query, 1000))).encode()
    found["lives"] = repr(correlator.entities(ZERO_NS, ZERO_NS + 400 * S)).encode()
    return found


def test_every_question_answers_the_same(correlator: Correlator) -> None:
    """Byte for byte, from sealed hours and hot ones; files are named by hour and contents, and private."""
    before, were = answers(correlator), points(correlator)
    assert correlator.keeping.seal_all() == 6
    first, second, far = (rfc3339(at_ns)[:13] for at_ns in (ZERO_NS, ZERO_NS + 300 * S, FAR_NS))
    for kind, hours in (("point", [first, second]), ("span", [first, second]), ("log", [far, first])):
        assert in_table(correlator, f"hot_{kind}") == 0
        assert [file.stem.rpartition("-")[0] for file in files(correlator, kind)] == hours
        for file in files(correlator, kind):
            assert file.stem.endswith(hashlib.sha256(file.read_bytes()).hexdigest()[:16])
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert points(correlator) == were
    for path, answer in answers(correlator).items():
        assert answer == before[path], path
    size = correlator.sizes()
    sealed = {one.kind: (one.files, one.rows) for one in size.sealed}
    assert sealed == {"point": (2, len(were)), "span": (2, 180), "log": (2, 3)}
    assert correlator.keeping.seal_all() == 0


def test_summaries_and_ledgers_of_sealed_hours_are_worked_out_again(correlator: Correlator) -> None:
    """From the files they come out as they were."""
    summed = "FROM point_minute, (SELECT count(*), sum(spans), sum(cpu_ns) FROM span_minute) ORDER BY ALL"
    parts = "SELECT * FROM part ORDER BY ALL"
    before, were = rows(correlator, summed), rows(correlator, parts)
    verdict = correlator.verdict(TRACE)
    correlator.keeping.seal_all()
    with correlator._store.cursor() as cursor:
        cursor.execute("INSERT INTO stale_minute SELECT DISTINCT 'point', minute, 0 FROM point_minute").fetchall()
        cursor.execute("INSERT INTO stale_minute SELECT DISTINCT 'span', minute, 0 FROM span_minute").fetchall()
    left_out(correlator)
    assert correlator.summing.catch_up() > 0
    assert rows(correlator, summed) == before
    again = correlator.verdict(TRACE)  # on the question's own cursor
    assert verdict is not None
    assert again is not None
    assert again.parts == verdict.parts
    late = {"id": "z", "parent": "a6", "name": "late", "ms": [13_000, 13_001], "service": "web", "container": "web-1"}
    correlator.append(batch([span_row(late, TRACE, ZERO_NS)]))
    correlator.look_for_incidents()  # by the worker
    assert {row[3:8] for row in rows(correlator, parts)} == {row[3:8] for row in were}


def test_late_points_of_a_sealed_hour(correlator: Correlator) -> None:
    """They are seen at once, those that are sealed already are not written again, and many are sealed with the rest."""
    correlator.keeping.seal_all()
    were = points(correlator)
    correlator.append(readings(ZERO_NS))
    assert in_table(correlator) == 0
    assert points(correlator) == were

    def late(first: int, number: int) -> None:
        at = [first * 1_000 + place * 1_000 + 500 for place in range(number)]
        drawn = {"signal": "container.memory.working_set", "container": "late", "at": at, "values": at}
        correlator.append(batch([], [series_rows(drawn, ZERO_NS)]))

    late(0, 3)
    assert (in_table(correlator), len(points(correlator))) == (3, len(were) + 3)
    assert correlator.keeping.seal_all() == 0, "so few are not worth a file"
    late(3, 290)
    kept = points(correlator)
    assert len(kept) == len(were) + 293
    assert correlator.keeping.seal_all() == 1
    assert in_table(correlator) == 0
    assert points(correlator) == kept


def test_late_spans_of_a_sealed_trace(correlator: Correlator) -> None:
    """A trace is seen whole and each of its spans once; one that lasted longer than was known replaces the other."""
    before = correlator.trace(TRACE)
    assert before is not None
    correlator.keeping.seal_all()
    late = {"id": "z", "parent": "a6", "name": "late", "ms": [13_000, 13_001], "service": "web", "container": "web-1"}
    correlator.append(batch([span_row(late, TRACE, ZERO_NS)]))
    correlator.append(carts(0, 40, ZERO_NS, seed=1))
    again = batch([span_row({**late, "id": "d6", "ms": [0, 13_900]}, TRACE, ZERO_NS)])
    correlator.append(again)
    after = correlator.trace(TRACE)
    assert after is not None
    ids = sorted(span["span_id"] for span in before["spans"])
    assert {span["span_id"] for span in after["spans"]} == {*ids, again.spans[0].span_id, hex_id("z")}
    of_trace = [[log["body"] for log in each["logs"] if log["tied_by"] == "trace"] for each in (before, after)]
    assert of_trace == [["ordered", "no price"]] * 2
    correlator.look_for_incidents()
    assert correlator.verdict(TRACE) is not None
    assert correlator.keeping.seal_all() == 0, "so few are not worth a file"


def test_spans_stay_while_a_ledger_is_to_be_worked_out(correlator: Correlator) -> None:
    """A start looks for what is not settled in the table: that hour is not sealed before."""
    with correlator._store.cursor() as cursor:
        cursor.execute(f"UPDATE request SET judged_ns = end_ns WHERE trace_id = '{TRACE}'").fetchall()
    assert correlator.keeping.seal_all() == 5
    assert in_table(correlator, "hot_span") == 160
    left_out(correlator)
    with correlator._store.cursor() as cursor:
        cursor.execute(f"UPDATE request SET planned = 0 WHERE trace_id = '{TRACE}'").fetchall()
    assert correlator.keeping.seal_all() == 1
    assert in_table(correlator, "hot_span") == 0


def test_retention_deletes_files(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that is too old is gone for every question at once; its file when no question can read it any more."""
    correlator.keeping.seal_all()
    first, second = files(correlator, "point")
    used = correlator._store.used_bytes()
    with correlator._reading() as earlier:
        earlier.execute("FROM span LIMIT 1").fetchall()
        correlator._delete(ZERO_NS + 300 * S)
        assert {row[2] // HOUR_NS for row in points(correlator)} == {(ZERO_NS + 300 * S) // HOUR_NS}
        assert len(earlier.execute("SELECT DISTINCT time_ns // 3600000000000 FROM point").fetchall()) == 2
    cursor, folder = correlator._cursor, correlator._store.folder
    correlator._store.unnamed.remove_old(cursor, folder)
    assert files(correlator, "point") == [first, second], "it stays for questions that began before"
    monkeypatch.setattr(sealed, "_KEPT_S", -1.0)
    correlator._store.unnamed.remove_old(cursor, folder)
    assert files(correlator, "point") == [second]
    assert len(files(correlator, "span")) == 1
    assert files(correlator, "log") == []
    assert rows(correlator, "SELECT count(*), count(DISTINCT trace_id) FROM span") == [(20, 5)]
    assert rows(correlator, "FROM sealed_trace") == []
    assert correlator._store.used_bytes() <= used


@pytest.mark.parametrize("where", ["_renew", "_synced_sum"])
def test_what_fails_before_the_end_changes_nothing(
    correlator: Correlator, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Wherever sealing ends, each point is there once; what it left is removed by the next start."""
    were = points(correlator)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sealed, where, stopped)
        with pytest.raises(KeyboardInterrupt):
            correlator.keeping.seal_all()
    assert points(correlator) == were
    assert in_table(correlator) == len(were)
    (correlator._store.folder / "sealed/log/2026-01-01T00.partial").write_bytes(b"half")
    correlator.close()
    again = Correlator.open(Settings(store=correlator._store.folder))
    try:
        assert files(again) == []
        assert points(again) == were
        assert again.keeping.seal_all() == 6
        assert points(again) == were
    finally:
        again.close()


def test_a_store_can_be_moved_and_loses_an_hour_whose_file_is_lost(
    correlator: Correlator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files are found where the folder is now, also by a backup; one that is gone costs its points, and is named."""
    correlator.keeping.seal_all()
    were = points(correlator)
    correlator.close()
    folder = (tmp_path / "store").rename(tmp_path / "moved, it's here")
    maintenance.back_up(folder, tmp_path / "backup")
    maintenance.restore(tmp_path / "backup", tmp_path / "restored")
    maintenance.vacuum(tmp_path / "restored")
    for place in (folder, tmp_path / "restored"):
        opened = Correlator.open(Settings(store=place))
        assert points(opened) == were
        lost = files(opened, "point")[0]
        opened.close()
    lost.unlink()
    opened = Correlator.open(Settings(store=tmp_path / "restored"))
    assert 0 < len(points(opened)) < len(were)
    opened.close()
    assert f"a sealed hour is missing in the store: {lost}" in caplog.text


def test_by_hand(correlator: Correlator, tmp_path: Path) -> None:
    """`layerline store seal` does the same while no server has the store."""
    were = points(correlator)
    correlator.close()
    told: list[tuple[int, int]] = []
    size = maintenance.seal_all(tmp_path / "store", HOUR_NS, 0, lambda done, of: told.append((done, of)))
    assert [one.rows for one in size.sealed if one.kind == "point"] == [len(were)]
    assert told == [(number, 6) for number in range(1, 7)]
    again = Correlator.open(Settings(store=tmp_path / "store"))
    assert points(again) == were
    again.close()


def test_what_is_hot_is_read_without_files(correlator: Correlator) -> None:
    """A pass over the last minutes opens no file; one over older ones sees everything."""
    now = a_while_ago(0)
    correlator.keeping.seal_all()
    with correlator._store.cursor() as cursor:
        for since_ns, seen in ((now - 60 * S, 0), (ZERO_NS, len(points(correlator)))):
            with within(cursor, since_ns, since_ns + HOUR_NS):
                assert cursor.execute("SELECT count(*) FROM point").fetchall() == [(seen,)]
            assert cursor.execute("SELECT count(*) FROM point").fetchall() == [(len(points(correlator)),)]


def test_only_the_hours_of_a_question_are_opened(correlator: Correlator) -> None:
    """What is asked of some minutes is answered though every other hour's file is damaged; so are late points taken."""
    elsewhere = [ZERO_NS - 5 * HOUR_NS, ZERO_NS + 2 * HOUR_NS - 1800 * S]
    for at_ns in elsewhere:
        drawn = {"signal": "container.memory.working_set", "container": "web-1", "at": [0, 1000], "values": [1, 2]}
        correlator.append(batch([], [series_rows(drawn, at_ns)]))
        correlator.append(carts(200, 2, at_ns - 400 * S, seed=2))
        correlator.append(Batch(logs=[LogRow("nobody", at_ns, None, None, 13, "WARN", "elsewhere", {})]))
    correlator.look_for_incidents()
    correlator.summing.catch_up()
    before, trace = answers(correlator, of_all_time=False), correlator.verdict(TRACE)
    correlator.keeping._hot_ns = HOUR_NS
    assert correlator.keeping.seal_all() == 12
    titles = [rfc3339(at_ns)[:13] for at_ns in elsewhere]
    damaged = [file for file in files(correlator) if file.stem.rpartition("-")[0] in titles]
    assert len(damaged) == 6
    for file in damaged:
        file.write_bytes(b"damaged")
    for path, answer in answers(correlator, of_all_time=False).items():
        assert answer == before[path], path
    left_out(correlator)
    worked_out = correlator.verdict(TRACE)
    assert trace is not None
    assert worked_out is not None
    assert worked_out.parts == trace.parts
    correlator.append(readings(ZERO_NS))
    correlator.append(carts(0, 40, ZERO_NS, seed=1))
    correlator.append(Batch(logs=[log for log in logs() if log.time_ns != FAR_NS]))
    assert [in_table(correlator, table) for table in ("hot_point", "hot_span", "hot_log")] == [0, 0, 0]
    with pytest.raises(duckdb.Error, match="Parquet"):
        points(correlator)


def test_no_room(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and the points stay where they are."""

    class Usage(NamedTuple):
        free: int = 1_000

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    with pytest.raises(NoRoomToSeal, match="and 1,000 are"):
        correlator.keeping.seal_all()
    assert in_table(correlator) == len(points(correlator))


def test_an_hour_at_least_stays_hot() -> None:
    """Passes rely on it: less is refused."""
    assert at_least_an_hour_ns("90m") == 5400 * S
    with pytest.raises(ValueError, match="expected at least 1h, found '30m'"):
        at_least_an_hour_ns("30m")
