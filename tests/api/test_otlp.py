"""OTLP bodies become rows: spans, readings, events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_fake import MS, SPAN, START_NS, TRACE, one_span, otlp_json
from bench_decode import payload
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from layerline.attributes import SPAN_FIGURES
from layerline_api.doors.otlp import Malformed, TooLarge, decode
from layerline_correlator.store.model import Batch, resource_key, series_key


def batch_of(signal: str, request: Message) -> Batch:
    return decode(signal, request.SerializeToString(), is_json=False).batch


def metrics(**metric: Any) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.add(key="container.id").value.string_value = "4f2a"
    group.scope_metrics.add().metrics.add(**metric)
    return request


# ---- spans


def test_a_span_becomes_a_row() -> None:
    """Every field of a span that the store has a column for arrives there, ids as lower-case hex."""
    request = one_span(parent_span_id=bytes.fromhex("00000000000000aa"), status={"code": 2})
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="http.route").value.string_value = "/cart"
    span.attributes.add(key="http.response.status_code").value.int_value = 200
    batch = batch_of("traces", request)
    assert batch.resources == [(resource_key({"service.name": "web"}), {"service.name": "web"})]
    (row,) = batch.spans
    assert (row.trace_id, row.span_id, row.parent_span_id) == (TRACE, SPAN, "00000000000000aa")
    assert (row.name, row.kind, row.status) == ("GET /cart", 2, 2)
    assert (row.start_ns, row.end_ns) == (START_NS, START_NS + 700 * MS)
    assert row.attributes == {"http.route": "/cart", "http.response.status_code": "200"}
    assert row.figures == (None,) * len(SPAN_FIGURES)
    assert (row.thread_id, row.account, row.account_reason, row.slices) == (None, None, None, None)


@pytest.mark.parametrize(
    ("state", "threshold"),
    [
        ("ot=th:c", "c"),
        ("rojo=1,ot=rv:01020304050607;th:fd70a4,congo=2", "fd70a4"),
        ("other=th:c", None),
        ("ot=rv:01020304050607", None),
        ("ot=th:123456789abcdef", None),
        ("", None),
    ],
)
def test_the_threshold_of_sampling_is_kept(state: str, threshold: str | None) -> None:
    """Of a trace state only OpenTelemetry's own threshold is kept, which tells how much was left out at the source."""
    batch = batch_of("traces", one_span(trace_state=state))
    assert batch.spans[0].attributes.get("layerline.sampling.threshold") == threshold


def test_the_threads_account_is_promoted() -> None:
    """Our own attributes leave the map for fields of their own, figures in the catalogue's order."""
    request = one_span()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for index, name in enumerate(SPAN_FIGURES):
        span.attributes.add(key=name).value.int_value = index
    span.attributes.add(key="thread.id").value.int_value = 2**40
    span.attributes.add(key="layerline.account").value.string_value = "none"
    span.attributes.add(key="layerline.account.reason").value.string_value = "generator"
    numbers = span.attributes.add(key="layerline.slices").value.array_value.values
    for number in (0, 100, 60, 40, 100, 50, 50, 0):
        numbers.add(int_value=number)
    (row,) = batch_of("traces", request).spans
    assert row.figures == tuple(range(len(SPAN_FIGURES)))
    assert row.slices == [0, 100, 60, 40, 100, 50, 50, 0]
    assert (row.thread_id, row.account, row.account_reason) == (2**40, "none", "generator")
    assert row.attributes == {}


