"""Jaeger's query API: what Grafana's data source and Jaeger's own page send is answered as they expect it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from api_fake import TOKEN
from asked_store import CLOSED_NS, FAILED, LIMITED_NS, OPEN_NS, REQUESTS, SLOW, shop, trace_id
from flask.testing import FlaskClient
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from layerline_api.app import create_app
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator

IDS = ("traceId", "spanId", "parentSpanId")
SLOW_ONE = trace_id(REQUESTS - 1)
#: The shop's ten minutes, in microseconds, and by RFC 3339.
WINDOW = f"start={OPEN_NS // 1000}&end={CLOSED_NS // 1000}"
WINDOW_3 = "query.start_time_min=2026-11-23T10:00:00Z&query.start_time_max=2026-11-23T10:10:00.5Z"


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    opened = shop(tmp_path_factory.mktemp("store"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(correlator: Correlator) -> FlaskClient:
    return create_app(correlator).test_client()


def got(client: FlaskClient, address: str) -> Any:
    answer = client.get(address)
    assert (answer.status_code, answer.content_type) == (200, "application/json"), answer.text
    return answer.json


def tags_of(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def by_name(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {span["operationName"]: span for span in spans}


def test_services_and_operations(client: FlaskClient) -> None:
    """Both versions list the services, and of each the names of its spans with their kinds."""
    assert got(client, "/jaeger/api/services") == {
        "data": ["stock", "web"], "total": 2, "limit": 0, "offset": 0, "errors": None,
    }  # fmt: skip
    assert got(client, "/jaeger/api/v3/services") == {"services": ["stock", "web"]}
    assert got(client, "/jaeger/api/services/web/operations")["data"] == ["GET /cart", "call"]
    named = [{"name": "GET /cart", "spanKind": "server"}, {"name": "call", "spanKind": "client"}]
    assert got(client, "/jaeger/api/operations?service=web&spanKind=")["data"] == named
    assert got(client, "/jaeger/api/v3/operations?service=web") == {"operations": named}


def test_a_span_carries_its_ledger(client: FlaskClient) -> None:
    """The entry span of a request has what it lost to each cause in milliseconds; together they are its duration."""
    (trace,) = got(client, f"/jaeger/api/traces/{SLOW_ONE}")["data"]
    spans = by_name(trace["spans"])
    assert set(spans) == {"GET /cart", "call", "GET /stock"}
    tags = tags_of(spans["GET /cart"])
    lost = {key: value for key, value in tags.items() if key.startswith("layerline.lost.")}
    assert lost["layerline.lost.container.cpu_throttled_ms"] == pytest.approx(300)
    assert sum(lost.values()) == pytest.approx(spans["GET /cart"]["duration"] / 1000) == pytest.approx(360)
    assert tags["layerline.slow"] is True
    assert tags["layerline.cause"] == "container.cpu_throttled"
    assert tags["layerline.excess_ms"] == pytest.approx(300, abs=1)
    assert client.get(tags["layerline.page"].removeprefix("http://localhost")).status_code == 200
    assert not any(key.startswith("layerline.lost.") for key in tags_of(spans["call"]))


def test_a_trace_in_the_older_form(client: FlaskClient) -> None:
    """Times are microseconds, parents references, tags have types, and each process stands once."""
    (trace,) = got(client, f"/jaeger/api/traces/{trace_id(0).lstrip('0')}")["data"]
    assert trace["traceID"] == trace_id(0)
    spans = by_name(trace["spans"])
    cart, call = spans["GET /cart"], spans["call"]
    assert (cart["startTime"], cart["duration"], cart["references"]) == (OPEN_NS // 1000, 60_000, [])
    assert call["references"] == [{"refType": "CHILD_OF", "traceID": trace_id(0), "spanID": cart["spanID"]}]
    assert {process["serviceName"] for process in trace["processes"].values()} == {"web", "stock"}
    assert cart["processID"] == call["processID"] != spans["GET /stock"]["processID"]
    typed = {tag["key"]: (tag["type"], tag["value"]) for tag in cart["tags"]}
    assert typed["error"] == ("bool", True)
    assert typed["span.kind"] == ("string", "server")
    assert typed["otel.status_description"] == ("string", "no stock")
    assert typed["http.response.status_code"] == ("int64", 500)
    assert typed["layerline.thread.cpu_ns"] == ("int64", 10_000_000)


def test_a_trace_is_otlp(client: FlaskClient) -> None:
    """Version 3 answers with OTLP/JSON that OpenTelemetry's own definitions read, the ledger among the attributes."""
    found = got(client, f"/jaeger/api/v3/traces/{SLOW_ONE}")["result"]
    read = ParseDict(as_proto(found), TracesData())
    spans = {span.name: span for group in read.resource_spans for scope in group.scope_spans for span in scope.spans}
    cart, stock = spans["GET /cart"], spans["GET /stock"]
    assert (cart.kind, cart.end_time_unix_nano - cart.start_time_unix_nano) == (2, 360_000_000)
    assert stock.parent_span_id == spans["call"].span_id
    attributes = {one.key: one.value for one in cart.attributes}
    assert attributes["layerline.lost.container.cpu_throttled_ms"].double_value == pytest.approx(300)
    assert attributes["layerline.slow"].bool_value
    sent = [one for group in read.resource_spans for one in group.resource.attributes]
    assert {one.value.string_value for one in sent if one.key == "service.name"} == {"web", "stock"}


