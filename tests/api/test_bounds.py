"""Absurd times and figures, and JSON with a bad item in it: each costs itself, and the sender is told why."""

from __future__ import annotations

import gzip
import json
import os
import time
from typing import Any

import pytest
from api_fake import START_NS, FakeCorrelator, one_span
from google.protobuf.json_format import MessageToJson
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from layerline.attributes import CONTAINER_CPU_PERIOD_NS as CPU_PERIOD_NS
from layerline.attributes import CONTAINER_THROTTLED_PERIODS as THROTTLED_PERIODS
from layerline.attributes import CPU_NS, MAJOR_FAULTS
from layerline_api.app import create_app
from layerline_api.doors.bounds import AHEAD_NS, HOUR_NS, LAST_NS, LONGEST_NS, SECOND_NS, Bounds
from layerline_api.doors.inflate import MEMBERS_LIMIT, inflate
from layerline_api.doors.intake import Intake
from layerline_api.doors.otlp import TooLarge, decode
from layerline_api.doors.otlp.json_text import text_of
from layerline_api.doors.otlp.problems import Rejections
from layerline_api.measures import Measures
from layerline_api.recorded import otlp_files
from layerline_api.recorded.gathered import Gathered, Place
from layerline_api.settings import ServerSettings

NOW_NS = START_NS + 60 * SECOND_NS
KEPT_NS = 72 * HOUR_NS
LIVE = Bounds.at(NOW_NS, KEPT_NS)


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "said"),
    [
        (NOW_NS - SECOND_NS, NOW_NS, None),
        (NOW_NS - KEPT_NS, NOW_NS - KEPT_NS + 1, None),
        (NOW_NS - LONGEST_NS, NOW_NS, None),
        (NOW_NS + AHEAD_NS, NOW_NS + AHEAD_NS, None),
        (NOW_NS, NOW_NS - SECOND_NS, None),  # a clock that was corrected meanwhile
        (0, NOW_NS, "no start time"),
        (NOW_NS, 0, "no end time"),
        (NOW_NS, NOW_NS - SECOND_NS - 1, "ends before it starts"),
        (NOW_NS - LONGEST_NS, NOW_NS + 1, "longer than a day"),
        (1, NOW_NS, "longer than a day"),
        (NOW_NS - KEPT_NS - 1, NOW_NS - KEPT_NS, "older than what is kept"),
        (1, 2, "older than what is kept"),
        (NOW_NS, NOW_NS + AHEAD_NS + 1, "more than an hour ahead"),
        (NOW_NS + 5 * LONGEST_NS, NOW_NS + 5 * LONGEST_NS + 1, "more than an hour ahead"),
        (LAST_NS - 1, LAST_NS, "more than an hour ahead"),
        (2**63, 2**63 + 5, "2262"),
        (NOW_NS, 2**64 - 1, "2262"),
    ],
)
def test_when_a_span_can_have_been(start_ns: int, end_ns: int, said: str | None) -> None:
    """A span lies between what is kept and an hour ahead, lasts a day at most, and does not end before it starts."""
    reason = LIVE.wrong_span(start_ns, end_ns)
    assert (reason is None) == (said is None)
    assert (said or "") in (reason or "")


@given(st.integers(-(2**65), 2**65), st.integers(-(2**65), 2**65))
def test_what_is_taken_can_be_reckoned_with(start_ns: int, end_ns: int) -> None:
    """Whatever the times are: those that are taken are within the bounds, and 64 bits hold their difference."""
    if LIVE.wrong_span(start_ns, end_ns) is None:
        assert LIVE.earliest_ns <= start_ns <= LIVE.latest_ns
        assert 0 < end_ns <= LIVE.latest_ns
        assert -SECOND_NS <= end_ns - start_ns <= LONGEST_NS
    if LIVE.wrong_time(start_ns) is None:
        assert LIVE.earliest_ns <= start_ns <= LIVE.latest_ns


@pytest.mark.parametrize("value", [2**63 - 1, 10**16, -1])
def test_an_absurd_figure_is_no_figure(value: int) -> None:
    """A span whose CPU time cannot be is kept, and its CPU time is not measured."""
    request = one_span(attributes=[{"key": CPU_NS, "value": {"int_value": value}}])
    (span,) = decode("traces", request.SerializeToString(), is_json=False).batch.spans
    assert set(span.figures) == {None}


def test_an_absurd_count_is_none() -> None:
    """Counts are bounded further than times: they are multiplied with a period."""
    values = {THROTTLED_PERIODS: 10**9 + 1, CPU_PERIOD_NS: 10**10, MAJOR_FAULTS: 10**9}
    attributes = [{"key": name, "value": {"int_value": value}} for name, value in values.items()]
    (span,) = decode("traces", one_span(attributes=attributes).SerializeToString(), is_json=False).batch.spans
    assert [figure for figure in span.figures if figure is not None] == [10**9]


