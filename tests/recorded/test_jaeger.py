"""Jaeger's JSON becomes spans, and what is damaged costs itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from recordings import ZERO_US, document, read, shop, span, trace

from layerline.attributes import CPU_NS, SPAN_FIGURES
from layerline_api.recorded import elements, jaeger
from layerline_api.recorded.gathered import Unreadable
from layerline_correlator.store.model import (
    CLIENT,
    SERVER,
    STATUS_ERROR,
    STATUS_OK,
    STATUS_UNSET,
    SpanEvent,
    SpanLink,
    SpanRow,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def tag(key: str, value: Any, kind: str = "string") -> dict[str, Any]:
    return {"key": key, "type": kind, "value": value}


def spans_of(tmp_path: Path, *traces: dict[str, Any]) -> list[SpanRow]:
    path = tmp_path / "traces.json"
    path.write_text(document(list(traces)))
    found = read(jaeger.read, path)
    assert not found.problems
    return found.batch.spans


def test_a_span_is_what_it_was_before_jaeger(tmp_path: Path) -> None:
    """Kind, status, times, attributes and resource come back from tags, microseconds and process."""
    path = tmp_path / "traces.json"
    tags = [tag("span.kind", "client"), tag("error", True, "bool"), tag("http.request.method", "GET"),
            tag("http.response.status_code", 500, "int64"), tag("shop", "Möbel")]  # fmt: skip
    process = {"serviceName": "web", "tags": [tag("hostname", "a"), tag("container.id", "c" * 64)]}
    path.write_text(document([trace(TRACE, span(TRACE, 7, 3, tags=tags), p1=process)]), encoding="utf-8")
    found = read(jaeger.read, path)
    (row,), (resource,) = found.batch.spans, found.batch.resources
    assert resource.attributes == {"host.name": "a", "container.id": "c" * 64, "service.name": "web"}
    assert (row.trace_id, row.span_id, row.parent_span_id) == (TRACE, "7".rjust(16, "0"), "3".rjust(16, "0"))
    assert (row.kind, row.status, row.name) == (CLIENT, STATUS_ERROR, "GET /cart")
    assert (row.start_ns, row.end_ns) == (ZERO_US * 1000, ZERO_US * 1000 + 20_000_000)
    assert row.attributes == {"http.request.method": "GET", "http.response.status_code": "500", "shop": "Möbel"}
    assert row.resource == resource.resource


def test_short_ids_get_their_zeros_back(tmp_path: Path) -> None:
    """A trace id of 64 bits, and ids whose leading zeros were left out, are the ids that OpenTelemetry would write."""
    short = span("ABC", 1) | {"spanID": "1f", "references": [{"refType": "CHILD_OF", "traceID": "abc", "spanID": "e"}]}
    (row,) = spans_of(tmp_path, trace("abc", short))
    assert (row.trace_id, row.span_id, row.parent_span_id) == (
        "abc".rjust(32, "0"),
        "1f".rjust(16, "0"),
        "e".rjust(16, "0"),
    )


@pytest.mark.parametrize(
    ("references", "parent"),
    [
        ([], None),
        ([("FOLLOWS_FROM", TRACE, 5), ("CHILD_OF", TRACE, 6)], 6),
        ([("FOLLOWS_FROM", TRACE, 5)], 5),
        ([("CHILD_OF", "f" * 32, 5)], None),
    ],
)
def test_the_parent_is_in_the_same_trace(
    tmp_path: Path, references: list[tuple[str, str, int]], parent: int | None
) -> None:
    """CHILD_OF goes before FOLLOWS_FROM, and a reference into another trace is no parent."""
    given = [{"refType": kind, "traceID": of, "spanID": f"{number:016x}"} for kind, of, number in references]
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, references=given)))
    assert row.parent_span_id == (None if parent is None else f"{parent:016x}")


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ([], STATUS_UNSET),
        ([tag("error", False, "bool")], STATUS_UNSET),
        ([tag("error", "true")], STATUS_ERROR),
        ([tag("otel.status_code", "OK")], STATUS_OK),
        ([tag("otel.status_code", "ERROR")], STATUS_ERROR),
    ],
)
def test_the_status_comes_from_either_tag(tmp_path: Path, tags: list[dict[str, Any]], status: int) -> None:
    """`error` is what Jaeger's clients write, `otel.status_code` what OpenTelemetry adds."""
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, tags=tags)))
    assert row.status == status


def log(*fields: tuple[str, str], after_us: int = 0) -> dict[str, Any]:
    return {"timestamp": ZERO_US + after_us, "fields": [tag(key, value) for key, value in fields]}


