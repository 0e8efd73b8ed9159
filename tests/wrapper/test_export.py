"""What leaves the app, and that sending it is never in the way."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from layerline import export, guard
from layerline.account import Account
from layerline.encode import Encoder, request
from layerline.export import EXPORTED, PROCESSED, Batches, Sender, report
from layerline.masking import Masks
from layerline.settings import DEFAULT_ENDPOINT, Settings
from layerline.wiring import Destination, batches, destinations, update
from waiting import eventually
from wrapper.conftest import Sink, plain


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an exit and a first failure of its own."""
    monkeypatch.setattr(export, "_ends_at", None)
    monkeypatch.setattr(guard, "_said", set())


def processor(url: str, **arguments: str) -> Batches:
    return batches(Destination(f"{url}/v1/traces", ours=True), Settings.read({}, **arguments))


def provider_with(made: Batches) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(made)
    return provider


# ---- encoding


def finished(attributes: dict[str, Any], resource: Resource | None = None) -> list[ReadableSpan]:
    """A few spans of every shape that the SDK knows, each with these attributes and our account."""
    provider = TracerProvider(resource=resource or Resource({"service.name": "shop"}), shutdown_on_exit=False)
    kept = InMemorySpanExporter()
    provider.add_span_processor(Account())
    provider.add_span_processor(SimpleSpanProcessor(kept))
    one, two = provider.get_tracer("one", "1.0"), provider.get_tracer("two", schema_url="https://example.org")
    with one.start_as_current_span("parent", kind=SpanKind.SERVER, attributes=attributes) as span:
        span.add_event("happened", {"a": 1})
        span.set_status(Status(StatusCode.ERROR, "no"))
        remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")]))
        called = set_span_in_context(NonRecordingSpan(remote))
        links = [Link(remote, {"l": 1})]
        with two.start_as_current_span("child", attributes=attributes), one.start_as_current_span("grandchild"):
            one.start_span("linked", links=links).end()
            one.start_span("called", context=called, kind=SpanKind.CONSUMER).end()
    provider.shutdown()
    return list(kept.get_finished_spans())


def encoded(encoder: Encoder, spans: list[ReadableSpan]) -> bytes:
    return request([encoder.encode(span) for span in spans])


def said(body: bytes) -> list[tuple[str, str, bytes]]:
    """What an export request says, without the order of its groups and attributes: resource, scope and span."""
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                ordered = sorted(span.attributes, key=lambda each: each.key)
                del span.attributes[:]
                span.attributes.extend(ordered)
                about = f"{resource.resource}{resource.schema_url}", f"{scope.scope}{scope.schema_url}"
                found.append((*about, span.SerializeToString(deterministic=True)))
    return sorted(found)


values = st.one_of(
    st.text(max_size=20),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=5), max_size=3),
    st.lists(st.booleans(), max_size=3),
)


@given(attributes=st.dictionaries(st.text(min_size=1, max_size=8), values, max_size=6))
def test_our_encoder_says_what_the_sdk_s_says(extension: Any, attributes: dict[str, Any]) -> None:
    """Whatever attributes a span has, our bytes decode to what the SDK's encoder makes of it."""
    spans = finished(attributes) + finished(attributes, Resource({"service.name": "other"}))
    encoder = Encoder(Masks("all"), extension)
    expected = said(encode_spans(spans).SerializeToString())
    assert said(encoded(encoder, spans)) == expected
    assert said(encoded(encoder, spans)) == expected  # and again, from its cache


