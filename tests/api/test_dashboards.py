"""The dashboards and examples of `docs`: what they ask is answered, over a shop of which all of it was measured."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asked_store import CLOSED_NS, FAILED, LIMITED_NS, OPEN_NS, SLOW, shop
from flask.testing import FlaskClient

from layerline.commands import docs
from layerline_api.app import create_app
from layerline_correlator.correlator import Correlator

FOLDER = Path(__file__).parents[2] / "docs"
PAGE = (FOLDER / "ASKED.md").read_text(encoding="utf-8")
WINDOW = {"start": str(OPEN_NS // 10**9), "end": str(CLOSED_NS // 10**9), "step": "30"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    opened: Correlator = shop(tmp_path_factory.mktemp("store"))
    yield create_app(opened).test_client()
    opened.close()


def targets(name: str) -> list[Any]:
    board = json.loads((FOLDER / f"grafana-{name}.json").read_text(encoding="utf-8"))
    found = [target for panel in board["panels"] for target in panel["targets"]]
    assert {target["datasource"]["type"] for target in found} == {name}
    return found


def in_the_shop(client: FlaskClient, expression: str) -> None:
    answer = client.post("/prometheus/api/v1/query_range", data={**WINDOW, "query": expression})
    assert answer.status_code == 200, answer.text
    assert answer.json["data"]["result"], f"no series: {expression}"


def test_every_panel_of_the_prometheus_dashboard_has_series(client: FlaskClient) -> None:
    """Each query is calculated and finds something, with the interval that Grafana puts in."""
    found = targets("prometheus")
    assert len(found) >= 8
    for target in found:
        in_the_shop(client, target["expr"].replace("$__rate_interval", "1m"))


def test_every_panel_of_the_jaeger_dashboard_has_traces(client: FlaskClient) -> None:
    """What Grafana makes of each search finds the shop's slow and failed traces."""
    counts = []
    for target in targets("jaeger"):
        asked = {
            "service": target["service"].replace("$service", "web"),
            "limit": "200",
            "start": str(OPEN_NS // 1_000),
            "end": str(CLOSED_NS // 1_000),
            "lookback": "custom",
        }
        if "minDuration" in target:
            asked["minDuration"] = target["minDuration"].replace("$longer", "100ms")
        if "tags" in target:  # Grafana sends logfmt as an object
            asked["tags"] = json.dumps(dict(one.split("=") for one in shlex.split(target["tags"])))
        counts.append(len(client.get("/jaeger/api/traces", query_string=asked).json["data"]))
    assert counts == [SLOW, FAILED]
    assert LIMITED_NS > OPEN_NS


def test_the_expressions_of_the_page_have_series(client: FlaskClient) -> None:
    """What the page shows of PromQL is calculated."""
    shown = re.findall(r"^(?:topk|histogram_quantile|sum by).*$", PAGE, re.MULTILINE)
    assert len(shown) == 3
    for expression in shown:
        in_the_shop(client, expression)


def test_the_commands_of_the_page_are_answered(client: FlaskClient) -> None:
    """Each `curl` of the page asks for what is there."""
    commands = re.findall(r"^curl .*$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        address = urlsplit(shlex.split(command)[1])
        answer = client.get(f"{address.path}?{address.query}")
        assert answer.status_code == 200, f"{command}: {answer.text}"


def test_the_page_is_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`layerline docs asked` prints it, and its settings for an agent are JSON."""
    assert docs.main(["asked"]) == 0
    assert capsys.readouterr().out == PAGE
    (settings,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(settings)["mcpServers"]["layerline"]["args"][0] == "mcp"
