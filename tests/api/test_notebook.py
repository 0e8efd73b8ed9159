"""Notebooks: a server's views as pandas and Arrow, over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa
import pytest
from api_fake import TOKEN
from asked_store import REQUESTS, shop
from live_server import serving

import layerline
from layerline.notebook import VIEWS, CannotAsk
from layerline_api.app import create_app
from layerline_api.routes.sql import ARROW
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import sql


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    opened = shop(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def url(correlator: Correlator) -> Iterator[str]:
    with serving(correlator, ServerSettings(token=TOKEN)) as where:
        yield where


def test_every_view_is_a_frame(url: str) -> None:
    """Each documented view can be had whole as pandas, with the types that it is documented with."""
    server = layerline.connect(url, TOKEN)
    assert set(VIEWS) == sql.VIEWS
    frames = {view: server.frame(view, since=None) for view in VIEWS}
    assert len(frames["requests"]) == 2 * REQUESTS
    slow = frames["requests"].query("slow and service == 'web'")
    assert set(slow["cause"]) == {"container.cpu_throttled"}
    assert str(frames["requests"]["start"].dtype).startswith("datetime64")
    assert frames["spans"]["start_ns"].is_monotonic_increasing
    assert server.frame("requests", since="1h").empty, "the shop was open long ago"


def test_a_select_is_a_table_or_a_frame(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQL finds comes typed; the environment may say which server."""
    monkeypatch.setenv("LAYERLINE_SERVER", url)
    monkeypatch.setenv("LAYERLINE_TOKEN", TOKEN)
    found = layerline.connect().arrow("SELECT service, count(*) AS n FROM requests GROUP BY ALL ORDER BY ALL")
    assert found.to_pydict() == {"service": ["stock", "web"], "n": [REQUESTS, REQUESTS]}
    frame = layerline.connect().sql("SELECT round(sum(lost_ns) / 1e9) AS s FROM parts WHERE cause LIKE 'container.%'")
    assert frame["s"].tolist() == [36]
    empty = layerline.connect().sql("SELECT * FROM requests WHERE FALSE")
    assert empty.empty
    assert "duration_ns" in empty.columns


def test_what_is_left_out_is_said(url: str) -> None:
    """More rows than asked for are cut, and a warning says so."""
    with pytest.warns(UserWarning, match="more than these 5 rows"):
        assert layerline.connect(url, TOKEN).arrow("SELECT * FROM range(10)", limit=5).num_rows == 5
    assert layerline.connect(url, TOKEN).arrow("SELECT * FROM range(10)", limit=10).num_rows == 10


def test_what_cannot_be_asked_is_said(url: str) -> None:
    """A wrong token, a refused query and a server that is not there are errors in words."""
    with pytest.raises(CannotAsk, match="token"):
        layerline.connect(url, "wrong").sql("SELECT 1")
    with pytest.raises(CannotAsk, match="getenv is not possible here"):
        layerline.connect(url, TOKEN).sql("SELECT getenv('HOME')")
    with pytest.raises(CannotAsk, match="cannot be reached"):
        layerline.connect("http://127.0.0.1:1").sql("SELECT 1")
    with pytest.raises(ValueError, match="there is no view 'nothing'"):
        layerline.connect(url, TOKEN).frame("nothing")
    with pytest.raises(ValueError, match="expected a duration"):
        layerline.connect(url, TOKEN).frame("requests", since="soon")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow it says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'layerline\[notebook\]'"):
        layerline.connect()


def test_arrow_over_http(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever accepts Arrow gets it, up to its own limits; everybody else gets JSON as before."""
    client = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    told = {"Authorization": f"Bearer {TOKEN}"}
    body = {"sql": "SELECT * FROM range(20000)", "limit": 20_000}
    answer = client.post("/api/v1/sql", json=body, headers={**told, "Accept": ARROW})
    assert (answer.status_code, answer.content_type) == (200, ARROW)
    assert pa.ipc.open_stream(answer.data).read_all().num_rows == 20_000
    refused = client.post("/api/v1/sql", json=body, headers=told)
    assert (refused.status_code, refused.json["field"]) == (400, "limit")
    monkeypatch.setattr(sql, "ARROW_BYTES", 1_000)
    heavy = client.post("/api/v1/sql", json=body, headers={**told, "Accept": ARROW})
    assert heavy.status_code == 422
    assert "fewer columns" in heavy.json["detail"]