#: As Python reads a name of a file or a variable that is no UTF-8.
ODD = b"caf\xe9".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("place", ["name", "attribute", "list", "event", "link", "status", "scope", "resource"])
def test_a_text_that_utf_8_cannot_say_costs_no_span(extension: Any, place: str) -> None:
    """Wherever it stands, its span arrives, with ``?`` for what cannot be said; so does the count of spans."""

    def odd(here: str) -> str:
        return ODD if here == place else "fine"

    resource = Resource({"service.name": odd("resource")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    called = SpanContext(1, 2, is_remote=True)
    span = provider.get_tracer(odd("scope")).start_span(odd("name"), links=[Link(called, {odd("link"): odd("link")})])
    span.set_attributes({odd("attribute"): odd("attribute"), "list": [odd("list")]})
    span.add_event(odd("event"), {odd("event"): odd("event")})
    span.set_status(Status(StatusCode.ERROR, odd("status")))
    span.end()
    provider.shutdown()
    spans = kept.get_finished_spans()
    for finished_span in (*spans, *without_links(spans)):
        body = encoded(Encoder(Masks("all"), extension), [finished_span])
        (group,) = ExportTraceServiceRequest.FromString(body).resource_spans
        assert group.scope_spans[0].spans[0].span_id == span.get_span_context().span_id.to_bytes(8, "big")
        assert b"caf?" in body or (place in ("event", "link", "list") and finished_span not in spans)
    assert encode_metrics(report(export.Counts(), resource)).resource_metrics


def without_links(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """The same without what is left to the SDK's encoder: events, links and lists."""
    return [
        ReadableSpan(
            one.name,
            one.context,
            resource=one.resource,
            attributes={key: value for key, value in (one.attributes or {}).items() if key != "list"},
            kind=one.kind,
            status=one.status,
            start_time=one.start_time,
            end_time=one.end_time,
            instrumentation_scope=one.instrumentation_scope,
        )
        for one in spans
    ]


def test_true_and_one_are_not_the_same(extension: Any) -> None:
    """Values that Python calls equal are told apart: ``True``, ``1`` and ``1.0``."""
    encoder = Encoder(Masks(), extension)
    for value in (1, True, 1.0):
        found = ExportTraceServiceRequest.FromString(encoded(encoder, finished({"x": value})))
        spans = [span for group in found.resource_spans for scope in group.scope_spans for span in scope.spans]
        given = [a.value for span in spans for a in span.attributes if a.key == "x"]
        assert [type(plain(each)) for each in given] == [type(value)] * 2


# ---- masking

SECRETS = {
    "url.query": "token=secret",
    "url.full": "https://host/path?token=secret",
    "http.url": "https://host/path?token=secret#secret",
    "http.target": "/path?token=secret",
    "db.query.text": "SELECT 'secret'",
    "db.statement": "SELECT 'secret'",
    "db.query.parameter.0": "secret",
    "http.request.header.authorization": ["secret"],
    "http.response.header.set_cookie": ["secret"],
}


def test_nothing_that_may_be_secret_leaves(extension: Any) -> None:
    """Query strings, query texts and header values are gone from what is sent; the rest of a URL stays."""
    body = encoded(Encoder(Masks(), extension), finished({**SECRETS, "http.route": "/path"}))
    assert b"secret" not in body
    assert b"https://host/path" in body
    assert b"http.route" in body


def test_a_span_with_nothing_but_secrets_is_masked_too(extension: Any) -> None:
    """When masking leaves no attribute at all, none is sent."""
    assert b"secret" not in encoded(Encoder(Masks(), extension), finished({"db.statement": "SELECT 'secret'"}))
    masked = Masks().spans(finished({"db.statement": "SELECT 'secret'"}))
    assert all("db.statement" not in (span.attributes or {}) for span in masked)


@pytest.mark.parametrize("word", ["url.query", "db.query.text", "http.header", "all"])
def test_what_is_named_is_captured(word: str) -> None:
    """``LAYERLINE_CAPTURE`` keeps the kinds that it names, and no other."""
    masks = Masks(f" {word} ,")
    kept = {name for name in SECRETS if masks.mask(name) is None}
    assert kept
    assert word == "all" or all(name.startswith(("url.", "http.u", "http.t")) == (word == "url.query") for name in kept)
    assert (len(kept) == len(SECRETS)) == (word == "all")


def test_the_application_s_own_spans_are_left_alone(extension: Any) -> None:
    """Masking works on copies: the application's other exporters see what they always saw."""
    spans = finished(SECRETS)
    encoded(Encoder(Masks(), extension), spans)
    Masks().spans(spans)
    assert (spans[-1].attributes or {})["url.query"] == "token=secret"


# ---- where to


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, [Destination(f"{DEFAULT_ENDPOINT}/v1/traces", True)]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a/"}, [Destination("http://a/v1/traces", True)]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/x"}, [Destination("http://a/x", True)]),
        ({"LAYERLINE_ENDPOINT": "http://b"}, [Destination("http://b/v1/traces", True)]),
        (
            {"LAYERLINE_ENDPOINT": "http://b", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"},
            [Destination("http://b/v1/traces", True), Destination("http://a/v1/traces", False)],
        ),
        (
            {"LAYERLINE_ENDPOINT": "http://b/", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"},
            [Destination("http://b/v1/traces", True)],
        ),
    ],
)
def test_spans_go_where_they_should(environ: dict[str, str], expected: list[Destination]) -> None:
    """Our endpoint, else OpenTelemetry's, else this machine; to both where both are set and differ."""
    assert destinations(Settings.read(environ), environ) == expected


def test_the_token_goes_along(sink: Sink) -> None:
    """``LAYERLINE_TOKEN`` is sent as a bearer token with spans and metrics."""
    made = processor(sink.url, token="abc")  # noqa: S106 - a test's
    provider = provider_with(made)
    provider.get_tracer("tests").start_span("span").end()
    provider.shutdown()
    assert {headers["authorization"] for headers in sink.headers} == {"Bearer abc"}


# ---- never in the way


def test_spans_are_sent_every_second(sink: Sink) -> None:
    """Nobody waits for five seconds to see a span, and none has to be asked for."""
    assert export.FLUSH_EVERY_MS == 1_000
    provider = provider_with(processor(sink.url))
    provider.get_tracer("tests").start_span("span").end()
    eventually(lambda: sink.spans, "a span")
    assert [span.name for span in sink.spans] == ["span"]
    provider.shutdown()


def test_a_full_queue_costs_spans_and_no_time(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server hangs, spans beyond the queue are counted, none waits for it, and the count is told later."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
    sink.gate.clear()
    made = processor(sink.url, exit_timeout="60")
    provider = provider_with(made)
    tracer = provider.get_tracer("tests")
    for _ in range(5_000):
        tracer.start_span("span").end()  # comes back, though the server does not answer before the last
    sink.gate.set()
    eventually(lambda: sink.spans, "the first batch")
    eventually(lambda: not made._batch_processor._queue, "an empty queue")
    tracer.start_span("last").end()
    provider.shutdown()
    points = {
        (metric.name, plain(point.attributes[0].value) if point.attributes else ""): point.as_int
        for metric in sink.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
        for point in metric.sum.data_points
    }
    dropped = points[(PROCESSED, "queue_full")]
    assert dropped > 4_000
    assert points[(EXPORTED, "")] == len(sink.spans)
    assert dropped + len(sink.spans) == 5_001


def test_a_full_queue_says_nothing(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that fill the queue at the same moment cost spans, which are counted, and no line in the log."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
    sink.gate.clear()
    made = processor(sink.url, exit_timeout="60")
    tracer = provider_with(made).get_tracer("tests")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: tracer.start_span("span").end(), range(2_000)))
    finally:
        sys.setswitchinterval(interval)
    sink.gate.set()
    made.shutdown()
    assert len(sink.spans) + made._counts_of.counts.dropped == 2_000
    assert lines_of(caplog) == []


@pytest.mark.parametrize("how", ["dead", "hanging"])
def test_a_server_that_does_not_answer_holds_nobody_up(how: str, sink: Sink) -> None:
    """With a dead or hanging server spans end all the same, and shutting down does not wait for its answer."""
    sink.gate.clear()  # for a minute
    made = processor("http://127.0.0.1:1" if how == "dead" else sink.url, exit_timeout="0.5")
    provider = provider_with(made)
    tracer = provider.get_tracer("tests")
    begun = time.monotonic()
    for _ in range(1_000):
        tracer.start_span("span").end()
    provider.shutdown()
    assert time.monotonic() - begun < 30


def test_a_failing_server_is_reported_once(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """One line says that spans do not arrive, however often it is tried; it names the address."""
    sink.status = 400
    made = processor(sink.url)
    provider = provider_with(made)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            provider.get_tracer("tests").start_span("span").end()
            provider.force_flush()
        provider.shutdown()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("layerline", "opentelemetry"))]
    assert len(lines) == 1
    assert sink.url in lines[0]


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.startswith(("layerline", "opentelemetry"))]


def answered_with(made: Batches, words: str) -> bool:
    """Whether the last attempt came to this."""
    exporter = made.span_exporter._exporter
    assert isinstance(exporter, Sender)
    assert exporter.session is not None
    return exporter.session.outcome is not None and words in exporter.session.outcome.words


def figures(made: Batches) -> tuple[int, int]:
    return made._counts_of.counts.sent, made._counts_of.counts.failed


def test_what_came_back_is_said(sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says status and first words of the answer, and asks whether a server runs only where nothing listens.

    It is said at the latest when the process ends, though another attempt was still to come.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")  # the first attempt is made before the end, however slow it is
    sink.status, sink.content = 418, b"go away"
    for url, words in ((sink.url, "go away"), ("http://127.0.0.1:1", "refused")):
        made = processor(url, exit_timeout="0.5")
        provider = provider_with(made)
        provider.get_tracer("tests").start_span("span").end()
        eventually(partial(answered_with, made, words), words)
        provider.shutdown()
    answered, refused = lines_of(caplog)
    assert "418" in answered
    assert "go away" in answered
    assert "layerline serve" not in answered
    assert "connection refused" in refused
    assert "layerline serve" in refused


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_no_delivery(sink: Sink, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A redirect is not followed, its spans count as failed, and the line says where it points to."""
    sink.status = status
    made = processor(sink.url)
    provider = provider_with(made)
    provider.get_tracer("tests").start_span("span").end()
    provider.shutdown()
    assert figures(made) == (0, 1)
    assert f"{sink.url}/elsewhere" in lines_of(caplog)[0]


def test_a_batch_over_the_limit_is_sent_in_parts(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """Of a batch that the server finds too large all arrive, once each, but the span that is too large by itself."""
    sink.most_bytes = 2_000
    made = processor(sink.url)
    provider = provider_with(made)
    for number in range(40):
        size = 5_000 if number == 13 else 100
        provider.get_tracer("tests").start_span(f"span {number}", attributes={"x": "x" * size}).end()
    provider.shutdown()
    assert sorted(span.name for span in sink.spans) == sorted(f"span {each}" for each in range(40) if each != 13)
    assert figures(made) == (39, 1)
    assert "413" in lines_of(caplog)[0]


def test_a_limit_that_is_known_is_not_tried_again(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server refuses one request, not the first half of every batch; before that, none is larger than most take."""
    monkeypatch.setattr(export, "_AT_FIRST_BYTES", 500_000)
    sink.most_bytes = 300_000
    sender = Sender(Masks(), f"{sink.url}/v1/traces", {})
    batch = [Encoder(Masks()).encode(span) for span in finished({"x": "x" * 100_000})[:4]]
    assert {len(body) > 100_000 for _, body in batch} == {True, False}
    large = [one for one in batch if len(one[1]) > 100_000] * 4
    for number in range(1, 4):
        assert sender.export(large) is SpanExportResult.SUCCESS
        assert (sender.lost, sink.refused) == (0, 1)
        assert len(sink.spans) == number * len(large)


def test_what_a_partial_success_rejects_is_counted_and_said(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """Spans that the server says it did not keep count as failed, and its reason is logged once."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 2, "of another time"
    sink.content = answer.SerializeToString()
    made = processor(sink.url)
    provider = provider_with(made)
    for _ in range(5):
        provider.get_tracer("tests").start_span("span").end()
    provider.shutdown()
    assert figures(made) == (3, 2)
    (line,) = lines_of(caplog)
    assert "2 of 5 spans were rejected: of another time" in line


def test_a_failure_of_ours_costs_its_batch(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while sending is logged in one line and counted, and the next batch is sent."""
    monkeypatch.delenv("PYTEST_VERSION")
    made = processor(sink.url)
    provider = provider_with(made)
    with monkeypatch.context() as broken:
        broken.setattr(made.span_exporter._exporter._client, "export", None)
        for _ in range(2):
            provider.get_tracer("tests").start_span("span").end()
            provider.force_flush()
    provider.get_tracer("tests").start_span("last").end()
    provider.shutdown()
    assert [span.name for span in sink.spans] == ["last"]
    assert figures(made) == (1, 2)
    (line,) = lines_of(caplog)
    assert line.startswith("export failed")


def test_a_sending_thread_that_ended_is_started_again(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the SDK's thread has ended, the full queue that follows starts another, and says so."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    made = processor(sink.url)
    batches = made._batch_processor
    batches._shutdown = True
    batches._worker_awaken.set()
    batches._worker_thread.join()
    batches._shutdown = False
    batches._worker_awaken.clear()
    provider = provider_with(made)
    for _ in range(11):
        provider.get_tracer("tests").start_span("span").end()
    eventually(lambda: len(sink.spans) == 10, "what was queued")
    assert "was started again" in lines_of(caplog)[0]
    provider.shutdown()


def test_an_sdk_that_we_do_not_know_encodes_by_itself(sink: Sink) -> None:
    """Where the SDK's exporter is built otherwise, it is given spans, masked all the same."""
    made = processor(sink.url)
    made._encoder = None
    vars(made).pop("on_end", None)
    made.span_exporter._exporter.encoder = None
    provider = provider_with(made)
    provider.get_tracer("tests").start_span("span", attributes={"db.statement": "secret", "step": 1}).end()
    provider.shutdown()
    assert sink.named("span").attributes == {"step": 1}


def test_an_sdk_without_resource_updates_gets_them_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the SDK could change a resource its tracers shared it: those that exist follow either way."""
    for old in (False, True):
        if old:
            monkeypatch.delattr(TracerProvider, "_update_resource", raising=False)
        provider = TracerProvider(resource=Resource({"a": 1}), shutdown_on_exit=False)
        tracer = provider.get_tracer("tests")
        update(provider, {"process.pid": 7})
        assert tracer.start_span("span").resource.attributes == {"a": 1, "process.pid": 7}  # type: ignore[attr-defined]


def test_headers_for_all_are_honoured(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """``OTEL_EXPORTER_OTLP_HEADERS`` is sent as OpenTelemetry says."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20xyz,x-team=shop")
    provider = provider_with(processor(sink.url))
    provider.get_tracer("tests").start_span("span").end()
    provider.shutdown()
    assert sink.headers[0]["authorization"] == "Bearer xyz"
    assert sink.headers[0]["x-team"] == "shop"
