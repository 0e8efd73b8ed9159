"""An incident as one file: judged again elsewhere it says the same, and a hostile file does no harm."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from shop import During, Rows, carts, serve, throttled
from spans import a_while_ago, batch, series_rows

from layerline_api.commands.replay import main
from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents import bundle as bundles
from layerline_correlator.incidents.bundle import COUNTED, MANIFEST, BadBundle, canonical, opened
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import STATUS_ERROR, Batch, LogRow
from layerline_correlator.store.store import Store


def logging(requests: Iterator[Rows], logs: list[LogRow]) -> Iterator[Rows]:
    """Every request leaves a log record in its root; one of seven fails, and only its log says why."""
    for number, rows in enumerate(requests):
        owner, root = rows[0]
        fails = number % 7 == 0
        said = (17, "ERROR", f"no price for item {number}") if fails else (9, "INFO", f"cart {number}")
        logs.append(LogRow(owner.resource, root.end_ns - 1, root.trace_id, root.span_id, *said, {"item": str(number)}))
        yield [(owner, root._replace(status=STATUS_ERROR)), *rows[1:]] if fails else rows


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], bytes]:
    """The bundle of a quota that bound for a minute; the incident; and the bundle made once more, of sealed hours."""
    folder = tmp_path_factory.mktemp("exported")
    correlator = Correlator.open(Settings(store=folder / "store", group_ns=1_000_000))
    zero_ns = a_while_ago(600)
    try:
        logs: list[LogRow] = []
        requests = list(logging(carts(zero_ns, 480, During(330, 390, throttled), rate=1.5), logs))
        correlator.append(Batch(logs=logs))
        drawn = {"signal": "container.memory.working_set", "container": "web-1", "at": [0, 1000], "values": [1, 2]}
        correlator.append(batch([], [series_rows(drawn, zero_ns)]))
        serve(correlator, iter(requests))
        (item,) = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + 3600 * 10**9)).items
        bundle = correlator.incidents.bundle(item["id"])
        assert correlator.keeping.seal_all(zero_ns + 6 * 3600 * 10**9) > 0
        again = correlator.incidents.bundle(item["id"])
        incident = correlator.incidents.one(item["id"])
    finally:
        correlator.close()
    assert bundle is not None
    assert again is not None
    assert incident is not None
    path = folder / "incident.zip"
    path.write_bytes(bundle)
    return path, incident, again


def rewritten(path: Path, to: Path, **members: bytes | None) -> Path:
    """The bundle with members replaced, left out (None) or added; names with ``_`` for ``.``."""
    changed = {name.replace("_", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = changed.pop(name, source.read(name))
            if data is not None:
                target.writestr(name, data)
        for name, data in changed.items():
            target.writestr(name, data or b"")
    return to


def manifest_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
    return manifest


def test_a_bundle_replays_to_the_identical_verdict(
    exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On an empty store elsewhere the raw data give the verdict that was recorded, and the command says so."""
    path, incident, _ = exported
    assert main([str(path), "--store", str(tmp_path / "elsewhere")]) == 0
    assert capsys.readouterr().out.startswith("identical: ")
    assert main([str(path), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    recorded = incident["verdict"]
    assert verdict["parts"] == recorded["parts"]
    elsewhere = {"settled": True, **dict.fromkeys(COUNTED)}  # what counts all requests, of which it holds some
    assert verdict | elsewhere == recorded | elsewhere


def test_a_bundle_says_what_was_logged_and_why_requests_failed(
    exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path
) -> None:
    """Elsewhere, the traces of a bundle have the log records that they had here, and requests failed alike."""
    path, _, _ = exported
    assert main([str(path), "--store", str(tmp_path / "there")]) == 0
    store = Store(Settings(store=tmp_path / "there"))
    with store.cursor() as cursor, opened(path) as bundle:
        unlike = cursor.execute(
            "SELECT count(*) FROM (SELECT DISTINCT trace_id FROM span) AS trace ANTI JOIN log USING (trace_id)"
        ).fetchone()
        failures = "SELECT trace_id, span_id, message, said_by, service FROM {} ORDER BY ALL"
        here = cursor.execute(
            failures.format("read_parquet($path)"), {"path": str(bundle.tables["failure"])}
        ).fetchall()
        there = cursor.execute(failures.format("failure")).fetchall()
    store.close()
    assert unlike == (0,)
    assert here == there
    assert {said_by for _, _, _, said_by, _ in here} == {"log"}
    assert all(message.startswith("no price for item") for _, _, message, _, _ in here)


def test_a_bundle_with_too_many_series_is_refused(
    exported: tuple[Path, dict[str, Any], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message says how many it has, how many there may be and which variable allows more; that many are enough."""
    series = tmp_path / "series.parquet"
    duckdb.sql("SELECT i::VARCHAR AS series, 'calls' AS signal FROM range(12) AS t (i)").write_parquet(str(series))
    path = rewritten(exported[0], tmp_path / "many.zip", series_parquet=series.read_bytes())
    for most, code in ((11, 2), (12, 0)):
        monkeypatch.setenv("LAYERLINE_SERIES", str(most))
        assert main([str(path)]) == code
    assert "it has 12 series, more than 11 (LAYERLINE_SERIES)" in capsys.readouterr().err
    monkeypatch.setenv("LAYERLINE_SERIES", "many")
    assert main([str(path)]) == 2
    assert "LAYERLINE_SERIES" in capsys.readouterr().err


def test_a_failure_that_differs_is_told(
    exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a request that was judged failed in another way than was recorded, replay names it."""
    path, _, _ = exported
    forged = tmp_path / "failure.parquet"
    with opened(path) as bundle:
        duckdb.sql(
            f"COPY (SELECT * REPLACE ('another' AS message) FROM read_parquet('{bundle.tables['failure']}'))"
            f" TO '{forged}' (FORMAT parquet)"
        )
    assert main([str(rewritten(path, tmp_path / "forged.zip", failure_parquet=forged.read_bytes()))]) == 1
    assert 'recorded "another", found "no price for item' in capsys.readouterr().out


def test_a_bundle_of_an_earlier_version_still_opens(
    exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Format 1 had neither logs nor failures: its verdict is judged again as before."""
    path, _, _ = exported
    manifest = manifest_of(path) | {"format": 1}
    older = rewritten(
        path, tmp_path / "older.zip", bundle_json=canonical(manifest).encode(), log_parquet=None, failure_parquet=None
    )
    assert main([str(older)]) == 0
    assert capsys.readouterr().out.startswith("identical: ")


def test_a_bundle_takes_so_many_log_records(
    exported: tuple[Path, dict[str, Any], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beyond the limit errors go first, and the manifest counts what is left out."""
    path, incident, _ = exported
    monkeypatch.setattr(bundles, "MOST_LOGS", 3)
    correlator = Correlator.open(Settings(store=path.parent / "store", group_ns=1_000_000))
    try:
        fewer = correlator.incidents.bundle(incident["id"])
    finally:
        correlator.close()
    assert fewer is not None
    (tmp_path / "fewer.zip").write_bytes(fewer)
    with opened(tmp_path / "fewer.zip") as bundle, opened(path) as whole:
        logged = [duckdb.read_parquet(str(each.tables["log"])).fetchall() for each in (bundle, whole)]
        assert bundle.manifest["logs_left_out"] == len(logged[1]) - 3 > 0
        assert whole.manifest["logs_left_out"] == 0
        severities = duckdb.sql(f"SELECT severity FROM '{bundle.tables['log']}'").fetchall()
    assert severities == [(17,)] * 3


def test_the_same_incident_gives_the_same_bytes(exported: tuple[Path, dict[str, Any], bytes]) -> None:
    """There is no time of writing in a bundle."""
    path, _, again = exported
    assert path.read_bytes() == again


def test_a_verdict_that_differs_is_told(
    exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the recorded verdict is not what the data say, the exit code is 1 and the place is named."""
    path, _, _ = exported
    manifest = manifest_of(path)
    manifest["incident"]["verdict"]["parts"][0]["lost_ns"] += 1
    forged = rewritten(path, tmp_path / "forged.zip", bundle_json=json.dumps(manifest).encode())
    assert main([str(forged)]) == 1
    assert "parts[0].lost_ns" in capsys.readouterr().out


def test_a_store_in_use_is_not_overwritten(exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path) -> None:
    """Replay writes into an empty store only."""
    path, _, _ = exported
    assert main([str(path), "--store", str(tmp_path / "kept")]) == 0
    assert main([str(path), "--store", str(tmp_path / "kept")]) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_json": b"{}"},
        {"bundle_json": b'{"format": 99}'},
        {"bundle_json": b"[" * 100_000},
        {"span_parquet": None},
        {"span_parquet": b"PAR1nonsense"},
        {"../escaped": b"x"},
        {"more_txt": b"x"},
    ],
    ids=["empty manifest", "another format", "deep json", "a table missing", "not parquet", "a path", "one too many"],
)
def test_a_hostile_bundle_is_refused(
    exported: tuple[Path, dict[str, Any], bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, bytes | None],
) -> None:
    """What is not a bundle of ours is refused with one line that says why, and nothing is written outside."""
    path, _, _ = exported
    hostile = rewritten(path, tmp_path / "hostile.zip", **change)
    assert main([str(hostile)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("layerline replay: ")
    assert not (tmp_path.parent / "escaped").exists()


def test_a_bomb_is_not_unpacked(exported: tuple[Path, dict[str, Any], bytes], tmp_path: Path) -> None:
    """A member that unpacks to more than it may have is refused while it is read."""
    path, _, _ = exported
    bomb = rewritten(path, tmp_path / "bomb.zip", bundle_json=b" " * (65 << 20))
    assert bomb.stat().st_size < 1 << 20 + path.stat().st_size
    with pytest.raises(BadBundle, match="larger than"), opened(bomb):
        pass


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    """Any other file, and none, are refused."""
    other = tmp_path / "other.zip"
    other.write_bytes(b"hello")
    assert main([str(other)]) == 2
    assert main([str(tmp_path / "absent.zip")]) == 2
