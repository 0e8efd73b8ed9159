"""What the OpenTelemetry Collector's file exporter writes is read back, whole or damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from recordings import read

from layerline_api.doors.otlp import json_form
from layerline_api.recorded import otlp_files
from layerline_api.recorded.gathered import Unreadable

ZERO_NS = 1_760_000_000_000_000_000
_IDS = ("traceId", "spanId", "parentSpanId")


def traces(first: int, count: int = 1) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "web"
    scope = group.scope_spans.add()
    for number in range(first, first + count):
        scope.spans.add(
            trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name="GET /cart", kind=2,
            start_time_unix_nano=ZERO_NS + number, end_time_unix_nano=ZERO_NS + number + 1,
        )  # fmt: skip
    return request


def metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.length", unit="1")
    metric.gauge.data_points.add(time_unix_nano=ZERO_NS, as_int=7)
    return request


def logs() -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.add(time_unix_nano=ZERO_NS, event_name="deploy").body.string_value = "2.0"
    scope.log_records.add(observed_time_unix_nano=ZERO_NS).body.string_value = "only a line of a log"
    return request


def as_json(request: Message, indent: int | None = None) -> bytes:
    """The Collector's JSON: protobuf's, with ids in hex."""

    def with_hex(value: object) -> object:
        if isinstance(value, list):
            return [with_hex(item) for item in value]
        if isinstance(value, dict):
            return {key: _hex(item) if key in _IDS else with_hex(item) for key, item in value.items()}
        return value

    return json.dumps(with_hex(MessageToDict(request)), indent=indent).encode()


def _hex(text: str) -> str:
    import base64

    return base64.b64decode(text).hex()


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def lines(*messages: bytes) -> bytes:
    return b"".join(message + b"\n" for message in messages)


ALL = (traces(1, 3), metrics(), logs())
PROTO = [message.SerializeToString() for message in ALL]
JSON = [as_json(message) for message in ALL]
FILES: dict[str, bytes] = {
    "json": lines(*JSON),
    "json, packed by somebody": gzip.compress(lines(*JSON)),
    "json, zstd": framed(*map(zstd, JSON)),
    "json, native zstd": zstd(lines(*JSON)),
    "proto": framed(*PROTO),
    "proto, zstd": framed(*map(zstd, PROTO)),
    "proto, native zstd": zstd(framed(*PROTO)),
    "proto, native zstd, a frame each": b"".join(zstd(framed(message)) for message in PROTO),
}


@pytest.mark.parametrize("name", FILES)
def test_every_way_of_writing_is_read(tmp_path: Path, name: str) -> None:
    """JSON lines and protobuf, plain and packed, the three signals mixed: the same rows come out."""
    path = tmp_path / "telemetry"
    path.write_bytes(FILES[name])
    found = read(otlp_files.read, path)
    assert not found.problems
    assert [row.trace_id for row in found.batch.spans] == [f"{number:032x}" for number in (1, 2, 3)]
    assert [(row.time_ns, row.value) for row in found.batch.points] == [(ZERO_NS, 7.0)]
    assert [(row.name, row.body) for row in found.batch.events] == [("deploy", "2.0")]
    assert [row.body for row in found.batch.logs] == ["only a line of a log"]
    assert found.left_out == 0
    assert {key for row in found.batch.resources for key in row.attributes.items()} == {("service.name", "web")}
    for number, place in enumerate(found.places, 1):
        rest = read(otlp_files.read, path, place)
        assert not rest.problems
        assert rest.places == found.places[number:]


@pytest.mark.parametrize("message", ALL)
def test_a_document_over_many_lines_is_read(tmp_path: Path, message: Message) -> None:
    """A request that somebody printed prettily is read like one on a line."""
    path = tmp_path / "one.json"
    path.write_bytes(as_json(message, indent=2))
    pretty = read(otlp_files.read, path)
    path.write_bytes(as_json(message))
    assert pretty.batch == read(otlp_files.read, path).batch
    assert not pretty.problems


BAD_LINES: dict[bytes, str] = {
    b'{"resourceSpans": [': "it is not JSON: ",
    b"\xff\xfe": "it is not JSON: ",
    b"[]": "expected an object with resourceSpans, resourceMetrics, resourceLogs; found list",
    b'{"data": []}': "expected an object with resourceSpans, resourceMetrics, resourceLogs; found data",
    b'{"resourceSpans": 3}': "line 2: it is not an OTLP request in JSON",
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}]}]}]}': "it has no start time",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_costs_itself(tmp_path: Path, line: bytes) -> None:
    """The line is counted with its number and what is wrong with it; the others are read."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(lines(as_json(traces(1)), line, b"", as_json(traces(2))))
    found = read(otlp_files.read, path)
    assert [row.trace_id for row in found.batch.spans] == [f"{number:032x}" for number in (1, 2)]
    (problem,) = found.problems
    assert problem.startswith("line 2: ")
    assert BAD_LINES[line] in problem
    assert found.rejected == 1


