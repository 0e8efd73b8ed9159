"""`layerline store` and `GET /api/v1/store`: what they say, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from live_server import serving

from layerline_api.commands.store import main
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, EventRow, ResourceRow
from layerline_correlator.store.version import VERSION
from waiting import PATIENCE_S

T = 1_790_000_000_000_000_000  # 2026-09-21


@pytest.fixture
def correlator(tmp_path: Path) -> Iterator[Correlator]:
    """A store with one event."""
    opened = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    who = ResourceRow("r", {"service.name": "web"})
    opened.append(Batch(resources=[who], events=[EventRow("r", T, "deploy", "deployed", {})]))
    yield opened
    opened.close()


def test_info_is_that_of_the_store_whoever_has_it(
    correlator: Correlator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server is asked while one has it; one that has another store, or cannot be reached, is told apart."""
    store, other = str(tmp_path / "store"), tmp_path / "other"
    with serving(correlator, ServerSettings()) as url:
        answer = requests.get(f"{url}/api/v1/store", timeout=PATIENCE_S).json()
        assert answer["version"] == VERSION
        assert {one["table"]: one["rows"] for one in answer["tables"]}["event"] == 1
        assert main(["info", "--store", store, "--server", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tables"] == answer["tables"]
        kept = Correlator.open(Settings(store=other))
        assert main(["info", "--store", str(other), "--server", url]) == 2
        kept.close()
        assert "has another store: --server URL says where to ask" in capsys.readouterr().err
        assert main(["vacuum", "--store", store]) == 2
        assert "is in use by another process: stop the server that has it first" in capsys.readouterr().err
    correlator.close()
    assert main(["info", "--store", store]) == 0
    out = capsys.readouterr().out
    assert f"version {VERSION}" in out
    assert "from 2026-09-21T14:13:20Z to 2026-09-21T14:13:20Z" in out


def test_backup_and_restore(
    correlator: Correlator, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says what it did; what is there is not overwritten, and what is not there is said."""
    correlator.close()
    store, file, new = str(tmp_path / "store"), str(tmp_path / "file"), str(tmp_path / "new")
    assert main(["backup", file, "--store", store]) == 0
    assert "backed up to" in capsys.readouterr().out
    assert main(["backup", file, "--store", store]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["restore", file, "--store", new]) == 0
    assert f"layerline serve --store {new}" in capsys.readouterr().out
    assert main(["restore", file, "--store", new]) == 2
    assert main(["restore", f"{file}-none", "--store", f"{new}er"]) == 1
    assert main(["vacuum", "--store", new]) == 0
    capsys.readouterr()
    assert main(["seal", "--store", new]) == 0
    assert "nothing is sealed: every hour is hot still" in capsys.readouterr().out
    monkeypatch.setenv("LAYERLINE_HOT", "5m")
    assert main(["seal", "--store", new]) == 2
    assert "LAYERLINE_HOT: expected at least 1h, found '5m'" in capsys.readouterr().err
    monkeypatch.delenv("LAYERLINE_HOT")
    assert main(["export", f"{new}-out", "--store", new]) == 0
    assert "exported to" in capsys.readouterr().out
    assert main(["export", f"{new}-out", "--store", new]) == 2
    capsys.readouterr()
    assert main(["vacuum", "--store", f"{new}er"]) == 1
    assert "there is no store in the folder" in capsys.readouterr().err