def test_a_figure_that_is_none_stays_an_attribute() -> None:
    """Our names with values that cannot be ours (a text, a negative number, half a slice) are not taken for figures."""
    request = one_span()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="layerline.thread.cpu_ns").value.string_value = "much"
    span.attributes.add(key="layerline.gc_ns").value.int_value = -1
    span.attributes.add(key="layerline.slices").value.array_value.values.add(int_value=1)
    span.attributes.add(key="thread.id").value.string_value = "main"
    (row,) = batch_of("traces", request).spans
    assert row.figures == (None,) * len(SPAN_FIGURES)
    assert row.attributes == {
        "layerline.thread.cpu_ns": "much",
        "layerline.gc_ns": "-1",
        "layerline.slices": "[1]",
        "thread.id": "main",
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trace_id": bytes(16)}, "trace id"),
        ({"trace_id": b""}, "trace id"),
        ({"trace_id": b"\1" * 8}, "trace id"),
        ({"span_id": bytes(8)}, "span id"),
        ({"span_id": b"\1" * 16}, "span id"),
        ({"parent_span_id": b"\1"}, "parent span id"),
        ({"start_time_unix_nano": 0}, "no start"),
        ({"end_time_unix_nano": 0}, "no end"),
        ({"end_time_unix_nano": START_NS - 10**9 - 1}, "ends before it starts"),
        ({"end_time_unix_nano": 2**63}, "2262"),
        ({"start_time_unix_nano": 2**64 - 1}, "2262"),
    ],
)
def test_a_span_without_a_place_is_rejected_alone(wrong: dict[str, Any], said: str) -> None:
    """A span that has no place in a trace or in time is named in partial_success; its neighbours are kept."""
    request = one_span()
    request.MergeFrom(one_span(name="the bad one", **wrong))
    decoded = decode("traces", request.SerializeToString(), is_json=False)
    assert [row.name for row in decoded.batch.spans] == ["GET /cart"]
    partial = decoded.answer.partial_success  # type: ignore[attr-defined]
    assert partial.rejected_spans == decoded.rejected == 1
    assert "'the bad one'" in partial.error_message
    assert said in partial.error_message


@pytest.mark.parametrize("early_ns", [1, 300_000, 10**9])
def test_an_end_a_little_before_the_start_is_a_span_without_length(early_ns: int) -> None:
    """A clock that was corrected while a span lasted costs its length, not the span."""
    request = one_span(start_time_unix_nano=START_NS, end_time_unix_nano=START_NS - early_ns)
    decoded = decode("traces", request.SerializeToString(), is_json=False)
    assert decoded.rejected == 0
    assert [(row.start_ns, row.end_ns) for row in decoded.batch.spans] == [(START_NS, START_NS)]


@pytest.mark.parametrize("words", [("Library", "Spans"), ("_library", "_spans")])
def test_spans_of_a_sender_from_before_scopes(words: tuple[str, str]) -> None:
    """What was called `instrumentationLibrarySpans` is read as scopes are, in JSON and under its number in protobuf."""
    request = one_span()
    named = json.dumps(otlp_json(request)).replace("scopeSpans", "instrumentation" + "".join(words))
    assert [row.name for row in decode("traces", named.encode(), is_json=True).batch.spans] == ["GET /cart"]
    group = request.resource_spans[0]
    scope = group.scope_spans[0].SerializeToString()
    group.ClearField("scope_spans")
    numbered = b"\xc2\x3e" + _varint(len(scope)) + scope  # field 1000, wire type 2
    whole = group.SerializeToString() + numbered
    batch = decode("traces", b"\x0a" + _varint(len(whole)) + whole, is_json=False).batch
    assert [row.name for row in batch.spans] == ["GET /cart"]


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def test_an_end_equal_to_the_start_is_a_span() -> None:
    """A span of zero length is a span."""
    assert batch_of("traces", one_span(end_time_unix_nano=START_NS)).spans


def test_a_parent_of_zeros_is_no_parent() -> None:
    """Eight zero bytes mean what no bytes mean: a root."""
    assert batch_of("traces", one_span(parent_span_id=bytes(8))).spans[0].parent_span_id is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"string_value": "x"}, "x"),
        ({"string_value": ""}, ""),
        ({"bool_value": True}, "true"),
        ({"bool_value": False}, "false"),
        ({"int_value": -5}, "-5"),
        ({"double_value": 0.5}, "0.5"),
        ({"bytes_value": b"\0\xff"}, "AP8="),
        ({"array_value": {"values": [{"string_value": "a"}, {"int_value": 1}]}}, '["a",1]'),
        ({"kvlist_value": {"values": [{"key": "k", "value": {"bool_value": True}}]}}, '{"k":true}'),
        ({}, "null"),
    ],
)
def test_attribute_values_are_kept_as_text(value: dict[str, Any], kept: str) -> None:
    """Strings stay as they are, everything else becomes compact JSON."""
    request = one_span()
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="a").value.CopyFrom(AnyValue(**value))
    assert batch_of("traces", request).spans[0].attributes == {"a": kept}


# ---- readings


