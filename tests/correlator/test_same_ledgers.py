"""The same spans and readings make the same ledgers, in whatever order and however often they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.settings import Settings
from layerline_correlator.store.model import Batch

WEB, STOCK = {"container": "web-1"}, {"service": "stock", "container": "stock-1"}
#: A request with our account that is held back by its limit, one that waits for a callee, one that nobody measured.
TRACES = {
    "0a" * 16: [
        {"id": "a", "kind": "server", "ms": [0, 400], "cpu": 60, "wait": 320, "throttled": 300, "switches": 1, **WEB},
    ],
    "0b" * 16: [
        {"id": "a", "kind": "server", "ms": [2000, 2300], "cpu": 20, "switches": 1, **WEB},
        {"id": "b", "parent": "a", "kind": "client", "ms": [2010, 2290], "cpu": 0, "switches": 1, **WEB},
        {"id": "c", "parent": "b", "kind": "server", "ms": [2012, 2288], "cpu": 200, "switches": 1, **STOCK},
        {"id": "d", "parent": "c", "ms": [2100, 2200], "cpu": 90, "switches": 1, **STOCK},
    ],
    "0c" * 16: [
        {"id": "a", "kind": "server", "ms": [4000, 4700], "service": "far", "container": "far-1"},
        {"id": "b", "parent": "a", "ms": [4100, 4300], "service": "far", "container": "far-1"},
    ],
}


def readings(zero_ns: int) -> list[Any]:
    at = list(range(-10_000, 15_000, 1000))
    drawn = [
        {"signal": signal, "container": name, "at": at, "values": [each * place for place in range(len(at))]}
        for name in ("web-1", "stock-1", "far-1")
        for signal, each in (("container.cpu.time", 250), ("container.cpu.throttled", 120))
    ]
    # A neighbour on the same CPUs and disk, so that lists of neighbours are compared too.
    others: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("container.cpu.time", 400, {"container": "noisy-1"}),
        ("container.disk.io", 1e6, {"container": "noisy-1"}),
        ("container.disk.io", 1e5, {"container": "far-1"}),
        ("container.io.pressure", 300, {"container": "far-1", "tags": {"pressure.kind": "some"}}),
        ("system.disk.io_time", 400, {"tags": {"system.device": "vda"}}),
        ("system.cpu.time", 950, {"tags": {"cpu.mode": "user"}}),
    )
    drawn += [
        {"signal": signal, "at": at, "values": [each * place for place in range(len(at))], **of}
        for signal, each, of in others
    ]
    return [series_rows(one, zero_ns) for one in drawn]


def ledgers(folder: Path, batches: Sequence[Batch]) -> tuple[list[Any], list[Any]]:
    """All requests and parts of a store that got these, each worked out before the next arrived."""
    correlator = Correlator.open(Settings(store=folder, group_ns=1_000_000))
    try:
        with correlator._wake:  # the test makes the passes
            correlator._closed = True
            correlator._wake.notify_all()
        correlator._thread.join()
        correlator._closed = False
        for one in batches:
            correlator.append(one)
            while correlator._pass():
                pass
        with correlator._reading() as cursor:
            return (
                cursor.execute("SELECT * EXCLUDE (judged_ns) FROM request ORDER BY ALL").fetchall(),
                cursor.execute("FROM part ORDER BY ALL").fetchall(),
            )
    finally:
        correlator.close()


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Any], list[Any]]:
    """Spans and readings."""
    zero_ns = a_while_ago()
    return (
        [span_row(span, trace_id, zero_ns) for trace_id, spans in TRACES.items() for span in spans],
        readings(zero_ns),
    )


@pytest.fixture(scope="module")
def expected(drawn: tuple[list[Any], list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What comes out where all arrives together."""
    spans, series = drawn
    requests, parts = ledgers(tmp_path_factory.mktemp("together") / "store", [batch(spans, series)])
    assert len(requests) == 4
    causes = {(part[0][:2], part[3]) for part in parts}
    assert {("0a", "container.cpu_throttled"), ("0b", "app.cpu_busy"), ("0c", "container.cpu_throttled")} <= causes
    named = {(part[0][:2], part[3], one["entity_id"][:10]) for part in parts for one in part[11] or ()}
    noisy = container_id("noisy-1")[:10]
    assert {("0a", "host.cpu_contended", noisy), ("0c", "host.io_saturated", noisy)} <= named
    return requests, parts


def test_one_by_one(drawn: tuple[list[Any], list[Any]], expected: Any, tmp_path: Path) -> None:
    """Spans that come one by one, each worked out with those before it, end up in the same ledgers."""
    spans, series = drawn
    assert ledgers(tmp_path / "store", [batch([], series), *(batch([span]) for span in spans)]) == expected


def test_backwards_and_doubled(drawn: tuple[list[Any], list[Any]], expected: Any, tmp_path: Path) -> None:
    """Callees before their callers, the newest trace first, everything twice, and the readings in two halves."""
    spans, series = drawn
    backwards = list(reversed(spans))
    halves = [[(owner, row, points[from_ : from_ + 13]) for owner, row, points in series] for from_ in (13, 0)]
    batches = [
        batch([], halves[0]),
        batch([], halves[1]),
        batch(backwards[:3]),
        batch(backwards[2:]),
        batch(spans, series),
    ]
    assert ledgers(tmp_path / "store", batches) == expected


def test_what_was_asked_for_too_early_is_worked_out_again(correlator: Correlator) -> None:
    """A ledger that a list asked for before its readings were there is worked out once more when they are."""
    zero_ns = a_while_ago(1)
    span = TRACES["0a" * 16][0] | {"ms": [0, 900], "cpu": 900, "wait": 0}
    correlator.append(batch([span_row(span, "0a" * 16, zero_ns)]))
    (item,) = correlator.requests(RequestQuery(zero_ns - 1, zero_ns + 1)).items
    assert item.cause == "app.cpu_busy"
    with correlator._wake:
        due_ns = correlator._waiting.due_ns()
        assert due_ns is not None
        assert due_ns >= zero_ns + 900 * MS + correlator._settings.settle_ns
        assert len(correlator._waiting) == 0, "nothing that arrived is missing meanwhile"
