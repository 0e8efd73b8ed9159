"""OTLP over HTTP: answers, error codes, limits, and what hostile senders get."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from api_fake import TOKEN, TRACE, FakeCorrelator, one_span, otlp_json
from flask.testing import FlaskClient
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from layerline_api.app import create_app
from layerline_api.doors.inflate import inflate
from layerline_api.doors.otlp import Malformed, TooLarge
from layerline_api.doors.otlp.envelope import groups
from layerline_api.doors.otlp.problems import Budget
from layerline_api.settings import ServerSettings

PROTOBUF, JSON = "application/x-protobuf", "application/json"
GOOD = one_span().SerializeToString()


@pytest.fixture
def correlator() -> FakeCorrelator:
    return FakeCorrelator()


@pytest.fixture
def client(correlator: FakeCorrelator) -> FlaskClient:
    return create_app(correlator).test_client()


def post(client: FlaskClient, body: bytes, kind: str = PROTOBUF, path: str = "/v1/traces", **headers: str) -> Any:
    return client.post(path, data=body, headers={"Content-Type": kind, **headers})


def test_a_request_is_stored_and_then_acknowledged(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """200 with an empty ExportTraceServiceResponse in protobuf, and the span has been appended."""
    answer = post(client, GOOD)
    assert (answer.status_code, answer.content_type) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(answer.data) == ExportTraceServiceResponse()
    assert [row.trace_id for row in correlator.batches[0].spans] == [TRACE]


def test_json_is_answered_in_json(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """A JSON request gets a JSON answer, with a charset in its content type or without."""
    for kind in (JSON, "application/json; charset=utf-8"):
        answer = post(client, json.dumps(otlp_json(one_span())).encode(), kind)
        assert (answer.status_code, answer.content_type, answer.json) == (200, JSON, {})
    assert len(correlator.batches) == 2


def test_gzip_is_understood(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """A gzip body, also one of two members, is read like the plain one."""
    half = len(GOOD) // 2
    for body in (gzip.compress(GOOD), gzip.compress(GOOD[:half]) + gzip.compress(GOOD[half:])):
        assert post(client, body, **{"Content-Encoding": "gzip"}).status_code == 200
    assert correlator.batches[0] == correlator.batches[1]


def test_what_was_rejected_is_said(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """A bad span beside a good one: 200, one kept, one in partialSuccess."""
    request = one_span()
    request.MergeFrom(one_span(end_time_unix_nano=1))
    answer = post(client, json.dumps(otlp_json(request)).encode(), JSON)
    assert answer.status_code == 200
    assert answer.json["partialSuccess"]["rejectedSpans"] == "1"
    assert "ends before it starts" in answer.json["partialSuccess"]["errorMessage"]
    assert len(correlator.batches[0].spans) == 1


def test_an_empty_request_is_fine(client: FlaskClient, correlator: FakeCorrelator) -> None:
    """No spans is a good request; nothing is stored."""
    assert post(client, b"").status_code == 200
    assert correlator.batches == []


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize(
    ("body", "kind", "encoding", "status"),
    [
        (b"\x0a\xff", PROTOBUF, "identity", 400),
        (GOOD[:-3], PROTOBUF, "identity", 400),
        (b"{", JSON, "identity", 400),
        (b"[]", JSON, "identity", 400),
        (GOOD, PROTOBUF, "gzip", 400),
        (gzip.compress(GOOD)[:-9], PROTOBUF, "gzip", 400),
        (gzip.compress(GOOD) + b"rest", PROTOBUF, "gzip", 400),
        (b"", PROTOBUF, "gzip", 400),
        (GOOD, "text/plain", "identity", 415),
        (GOOD, "", "identity", 415),
        (GOOD, PROTOBUF, "br", 415),
        (GOOD, PROTOBUF, "gzip, gzip", 415),
        (b"x" * (17 * 2**20), PROTOBUF, "identity", 413),
        (gzip.compress(bytes(65 * 2**20)), PROTOBUF, "gzip", 413),
        (b" " * (16 * 2**20), JSON, "identity", 400),
    ],
)
def test_a_body_that_cannot_be_read(
    client: FlaskClient, correlator: FakeCorrelator, path: str, body: bytes, kind: str, encoding: str, status: int
) -> None:
    """A clear 4xx in OTLP's own form, in the encoding of the request, and nothing stored."""
    answer = post(client, body, kind, path, **{"Content-Encoding": encoding})
    assert answer.status_code == status
    if kind == JSON:
        assert answer.content_type == JSON
        assert answer.json["code"]
        assert answer.json["message"]
    else:
        assert answer.content_type == PROTOBUF
        said = Status.FromString(answer.data)
        assert said.code
        assert said.message
    assert correlator.batches == []


@pytest.mark.parametrize("trouble", ["overloaded", "broken"])
def test_a_store_that_cannot_take_it_asks_to_come_back(
    client: FlaskClient, correlator: FakeCorrelator, trouble: str
) -> None:
    """Too much load or a full disk: 503 with Retry-After, so that the sender keeps what it has."""
    setattr(correlator, trouble, True)
    answer = post(client, GOOD)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert Status.FromString(answer.data).code == 14


def test_other_methods_and_paths_take_the_same_form(client: FlaskClient) -> None:
    """405 and 404 under /v1 are google.rpc.Status too."""
    wrong_method, wrong_path = client.get("/v1/traces"), post(client, GOOD, path="/v1/profiles")
    assert (wrong_method.status_code, wrong_method.headers["Allow"]) == (405, "POST")
    assert wrong_path.status_code == 404
    assert Status.FromString(wrong_path.data).code == 5


