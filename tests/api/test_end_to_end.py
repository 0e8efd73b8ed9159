"""The API over the real correlator: what comes in by OTLP is answered, whatever it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_fake import MS, TRACE, one_span
from flask.testing import FlaskClient
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from layerline.attributes import SPAN_FIGURES
from layerline_api.app import create_app
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings

PROTOBUF = {"Content-Type": "application/x-protobuf"}
LAST = 2**63 - 1


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    correlator = Correlator.open(Settings(store=tmp_path, group_ns=1_000_000))
    yield create_app(correlator).test_client()
    correlator.close()


def send(client: FlaskClient, body: bytes, signal: str = "traces") -> None:
    assert client.post(f"/v1/{signal}", data=body, headers=PROTOBUF).status_code == 200


def test_a_slow_request_is_found_and_its_ledger_adds_up(client: FlaskClient) -> None:
    """Thirty ordinary requests and a slow one: it is listed, blamed, and accounted for to the nanosecond."""
    for number in range(31):
        slow = number == 30
        end_ns = time.time_ns() - (0 if slow else 2000 * MS)  # the usual is of those that ended before
        request = one_span(
            trace_id=os.urandom(16) if not slow else bytes.fromhex(TRACE), span_id=os.urandom(8),
            start_time_unix_nano=end_ns - (900 if slow else 50) * MS, end_time_unix_nano=end_ns,
        )  # fmt: skip
        span = request.resource_spans[0].scope_spans[0].spans[0]
        span.attributes.add(key="layerline.account").value.string_value = "thread"
        span.attributes.add(key="layerline.thread.cpu_ns").value.int_value = (700 if slow else 20) * MS
        span.attributes.add(key="layerline.thread.runqueue_ns").value.int_value = 0
        send(client, request.SerializeToString())
    (item,) = client.get("/api/v1/requests").json["items"]
    assert (item["trace_id"], item["duration_ns"], item["usual_ns"]) == (TRACE, 900 * MS, 50 * MS)
    assert item["cause"] == "app.cpu_busy"
    verdict = client.get(f"/api/v1/requests/{TRACE}?span_id={item['span_id']}").json
    assert sum(part["lost_ns"] for part in verdict["parts"]) + verdict["unexplained_ns"] == 900 * MS
    assert client.get(f"/api/v1/requests/{TRACE}?rank=lost").json["ranked_by"] == "lost"
    (over_window,) = client.get("/api/v1/verdicts").json["items"]
    assert (over_window["slow"], over_window["requests"]) == (1, 31)
    assert client.get(f"/api/v1/traces/{TRACE}").json["spans"]
    assert "its own code computed" in client.get(f"/requests/{TRACE}").text


ODD: dict[str, dict[str, Any]] = {
    "nul in the name": {"name": "GET /\0cart"},
    "no name": {"name": ""},
    "a name of 100 kB": {"name": "x" * 100_000},
    "its own parent": {"parent_span_id": bytes.fromhex("00f067aa0ba902b7")},
    "a parent nobody knows": {"parent_span_id": b"\1" * 8},
    "zero length": {"start_time_unix_nano": 10**18, "end_time_unix_nano": 10**18},
    "as long as time": {"start_time_unix_nano": 1, "end_time_unix_nano": LAST},
    "in the year 2262": {"start_time_unix_nano": LAST - 1, "end_time_unix_nano": LAST},
    "in 1970": {"start_time_unix_nano": 1, "end_time_unix_nano": 2},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_odd_spans_do_not_break_the_questions(client: FlaskClient, fields: dict[str, Any]) -> None:
    """A span that is strange but lawful is taken, and every question is answered afterwards."""
    request = one_span(**fields)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for name in SPAN_FIGURES:
        span.attributes.add(key=name).value.int_value = LAST
    numbers = span.attributes.add(key="layerline.slices").value.array_value.values
    for _ in range(8):
        numbers.add(int_value=LAST)
    span.attributes.add(key="layerline.account").value.string_value = "\0"
    span.attributes.add(key="").value.string_value = ""
    request.resource_spans[0].resource.attributes.add(key="container.id").value.string_value = "'; DROP TABLE span --"
    send(client, request.SerializeToString())
    answers_all(client)


def test_odd_readings_and_events_do_not_break_the_questions(client: FlaskClient) -> None:
    """Readings at the ends of time and of number, and events without anything but a name."""
    metrics = ExportMetricsServiceRequest()
    group = metrics.resource_metrics.add()
    group.resource.attributes.add(key="container.id").value.string_value = "\0"
    for name in ("container.cpu.time", "container.cpu.limit", "system.cpu.time", "", "\0", "x" * 10_000):
        metric = group.scope_metrics.add().metrics.add(name=name, unit="s")
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
        for time_ns, value in ((1, 1e300), (LAST, -1e300), (5, 0.0), (5, 1e18)):
            metric.sum.data_points.add(time_unix_nano=time_ns, start_time_unix_nano=LAST, as_double=value)
    send(client, metrics.SerializeToString(), "metrics")
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=LAST, event_name="\0")
    send(client, logs.SerializeToString(), "logs")
    send(client, one_span().SerializeToString())
    answers_all(client)


def answers_all(client: FlaskClient) -> None:
    window = "from=1970-01-01T00:00:00Z&to=2262-04-11T23:47:16.854775807Z"
    for path in (
        f"/api/v1/requests?{window}&min_duration=0ns",
        f"/api/v1/requests?{window}&order=duration&tag=image:%22*'\\%22\\\\%22&service=%00&limit=1",
        f"/api/v1/requests?{window}&tag=-zone:*&tag=region:a OR version:1",
        "/api/v1/containers?q=container:* cpu.time > 2 * avg(cpu.time by zone) over 31d",
        "/api/v1/containers?q=cpu.limit > 0 requests.p95 > 1ms&to=2262-04-11T23:47:16.854775807Z",
        "/api/v1/containers?q=image:*&to=1970-01-01T00:00:00Z",
        "/api/v1/tags",
        "/api/v1/tags/container.id",
        "/api/v1/tags/%00/x?prefix=%00",
        f"/api/v1/verdicts?{window}&min_duration=0ns",
        f"/api/v1/verdicts?{window}&rank=lost",
        f"/api/v1/requests/{TRACE}",
        f"/api/v1/requests/{TRACE}?rank=lost",
        f"/api/v1/traces/{TRACE}",
        "/api/v1/services",
        "/api/v1/causes",
        "/",
        f"/requests/{TRACE}",
        "/readyz",
    ):
        answer = client.get(path)
        assert answer.status_code in (200, 404), (path, answer.text)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "W10",
        "bnVsbA",
        "é",
        "a" * 5000,
    ],
)
def test_cursors_of_nobody(client: FlaskClient, cursor: str) -> None:
    """A cursor that no list handed out is a 400."""
    assert client.get("/api/v1/requests", query_string={"cursor": cursor}).status_code == 400
