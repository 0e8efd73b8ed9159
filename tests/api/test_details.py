"""What a span carries besides its times, and logs: kept within limits, without secrets, and shown with the trace."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_fake import MS, SPAN, START_NS, TRACE, one_span, otlp_json
from flask.testing import FlaskClient
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as some
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from layerline.attributes import VERSION
from layerline_api.app import create_app
from layerline_api.doors.otlp import Malformed, decode
from layerline_api.doors.otlp.limits import ATTRIBUTES, EVENTS, LINKS, STACKTRACE_CHARS, TOGETHER_CHARS, VALUE_CHARS
from layerline_api.doors.otlp.masking import BY_DEFAULT, Masking
from layerline_api.settings import ServerSettings
from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import NO_DETAILS, LeftOut, LogRow, SpanLink, SpanRow
from profiles import examples

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def the_span(request: ExportTraceServiceRequest) -> Span:
    return request.resource_spans[0].scope_spans[0].spans[0]


def row_of(request: Message, masking: Masking = BY_DEFAULT) -> SpanRow:
    (row,) = decode("traces", request.SerializeToString(), is_json=False, masking=masking).batch.spans
    return row


def say(attributes: Any, **values: Any) -> None:
    """Texts and integers as attributes; ``__`` in a name is a dot."""
    for name, value in values.items():
        item: KeyValue = attributes.add(key=name.replace("__", "."))
        if isinstance(value, int):
            item.value.int_value = value
        else:
            item.value.string_value = value


def raised(span: Span, type: str, message: str, stacktrace: str = "", at_ns: int = START_NS + 5 * MS) -> None:
    """An exception as OpenTelemetry's SDKs record it (semantic conventions, "Exceptions on spans")."""
    event = span.events.add(name="exception", time_unix_nano=at_ns)
    say(event.attributes, exception__type=type, exception__message=message, exception__escaped="False")
    if stacktrace:
        say(event.attributes, exception__stacktrace=stacktrace)


def logs(**fields: Any) -> ExportLogsServiceRequest:
    """A request with one log record."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    say(group.resource.attributes, service__name="web")
    values: dict[str, Any] = {
        "time_unix_nano": START_NS + MS,
        "severity_number": 17,
        "severity_text": "ERROR",
        "body": {"string_value": "it broke"},
    }
    group.scope_logs.add().log_records.add(**{**values, **fields})
    return request


def log_of(request: Message) -> LogRow:
    (row,) = decode("logs", request.SerializeToString(), is_json=False).batch.logs
    return row


# ---- what is kept


def test_a_plain_span_costs_nothing_more() -> None:
    """A span without events, links and message has no details of its own."""
    assert row_of(one_span()).details is NO_DETAILS


def test_events_links_and_message_are_kept() -> None:
    """Exception, note, link and status message arrive as they were sent, in their order."""
    request = one_span(status={"code": 2, "message": "KeyError: 'cart'"}, trace_state="rojo=1")
    span = the_span(request)
    span.events.add(name="cache miss", time_unix_nano=START_NS + MS)
    raised(span, "KeyError", "'cart'", "Traceback (most recent call last):\n  …\nKeyError: 'cart'")
    link = span.links.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    say(link.attributes, reason="batch")
    message, state, events, links, left_out = row_of(request).details
    assert (message, state, left_out) == ("KeyError: 'cart'", "rojo=1", None)
    assert events is not None
    assert [(event.name, event.time_ns) for event in events] == [
        ("cache miss", START_NS + MS),
        ("exception", START_NS + 5 * MS),
    ]
    assert events[1].attributes["exception.type"] == "KeyError"
    assert events[1].attributes["exception.stacktrace"].endswith("KeyError: 'cart'")
    assert links == [SpanLink("01" * 16, "02" * 8, {"reason": "batch"})]


def test_every_type_of_value_is_kept() -> None:
    """Texts stay, everything else is JSON: numbers, truth, bytes, lists, objects, nothing at all."""
    request = one_span()
    values: dict[str, Any] = {
        "text": {"string_value": "é"}, "empty": {"string_value": ""}, "yes": {"bool_value": True},
        "whole": {"int_value": -(2**63)}, "half": {"double_value": 0.5}, "never": {"double_value": float("nan")},
        "raw": {"bytes_value": b"\xff"}, "none": {},
        "list": {"array_value": {"values": [{"int_value": 1}, {"string_value": "b"}]}},
        "object": {"kvlist_value": {"values": [{"key": "a", "value": {"array_value": {"values": [{}]}}}]}},
    }  # fmt: skip
    for name, value in values.items():
        the_span(request).attributes.add(key=name, value=value)
    assert row_of(request).attributes == {
        "text": "é", "empty": "", "yes": "true", "whole": str(-(2**63)), "half": "0.5", "never": "NaN",
        "raw": "/w==", "none": "null", "list": '[1,"b"]', "object": '{"a":[null]}',
    }  # fmt: skip


# ---- limits


def test_a_thousand_attributes_are_cut_and_counted() -> None:
    """The first 128 are kept, and of the others those that tell what failed; the rest is counted."""
    request = one_span(dropped_attributes_count=3)
    say(the_span(request).attributes, **{f"a{number}": "x" for number in range(1000)}, http__response__status_code=500)
    row = row_of(request)
    assert len(row.attributes) == ATTRIBUTES + 1
    assert row.attributes["http.response.status_code"] == "500"
    assert row.details.left_out == LeftOut(attributes=3 + 1000 - ATTRIBUTES)


def test_long_values_are_cut_and_counted() -> None:
    """A value keeps its beginning; the wrapper's own, which the ledger reads, are longer and stay whole."""
    request = one_span(status={"code": 2, "message": "x" * 10_000})
    say(the_span(request).attributes, long="x" * 10_000, layerline__samples="x" * 10_000)
    row = row_of(request)
    assert len(row.attributes["long"]) == VALUE_CHARS
    assert len(row.attributes["layerline.samples"]) == 10_000
    assert len(row.details.status_message or "") == VALUE_CHARS
    assert row.details.left_out == LeftOut(shortened=2)


