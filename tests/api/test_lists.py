"""Pages of containers, monitors and coverage: complete at once, sorted, escaped, helpful where there is nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import unquote_plus

import pytest
from flask.testing import FlaskClient
from shop import happened
from spans import a_while_ago, batch, series_rows, span_row

from layerline_api.app import create_app
from layerline_api.page import monitors
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.tagquery.parse import parse

EVIL = "<script>window.hacked=1</script>" + "y" * 10_000
QUERY = "container:* memory.working_set > 150MiB over 1m"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """Three containers that are read: one is idle, one busy, one is gone; and a service with a hostile name."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    zero_ns = a_while_ago(300)
    seconds = range(0, 295, 5)
    series = []
    for name, cpu, memory in (("idle-1", 1, 100), ("busy-1", 900, 200), ("gone-1", 10, 50)):
        until = 100 if name == "gone-1" else 295
        at = [second * 1000 for second in seconds if second < until]
        drawn = {"container": name, "at": at}
        series.append(
            series_rows(
                drawn | {"signal": "container.cpu.time", "values": [(one // 1000) * cpu for one in at]}, zero_ns
            )
        )
        series.append(
            series_rows(
                drawn | {"signal": "container.memory.working_set", "values": [memory * 2**20 for _ in at]}, zero_ns
            )
        )
    span = {"id": "e", "kind": "server", "ms": [0, 900], "service": EVIL, "name": EVIL, "container": "busy-1"}
    correlator.append(
        batch(
            [span_row(span, "e" * 32, zero_ns + 200 * 10**9)],
            series,
            [happened("gone-1", "container.die", zero_ns + 101 * 10**9)],
        )
    )
    yield create_app(correlator).test_client()
    correlator.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A server to which nobody has sent anything."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("empty"), group_ns=1_000_000))
    yield create_app(correlator).test_client()
    correlator.close()


def listed(html: str) -> list[str]:
    """The containers of a page in their order."""
    return re.findall(r"(idle-1|busy-1|gone-1)</a>", html)


def test_containers_are_listed_before_anything_is_asked(client: FlaskClient) -> None:
    """All that live, in the order of names, with small lines; the dead are folded below."""
    html = client.get("/containers").text
    assert listed(html) == ["busy-1", "idle-1", "gone-1"]
    assert html.index("idle-1</a>") < html.index('<details class="dead">') < html.index("gone-1</a>")
    assert html.count('class="line container"') == 6
    assert "200 MiB" in html


@pytest.mark.parametrize(
    ("sort", "first"), [("cpu", "busy-1"), ("memory", "busy-1"), ("requests", "busy-1"), ("name", "busy-1")]
)
def test_any_column_sorts(client: FlaskClient, sort: str, first: str) -> None:
    """A link in the head sorts, the most first, and the head says so."""
    html = client.get(f"/containers?sort={sort}").text
    assert listed(html)[0] == first
    assert len(re.findall(r"aria-sort=", html.split('<details class="dead">')[0])) == 1
    assert f'href="/containers?sort={sort}"' in client.get("/containers").text


def test_an_order_that_there_is_not(client: FlaskClient) -> None:
    """The page says which there are."""
    answer = client.get("/containers?sort=beauty")
    assert answer.status_code == 400
    assert "expected one of name, cpu" in answer.text


def test_coverage_says_what_to_enable(client: FlaskClient) -> None:
    """The first sentence is the one thing to do; below, what is tied, read and blind."""
    html = client.get("/coverage").text
    assert re.search(r'<p class="answer">[^<]*layerline (run|agent)', html)
    assert "Spans that are tied to where they ran" in html
    assert "Readings" in html


def test_a_query_is_tried_on_the_past_before_it_is_saved(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a monitor would have done, and the command that saves it, which the API accepts."""
    monkeypatch.setattr(monitors, "PATIENCE_S", 600.0)
    html = client.get("/monitors", query_string={"q": QUERY, "since": "5m"}).text
    assert "It would have fired 1 time" in html
    assert "container busy-1" in html
    assert html.count('class="fired"') == 1
    assert "curl -X POST" in html
    assert client.get("/monitors", query_string={"q": "memry > 1"}).status_code == 400


def test_a_monitor_has_its_history_and_can_be_silenced(client: FlaskClient) -> None:
    """It is listed with its state, and its page has alerts, the past, and what silences it."""
    saved = client.post("/api/v1/monitors", json={"query": QUERY, "name": EVIL[:200]}).json
    listed_page = client.get("/monitors").text
    assert f'href="/monitors/{saved["id"]}"' in listed_page
    assert "<script>window" not in listed_page
    page = client.get(f"/monitors/{saved['id']}").text
    assert f'data-silence="/api/v1/monitors/{saved["id"]}/silence"' in page
    assert "It has not fired." in page
    assert "Try the same question on the last day" in page
    client.post(f"/api/v1/monitors/{saved['id']}/silence", json={"for": "1h"})
    assert "silent until" in client.get("/monitors").text
    assert client.get("/monitors/nothing").status_code == 404


def test_an_slo_shows_its_budget(client: FlaskClient) -> None:
    """What is promised, and how much is left."""
    client.post("/api/v1/slos", data=json.dumps({"service": "web", "objective": 0.99}), content_type="application/json")
    html = client.get("/monitors").text
    assert "99 % of requests succeed" in html


@pytest.mark.parametrize("path", ["/containers", "/coverage", "/monitors"])
def test_names_are_escaped_and_cut(client: FlaskClient, path: str) -> None:
    """A name of 10 kB is text that ends after a while."""
    html = client.get(path).text
    assert "<script>window" not in html
    assert "y" * 200 not in re.sub(r"<datalist.*?</datalist>", "", html, flags=re.DOTALL)
    assert " style=" not in html


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/containers", "layerline up"),
        ("/coverage", "layerline run -- CMD"),
        ("/monitors", "Nothing is watched yet"),
    ],
)
def test_an_empty_page_says_what_to_do(empty: FlaskClient, path: str, said: str) -> None:
    """Where there is nothing, the page says how there will be something."""
    answer = empty.get(path)
    assert answer.status_code == 200
    assert said in answer.text
    for query in re.findall(r'href="/(?:containers|monitors)\?q=([^"&]+)"', answer.text):
        parse(unquote_plus(query))  # an example is a query