def as_proto(found: Any) -> Any:
    """OTLP/JSON has ids in hex, where protobuf's own JSON has base64."""
    if isinstance(found, list):
        return [as_proto(one) for one in found]
    if not isinstance(found, dict):
        return found
    return {key: b64encode(bytes.fromhex(one)).decode() if key in IDS else as_proto(one) for key, one in found.items()}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("service=web&limit=200", REQUESTS),
        ("service=web&limit=3", 3),
        ("service=web", 20),
        ("service=stock&operation=GET%20%2Fstock&limit=200", REQUESTS),
        ("service=web&operation=GET%20%2Fstock", 0),
        ("service=web&operation=GET%20%2Fcart&minDuration=100ms&limit=200", SLOW),
        ("service=web&operation=GET%20%2Fcart&maxDuration=100ms&limit=200", REQUESTS - SLOW),
        ("service=web&tags=%7B%22error%22%3A%22true%22%7D", FAILED),
        ("service=web&tags=%7B%22http.response.status_code%22%3A%22500%22%7D", FAILED),
        ("service=web&tag=user.tier:gold&tag=http.response.status_code:500", FAILED),
        ("service=web&tag=user.tier:silver", 0),
        ("service=web&tag=span.kind:client&limit=7", 7),
        ("service=nobody", 0),
        (f"traceID={SLOW_ONE}&traceID={trace_id(0)}", 2),
    ],
)
def test_traces_are_found(client: FlaskClient, asked: str, expected: int) -> None:
    """A trace is found by what one of its spans is, whole, and the latest first."""
    data = got(client, f"/jaeger/api/traces?{WINDOW}&lookback=custom&{asked}")["data"]
    assert len(data) == expected
    begins = [min(span["startTime"] for span in trace["spans"]) for trace in data]
    assert begins == sorted(begins, reverse=True)
    assert all(len(trace["spans"]) == 3 for trace in data)


@pytest.mark.parametrize(
    "asked",
    [
        "query.service_name=web&query.operation_name=GET%20%2Fcart&query.duration_min=100ms&query.num_traces=200",
        "query.serviceName=web&query.operationName=GET%20%2Fcart&query.durationMin=100ms&query.numTraces=200",
        "query.service_name=web&query.duration_min=100ms&query.search_depth=200&query.raw_traces=false",
    ],
)
def test_traces_are_found_in_version_3(client: FlaskClient, asked: str) -> None:
    """Snake case and camel case ask the same."""
    found = got(client, f"/jaeger/api/v3/traces?{WINDOW_3}&{asked}")["result"]["resourceSpans"]
    ids = {span["traceId"] for group in found for scope in group["scopeSpans"] for span in scope["spans"]}
    assert len(ids) == SLOW


def test_who_called_whom(client: FlaskClient) -> None:
    """Dependencies are the calls of the time that is asked for."""
    ends_ms = CLOSED_NS // 10**6
    data = got(client, f"/jaeger/api/dependencies?endTs={ends_ms}&lookback=600000")["data"]
    assert data == [{"parent": "web", "child": "stock", "callCount": REQUESTS}]
    half = got(client, f"/jaeger/api/dependencies?endTs={LIMITED_NS // 10**6}&lookback=300000")["data"]
    assert half == [{"parent": "web", "child": "stock", "callCount": REQUESTS - SLOW}]


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/jaeger/api/traces/" + "f" * 32, 404, "trace not found"),
        ("/jaeger/api/traces/nonsense", 400, "expected up to 32 hex digits"),
        ("/jaeger/api/traces", 400, "parameter 'service' is required"),
        ("/jaeger/api/traces?service=web&limit=0", 400, "limit is '0'"),
        ("/jaeger/api/traces?service=web&tags=no", 400, "tags is 'no'"),
        ("/jaeger/api/traces?service=web&minDuration=soon", 400, "minDuration is 'soon'"),
        ("/jaeger/api/nothing", 404, "there is nothing at"),
    ],
)
def test_problems_in_the_older_form(client: FlaskClient, address: str, status: int, words: str) -> None:
    """What cannot be answered is said where Jaeger's clients look: in `errors`."""
    answer = client.get(address)
    assert answer.status_code == status
    assert answer.json["data"] is None
    (error,) = answer.json["errors"]
    assert error["code"] == status
    assert words in error["msg"]


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/jaeger/api/v3/traces/" + "f" * 32, 404, "trace not found"),
        ("/jaeger/api/v3/traces?query.service_name=nobody", 404, "No traces found"),
        ("/jaeger/api/v3/traces?query.start_time_min=yesterday", 400, "expected a time with its zone"),
        ("/jaeger/api/v3/operations", 400, "service is missing"),
    ],
)
def test_problems_in_version_3(client: FlaskClient, address: str, status: int, words: str) -> None:
    """Version 3 has a form of its own."""
    answer = client.get(address)
    assert answer.status_code == answer.json["error"]["httpCode"] == status
    assert words in answer.json["error"]["message"]


def test_it_needs_the_token(correlator: Correlator) -> None:
    """As everywhere: without the token nothing is said, and the answer says what is expected."""
    guarded = create_app(correlator, ServerSettings(token=TOKEN)).test_client()
    answer = guarded.get("/jaeger/api/services")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "LAYERLINE_TOKEN" in answer.json["errors"][0]["msg"]
    assert guarded.get("/jaeger/api/services", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