def metric(name: str, value: float, monotonic: bool = True, **point: Any) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    told = Metric(name=name, unit="s")
    told.sum.aggregation_temporality = 2
    told.sum.is_monotonic = monotonic
    told.sum.data_points.add(**{"time_unix_nano": NOW_NS, "as_double": value, **point})
    told.sum.data_points.add(time_unix_nano=NOW_NS - 1, as_double=1)
    scope.metrics.append(told)
    return request


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("container.cpu.time", 1e19, "beyond"),
        ("container.cpu.time", 1e308, "beyond"),
        ("container.cpu.time", float("inf"), "beyond"),
        ("container.cpu.time", -1.0, "below zero"),
        ("somebody.elses", 1e308, "beyond"),
        ("somebody.elses", -1e308, "beyond"),
        ("somebody.elses", float("-inf"), "beyond"),
        ("somebody.elses", -1.0, "below zero"),
    ],
)
@pytest.mark.parametrize("is_json", [False, True])
def test_an_absurd_value_costs_itself(name: str, value: float, said: str, is_json: bool) -> None:
    """The point is rejected with its name, the reason and the value; the point beside it is kept."""
    request = metric(name, value)
    body = request.SerializeToString()
    if is_json:
        body = MessageToJson(request).encode()
    decoded = decode("metrics", body, is_json=is_json, bounds=LIVE)
    assert len(decoded.batch.points) == decoded.rejected == 1
    told = decoded.answer.partial_success  # type: ignore[attr-defined]
    assert told.rejected_data_points == 1
    assert name in told.error_message
    assert said in told.error_message


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"time_unix_nano": 0}, "no time"),
        ({"time_unix_nano": NOW_NS + 2 * HOUR_NS}, "ahead"),
        ({"time_unix_nano": NOW_NS - 2 * KEPT_NS}, "older"),
        ({"time_unix_nano": 2**64 - 1}, "2262"),
    ],
)
def test_a_point_of_another_time_costs_itself(point: dict[str, Any], said: str) -> None:
    """As for spans."""
    decoded = decode("metrics", metric("m", 5, **point).SerializeToString(), is_json=False, bounds=LIVE)
    assert len(decoded.batch.points) == decoded.rejected == 1
    assert said in decoded.answer.partial_success.error_message  # type: ignore[attr-defined]


def test_a_counter_that_begins_later_than_its_value() -> None:
    """Its value is kept, and when it began is not known."""
    decoded = decode(
        "metrics", metric("m", 5, start_time_unix_nano=2**64 - 1).SerializeToString(), is_json=False, bounds=LIVE
    )
    assert [point.start_ns for point in decoded.batch.points] == [0, 0]


def test_an_event_of_another_time_costs_itself() -> None:
    """As for spans."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for time_ns in (NOW_NS, NOW_NS + 2 * HOUR_NS, NOW_NS - 2 * KEPT_NS, 2**64 - 1):
        records.add(time_unix_nano=time_ns, event_name="deploy")
    decoded = decode("logs", request.SerializeToString(), is_json=False, bounds=LIVE)
    assert ([event.time_ns for event in decoded.batch.events], decoded.rejected) == ([NOW_NS], 3)


def test_the_first_reasons_are_told() -> None:
    """Of each of the first reasons the first item, and how many more; all in a text that stays short."""
    rejections = Rejections()
    for number in range(1000):
        rejections.add(f"span {number} {'x' * 500!r}", f"reason {number % 5}", found="y" * 500)
    assert rejections.count == 1000
    assert "span 0" in rejections.message()
    assert "(and 199 more)" in rejections.message()
    assert rejections.message().endswith("; 400 more for other reasons")
    assert len(rejections.message()) < 1200


# ---- the doors


def test_a_live_server_keeps_no_time_of_another_world() -> None:
    """The intake knows this machine's clock and how long data is kept."""
    correlator, settings = FakeCorrelator(), ServerSettings()
    intake = Intake(correlator, settings, Measures(correlator), KEPT_NS)
    client = create_app(correlator, settings, intake).test_client()
    now = time.time_ns()
    request = one_span(start_time_unix_nano=now - SECOND_NS, end_time_unix_nano=now)
    for start in (now - KEPT_NS - HOUR_NS, now + 2 * HOUR_NS):
        request.MergeFrom(one_span(start_time_unix_nano=start, end_time_unix_nano=start + 1))
    answer = client.post("/v1/traces", data=request.SerializeToString(), content_type="application/x-protobuf")
    assert answer.status_code == 200
    assert [len(batch.spans) for batch in correlator.batches] == [1]
    for far in ("1971-01-01T00:00:00Z", "2200-01-01T00:00:00Z"):
        refused = client.post("/api/v1/events", json={"body": "deployed", "time": far})
        assert (refused.status_code, refused.json["field"]) == (400, "time")


