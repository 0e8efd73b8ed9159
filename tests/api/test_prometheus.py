"""Prometheus' query API: what Grafana's data source sends is answered, and what is calculated is what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from api_fake import TOKEN
from asked_store import CLOSED_NS, FAILED, LIMITED_NS, OPEN_NS, shop
from flask.testing import FlaskClient

from layerline.signals import SIGNALS
from layerline_api.app import create_app
from layerline_api.prometheus.evaluate import Evaluation, Scalar, bucket_quantile, parsed
from layerline_api.prometheus.metrics import metrics
from layerline_api.prometheus.reading import Reading
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator

OPEN, LIMITED, CLOSED = (ns // 10**9 for ns in (OPEN_NS, LIMITED_NS, CLOSED_NS))


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    opened = shop(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(correlator: Correlator) -> FlaskClient:
    return create_app(correlator).test_client()


def at(client: FlaskClient, query: str, moment: float = LIMITED) -> Any:
    """The values of a vector by the values of their labels; a number where it is one."""
    answer = client.get("/prometheus/api/v1/query", query_string={"query": query, "time": str(moment)})
    assert (answer.status_code, answer.content_type) == (200, "application/json"), answer.text
    data = answer.json["data"]
    if data["resultType"] == "scalar":
        return float(data["result"][1])
    assert data["resultType"] == "vector"
    assert all(one["value"][0] == moment for one in data["result"])
    return {tuple(text for _, text in sorted(one["metric"].items())): float(one["value"][1]) for one in data["result"]}


CART, STOCK = ("GET /cart", "web"), ("GET /stock", "stock")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("increase(layerline_requests_total[5m])", {CART: 60, STOCK: 60}),
        ("rate(layerline_requests_total[1m])", {CART: 0.2, STOCK: 0.2}),
        ('rate(layerline_requests_total{service="web"}[1m])', {CART: 0.2}),
        ('rate(layerline_requests_total{service!="web"}[1m])', {STOCK: 0.2}),
        ('rate(layerline_requests_total{service=~"w.*|x"}[1m])', {CART: 0.2}),
        ('rate(layerline_requests_total{service!~"w.*"}[1m])', {STOCK: 0.2}),
        ('rate({__name__="layerline_requests_total", service="web"}[1m])', {CART: 0.2}),
        ('increase(layerline_request_errors_total{service="web"}[5m])', {CART: FAILED}),
        ("sum(increase(layerline_requests_total[5m]))", {(): 120}),
        ("sum by (service) (increase(layerline_requests_total[5m]))", {("stock",): 60, ("web",): 60}),
        ("sum without (operation) (increase(layerline_requests_total[5m]))", {("stock",): 60, ("web",): 60}),
        ("count(increase(layerline_requests_total[5m]))", {(): 2}),
        ("avg(increase(layerline_requests_total[5m]))", {(): 60}),
        ("max(increase(layerline_request_errors_total[5m]))", {(): FAILED}),
        ("min(increase(layerline_request_errors_total[5m]))", {(): 0}),
        ("topk(1, increase(layerline_request_errors_total[5m]))", {CART: FAILED}),
        ("increase(layerline_request_errors_total[5m]) > 0", {CART: FAILED}),
        ("increase(layerline_request_errors_total[5m]) > bool 0", {CART: 1, STOCK: 0}),
        ("rate(layerline_request_errors_total[5m]) / rate(layerline_requests_total[5m])", {CART: 0.1, STOCK: 0}),
        (
            "sum by (service) (increase(layerline_request_errors_total[5m])) * 100"
            " / on (service) sum by (service, operation) (increase(layerline_requests_total[5m]))",
            {("web",): 10, ("stock",): 0},
        ),
        ("rate(layerline_request_duration_seconds_sum[5m]) / rate(layerline_request_duration_seconds_count[5m])",
         {CART: 0.06, STOCK: 0.048}),
        ('sum(increase(layerline_requests_total[5m])) and on () vector(1)', {(): 120}),
        ('layerline_requests_total{service="nobody"} or vector(0)', {(): 0}),
        ("vector(1) unless vector(2)", {}),
        ("1 + 1", 2),
        ("2 ^ 3 - 7 % 4", 5),
        ("-(1 / 0)", -math.inf),
        ("scalar(sum(increase(layerline_requests_total[5m])))", 120),
        ("time()", LIMITED),
    ],
)  # fmt: skip
def test_what_is_calculated_is_what_happened(client: FlaskClient, query: str, expected: Any) -> None:
    """Rates and increases are exact; matchers, aggregations and operators are as in PromQL."""
    assert at(client, query) == pytest.approx(expected)


def test_lost_seconds_add_up_to_the_duration(client: FlaskClient) -> None:
    """What requests lost by cause, with what is unexplained, is how long they took."""
    lost = at(client, 'sum by (cause) (increase(layerline_lost_seconds_total{service="web"}[5m]))', CLOSED)
    assert lost[("container.cpu_throttled",)] == pytest.approx(60 * 0.3)
    took = at(client, 'sum(increase(layerline_request_duration_seconds_sum{service="web"}[5m]))', CLOSED)
    assert sum(lost.values()) == pytest.approx(took[()])
    blamed = at(
        client,
        'topk(1, sum by (layer, entity) (increase(layerline_lost_seconds_total{service="web",layer="container"}[5m])))',
        CLOSED,
    )
    assert blamed == {("stock-1", "container"): pytest.approx(18)}


@pytest.mark.parametrize(("share", "moment", "least", "most"), [(0.5, LIMITED, 0.05, 0.075), (0.95, CLOSED, 0.3, 0.4)])
def test_quantiles_are_in_the_bucket_of_the_duration(
    client: FlaskClient, share: float, moment: int, least: float, most: float
) -> None:
    """60 ms and 360 ms are found between the bounds on both sides of them."""
    buckets = 'rate(layerline_request_duration_seconds_bucket{service="web"}[5m])'
    query = f"histogram_quantile({share}, sum by (le) ({buckets}))"
    assert least <= at(client, query, moment)[()] <= most


def test_buckets_are_cumulative_and_end_in_all(client: FlaskClient) -> None:
    """Each bucket has what those before it have; the last has all."""
    found = at(client, 'increase(layerline_request_duration_seconds_bucket{service="web"}[5m])', CLOSED)
    ordered = [value for _, value in sorted((float(labels[0]), value) for labels, value in found.items())]
    assert ordered == sorted(ordered)
    assert ordered[-1] == pytest.approx(60)
    assert found[("0.3", *CART)] == pytest.approx(0)
    assert found[("0.4", *CART)] == pytest.approx(60)


def test_readings_in_prometheus_units(client: FlaskClient) -> None:
    """CPU time is seconds, memory bytes; labels say whose it is. A gauge has its last value."""
    used = at(client, "sum by (container) (rate(container_cpu_time_seconds_total[1m]))", CLOSED - 10)
    assert used == {("stock-1",): pytest.approx(0.02), ("web-1",): pytest.approx(0.01)}
    assert at(client, "sum by (container) (container_memory_working_set_bytes)") == {("web-1",): 2**26}
    assert at(client, "container_cpu_limit", LIMITED - 10) == {}
    assert list(at(client, "container_cpu_limit", CLOSED).values()) == [0.1]
    assert at(client, "sum(container_cpu_limit offset 6m) or vector(7)", CLOSED) == {(): 7}
    assert list(at(client, "irate(container_cpu_throttled_seconds_total[1m])", CLOSED - 10).values()) == [
        pytest.approx(0.06)
    ]
    (labels,) = at(client, "system_memory_available_bytes")
    assert "host-1-name" in labels


def test_a_counter_itself_grows_since_midnight(client: FlaskClient) -> None:
    """Asked for without a range, a counter says how much it rose since midnight, UTC."""
    assert at(client, "layerline_requests_total{service='web'}", LIMITED) == {
        ("layerline_requests_total", *CART): pytest.approx(60, abs=1)
    }
    assert at(client, "layerline_requests_total", CLOSED + 3600) == {}


def test_a_window_has_a_value_for_each_step(client: FlaskClient) -> None:
    """A range query says nothing where there is nothing, and 0 where nothing more came."""
    form = {
        "query": "sum(rate(layerline_requests_total[1m]))", "start": OPEN - 60, "end": CLOSED + 600, "step": "60",
    }  # fmt: skip
    answer = client.post("/prometheus/api/v1/query_range", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json["data"]["resultType"] == "matrix"
    (series,) = answer.json["data"]["result"]
    values = {moment: float(text) for moment, text in series["values"]}
    assert OPEN - 60 not in values
    assert values[OPEN + 120] == pytest.approx(0.4)
    assert values[CLOSED + 120] == 0
    assert CLOSED + 600 not in values
    (line,) = client.get(f"/prometheus/api/v1/query_range?query=1&start={OPEN}&end={OPEN + 30}&step=15s").json["data"][
        "result"
    ]
    assert line == {"metric": {}, "values": [[OPEN, "1"], [OPEN + 15, "1"], [OPEN + 30, "1"]]}


def test_long_windows_say_the_same(client: FlaskClient) -> None:
    """A day is read by the minute, and adds up to the same."""
    query = {"query": "sum(increase(layerline_requests_total[1d]))", "time": str(OPEN + 86_000)}
    (found,) = client.get("/prometheus/api/v1/query", query_string=query).json["data"]["result"]
    assert float(found["value"][1]) == pytest.approx(240)


# ---- what Grafana's data source sends


def window(from_s: int = OPEN, to_s: int = CLOSED) -> dict[str, str]:
    return {"start": str(from_s), "end": str(to_s)}


def test_grafana_tests_the_data_source(client: FlaskClient) -> None:
    """Its health query, as the form that it sends, and the version by which it chooses how to ask."""
    answer = client.post("/prometheus/api/v1/query", data={"query": "1+1", "time": "1795428000.123"})
    assert answer.json == {"status": "success", "data": {"resultType": "scalar", "result": [1795428000.123, "2"]}}
    built = client.get("/prometheus/api/v1/status/buildinfo").json
    assert built["status"] == "success"
    assert built["data"]["version"].split(".")[0].isdigit()


def test_grafana_browses_metrics(client: FlaskClient) -> None:
    """Names of metrics, labels and their values, and the series of a selector, each in its window."""
    names = client.get("/prometheus/api/v1/label/__name__/values", query_string=window()).json["data"]
    assert {"layerline_requests_total", "container_cpu_time_seconds_total", "system_memory_available_bytes"} <= set(
        names
    )
    assert "system_disk_io_bytes_total" not in names, "nothing of it was received"
    labels = client.post("/prometheus/api/v1/labels", data=window()).json["data"]
    assert {"__name__", "service", "operation", "cause", "layer", "le", "container"} <= set(labels)
    of_one = client.get(
        "/prometheus/api/v1/labels", query_string={**window(), "match[]": "layerline_requests_total"}
    ).json["data"]
    assert of_one == ["__name__", "operation", "service"]
    services = client.get("/prometheus/api/v1/label/service/values", query_string={**window(), "limit": "40000"}).json[
        "data"
    ]
    assert services == ["stock", "web"]
    matched = {**window(), "match[]": 'layerline_requests_total{service="web"}'}
    assert client.get("/prometheus/api/v1/label/operation/values", query_string=matched).json["data"] == ["GET /cart"]
    causes = client.get("/prometheus/api/v1/label/cause/values", query_string=window()).json["data"]
    assert {"container.cpu_throttled", "unexplained"} <= set(causes)
    assert client.get("/prometheus/api/v1/label/container/values").json["data"] == ["stock-1", "web-1"]
    series = client.post("/prometheus/api/v1/series", data=matched).json["data"]
    assert series == [{"__name__": "layerline_requests_total", "operation": "GET /cart", "service": "web"}]


def test_metadata_has_every_metric(client: FlaskClient) -> None:
    """What a metric counts, and how, is the signal catalogue's own text."""
    data = client.get("/prometheus/api/v1/metadata").json["data"]
    assert data["layerline_requests_total"][0]["type"] == "counter"
    assert data["layerline_request_duration_seconds"][0]["type"] == "histogram"
    assert data["container_memory_working_set_bytes"][0]["type"] == "gauge"
    assert set(client.get("/prometheus/api/v1/metadata?metric=layerline_requests_total").json["data"]) == {
        "layerline_requests_total"
    }
    assert len(client.get("/prometheus/api/v1/metadata?limit=3").json["data"]) == 3


