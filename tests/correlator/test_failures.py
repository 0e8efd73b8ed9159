"""A request that failed says so first: what was raised, with which status, and where on the way down."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, hex_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.entity import Entity
from layerline_correlator.plain import plain
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import (
    STATUS_ERROR,
    STATUS_OK,
    STATUS_UNSET,
    Batch,
    LogRow,
    ResourceRow,
    SpanDetails,
    SpanEvent,
    SpanRow,
)
from layerline_correlator.verdict.failures import because
from layerline_correlator.verdict.model import Failure

Rows = list[tuple[ResourceRow, SpanRow]]
S = 10**9


def drawn(spans: list[dict[str, Any]], trace_id: str, zero_ns: int) -> Rows:
    """Spans with ``status``, ``message``, ``raised = (type, message)`` beside what ``span_row`` draws."""
    rows = []
    for span in spans:
        owner, row = span_row({"ms": [0, 50], **span}, trace_id, zero_ns)
        events = [
            SpanEvent(row.start_ns, "exception", {"exception.type": type, "exception.message": message})
            for type, message in span.get("raised", ())
        ]
        details = SpanDetails(status_message=span.get("message"), events=events or None)
        rows.append((owner, row._replace(status=span.get("status", STATUS_UNSET), details=details)))
    return rows


def cart(
    web: dict[str, Any], call: dict[str, Any], stock: dict[str, Any], query: dict[str, Any]
) -> list[dict[str, Any]]:
    """web asks stock, stock asks its database: what each of the four spans says."""
    return [
        {"id": "w", "kind": "server", "name": "GET /cart", "ms": [0, 50], **web},
        {"id": "c", "parent": "w", "kind": "client", "name": "GET", "ms": [5, 45],
         "attributes": {"server.address": "stock", "server.port": "8000"}, **call},
        {"id": "s", "parent": "c", "kind": "server", "service": "stock", "name": "GET /stock", "ms": [6, 44], **stock},
        {"id": "q", "parent": "s", "kind": "client", "service": "stock", "name": "SELECT items", "ms": [10, 40],
         "attributes": {"db.system.name": "postgresql", "server.address": "db", "server.port": "5432"}, **query},
    ]  # fmt: skip


E: dict[str, Any] = {"status": STATUS_ERROR}
OK: dict[str, Any] = {"status": STATUS_OK}
QUIET: dict[str, Any] = {}


def code(value: int | str, **more: Any) -> dict[str, Any]:
    return {"attributes": {"http.response.status_code": str(value)}, **more}


#: What the spans say, and what the failure of web's request must: type, message, status code, service, dependency.
CASES: dict[str, tuple[list[dict[str, Any]], tuple[Any, ...] | None]] = {
    "an exception on the entry only": (
        cart({**E, "raised": [("KeyError", "'cart'")]}, QUIET, QUIET, QUIET),
        ("KeyError", "'cart'", None, "web", None),
    ),
    "an exception on the callee only": (
        cart(E, E, {**E, "raised": [("builtins.ValueError", "no stock")]}, QUIET),
        ("builtins.ValueError", "no stock", None, "stock", None),
    ),
    "each wraps what it got": (
        cart(
            {**E, "raised": [("HTTPError", "500 Server Error")]},
            E,
            {**E, "raised": [("StockError", "no answer")]},
            {**E, "raised": [("OperationalError", "connection refused")]},
        ),
        ("OperationalError", "connection refused", None, "stock", "db:5432"),
    ),
    "a database that says nothing but error": (
        cart(code(500, **E), E, {**E, "raised": [("StockError", "no answer")]}, E),
        ("StockError", "no answer", "HTTP 500", "stock", "db:5432"),
    ),
    "handled on the way": (cart(OK, QUIET, {**OK, "raised": [("KeyError", "x")]}, E), None),
    "recorded, and the request is well": (cart({"raised": [("KeyError", "x")]}, QUIET, QUIET, QUIET), None),
    "HTTP 500 without exception": (cart(code(500, **E), QUIET, QUIET, QUIET), (None, None, "HTTP 500", "web", None)),
    "HTTP 503 that left its status unset": (
        cart(code(503), QUIET, QUIET, QUIET),
        (None, None, "HTTP 503", "web", None),
    ),
    "HTTP 500 that was said to be well": (cart(code(500, **OK), QUIET, QUIET, QUIET), None),
    "HTTP 404 is an answer": (cart(code(404), QUIET, QUIET, QUIET), None),
    "a 404 of a service that is well": (
        cart(E, code(404, **E), code(404), QUIET),
        (None, None, "HTTP 404", "web", "stock"),
    ),
    "gRPC by number": (
        cart(E, QUIET, {**E, "attributes": {"rpc.system": "grpc", "rpc.grpc.status_code": "14"}}, QUIET),
        (None, None, "gRPC UNAVAILABLE", "stock", None),
    ),
    "gRPC by name, status unset": (
        cart({"attributes": {"rpc.system.name": "grpc", "rpc.response.status_code": "INTERNAL"}}, QUIET, QUIET, QUIET),
        (None, None, "gRPC INTERNAL", "web", None),
    ),
    "gRPC not found is an answer": (
        cart({"attributes": {"rpc.grpc.status_code": "5"}}, QUIET, QUIET, QUIET),
        None,
    ),
    "a code that is none": (cart(code("oops", **E), QUIET, QUIET, QUIET), (None, None, None, "web", None)),
    "an error without a message": (cart(E, QUIET, QUIET, QUIET), (None, None, None, "web", None)),
    "only a status message": (
        cart({**E, "message": "out of carts"}, QUIET, QUIET, QUIET),
        (None, "out of carts", None, "web", None),
    ),
    "only error.type": (
        cart(E, {**E, "attributes": {"server.address": "prices", "error.type": "timeout"}}, QUIET, QUIET),
        ("timeout", None, None, "web", "stock"),
    ),
    "through a span that says nothing": (
        [
            {"id": "w", "kind": "server", "name": "GET /cart", **E},
            {"id": "i", "parent": "w", "name": "load", "ms": [1, 40]},
            {"id": "q", "parent": "i", "kind": "client", "name": "GET", "ms": [2, 30], **E,
             "attributes": {"url.full": "https://prices:8443/p", "http.response.status_code": "502"}},
        ],
        (None, None, "HTTP 502", "web", "prices:8443"),
    ),
    "tried again with success": (
        [
            {"id": "w", "kind": "server", "name": "GET /cart", **E, "raised": [("KeyError", "x")]},
            {"id": "a", "parent": "w", "kind": "client", "name": "GET", "ms": [2, 10], **E},
            {"id": "b", "parent": "w", "kind": "client", "name": "GET", "ms": [12, 20]},
        ],
        ("KeyError", "x", None, "web", None),
    ),
    "tried again in vain": (
        [
            {"id": "w", "kind": "server", "name": "GET /cart", **E},
            {"id": "a", "parent": "w", "kind": "client", "name": "GET", "ms": [2, 10], **E, "raised": [("A", "first")]},
            {"id": "b", "parent": "w", "kind": "client", "name": "GET", "ms": [12, 20], **E, "raised": [("B", "last")]},
        ],
        ("B", "last", None, "web", "GET"),
    ),
    "its own parent": (
        [{"id": "w", "parent": "w", "kind": "server", "name": "GET /cart", **E, "raised": [("A", "x")]}],
        ("A", "x", None, "web", None),
    ),
    "two exceptions: the last ended it": (
        cart({**E, "raised": [("KeyError", "caught"), ("ValueError", "escaped")]}, QUIET, QUIET, QUIET),
        ("ValueError", "escaped", None, "web", None),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def correlator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlator]:
    correlator = Correlator.open(Settings(store=tmp_path_factory.mktemp("store"), group_ns=1_000_000))
    rows: Rows = []
    for number, (spans, _) in enumerate(CASES.values(), 1):
        rows += drawn(spans, f"{number:032x}", a_while_ago(600))
    correlator.append(batch(rows))
    yield correlator
    correlator.close()


@pytest.mark.parametrize("case", CASES)
def test_what_failed(correlator: Correlator, case: str) -> None:
    """The deepest failing span on the way is named, with what it or the next above it says."""
    verdict = correlator.verdict(f"{list(CASES).index(case) + 1:032x}")
    assert verdict is not None
    expected = CASES[case][1]
    if expected is None:
        assert verdict.failures == []
        assert verdict.against is None
        return
    (failure,) = verdict.failures
    dependency = failure.entity.id if failure.dependency else None
    assert (failure.type, failure.message, failure.status_code, failure.service, dependency) == expected
    assert failure.because
    assert verdict.culprits == [], "it was not slow: no time is to blame"


def test_the_way_down_is_told(correlator: Correlator) -> None:
    """Services from the request's own to the one in which it failed, and the dependency by what it is."""
    verdict = correlator.verdict(f"{list(CASES).index('each wraps what it got') + 1:032x}")
    assert verdict is not None
    (failure,) = verdict.failures
    assert failure.services == ["web", "stock"]
    assert (failure.span, failure.span_id) == ("SELECT items", hex_id("q"))
    assert failure.entity.name == "postgresql at db:5432"
    assert failure.because == "OperationalError: connection refused in stock, calling postgresql at db:5432"


