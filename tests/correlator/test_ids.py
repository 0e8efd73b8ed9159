"""A span is more than its id: caller and callee may share one, and a span may be sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from spans import MS, a_while_ago, batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger import work as ledger
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch, SpanRow
from layerline_correlator.store.store import Store

TRACE = "1d5" + "0" * 29

#: A call whose two halves share the id `b` (Zipkin, B3, Envoy): front waits for back, and back for a database.
SHARED: list[dict[str, Any]] = [
    {"id": "a", "kind": "server", "service": "front", "host": "h1", "ms": [0, 200]},
    {"id": "b", "parent": "a", "kind": "client", "service": "front", "host": "h1", "ms": [10, 190]},
    {"id": "b", "parent": "a", "kind": "server", "service": "back", "host": "h2", "ms": [30, 170]},
    {"id": "c", "parent": "b", "kind": "client", "service": "back", "host": "h2", "name": "SELECT", "ms": [40, 160]},
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(Settings(store=tmp_path, group_ns=0))
    yield opened
    opened.close()


def drawn(spans: list[dict[str, Any]], zero_ns: int) -> Batch:
    """These spans as one batch."""
    return batch([span_row(span, TRACE, zero_ns) for span in spans])


def shown(correlator: Correlator) -> list[tuple[str, str, str, float]]:
    """Service, name, kind and milliseconds of each span of the trace."""
    found = correlator.trace(TRACE)
    assert found is not None
    return [(span["service"], span["name"], span["kind"], span["duration_ns"] / MS) for span in found["spans"]]


def requests(correlator: Correlator, zero_ns: int) -> list[tuple[str, int]]:
    """Service and milliseconds of each request."""
    query = RequestQuery(from_ns=zero_ns - 1_000 * MS, to_ns=zero_ns + 10_000 * MS, min_duration_ns=0, order="start")
    return [(row.service, row.duration_ns // MS) for row in reversed(correlator.requests(query).items)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
@pytest.mark.parametrize("together", [True, False])
def test_both_halves_of_a_shared_id_are_kept(correlator: Correlator, order: tuple[int, ...], together: bool) -> None:
    """The half that answered is called by the half that asked, and what it called is its own."""
    zero_ns = a_while_ago()
    spans = [SHARED[number] for number in order]
    for sent in [spans] if together else [[span] for span in spans]:
        correlator.append(drawn(sent, zero_ns))
    assert requests(correlator, zero_ns) == [("front", 200), ("back", 140)]
    assert len(shown(correlator)) == 4
    found = correlator.trace(TRACE)
    assert found is not None
    assert [(one["service"], one["kind"], one["length_ns"] / MS) for one in found["segments"]] == [
        ("front", "server", 10),
        ("front", "client", 20),
        ("back", "server", 10),
        ("back", "client", 120),
        ("back", "server", 10),
        ("front", "client", 20),
        ("front", "server", 10),
    ]
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert {(part.cause, part.service): part.lost_ns for part in verdict.parts}["dependency.slow", "back"] == 120 * MS
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == 200 * MS


def test_a_shared_id_is_one_call_between_services(correlator: Correlator) -> None:
    """Who answered under the id of a call is its callee, also where it called nobody."""
    zero_ns = a_while_ago()
    correlator.append(drawn(SHARED[:3], zero_ns))
    edges = correlator.service_map(zero_ns - 1_000 * MS, zero_ns + 1_000 * MS)
    assert [(edge.caller, edge.callee, edge.calls) for edge in edges.edges] == [("front", "back", 1)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
def test_a_span_that_is_sent_again_longer_replaces_the_earlier(
    correlator: Correlator, together: bool, backwards: bool
) -> None:
    """A partial span, its start corrected, and the finished one are one request: the finished."""
    zero_ns = a_while_ago()
    spans: list[dict[str, Any]] = [
        {"id": "a", "kind": "server", "name": "GET /", "ms": [0, 1]},
        {"id": "a", "kind": "server", "name": "GET /", "ms": [1, 200]},
    ]
    spans = spans[::-1] if backwards else spans
    for sent in [spans] if together else [[span] for span in spans]:
        correlator.append(drawn(sent, zero_ns))
    assert requests(correlator, zero_ns) == [("web", 199)]
    assert shown(correlator) == [("web", "GET /", "server", 199)]


def test_a_span_that_is_sent_again_long_after_is_one_span(correlator: Correlator) -> None:
    """A replay with other times, too far away for the store to find the first, is left out of the ledger."""
    zero_ns = a_while_ago(120)
    correlator.append(drawn([{"id": "a", "kind": "server", "ms": [0, 100]}], zero_ns))
    correlator.append(drawn([{"id": "a", "kind": "server", "ms": [60_000, 60_050]}], zero_ns))
    query = RequestQuery(from_ns=zero_ns - MS, to_ns=zero_ns + 100_000 * MS, min_duration_ns=0)
    assert [row.duration_ns for row in correlator.requests(query).items] == [100 * MS]


def test_a_child_of_a_third_process_belongs_to_the_caller(correlator: Correlator) -> None:
    """What neither half's process sent was called by the half that asked."""
    zero_ns = a_while_ago()
    stranger = {"id": "d", "parent": "b", "kind": "server", "service": "third", "host": "h2", "ms": [171, 185]}
    correlator.append(drawn([*SHARED, stranger], zero_ns))
    found = correlator.trace(TRACE)
    assert found is not None
    lengths = [segment["length_ns"] / MS for segment in found["segments"]]
    assert lengths == [10, 20, 10, 120, 10, 1, 14, 5, 10]


def test_two_halves_that_began_together_are_one_request(correlator: Correlator) -> None:
    """A root call and its answer under one id, begun in the same nanosecond, are not charged for each other's parts."""
    zero_ns = a_while_ago()
    spans = [
        {"id": "a", "kind": "client", "service": "job", "ms": [0, 100]},
        {"id": "a", "kind": "server", "service": "web", "ms": [0, 90], "cpu": 80, "wait": 0},
    ]
    correlator.append(drawn(spans, zero_ns))
    assert requests(correlator, zero_ns) == [("job", 100)]
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == 100 * MS


def test_ids_that_are_shared_do_not_multiply(store: Store) -> None:
    """However many spans share ids, each is worked out once: 24 spans under two ids are 24 rows."""
    zero_ns = a_while_ago()
    spans: list[SpanRow] = []
    resources = {}
    for number in range(24):
        drawing = {
            "id": "ab"[number % 2],
            "parent": "ba"[number % 2],
            "kind": ("client", "server", "internal")[number % 3],
            "service": f"s{number}",
            "ms": [number, 100 - number],
        }
        owner, row = span_row(drawing, TRACE, zero_ns)
        resources[owner.resource] = owner
        spans.append(row)
    store.append(Batch(resources=list(resources.values()), spans=spans))
    with store.cursor() as cursor:
        bounds = min(row.start_ns for row in spans), max(row.start_ns for row in spans)
        ledger.work_out(cursor, [TRACE], *bounds)
        for table in ("numbered", "half"):
            assert rows_of(cursor, table) == 24
        assert rows_of(cursor, "node") == rows_of(cursor, "(SELECT DISTINCT span_no FROM node)") <= 24
        assert rows_of(cursor, "walk") <= 24 * rows_of(cursor, "entry")


def rows_of(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    """How many rows a table has."""
    found = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return found[0] if found else 0