def test_every_signal_has_a_name_of_its_own() -> None:
    """Names follow from the catalogue: letters, digits and _, no two the same, counters end in _total."""
    names = list(metrics())
    assert len([one for one in metrics().values() if one.source == "readings"]) == len(SIGNALS)
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in names)
    assert {name.endswith("_total") for name, one in metrics().items() if one.type == "counter"} == {True}
    assert not any("_seconds_seconds" in name or "_bytes_bytes" in name for name in names)


# ---- what is refused


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sum(", "cannot be read"),
        ("", "no expression found"),
        ("nothing_of_ours(x)", "unknown function"),
        ("rate(layerline_requests_total)", "expected type matrix"),
        ("layerline_requests_total[5m]", "only supported in rate"),
        ("max_over_time(container_cpu_limit[5m])", "the function max_over_time is not supported here; there are: rate"),
        ("rate(container_cpu_limit[5m])", "rate is for counters, and container_cpu_limit is a gauge"),
        ("quantile(0.9, layerline_requests_total)", "the aggregation quantile is not supported"),
        ("rate(layerline_requests_total[5m:1m])", "subquer"),
        ("layerline_requests_total @ 5", "@ is not supported"),
        ("layerline_requests_total * on (service) group_left layerline_requests_total", "group_left"),
        ("layerline_requests_total + on () layerline_requests_total", "matched one to one"),
        ("1 > 2", "BOOL"),
        ('{service="web"}', "expected a metric's name"),
        ("(" * 3000 + "1" + ")" * 3000, "nested too deeply"),
        ("1" * 10_001, "at most 10,000"),
    ],
)
def test_what_is_not_supported_is_named(client: FlaskClient, query: str, words: str) -> None:
    """Anything else is `bad_data`, in Prometheus' form, and says what is not supported."""
    answer = client.get("/prometheus/api/v1/query", query_string={"query": query, "time": str(CLOSED)})
    assert answer.status_code == 400
    assert (answer.json["status"], answer.json["errorType"]) == ("error", "bad_data")
    assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/query", "query is missing"),
        ("/query?query=1&time=soon", "time is 'soon'"),
        ("/query_range?query=1&start=0&end=11000&step=1", "more than 11,000"),
        ("/query_range?query=1&start=10&end=0&step=1", "before its start"),
        ("/query_range?query=1&start=0&end=1&step=0", "above zero"),
        ("/query_range?query=%22x%22&start=0&end=1&step=1", "found a string"),
        ("/series", "no match[]"),
        ("/series?match[]=1", "expected a selector"),
        ("/label/a-b/values", "expected a label's name"),
    ],
)
def test_parameters_are_looked_at(client: FlaskClient, address: str, words: str) -> None:
    """A wrong parameter is named."""
    answer = client.get("/prometheus/api/v1" + address)
    assert (answer.status_code, answer.json["errorType"]) == (400, "bad_data")
    assert words in answer.json["error"]