def test_what_was_logged_in_a_span_is_its_events(tmp_path: Path) -> None:
    """Events have their names, times and attributes; an error of OpenTracing is an exception too."""
    logs = [
        log(("event", "cache miss"), ("key", "cart:7"), after_us=5),
        log(("message", "retrying")),
        log(("event", "error"), ("error.kind", "TimeoutError"), ("message", "stock"), ("stack", "at a.py:1")),
        log(("event", "exception"), ("exception.type", "KeyError"), ("exception.message", "'cart'")),
    ]
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, logs=logs, tags=[tag("otel.status_description", "no")])))
    assert row.details.events == [
        SpanEvent((ZERO_US + 5) * 1000, "cache miss", {"key": "cart:7"}),
        SpanEvent(ZERO_US * 1000, "log", {"message": "retrying"}),
        SpanEvent(
            ZERO_US * 1000,
            "exception",
            {"exception.type": "TimeoutError", "exception.message": "stock", "exception.stacktrace": "at a.py:1"},
        ),
        SpanEvent(ZERO_US * 1000, "exception", {"exception.type": "KeyError", "exception.message": "'cart'"}),
    ]
    assert row.details.status_message == "no"
    assert row.details.left_out is None


def test_references_into_other_traces_are_links(tmp_path: Path) -> None:
    """They are no parents, and what started this trace stays known."""
    other = {"refType": "FOLLOWS_FROM", "traceID": "f" * 32, "spanID": "5"}
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, references=[other])))
    assert row.parent_span_id is None
    assert row.details.links == [SpanLink("f" * 32, "5".rjust(16, "0"), {})]


def test_secrets_in_a_recording_are_masked(tmp_path: Path) -> None:
    """Tags and logs are masked as what is received live: by name, in statements, in URLs and in free text."""
    tags = [tag("db.statement", "SELECT * FROM users WHERE mail = 'ann@x'"), tag("url.query", "token=hush"),
            tag("http.url", "http://ann:hush@shop/cart?token=hush"), tag("api_key", "hush")]  # fmt: skip
    logs = [log(("event", "error"), ("error.kind", "E"), ("message", "password=hush")), log(("message", "token: hush"))]
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, tags=tags, logs=logs)))
    assert row.attributes == {"db.statement": "SELECT * FROM users WHERE mail = ?", "http.url": "http://shop/cart"}
    assert "hush" not in repr(row)


def test_a_recording_is_kept_within_the_limits(tmp_path: Path) -> None:
    """Of very many and very long logs and tags some are kept, the last exception among them; the others are counted."""
    logs = [log(("event", f"{number}"), ("text", "x" * 5_000)) for number in range(200)]
    logs.append(log(("event", "error"), ("error.kind", "KeyError")))
    tags = [tag(f"a{number:03}", "1") for number in range(200)] + [tag("http.route", "/cart")]
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, logs=[*logs, 7], tags=tags)))
    events = row.details.events or []
    assert events[-1].attributes == {"exception.type": "KeyError"}
    assert len(row.attributes) == 128
    assert row.attributes["http.route"] == "/cart"
    left_out = row.details.left_out
    assert left_out is not None
    assert (left_out.attributes, left_out.events) == (201 - 128, 202 - len(events))
    assert sum(len(event.attributes.get("text", "")) for event in events) <= 131_072


def test_our_own_account_survives_jaeger(tmp_path: Path) -> None:
    """What the wrapper measured is evidence again; a figure that is none stays an attribute."""
    tags = [tag(CPU_NS, 5_000_000, "int64"), tag("layerline.account", "thread"), tag("layerline.slices", "[0,9,5,1]"),
            tag("thread.id", 7, "int64"), tag("layerline.gc_ns", -1, "int64")]  # fmt: skip
    (row,) = spans_of(tmp_path, trace(TRACE, span(TRACE, 1, tags=tags)))
    assert (row.account, row.thread_id, row.slices) == ("thread", 7, [0, 9, 5, 1])
    assert row.figures[SPAN_FIGURES.index(CPU_NS)] == 5_000_000
    assert row.attributes == {"layerline.gc_ns": "-1"}


BAD_SPANS: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"spanID": ""}, "its spanID is ''; expected up to 16 hex digits"),
    "long id": ({"traceID": "a" * 33}, "expected up to 32 hex digits"),
    "no time": ({"startTime": "yesterday"}, "its startTime is 'yesterday'; expected microseconds"),
    "at zero": ({"startTime": 0}, "its startTime is 0"),
    "negative": ({"duration": -1}, "its duration is -1; expected microseconds"),
    "too late": ({"startTime": 2**62}, "its startTime is"),
    "no process": ({"processID": "p9"}, "its processID is 'p9'; expected one of p1"),
    "odd tags": ({"tags": {"a": 1}}, "expected a list of tags, found {'a': 1}"),
    "odd tag": ({"tags": ["a"]}, "expected a tag with key, type and value, found 'a'"),
    "odd reference": ({"references": [3]}, "expected a reference, found 3"),
}