def test_of_a_huge_stack_trace_both_ends_are_kept() -> None:
    """Where it began and what was raised are its ends."""
    request = one_span()
    raised(the_span(request), "RuntimeError", "m" * 100_000, "begin" + "x" * 3_000_000 + "RuntimeError: end")
    details = row_of(request).details
    assert details.events is not None
    stack = details.events[0].attributes["exception.stacktrace"]
    assert (stack[:5], stack[-17:]) == ("begin", "RuntimeError: end")
    assert len(stack) <= STACKTRACE_CHARS
    assert details.left_out == LeftOut(shortened=2)


def test_of_many_events_and_links_the_first_are_kept_and_the_last_exception() -> None:
    """What ended the span is its last exception, however many events came before it."""
    request = one_span(dropped_events_count=5, dropped_links_count=7)
    span = the_span(request)
    for number in range(1000):
        span.events.add(name=f"e{number}", time_unix_nano=START_NS)
        span.links.add(trace_id=number.to_bytes(16, "big") if number else b"", span_id=b"\1" * 8)
    raised(span, "TimeoutError", "too late")
    span.events.add(name="after")
    details = row_of(request).details
    assert details.events is not None
    assert details.links is not None
    assert [details.events[0].name, details.events[-1].name] == ["e0", "exception"]
    assert (len(details.events), len(details.links)) == (EVENTS, LINKS - 1)
    assert details.left_out == LeftOut(events=5 + 1002 - EVENTS, links=7 + 1000 - (LINKS - 1))


def test_all_events_of_a_span_together_are_bounded() -> None:
    """A hundred events of large values take no more of the store than one span may."""
    request = one_span()
    for _ in range(100):
        say(the_span(request).events.add(name="note").attributes, **{f"a{number}": "x" * 5_000 for number in range(8)})
    details = row_of(request).details
    assert details.events is not None
    assert details.left_out is not None
    kept = sum(len(key) + len(value) for event in details.events for key, value in event.attributes.items())
    assert kept <= TOGETHER_CHARS
    assert details.left_out.events == 100 - len(details.events)


