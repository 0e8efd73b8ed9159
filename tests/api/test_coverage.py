"""`layerline coverage` and `GET /api/v1/coverage`: what they say, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from live_server import serving
from rich.cells import cell_len

from layerline.attributes import SPAN_FIGURES
from layerline_api.commands.coverage import main
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, ResourceRow, SpanRow
from waiting import PATIENCE_S

T = 1_790_000_000_000_000_000  # 2026-09-21
WINDOW = ["--from", "2026-09-20T00:00:00Z", "--to", "2026-09-23T00:00:00Z"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """One request of a service that says an id which is none, and has a name with an escape in it."""
    correlator = Correlator.open(Settings(store=tmp_path / "store", group_ns=1_000_000))
    who = ResourceRow("r", {"service.name": "web\x1b[31m", "container.id": "cafe"})
    span = SpanRow(
        "a" * 32,
        "b" * 16,
        "c" * 16,
        "r",
        "GET /",
        2,
        T,
        T + 20_000_000,
        0,
        1,
        None,
        None,
        None,
        (None,) * len(SPAN_FIGURES),
        {},
    )
    correlator.append(Batch(resources=[who], spans=[span]))
    correlator.keeping.measure()
    with serving(correlator, ServerSettings()) as url:
        yield url
    correlator.close()


def test_it_is_told_for_people(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In 80 columns: shares, why not, what to start; nothing from outside acts in the terminal."""
    assert main([*WINDOW, "--server", server]) == 0
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert "“cafe” is not the id of a container" in words
    assert "name a caller whose span was never received" in words
    assert "sampled or not: nothing tells" in words
    assert "layerline agent" in words
    assert "The store takes" in words
    assert "(`layerline store info` says more)" in words
    assert "\x1b" not in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())
    assert err == ""


def test_json_is_the_servers_own(server: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """--json prints the API's body, byte for byte."""
    assert main([*WINDOW, "--json", "--server", server]) == 0
    out, _ = capfdbinary.readouterr()
    asked = requests.get(f"{server}/api/v1/coverage", params={"from": WINDOW[1], "to": WINDOW[3]}, timeout=PATIENCE_S)
    assert asked.content == out
    body = json.loads(out)
    assert (body["from"], body["requests"]) == ("2026-09-20T00:00:00.000000000Z", 1)
    assert body["services"][0]["container"]["share"] == 0
    assert body["stored"]["bytes"] > body["stored"]["sealed_bytes"] == 0
    assert body["stored"]["span_bytes"] is None, "one span says nothing of what spans take"


def test_nothing_received_is_no_answer(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """1 and the reason on stderr for an empty window and for an unknown service; 2 where it cannot be asked."""
    assert main(["--since", "1s", "--server", server]) == 1
    assert "neither spans nor readings" in capsys.readouterr().err
    assert main([*WINDOW, "--service", "other", "--server", server]) == 1
    assert "'other'" in capsys.readouterr().err
    assert main(["--since", "yesterday", "--server", server]) == 2
    assert "since" in capsys.readouterr().err
    assert main(["--server", "http://127.0.0.1:1"]) == 2


def test_unknown_parameters_are_refused(server: str) -> None:
    """A filter that coverage does not have is a 400 that names it."""
    answer = requests.get(f"{server}/api/v1/coverage", params={"tag": "region:abc"}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["field"]) == (400, "tag")