def test_a_query_is_bounded(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many values are refused before they are calculated, and a query that takes too long is ended."""
    asked = {"query": "rate(layerline_requests_total[1m])", "time": str(CLOSED)}
    monkeypatch.setattr("layerline_api.prometheus.evaluate.MOST_VALUES", 1)
    assert "more than 1 values" in client.get("/prometheus/api/v1/query", query_string=asked).json["error"]
    monkeypatch.undo()
    monkeypatch.setattr("layerline_api.prometheus.evaluate.PATIENCE_S", -1)
    answer = client.get("/prometheus/api/v1/query", query_string=asked)
    assert (answer.status_code, answer.json["errorType"]) == (503, "timeout")
    monkeypatch.undo()
    monkeypatch.setattr("layerline_api.prometheus.reading.MOST_SERIES", 1)
    assert "add matchers" in client.get("/prometheus/api/v1/query", query_string=asked).json["error"]


def test_it_needs_the_token(correlator: Correlator) -> None:
    """As everywhere; the refusal is in Prometheus' form."""
    guarded = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    answer = guarded.get("/prometheus/api/v1/query?query=1")
    assert (answer.status_code, answer.json["errorType"]) == (401, "unauthorized")
    assert (
        guarded.get("/prometheus/api/v1/query?query=1", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    )


# ---- arithmetic


def test_a_quantile_of_buckets() -> None:
    """Within a bucket evenly; in the last the bound before it; of nothing it is no number."""
    buckets = [(0.1, 50.0), (0.2, 100.0), (math.inf, 100.0)]
    assert bucket_quantile(0.5, buckets) == pytest.approx(0.1)
    assert bucket_quantile(0.75, buckets) == pytest.approx(0.15)
    assert bucket_quantile(0.99, [(0.1, 1.0), (math.inf, 100.0)]) == 0.1
    assert math.isnan(bucket_quantile(0.5, [(0.1, 0.0), (math.inf, 0.0)]))
    assert math.isnan(bucket_quantile(0.5, [(0.1, 5.0)]))
    assert (bucket_quantile(-1, buckets), bucket_quantile(2, buckets)) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 / 0", math.nan),
        ("5 % 0", math.nan),
        ("10 ^ 400", math.inf),
        ("(0 - 8) ^ 0.5", math.nan),
        ("-1 / 0", -math.inf),
    ],
)
def test_arithmetic_has_no_errors(correlator: Correlator, text: str, expected: float) -> None:
    """What Python refuses is NaN or infinite, as in Prometheus."""
    found = Evaluation(Reading(correlator), [0]).of(parsed(text))
    assert isinstance(found, Scalar)
    assert found.values == pytest.approx([expected], nan_ok=True)