# ---- secrets


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("url.query", "token=abc", None),
        ("url.full", "http://shop/cart?user=bob#top", "http://shop/cart"),
        ("http.url", "https://bob:hunter2@shop:8443/cart?user=bob", "https://shop:8443/cart"),
        ("http.target", "/cart?user=bob", "/cart"),
        ("http.request.header.authorization", "Bearer abc", None),
        ("db.query.text", "SELECT * FROM users WHERE mail = 'bob@x.org'", "SELECT * FROM users WHERE mail = ?"),
        ("db.statement", "SELECT * FROM users WHERE id = 42", "SELECT * FROM users WHERE id = ?"),
        ("db.query.parameter.0", "bob", None),
        ("app.password", "hunter2", None),
        ("API_KEY", "k", None),
        ("aws.secret-key", "k", None),
        ("session.token", "k", None),
        ("gen_ai.usage.input_tokens", "17", "17"),
        ("tokenizer", "bpe", "bpe"),
        ("http.route", "/cart", "/cart"),
    ],
)
def test_attributes_are_masked(name: str, value: str, kept: str | None) -> None:
    """What the wrapper drops is dropped here too, and what is named after a credential."""
    request = one_span()
    say(the_span(request).attributes, **{name: value})
    row = row_of(request)
    assert row.attributes.get(name) == kept
    event = the_span(one := one_span()).events.add(name="note")
    say(event.attributes, **{name: value})
    details = row_of(one).details
    assert details.events is not None
    assert details.events[0].attributes.get(name) == kept


def test_quotes_of_a_statement_mean_what_its_database_says() -> None:
    """The system may be named after the statement: in PostgreSQL double quotes hold names."""
    request = one_span()
    say(
        the_span(request).attributes,
        db__query__text="SELECT \"Name\" FROM u WHERE m = 'bob'",
        db__system__name="postgresql",
    )
    assert row_of(request).attributes["db.query.text"] == 'SELECT "Name" FROM u WHERE m = ?'


TEXTS = [
    ("could not connect to postgresql://bob:hunter2@db:5432/shop", "postgresql://***@db:5432/shop", "hunter2"),
    ("404 for url: http://prices:8000/p?key=hunter2", "404 for url: http://prices:8000/p", "hunter2"),
    ("Authorization: Bearer hunter2hunter2", "Bearer ***", "hunter2"),
    ("login failed, password=hunter2, user bob", "password=***, user bob", "hunter2"),
    ("{'api_key': 'hunter2', 'n': 1}", "'api_key': ***, 'n': 1", "hunter2"),
    (
        "duplicate key\nDETAIL:  Key (mail)=(hunter2@x.org) already exists.",
        "Key (mail)=(?) already exists",
        "hunter2",
    ),
    (
        "(sqlite3.IntegrityError) no\n[SQL: INSERT INTO u VALUES ('hunter2', 4242)]\n[parameters: ('hunter2',)]",
        "[parameters: ?]",
        "hunter2",
    ),
    ("near: select id from u where name = 'hunter2' and n = 4242", "where name = ? and n = ?", "4242"),
]


@pytest.mark.parametrize(("said", "kept", "secret"), TEXTS)
def test_free_texts_are_masked(said: str, kept: str, secret: str) -> None:
    """Credentials, queries of URLs and values in SQL do not reach the store in a message, a stack trace or a log."""
    request = one_span(status={"code": 2, "message": said})
    raised(the_span(request), "Error", said, f"Traceback …\n{said}\n")
    details = row_of(request).details
    assert kept in (details.status_message or "")
    assert secret not in repr(details)
    row = log_of(logs(body={"string_value": said}))
    assert kept in row.body
    assert secret not in row.body


@pytest.mark.parametrize(
    "said", ["token_type is wrong", "a: b", "select one from the list", "x = 5", "12:30 https://x/y"]
)
def test_what_is_no_secret_stays(said: str) -> None:
    """A message that only resembles one is not changed."""
    assert BY_DEFAULT.text(said) == said


