"""An incident as one file: judged again elsewhere it says the same, and a hostile file does no harm."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from shop import During, carts, serve, throttled
from spans import a_while_ago

from layerline_api.commands.replay import main
from layerline_correlator.correlator import Correlator
from layerline_correlator.incidents.bundle import MANIFEST, BadBundle, opened
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.settings import Settings


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], bytes]:
    """The bundle of a quota that bound for a minute; the incident; and the bundle made once more."""
    folder = tmp_path_factory.mktemp("exported")
    correlator = Correlator.open(Settings(store=folder / "store", group_ns=1_000_000))
    zero_ns = a_while_ago(600)
    try:
        serve(correlator, carts(zero_ns, 480, During(330, 390, throttled), rate=1.5))
        (item,) = correlator.incidents.list(IncidentQuery(zero_ns, zero_ns + 3600 * 10**9)).items
        bundle, again = correlator.incidents.bundle(item["id"]), correlator.incidents.bundle(item["id"])
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
    assert {**verdict, "settled": True} == {**recorded, "settled": True}


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