def test_a_reading_enters_in_the_catalogues_name_and_unit() -> None:
    """The Collector's docker_stats name in seconds becomes our name in nanoseconds, and whose it was is kept."""
    request = metrics(
        name="container.cpu.throttling_data.throttled_time",
        unit="s",
        sum={
            "is_monotonic": True,
            "aggregation_temporality": 2,
            "data_points": [{"time_unix_nano": 5, "start_time_unix_nano": 1, "as_double": 1.5}],
        },
    )
    batch = batch_of("metrics", request)
    resource = resource_key({"container.id": "4f2a"})
    series = series_key(resource, "container.cpu.throttled", {})
    assert batch.series == [(series, resource, "container.cpu.throttled", "ns", "cumulative", {}, "docker_stats")]
    assert batch.points == [(series, 1, 5, 1_500_000_000.0)]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"sum": {"is_monotonic": True, "aggregation_temporality": 2}}, "cumulative"),
        ({"sum": {"is_monotonic": True, "aggregation_temporality": 1}}, "delta"),
        ({"sum": {"is_monotonic": False, "aggregation_temporality": 2}}, "gauge"),
        ({"sum": {"is_monotonic": False, "aggregation_temporality": 1}}, "delta"),
        ({"gauge": {}}, "gauge"),
    ],
)
def test_how_a_value_is_to_be_read(data: dict[str, Any], kind: str) -> None:
    """What only grows is cumulative, what came since the last is delta, what holds is a gauge."""
    (shape,) = data.values()
    shape["data_points"] = [{"time_unix_nano": 5, "as_int": 7}]
    batch = batch_of("metrics", metrics(name="m", unit="1", **data))
    assert [series.kind for series in batch.series] == [kind]
    assert [point.value for point in batch.points] == [7.0]


@pytest.mark.parametrize(
    "data",
    [
        {"histogram": {"aggregation_temporality": 2, "data_points": [{"time_unix_nano": 5, "count": 3, "sum": 1.5}]}},
        {
            "exponential_histogram": {
                "aggregation_temporality": 2,
                "data_points": [{"time_unix_nano": 5, "count": 3, "sum": 1.5}],
            }
        },
        {"summary": {"data_points": [{"time_unix_nano": 5, "count": 3, "sum": 1.5}]}},
    ],
)
def test_a_distribution_is_kept_as_count_and_sum(data: dict[str, Any]) -> None:
    """Histograms of either kind and summaries become two cumulative series."""
    batch = batch_of("metrics", metrics(name="http.server.request.duration", unit="s", **data))
    assert [(row.signal, row.unit, row.kind) for row in batch.series] == [
        ("http.server.request.duration.count", "1", "cumulative"),
        ("http.server.request.duration.sum", "s", "cumulative"),
    ]
    assert [point.value for point in batch.points] == [3.0, 1.5]


@pytest.mark.parametrize("point", [{"as_double": float("nan")}, {"as_int": 1, "flags": 1}, {}])
def test_a_point_that_says_nothing_is_skipped(point: dict[str, Any]) -> None:
    """NaN and "no recorded value" are not readings, and not errors either."""
    decoded = decode(
        "metrics",
        metrics(name="m", gauge={"data_points": [{"time_unix_nano": 5, **point}]}).SerializeToString(),
        is_json=False,
    )
    assert decoded.batch == Batch()
    assert decoded.rejected == 0


def test_points_that_cannot_be_placed_are_counted() -> None:
    """A point without a time and a sum without temporality are rejected by name."""
    request = metrics(name="m", gauge={"data_points": [{"as_int": 1}, {"as_int": 2, "time_unix_nano": 9}]})
    request.MergeFrom(metrics(name="n", sum={"data_points": [{"as_int": 1, "time_unix_nano": 9}]}))
    decoded = decode("metrics", request.SerializeToString(), is_json=False)
    assert [point.value for point in decoded.batch.points] == [2.0]
    partial = decoded.answer.partial_success  # type: ignore[attr-defined]
    assert partial.rejected_data_points == 2
    assert partial.error_message == (
        "a point of metric 'm': it has no time (found 0); metric 'n': it is neither cumulative nor delta"
    )


def test_the_attributes_of_a_point_make_a_series() -> None:
    """Two points with different attributes are two series; the same attributes again are the same one."""
    points = [
        {"time_unix_nano": time, "as_int": 1, "attributes": [{"key": "cpu.mode", "value": {"string_value": mode}}]}
        for time, mode in ((5, "user"), (5, "steal"), (6, "user"))
    ]
    batch = batch_of(
        "metrics",
        metrics(name="system.cpu.time", unit="s", sum={
            "is_monotonic": True, "aggregation_temporality": 2, "data_points": points}),
    )  # fmt: skip
    assert [series.attributes for series in batch.series] == [{"cpu.mode": "user"}, {"cpu.mode": "steal"}]
    assert len(batch.points) == 3
    assert batch.points[0].series == batch.points[2].series