@settings(max_examples=examples(60, 2_000))
@given(some.text(max_size=300), some.sampled_from(["x", "://", "?a=", "UPDATE ", "'", "select ", "token=", "Key ("]))
def test_a_secret_is_found_in_any_text(text: str, word: str) -> None:
    """Whatever stands around it, also the beginnings of other patterns by the thousand."""
    assert "hunter2" not in BY_DEFAULT.text(f"{text}{word * 3_000} password=hunter2 {word * 3_000}{text}")


def test_the_owner_may_keep_what_is_named() -> None:
    """``LAYERLINE_CAPTURE`` of the server keeps what it names and nothing else."""
    request = one_span()
    say(the_span(request).attributes, url__query="a=1", db__query__text="SELECT 1", app__password="x")  # noqa: S106
    kept = row_of(request, Masking("url.query, db.query.text")).attributes
    assert kept == {"url.query": "a=1", "db.query.text": "SELECT 1"}
    assert row_of(request, Masking("all")).attributes == kept | {"app.password": "x"}


def test_what_the_wrapper_was_told_to_send_is_kept() -> None:
    """The app's own setting has decided already for the attributes of our wrapper's spans."""
    request = one_span()
    say(request.resource_spans[0].resource.attributes, **{VERSION: "1.0"})
    say(the_span(request).attributes, url__query="a=1", db__query__text="SELECT 1", app__password="x")  # noqa: S106
    assert row_of(request).attributes == {"url.query": "a=1", "db.query.text": "SELECT 1"}


# ---- logs


def test_a_log_record_becomes_a_row() -> None:
    """Body, severity, ids and attributes; by its observed time where it has no other."""
    record = {"trace_id": bytes.fromhex(TRACE), "span_id": bytes.fromhex(SPAN), "flags": 1}
    row = log_of(logs(time_unix_nano=0, observed_time_unix_nano=START_NS, **record))
    assert row[1:] == (START_NS, TRACE, SPAN, 17, "ERROR", "it broke", {}, None)
    body = {"kvlist_value": {"values": [{"key": "a", "value": {"int_value": 1}}]}}
    assert log_of(logs(body=body)).body == '{"a":1}'


@pytest.mark.parametrize(
    ("fields", "trace_id", "span_id", "severity"),
    [
        ({"trace_id": bytes(16), "span_id": b"\1" * 8}, None, None, 17),
        ({"trace_id": b"\1" * 16, "span_id": bytes(8)}, "01" * 16, None, 17),
        ({"trace_id": b"\1" * 3}, None, None, 17),
        ({"severity_number": 25}, None, None, 0),
        ({"severity_number": -1}, None, None, 0),
    ],
)
def test_what_is_no_id_or_severity_is_none(
    fields: dict[str, Any], trace_id: str | None, span_id: str | None, severity: int
) -> None:
    """A log record with ids that are none is kept by its process."""
    row = log_of(logs(**fields))
    assert (row.trace_id, row.span_id, row.severity) == (trace_id, span_id, severity)


def test_events_stay_events() -> None:
    """A record with an event name is an event as before, and a log record as well where it names a trace."""
    request = logs(event_name="container.die", body={"string_value": "stock-1"})
    group = request.resource_logs[0].scope_logs[0]
    group.log_records.add(event_name="checkout", time_unix_nano=START_NS, trace_id=b"\1" * 16)
    batch = decode("logs", request.SerializeToString(), is_json=False).batch
    assert [row.name for row in batch.events] == ["container.die", "checkout"]
    assert [(row.trace_id, row.attributes) for row in batch.logs] == [("01" * 16, {"event.name": "checkout"})]