def test_an_error_that_was_logged_is_the_message(correlator: Correlator) -> None:
    """Where no exception was recorded the last error that was logged says what happened; also one that comes later."""
    zero_ns = a_while_ago(500)
    traces = {name: f"{number:032x}" for number, name in enumerate(("span", "trace", "typed", "warned", "raised"), 901)}
    rows: Rows = []
    for name, trace_id in traces.items():
        raised = [("KeyError", "kept")] if name == "raised" else []
        rows += drawn([{"id": "w", "kind": "server", "name": "GET /cart", **E, "raised": raised}], trace_id, zero_ns)
    correlator.append(batch(rows))
    owner = rows[0][0]
    first = correlator.verdict(traces["span"])
    assert first is not None
    assert first.failures[0].said_by == "status"

    def log(trace: str, body: str, severity: int = 17, span: str | None = "w", at: int = 1, **said: str) -> LogRow:
        attributes = {f"exception.{key}": value for key, value in said.items()}
        where = hex_id(span) if span else None
        return LogRow(owner.resource, zero_ns + at * MS, traces[trace], where, severity, "", body, attributes)

    said = [
        log("span", "first"), log("span", "no cart 7", at=2), log("span", "chatter", 9, at=3),
        log("trace", "somewhere", span=None), log("typed", "unhandled", type="ValueError", message="bad"),
        log("warned", "only a warning", 13), log("raised", "something else"),
    ]  # fmt: skip
    correlator.append(Batch(resources=[owner], logs=said))
    found = {}
    for name, trace_id in traces.items():
        verdict = correlator.verdict(trace_id)
        assert verdict is not None
        found[name] = [(one.type, one.message, one.said_by) for one in verdict.failures]
    assert found == {
        "span": [(None, "no cart 7", "log")],
        "trace": [(None, "somewhere", "log")],
        "typed": [("ValueError", "bad", "log")],
        "warned": [(None, None, "status")],
        "raised": [("KeyError", "kept", "exception")],
    }