def test_a_gzip_bomb_costs_no_more_memory_than_the_limit() -> None:
    """128 MiB in 128 KiB are refused after 4 MiB, if 4 MiB is the limit."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, 4 * 2**20)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * 2**20


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    size, out = len(content), bytes([number << 3 | 2])
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size]) + content


MANY = 2 * 2**20
NOTHINGS = {
    "groups": ("traces", b"\x0a\x00" * MANY),
    "scopes": ("traces", field(1, b"\x12\x00" * MANY)),
    "spans": ("traces", field(1, field(2, b"\x12\x00" * MANY))),
    "points": ("metrics", field(1, field(2, field(2, b"\x0a\x01x" + field(5, b"\x0a\x00" * (MANY - 100)))))),
    "resource attributes": ("traces", field(1, field(1, b"\x0a\x00" * MANY))),
    "attributes": ("logs", field(1, field(2, field(2, b"\x62\x01x" + b"\x32\x00" * (MANY - 100)) * 3))),
}


@pytest.mark.parametrize(("signal", "body"), NOTHINGS.values(), ids=NOTHINGS)
def test_millions_of_nothings_are_refused_before_they_are_built(client: FlaskClient, signal: str, body: bytes) -> None:
    """Two bytes make an empty message of any kind; what a request may hold is counted, so memory stays bounded."""
    assert post(client, body, path=f"/v1/{signal}").status_code == 413


@given(
    some.lists(some.lists(some.lists(some.binary(max_size=3), max_size=3), max_size=3), max_size=3),
    some.binary(max_size=5),
)
def test_the_envelope_gives_out_what_protobuf_would(groups_of_names: list[list[list[bytes]]], name: bytes) -> None:
    """Reading an envelope by its places finds the items and resources that the generated class finds."""
    request = ExportTraceServiceRequest()
    for scopes in groups_of_names:
        group = request.resource_spans.add(schema_url="x" * 200)
        group.resource.attributes.add(key=name.hex())
        for spans in scopes:
            scope = group.scope_spans.add()
            scope.scope.name = "library"
            for span in spans:
                scope.spans.add(name=span.hex(), flags=7, start_time_unix_nano=2**63)
    found = [(resource, list(items)) for resource, items in groups(request.SerializeToString(), Budget())]
    assert [resource for resource, _ in found] == [group.resource for group in request.resource_spans]
    assert [[Span.FromString(item) for item in items] for _, items in found] == [
        [span for scope in group.scope_spans for span in scope.spans] for group in request.resource_spans
    ]


@given(some.binary(max_size=200), some.sampled_from([PROTOBUF, JSON]), some.sampled_from(["identity", "gzip"]))
def test_any_bytes_get_an_answer(body: bytes, kind: str, encoding: str) -> None:
    """Random bytes are taken or refused with a 4xx, never a 5xx."""
    client = create_app(FakeCorrelator()).test_client()
    for signal in ("traces", "metrics", "logs"):
        answer = post(client, body, kind, f"/v1/{signal}", **{"Content-Encoding": encoding})
        assert answer.status_code in (200, 400, 413, 415)


@given(some.integers(min_value=0), some.integers(0, 255), some.booleans())
def test_a_damaged_request_gets_an_answer(where: int, byte: int, cut: bool) -> None:
    """A good request, cut anywhere or with one byte changed, is taken or refused with a 4xx."""
    client = create_app(FakeCorrelator()).test_client()
    for kind, body in ((PROTOBUF, GOOD), (JSON, json.dumps(otlp_json(one_span())).encode())):
        at = where % len(body)
        damaged = body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1 :]
        assert post(client, damaged, kind).status_code in (200, 400)
        for other in ("metrics", "logs"):
            assert post(client, damaged, kind, f"/v1/{other}").status_code in (200, 400)


#: Anything JSON can say, with OTLP's own names among the keys.
json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(
            some.sampled_from([
                "resourceSpans", "scopeSpans", "spans", "traceId", "spanId", "attributes", "key", "value", "intValue",
                "arrayValue", "values", "kind", "startTimeUnixNano", "endTimeUnixNano", "status", "code", "resource",
                "resourceMetrics", "scopeMetrics", "metrics", "sum", "dataPoints", "asDouble", "bytesValue",
            ]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_any_json_gets_an_answer(document: Any) -> None:
    """JSON of any shape is taken or refused with a 4xx."""
    client = create_app(FakeCorrelator()).test_client()
    for signal in ("traces", "metrics", "logs"):
        body = json.dumps(document).encode()
        assert post(client, body, JSON, f"/v1/{signal}").status_code in (200, 400)


@given(some.binary(max_size=5000), some.integers(1, 4000), some.integers(min_value=0))
def test_inflating_is_exact(body: bytes, limit_bytes: int, cut: int) -> None:
    """What was compressed comes back whole, or is refused exactly when it is longer than the limit."""
    packed = gzip.compress(body)
    if len(body) > limit_bytes:
        with pytest.raises(TooLarge):
            inflate(packed, limit_bytes)
    else:
        assert inflate(packed, limit_bytes) == body
    with pytest.raises(Malformed):
        inflate(packed[: cut % len(packed)], len(body) + 1)


def test_with_a_token_otlp_asks_for_it(correlator: FakeCorrelator) -> None:
    """Without the token 401 in OTLP's form; with it the request is taken."""
    client = create_app(correlator, ServerSettings(token=TOKEN, loopback_only=False)).test_client()
    for wrong in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
        answer = post(client, GOOD, **wrong)
        assert (answer.status_code, Status.FromString(answer.data).code) == (401, 16)
    assert post(client, GOOD, Authorization=f"Bearer {TOKEN}").status_code == 200
    assert len(correlator.batches) == 1