def test_a_log_without_a_time_is_rejected_alone() -> None:
    """The partial success names it; its neighbour is kept."""
    request = logs()
    request.resource_logs[0].scope_logs[0].log_records.add(body={"string_value": "timeless"})
    decoded = decode("logs", request.SerializeToString(), is_json=False)
    assert (len(decoded.batch.logs), decoded.rejected) == (1, 1)
    assert "'timeless'" in decoded.answer.partial_success.error_message  # type: ignore[attr-defined]


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_text_that_is_no_unicode(signal: str) -> None:
    """Half a surrogate pair in JSON is replaced; bytes that are no UTF-8 are the sender's to mend: 400."""
    span = one_span()
    raised(the_span(span), "Error", "broken")
    request: Message = span if signal == "traces" else logs(body={"string_value": "broken"})
    document = json.dumps(otlp_json(request)).replace("broken", "\\ud800")
    batch = decode(signal, document.encode(), is_json=True).batch
    kept = batch.logs[0].body if signal == "logs" else (batch.spans[0].details.events or [])[0].attributes.values()
    assert "\ufffd" in kept
    with pytest.raises(Malformed):
        decode(signal, request.SerializeToString().replace(b"broken", b"\xff\xfe\xfd\xff\xff\xff"), is_json=False)


# ---- all the way


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000, retain_ns=2**62))
    yield correlator
    correlator.close()


@pytest.fixture
def client(correlator: Correlator) -> FlaskClient:
    return create_app(correlator).test_client()


def send(client: FlaskClient, signal: str, request: Message) -> None:
    answer = client.post(f"/v1/{signal}", data=request.SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200


def of_process(request: Any, groups: str, pid: str) -> Any:
    for group in getattr(request, groups):
        say(group.resource.attributes, service__instance__id=pid)
    return request


def test_a_trace_shows_what_its_spans_carry_and_its_logs(client: FlaskClient, correlator: Correlator) -> None:
    """Attributes, exception, link and logs are there; each log record once, however often it is sent."""
    trace_id = "5" * 32
    request = one_span(trace_id=bytes.fromhex(trace_id), status={"code": 2, "message": "gone"})
    say(the_span(request).attributes, http__route="/cart")
    raised(the_span(request), "KeyError", "'cart'")
    the_span(request).links.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    send(client, "traces", of_process(request, "resource_spans", "shown"))
    said = of_process(logs(trace_id=bytes.fromhex(trace_id), span_id=bytes.fromhex(SPAN)), "resource_logs", "shown")
    nameless = of_process(logs(body={"string_value": "pool exhausted"}), "resource_logs", "shown")
    quiet = of_process(logs(severity_number=9, body={"string_value": "chatter"}), "resource_logs", "shown")
    elsewhere = of_process(logs(body={"string_value": "not here"}), "resource_logs", "another")
    later = of_process(logs(time_unix_nano=START_NS + 3600 * 10**9), "resource_logs", "shown")
    for each in (said, said, nameless, quiet, elsewhere, later):
        send(client, "logs", each)
    trace: Any = client.get(f"/api/v1/traces/{trace_id}").json
    (span,) = trace["spans"]
    assert span["attributes"] == {"http.route": "/cart"}
    assert span["exception"] == {"type": "KeyError", "message": "'cart'"}
    assert span["status_message"] == "gone"
    assert [event["name"] for event in span["events"]] == ["exception"]
    assert span["events"][0]["time"] == "2026-11-23T10:00:00.128456789Z"
    assert span["links"] == [{"trace_id": "01" * 16, "span_id": "02" * 8, "attributes": {}}]
    assert span["left_out"] is None
    assert {(log["body"], log["tied_by"], log["span_id"]) for log in trace["logs"]} == {
        ("it broke", "trace", SPAN),
        ("pool exhausted", "process", None),
    }
    assert len(trace["logs"]) == 2
    assert trace["logs_left_out"] == 0
    assert trace["logs"][0]["service"] == "web"
    rows = correlator.sql(f"SELECT count(*) FROM logs WHERE trace_id = '{trace_id}'", 1).rows
    assert rows == [[1]]


def test_logs_arrive_in_json_too(client: FlaskClient) -> None:
    """OTLP/JSON, as the example of opentelemetry-proto writes it: ids in hex, 64-bit integers as texts."""
    trace_id = "6" * 32
    send(client, "traces", one_span(trace_id=bytes.fromhex(trace_id)))
    document = {
        "resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
            "scopeLogs": [{
                "scope": {"name": "my.library", "version": "1.0.0"},
                "logRecords": [{
                    "timeUnixNano": str(START_NS), "observedTimeUnixNano": str(START_NS), "severityNumber": 10,
                    "severityText": "Information", "traceId": trace_id.upper(), "spanId": SPAN.upper(),
                    "body": {"stringValue": "Example log record"},
                    "attributes": [{"key": "double.attribute", "value": {"doubleValue": 637.704}}],
                }],
            }],
        }]
    }  # fmt: skip
    answer = client.post("/v1/logs", json=document)
    assert answer.status_code == 200
    trace: Any = client.get(f"/api/v1/traces/{trace_id}").json
    (log,) = trace["logs"]
    assert (log["body"], log["severity"], log["attributes"]) == (
        "Example log record",
        10,
        {"double.attribute": "637.704"},
    )