def test_a_bad_first_line_costs_itself_too(tmp_path: Path) -> None:
    """A file whose first line was cut off by rotation is still one of lines."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(lines(b'{"resourceSpans": [{', as_json(traces(1)), as_json(traces(2))))
    found = read(otlp_files.read, path)
    assert (len(found.batch.spans), found.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b"\x0a\xff", "message 2 at byte"),
        (b"\x07\x01", "message 2 at byte"),
        (zstd(PROTO[0])[:-9], "it cannot be decompressed"),
        (ExportTraceServiceRequest.FromString(PROTO[0]).resource_spans[0].SerializeToString(), "message 2 at byte"),
    ],
)
def test_a_bad_message_costs_itself(tmp_path: Path, bad: bytes, told: str) -> None:
    """A message that is none is counted with its place; those around it are read."""
    path = tmp_path / "traces.bin"
    path.write_bytes(framed(traces(1).SerializeToString(), bad, traces(2).SerializeToString()))
    found = read(otlp_files.read, path)
    assert [row.trace_id for row in found.batch.spans] == [f"{number:032x}" for number in (1, 2)]
    (problem,) = found.problems
    assert told in problem
    assert found.rejected == 1


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (lambda whole: whole[:-5], "the file ends inside it: "),
        (lambda whole: whole + b"\0\0", "the file ends inside it: 0 bytes expected"),
        (lambda whole: whole + b"\xff\xff\xff\xffabc", "which cannot be; nothing after it could be read"),
    ],
)
def test_the_end_of_a_killed_collector_is_told(tmp_path: Path, cut: Callable[[bytes], bytes], told: str) -> None:
    """Where the last message is incomplete, everything before it is read and the end is counted."""
    path = tmp_path / "traces.bin"
    path.write_bytes(cut(framed(traces(1).SerializeToString(), traces(2, 5).SerializeToString())))
    found = read(otlp_files.read, path)
    assert len(found.batch.spans) in (1, 6)
    (problem,) = found.problems
    assert told in problem


def test_what_is_no_otlp_is_refused(tmp_path: Path) -> None:
    """A picture is no telemetry, and the error says what was expected."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(Unreadable, match="expected OTLP: JSON, or messages that each follow their length"):
        read(otlp_files.read, path)


def test_a_request_too_large_for_the_receiver_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line may be larger than a request over HTTP may be: nothing of it is lost."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(lines(as_json(traces(1, 50))))
    monkeypatch.setattr(json_form, "LIMIT_BYTES", 2_000)
    monkeypatch.setattr(otlp_files, "_TOGETHER", 7)
    found = read(otlp_files.read, path)
    assert not found.problems
    assert [row.trace_id for row in found.batch.spans] == [f"{number:032x}" for number in range(1, 51)]
    assert {row.resource for row in found.batch.spans} == {found.batch.resources[0].resource}


def test_an_item_too_large_to_be_taken_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single item beyond every limit is counted, and does not go round for ever."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(lines(as_json(traces(1, 2))))
    monkeypatch.setattr(json_form, "LIMIT_BYTES", 100)
    monkeypatch.setattr(otlp_files, "_TOGETHER", 1)
    found = read(otlp_files.read, path)
    assert not found.batch.spans
    assert found.rejected == 2
