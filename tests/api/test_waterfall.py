"""A request's waterfall over HTTP and on its page: rows with the colours of causes, folded, escaped, cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from flask.testing import FlaskClient
from spans import a_while_ago, batch, hex_id, series_rows, span_row

from layerline_api.app import create_app
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

TRACE, EVIL_TRACE = "a" * 32, "e" * 32
EVIL = "<script>window.hacked=1</script>" + "x" * 10_000
SAMPLES = ["12 cpu R 0 cart shop.py:12", "9 lock S futex_wait_queue get pool.py:88", "no sample"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A store with a request of many calls, one of them with a statement, and a hostile one."""
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    zero_ns = a_while_ago(300)
    spans: list[dict[str, Any]] = [
        {"id": "r", "kind": "server", "name": "GET /cart", "container": "web-1", "ms": [0, 2500], "cpu": 300,
         "slices": [[0, 2400, 300, 0]], "samples": SAMPLES, "attributes": {"http.route": "/cart"}},
    ]  # fmt: skip
    spans += [
        {"id": f"q{number}", "parent": "r", "kind": "client", "name": "SELECT", "container": "web-1",
         "ms": [2400 + number, 2401 + number], "cpu": 0, "slices": [[0, 1, 0, 0]],
         "attributes": {"db.system": "postgresql", "server.address": "db", "server.port": "5432",
                        "db.query.text": "SELECT name FROM cart WHERE owner = 'bob'"}}
        for number in range(40)
    ]  # fmt: skip
    hostile = {"id": "e", "kind": "server", "ms": [0, 900], "service": EVIL, "name": EVIL, "container": "web-1",
               "attributes": {EVIL: EVIL}}  # fmt: skip
    seconds = range(-5, 10)
    used = {
        "signal": "container.cpu.time",
        "container": "web-1",
        "at": [one * 1000 for one in seconds],
        "values": [(one + 6) * 100 for one in seconds],
    }
    correlator.append(
        batch([*(span_row(one, TRACE, zero_ns) for one in spans), span_row(hostile, EVIL_TRACE, zero_ns)],
              [series_rows(used, zero_ns)])
    )  # fmt: skip
    yield create_app(correlator).test_client()
    correlator.close()


class Drawing(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def classes(self, tag: str) -> list[str]:
        return [str(of.get("class") or "") for name, of in self.seen if name == tag]


def test_the_page_draws_each_span_and_what_it_was_lost_to(client: FlaskClient) -> None:
    """A row for each span that is not folded, with areas of its layers that are as wide as its own time."""
    html = client.get(f"/requests/{TRACE}").text
    page = Drawing(html)
    assert sum(name.startswith("row") for name in page.classes("details")) == 3
    assert "×39" in html
    areas = [of for tag, of in page.seen if tag == "path" and str(of.get("class")).startswith("own ")]
    assert {str(of["class"]).split()[1] for of in areas} >= {"app", "dependency"}
    widths = [float(width) for of in areas for width in re.findall(r"h(\d+\.?\d*)v", str(of["d"]))]
    assert sum(widths) == pytest.approx(1000, abs=2)
    assert html.index('id="spans"') < html.index("Its containers and machines")
    assert 'aria-label="cpu.time' in html


def test_a_span_unfolds_to_what_it_carries(client: FlaskClient) -> None:
    """Its attributes, its statement without values, the frames that were sampled, and the way to speedscope."""
    html = client.get(f"/requests/{TRACE}").text
    assert "<dt>http.route</dt>" in html
    assert "SELECT name FROM cart WHERE owner = ?" in html
    assert "bob" not in html
    assert "cart shop.py:12" in html
    assert "waited for a lock" in html
    assert f'href="/api/v1/traces/{TRACE}/speedscope"' in html


def test_what_is_folded_unfolds(client: FlaskClient) -> None:
    """The link of a row that counts others leads to a page on which each has its own."""
    html = client.get(f"/requests/{TRACE}").text
    (address,) = {str(of["href"]) for tag, of in Drawing(html).seen if "under=" in str(of.get("href"))}
    unfolded = client.get(address.replace("&amp;", "&")).text
    assert sum(name.startswith("row") for name in Drawing(unfolded).classes("details")) == 41
    assert "The whole request" in unfolded


def test_names_are_escaped_and_cut(client: FlaskClient) -> None:
    """A service named <script> of 10 kB is text, and takes little room in a row."""
    html = client.get(f"/requests/{EVIL_TRACE}").text
    assert "<script>window" not in html
    assert len(html) < 120_000
    names = re.findall(r'<span class="name i\d+">(.*?)</span>\n', html, re.DOTALL)
    assert names
    assert all(len(name) < 400 for name in names)


def test_the_same_over_http(client: FlaskClient) -> None:
    """The API answers what the page draws, and says what it does not know."""
    body = client.get(f"/api/v1/traces/{TRACE}/waterfall").json
    assert sum(row["own_ns"] for row in body["rows"]) == body["duration_ns"] == 2_500_000_000
    assert (body["spans"], len(body["rows"])) == (41, 3)
    part = client.get(f"/api/v1/traces/{TRACE}/waterfall?under={hex_id('q7')}").json
    assert (part["under"], part["spans"], part["elsewhere"]) == (hex_id("q7"), 1, 40)
    assert client.get(f"/api/v1/traces/{'f' * 32}/waterfall").status_code == 404
    assert client.get(f"/api/v1/traces/{TRACE}/waterfall?under={'f' * 16}").status_code == 404
    assert client.get(f"/requests/{TRACE}?under={'f' * 16}").status_code == 404


def test_samples_become_a_file_of_speedscope(client: FlaskClient) -> None:
    """A profile for each span that was sampled; its weights are looks times the time that one stands for."""
    body = client.get(f"/api/v1/traces/{TRACE}/speedscope").json
    (profile,) = body["profiles"]
    assert (profile["name"], profile["endValue"]) == ("web GET /cart", 21 * 20_000_000)
    names = [[body["shared"]["frames"][frame]["name"] for frame in stack] for stack in profile["samples"]]
    assert names == [["computed", "cart"], ["waited for a lock", "get"]]
    assert client.get(f"/api/v1/traces/{'f' * 32}/speedscope").status_code == 404
    json.dumps(body)


@pytest.mark.parametrize(
    "path",
    [
        "/waterfall.css",
        "/lists.css",
        "/silence.js",
        "/lanes.css",
        "/lanes.js",
        "/vendor/uplot-1.6.32.js",
        "/vendor/uplot-1.6.32.css",
    ],
)  # fmt: skip
def test_what_pages_are_shown_with_comes_from_here(client: FlaskClient, path: str) -> None:
    """Style sheets and scripts are served by this server, and load nothing from elsewhere."""
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.content_type.startswith(("text/css", "text/javascript"))
    assert re.findall(r"url\(|@import|import\(|https?://(?!github.com/leeoniya/uPlot)", answer.text) == []