@pytest.mark.parametrize("name", BAD_SPANS)
def test_a_bad_span_costs_itself(tmp_path: Path, name: str) -> None:
    """The span is counted with its line, what was expected and what was found; its sister is read."""
    change, told = BAD_SPANS[name]
    path = tmp_path / "traces.json"
    path.write_text(
        document([trace("1", span("1", 1)), trace(TRACE, span(TRACE, 1) | change, span(TRACE, 2))], indent=1)
    )
    found = read(jaeger.read, path)
    assert [row.span_id for row in found.batch.spans] == ["1".rjust(16, "0"), "2".rjust(16, "0")]
    (problem,) = found.problems
    line = 1 + path.read_text()[: path.read_text().index(f'"traceID": "{TRACE}"')].count("\n") - 1
    assert problem.startswith(f"line {line}: span 1 (")
    assert told in problem
    assert found.rejected == 1


@pytest.mark.parametrize("damage", ["}{", '"', ":", "[[", "\\", "\0", "nul"])
def test_a_damaged_trace_costs_itself(tmp_path: Path, damage: str) -> None:
    """Wherever a trace is damaged, those before and after it are read, and it is counted."""
    texts = [json.dumps(one) for one in shop(5)]
    for at in (0, 1, texts[2].index(': "GET'), len(texts[2]) - 1):
        path = tmp_path / f"{at}.json"
        broken = texts[2][:at] + damage + texts[2][at:]
        path.write_text('{"data": [' + ",\n".join((*texts[:2], broken, *texts[3:])) + "]}")
        found = read(jaeger.read, path)
        assert {int(row.trace_id, 16) for row in found.batch.spans} >= {1, 2, 4, 5}
        assert found.rejected >= 1
        assert found.problems[0].startswith("line 3: ") or found.problems[0].startswith("line 2: ")


def test_a_file_that_was_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    """Of a download that broke off, the whole traces are read; the broken end is told once."""
    path = tmp_path / "traces.json"
    whole = document(list(shop(3)))
    path.write_text(whole[: whole.index(f'"traceID": "{3:032x}"') + 300])
    found = read(jaeger.read, path)
    assert {int(row.trace_id, 16) for row in found.batch.spans} == {1, 2}
    (problem,) = found.problems
    assert problem.endswith("the file ends inside it; nothing after it could be read")


@pytest.mark.parametrize("text", ["[1, 2", "nonsense", '{"data" 1}', '{"data": 1} x'])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    """Where there is no object of Jaeger's API, the error says what was expected and found."""
    path = tmp_path / "traces.json"
    path.write_text(text)
    with pytest.raises(Unreadable, match=r"expected '.', found|is not JSON"):
        read(jaeger.read, path)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_reading_goes_on_from_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """However the file falls into chunks, and wherever reading stopped, the rest is the rest: nothing twice, no gap."""
    traces = [trace(f"{number}", span(f"{number}", 1, operationName="Straße 😀 \ud83d")) for number in range(1, 6)]
    path = tmp_path / "traces.json"
    text = json.dumps({"total": 12, "data": traces}, indent=1, ensure_ascii=False).replace("\ud83d", "\\ud83d")
    path.write_bytes(text.encode().replace(b"Stra", b"Str\xff\xc3"))
    monkeypatch.setattr(elements, "_CHUNK_BYTES", chunk)
    whole = read(jaeger.read, path)
    assert not whole.problems
    assert len(whole.places) == 5
    assert len({row.trace_id for row in whole.batch.spans}) == 5
    for number, place in enumerate(whole.places, 1):
        rest = read(jaeger.read, path, place)
        assert not rest.problems
        assert rest.batch.spans == whole.batch.spans[number:]
        assert rest.places == whole.places[number:]


def test_compressed_files_are_read_as_they_are(tmp_path: Path) -> None:
    """A file that somebody packed with gzip needs no unpacking, and reading goes on inside it."""
    path = tmp_path / "traces.json.gz"
    path.write_bytes(gzip.compress(document(list(shop(20))).encode()))
    whole = read(jaeger.read, path)
    assert len(whole.batch.spans) == 160
    assert read(jaeger.read, path, whole.places[9]).batch.spans == whole.batch.spans[80:]


def test_kinds_are_those_of_opentelemetry(tmp_path: Path) -> None:
    """A kind that nobody knows is kept as an attribute."""
    known, unknown = (
        span(TRACE, number, tags=[tag("span.kind", word)]) for number, word in ((1, "server"), (2, "odd"))
    )
    rows = spans_of(tmp_path, trace(TRACE, known, unknown))
    assert [(row.kind, row.attributes) for row in rows] == [(SERVER, {}), (0, {"span.kind": "odd"})]