def test_a_span_that_is_sent_again_longer_brings_its_own_details(client: FlaskClient) -> None:
    """The longest of what one sender sends under an id stays, with its events and no other's."""
    trace_id = "7" * 32
    short = one_span(trace_id=bytes.fromhex(trace_id), end_time_unix_nano=START_NS + MS)
    raised(the_span(short), "KeyError", "not yet")
    whole = one_span(trace_id=bytes.fromhex(trace_id))
    raised(the_span(whole), "ValueError", "in the end")
    for request in (short, whole, short):
        send(client, "traces", request)
    trace: Any = client.get(f"/api/v1/traces/{trace_id}").json
    assert [span["exception"]["type"] for span in trace["spans"]] == ["ValueError"]


def test_logs_go_when_spans_go(tmp_path: Path) -> None:
    """What is older than ``LAYERLINE_RETAIN`` is deleted, log records with the spans."""
    correlator = Correlator.open(Settings(store=tmp_path, group_ns=1_000_000, retain_ns=3600 * 10**9))
    try:
        client = create_app(correlator).test_client()
        now = time.time_ns()
        for age_s in (60, 7200):
            send(client, "logs", logs(time_unix_nano=now - age_s * 10**9))
        correlator._retain()
        assert correlator.sql("SELECT count(*) FROM logs", 1).rows == [[1]]
    finally:
        correlator.close()


def test_the_servers_setting_reaches_the_door(correlator: Correlator) -> None:
    """``capture`` of the server's settings holds for what comes in over HTTP."""
    client = create_app(correlator, ServerSettings(capture="url.query")).test_client()
    request = one_span(trace_id=bytes.fromhex("8" * 32))
    say(the_span(request).attributes, url__query="a=1")
    send(client, "traces", request)
    trace: Any = client.get(f"/api/v1/traces/{'8' * 32}").json
    assert trace["spans"][0]["attributes"] == {"url.query": "a=1"}
    assert ServerSettings.from_environment({"LAYERLINE_CAPTURE": "all"}).capture == "all"


def test_a_store_of_an_earlier_version_gains_the_columns(tmp_path: Path) -> None:
    """A database without the new columns and without logs opens, and takes both."""
    settings = Settings(store=tmp_path, group_ns=1_000_000)
    correlator = Correlator.open(settings)
    cursor = correlator._store.cursor()
    for column in ("status_message", "trace_state", "events", "links", "left_out"):
        cursor.execute("DROP SCHEMA views CASCADE; ALTER TABLE hot_span DROP COLUMN " + column).fetchall()
        cursor.execute("CREATE SCHEMA views").fetchall()
    cursor.execute("DROP TABLE hot_log").fetchall()
    cursor.close()
    correlator.close()
    correlator = Correlator.open(settings)
    try:
        client = create_app(correlator).test_client()
        request = one_span()
        raised(the_span(request), "KeyError", "'cart'")
        send(client, "traces", request)
        send(client, "logs", logs(trace_id=bytes.fromhex(TRACE)))
        trace: Any = client.get(f"/api/v1/traces/{TRACE}").json
        assert trace["spans"][0]["exception"]["type"] == "KeyError"
        assert [log["body"] for log in trace["logs"]] == ["it broke"]
    finally:
        correlator.close()