def test_an_import_refuses_the_same(tmp_path: Any) -> None:
    """A file may hold what is old, but nothing that is yet to happen and no span of years; what it loses is counted."""
    past, ahead = 10**18, time.time_ns() + 5 * HOUR_NS
    request = one_span(start_time_unix_nano=past, end_time_unix_nano=past + 1)
    request.MergeFrom(one_span(start_time_unix_nano=past, end_time_unix_nano=past + 40 * LONGEST_NS))
    request.MergeFrom(one_span(start_time_unix_nano=ahead, end_time_unix_nano=ahead))
    body = request.SerializeToString()
    (tmp_path / "spans.pb").write_bytes(len(body).to_bytes(4, "big") + body)
    told: list[str] = []
    gathered = Gathered(told.append)
    list(otlp_files.read(tmp_path / "spans.pb", Place(), gathered))
    assert (len(gathered.batch.spans), gathered.rejected) == (1, 2)
    assert "longer than a day" in told[0]
    assert "ahead of" in told[0]


# ---- JSON


def spans(*more: dict[str, Any]) -> dict[str, Any]:
    """A request of one good span and these."""
    good = {
        "traceId": os.urandom(16).hex(), "spanId": os.urandom(8).hex(), "name": "good",
        "startTimeUnixNano": str(NOW_NS - 5), "endTimeUnixNano": str(NOW_NS),
    }  # fmt: skip
    return {"resourceSpans": [{"scopeSpans": [{"spans": [good, *({**good, **one} for one in more)]}]}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"startTimeUnixNano": -5},
        {"startTimeUnixNano": 1e30},
        {"startTimeUnixNano": float("nan")},
        {"startTimeUnixNano": "yesterday"},
        {"endTimeUnixNano": str(2**64)},
        {"kind": 2**40},
        {"kind": [1]},
        {"name": 5},
        {"attributes": [{"key": "i", "value": {"intValue": str(2**63)}}]},
        {"attributes": [{"key": "d", "value": {"doubleValue": "1e400"}}]},
        {"attributes": 5},
        {"traceId": 5},
    ],
)
def test_a_json_item_that_cannot_be_read_costs_itself(wrong: dict[str, Any]) -> None:
    """The span beside it is kept, and the reason is told."""
    decoded = decode("traces", json.dumps(spans(wrong)).encode(), is_json=True)
    assert [span.name for span in decoded.batch.spans][:1] == ["good"]
    assert len(decoded.batch.spans) + decoded.rejected == 2
    if decoded.rejected:
        assert decoded.answer.partial_success.error_message  # type: ignore[attr-defined]


def test_a_json_point_that_cannot_be_read_costs_itself() -> None:
    """Of a metric the other points are kept; a resource that cannot be read costs what it stands over."""
    points = [
        {"timeUnixNano": "5", "asInt": "1"},
        {"timeUnixNano": "-5", "asInt": "1"},
        {"timeUnixNano": "5", "asInt": "x"},
    ]
    group = {"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}]}
    document = {"resourceMetrics": [group, {**group, "resource": {"attributes": 5}}, 5]}
    decoded = decode("metrics", json.dumps(document).encode(), is_json=True)
    assert (len(decoded.batch.points), decoded.rejected) == (1, 4)


@pytest.mark.parametrize("place", ["name", "key", "value"])
def test_half_a_surrogate_pair_is_replaced(place: str) -> None:
    """JavaScript cuts texts between two halves of a character: the span is kept, with U+FFFD in the place."""
    half = "a\ud83d"
    attribute = {"key": half if place == "key" else "k", "value": {"stringValue": half if place == "value" else "v"}}
    wrong = {"attributes": [attribute], **({"name": half} if place == "name" else {})}
    decoded = decode("traces", json.dumps(spans(wrong)).encode(), is_json=True)
    assert (len(decoded.batch.spans), decoded.rejected) == (2, 0)
    assert "a\ufffd" in str(decoded.batch.spans[1])


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_survives(text: str) -> None:
    """Texts without half pairs are unchanged, backslashes and emoji included; all others become texts of UTF-8."""
    read = json.loads(text_of(json.dumps([text]).encode()))[0]
    read.encode()
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\ufffd" not in joined:
        assert read == text


# ---- gzip


def test_gzip_of_many_members_is_bounded() -> None:
    """Members beyond the limit are refused instead of being opened one after another; up to it they are read."""
    assert inflate(gzip.compress(b"x") * MEMBERS_LIMIT, 10**6) == b"x" * MEMBERS_LIMIT
    with pytest.raises(TooLarge, match="members"):
        inflate(gzip.compress(b"") * (MEMBERS_LIMIT + 1), 10**6)


@given(st.lists(st.binary(max_size=300)), st.integers(0, 300_000))
def test_gzip_members_and_padding(members: list[bytes], zeros: int) -> None:
    """Members one after another, with zeros behind each, are what they hold joined."""
    body = b"".join(gzip.compress(member) + bytes(zeros) for member in members)
    assert inflate(body or gzip.compress(b""), 10**6) == b"".join(members)