def test_an_operation_that_fails_says_so_first(correlator: Correlator) -> None:
    """Counts now and before, each kind of failure with its own, newest message first; no time is blamed."""
    zero_ns, rows = a_while_ago(400), []
    draw = random.Random(7)  # noqa: S311 - a reproducible test
    for number in range(200):
        now = number >= 100
        failed = now and number % 2 == 0
        raised = [("KeyError", f"'cart {number}'") if number % 4 else ("TimeoutError", "late")] if failed else []
        at = zero_ns + (200 if now else 0) * S + number * S // 2
        span = {"id": "w", "kind": "server", "service": "shop", "name": "GET /shop", "ms": [0, 20 + draw.random()],
                "cpu": 15, "status": STATUS_ERROR if failed else 0, "raised": raised}  # fmt: skip
        rows += drawn([span], f"{10_000 + number:032x}", at)
        ok = {**span, "service": "fine", "status": STATUS_ERROR if number == 150 else 0, "raised": []}
        rows += drawn([ok], f"{20_000 + number:032x}", at)
    correlator.append(batch(rows))
    query = RequestQuery(zero_ns + 225 * S, zero_ns + 400 * S)
    (verdict,) = [one for one in correlator.verdicts(query).items if one.service in ("shop", "fine")]
    assert (verdict.service, verdict.requests, verdict.errors, verdict.slow, verdict.judged) == ("shop", 100, 50, 0, 50)
    assert [(one.type, one.requests, one.before) for one in verdict.failures] == [
        ("KeyError", 25, 0),
        ("TimeoutError", 25, 0),
    ]
    assert verdict.failures[0].message == "'cart 198'"
    assert len(verdict.failures[0].examples) == 3
    assert verdict.against is not None
    assert (verdict.against.requests, verdict.against.errors) == (100, 0)
    assert (verdict.culprits, verdict.suspects) == ([], [])
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == verdict.duration_ns
    told = plain(verdict)
    assert list(told["against"]) == ["from", "to", "requests", "errors", "p50_ns", "p95_ns"]
    assert told["against"]["p50_ns"] == pytest.approx(20 * MS, rel=0.1)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"type": "KeyError", "message": "'a'"}, "KeyError: 'a' in web"),
        ({"type": "java.net.ConnectException", "message": "ConnectException: no"}, "ConnectException: no in web"),
        ({"message": "two\n lines", "status_code": "HTTP 500"}, "two lines (HTTP 500) in web"),
        ({"status_code": "gRPC INTERNAL"}, "gRPC INTERNAL in web"),
        ({"type": "A", "status_code": "HTTP 502", "status_of": "shop"}, "A in web; shop answered HTTP 502"),
        ({}, "an error without a message in web"),
    ],
)
def test_one_line(said: dict[str, Any], line: str) -> None:
    """Type, message and status once each, and where."""
    values: dict[str, Any] = {"type": None, "message": None, "status_code": None, "status_of": None, **said}
    failure = Failure(
        **values, service="web", span="GET", span_id=None, dependency=False, entity=Entity("service", "web", "web"),
        services=["web"], said_by="status", because="", requests=1,
    )  # fmt: skip
    assert because(failure) == line