# ---- events


def test_a_log_record_with_an_event_name_is_an_event() -> None:
    """Events are kept with their body; other log records are taken and not stored."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    records = group.scope_logs.add().log_records
    records.add(time_unix_nano=5, event_name="container.die", body={"string_value": "stock-1"})
    older = records.add(observed_time_unix_nano=6)
    older.attributes.add(key="event.name").value.string_value = "container.start"
    older.attributes.add(key="container.name").value.string_value = "stock-1"
    records.add(time_unix_nano=7, body={"string_value": "a line of log"})
    records.add(event_name="timeless")
    decoded = decode("logs", request.SerializeToString(), is_json=False)
    assert [(row.time_ns, row.name, row.body, row.attributes) for row in decoded.batch.events] == [
        (5, "container.die", "stock-1", {}),
        (6, "container.start", "", {"container.name": "stock-1"}),
    ]
    assert decoded.answer.partial_success.rejected_log_records == 1  # type: ignore[attr-defined]


# ---- JSON


def test_json_and_protobuf_say_the_same() -> None:
    """The same request in OTLP/JSON (hex ids, integers as strings) and in protobuf gives the same rows."""
    request = payload()
    request.MergeFrom(one_span(parent_span_id=b"\x01" * 8))
    document = otlp_json(request)
    assert document["resourceSpans"][1]["scopeSpans"][0]["spans"][0]["traceId"] == TRACE
    from_json = decode("traces", json.dumps(document).encode(), is_json=True)
    assert from_json.batch == batch_of("traces", request)
    assert from_json.rejected == 0


def test_json_takes_enums_either_way_and_ignores_what_it_does_not_know() -> None:
    """Kinds by number or name, times as text or number, unknown fields skipped, upper-case hex understood."""
    span = {
        "traceId": TRACE.upper(), "spanId": SPAN, "name": "x", "startTimeUnixNano": 5, "endTimeUnixNano": "6",
        "tomorrow": {"traceId": [1]},
    }  # fmt: skip
    for kind in (2, "SPAN_KIND_SERVER"):
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [{**span, "kind": kind}]}]}]}
        (row,) = decode("traces", json.dumps(document).encode(), is_json=True).batch.spans
        assert (row.kind, row.trace_id, row.start_ns, row.end_ns) == (2, TRACE, 5, 6)


def test_a_json_id_that_is_not_hex_costs_its_span_only() -> None:
    """An id in base64, as protobuf's own JSON has it, is no id in OTLP/JSON."""
    document = otlp_json(one_span())
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = "S/kvNXezTaajzpKdDg5HNg=="
    decoded = decode("traces", json.dumps(document).encode(), is_json=True)
    assert (decoded.batch.spans, decoded.rejected) == ([], 1)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"resourceSpans": 5}', b'{"resourceSpans": [5]}', b'{"resourceSpans": [null]}', b'{"resourceSpans": {}}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":5}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1e999}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":-1}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":' + b"9" * 5000 + b"}]}]}]}",
    ],
)  # fmt: skip
def test_json_that_is_no_request_is_malformed(body: bytes) -> None:
    """Whatever the JSON is, it is a request or it is malformed; nothing else is raised."""
    with pytest.raises(Malformed):
        decode("traces", body, is_json=True)


# ---- size


def test_a_request_of_very_many_items_is_too_large() -> None:
    """Two bytes make an empty span, so the count is bounded as well as the size."""
    scope = b"\x12\x00" * 300_000
    group = b"\x12" + varint(len(scope)) + scope
    with pytest.raises(TooLarge):
        decode("traces", b"\x0a" + varint(len(group)) + group, is_json=False)


def test_an_enormous_item_is_too_large() -> None:
    """One span of 5 MiB is refused before it is parsed."""
    with pytest.raises(TooLarge):
        decode("traces", one_span(name="x" * 5 * 2**20).SerializeToString(), is_json=False)


def test_json_of_very_many_objects_is_too_large() -> None:
    """An empty object costs three bytes to send and two hundred to hold."""
    body = b'{"resourceSpans":[' + b"{}," * 600_000 + b"{}]}"
    with pytest.raises(TooLarge):
        decode("traces", body, is_json=True)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
