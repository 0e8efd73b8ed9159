"""Spans for other tools: traces are found by what one of their spans is, and read whole."""

from __future__ import annotations

import pytest
from spans import a_while_ago, batch, hex_id, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions import spans
from layerline_correlator.questions.spans import SpanQuery, read_operations, read_spans, read_trace_ids

ONE, OTHER = f"{1:032x}", f"{2:032x}"


def fill(correlator: Correlator) -> int:
    zero_ns = a_while_ago()
    drawn = [
        ({"id": "a", "kind": "server", "name": "GET /", "ms": [0, 100], "cpu": 30, "attributes": {"k": "v"}}, ONE),
        ({"id": "b", "parent": "a", "kind": "client", "ms": [10, 60], "cpu": 1}, ONE),
        ({"id": "c", "kind": "server", "name": "GET /", "ms": [1000, 1020], "cpu": 20}, OTHER),
    ]
    correlator.append(batch([span_row(one, trace_id, zero_ns) for one, trace_id in drawn]))
    return zero_ns


def test_a_trace_is_found_by_one_span_and_read_whole(correlator: Correlator) -> None:
    """All of a query must hold for one span; what is read are the trace's spans in the order in which they began."""
    zero_ns = fill(correlator)
    to_ns = zero_ns + 10**10

    def found(**wanted: object) -> list[str]:
        return correlator.ask(read_trace_ids, SpanQuery(zero_ns, to_ns, "web", **wanted))  # type: ignore[arg-type]

    assert found() == [OTHER, ONE]
    assert found(operation="b") == [ONE]
    assert found(attributes=(("k", "v"),)) == [ONE]
    assert found(operation="b", attributes=(("k", "v"),)) == []
    assert found(max_duration_ns=30_000_000) == [OTHER]
    read = correlator.ask(read_spans, [ONE])
    assert [span.name for span in read.spans] == ["GET /", "b"]
    assert read.spans[1].parent_span_id == hex_id("a")
    assert read.spans[0].attributes["layerline.thread.cpu_ns"] == 30_000_000
    lost = read.spans[0].lost
    assert lost is not None
    assert lost.unexplained_ns is not None
    assert sum(ns for _, ns in lost.by_cause) + lost.unexplained_ns == 100_000_000
    assert read.spans[1].lost is None
    assert correlator.ask(read_operations, "web") == [("GET /", 2), ("b", 3)]


def test_an_answer_is_bounded(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans than one answer may have are cut, and the answer says so."""
    fill(correlator)
    monkeypatch.setattr(spans, "MOST_SPANS", 2)
    read = correlator.ask(read_spans, [ONE, OTHER])
    assert (len(read.spans), read.cut) == (2, True)
