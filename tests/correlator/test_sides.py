"""The time between caller and callee is offered to both; their other edges decide."""

from __future__ import annotations

from typing import Any

import pytest
from spans import MS, a_while_ago, batch, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.store.model import ResourceRow, SpanRow
from layerline_correlator.verdict import sides
from layerline_correlator.verdict.model import Part

TRACE = "51de51de" * 4


def call(
    caller: str, callee: str, way_ms: float, trace: int | str, zero_ns: int, shared: bool
) -> list[tuple[ResourceRow, SpanRow]]:
    """``caller`` asks ``callee``, which answers after 10 ms; the way takes so long, half there and half back.

    ``shared``: both halves of the call have one id.
    """
    answer = {"id": "c", "parent": "r"} if shared else {"id": "s", "parent": "c"}
    trace_id = trace if isinstance(trace, str) else f"{trace:032x}"
    spans: list[dict[str, Any]] = [
        {"id": "r", "kind": "server", "service": caller, "name": "GET /", "ms": [0, way_ms + 12], "cpu": 2},
        {
            "id": "c", "parent": "r", "kind": "client", "service": caller, "name": "GET", "ms": [1, way_ms + 11],
            "cpu": 0, "switches": 2, "attributes": {"server.address": callee, "server.port": "80"},
        },
        {
            **answer, "kind": "server", "service": callee, "name": "GET /of",
            "ms": [1 + way_ms / 2, 11 + way_ms / 2], "cpu": 10,
        },
    ]  # fmt: skip
    return [span_row(span, trace_id, zero_ns) for span in spans]


def judged(correlator: Correlator, late: set[tuple[str, str]], shared: bool = False) -> Part:
    """Four services, three edges; then the edges of ``late`` take 300 ms longer. The part of web to stock."""
    zero_ns = a_while_ago(120)
    edges = [("web", "stock"), ("web", "prices"), ("till", "stock")]
    rows = [
        row
        for number, (caller, callee) in enumerate(edges)
        for turn in range(30)
        for row in call(caller, callee, 4, 1000 * number + turn + 1, zero_ns - (turn + 10) * 1_000 * MS, shared)
    ]
    rows += [
        row
        for number, (caller, callee) in enumerate(edges)
        for turn in range(4)
        for row in call(
            caller,
            callee,
            304 if (caller, callee) in late else 4,
            TRACE if (caller, callee, turn) == ("web", "stock", 3) else 9000 + 10 * number + turn,
            zero_ns + turn * 1_000 * MS,
            shared,
        )
    ]
    correlator.append(batch(rows))
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert verdict.culprits[0].cause == "network.transit_slow"
    return next(part for part in verdict.parts if part.cause == "network.transit_slow")


@pytest.mark.parametrize(
    ("late", "first"),
    [({("web", "stock"), ("till", "stock")}, "stock"), ({("web", "stock"), ("web", "prices")}, "web")],
)
@pytest.mark.parametrize("shared", [False, True])
def test_the_other_edges_decide(correlator: Correlator, late: set[tuple[str, str]], first: str, shared: bool) -> None:
    """Whose other edges were late at the same time has the delay on its side."""
    part = judged(correlator, late, shared)
    assert part.by[0].entity.name == first, part
    assert part.by[0].share > 0.6
    assert "were late too" in part.because


def test_one_late_edge_is_on_neither_side(correlator: Correlator) -> None:
    """Where all other edges of both were as usual, the way between the two is all there is to name."""
    part = judged(correlator, {("web", "stock")})
    assert [one.share for one in part.by] == [0.5, 0.5]
    assert "were as usual" in part.because


def test_a_part_of_very_many_calls_decides(correlator: Correlator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there were more calls than are looked at, those of a part of the traces say the same."""
    monkeypatch.setattr(sides, "CALLS", 60)
    part = judged(correlator, {("web", "stock"), ("till", "stock")})
    assert part.by[0].entity.name == "stock", part
    assert "were late too" in part.because


def test_calls_are_read_once_for_verdicts_of_the_same_time() -> None:
    """The calls around several verdicts are read together, and again only for one that lies far before the others."""
    minute_ns, read = 60 * 10**9, []

    class Cursor:
        def execute(self, sql: str, bounds: dict[str, int] | None = None) -> Cursor:
            if "near_call" in sql and bounds is not None:
                read.append((bounds["since_ns"] // minute_ns, bounds["until_ns"] // minute_ns))
            return self

        def fetchall(self) -> list[Any]:
            return []

    calls = sides.Calls(Cursor(), (0, 1000 * minute_ns))  # type: ignore[arg-type]
    for first, last in ((990, 1000), (980, 995), (975, 990)):
        calls.near((first * minute_ns, last * minute_ns))
    assert read == [(965, 1000)]
    calls.near((100 * minute_ns, 110 * minute_ns))
    assert read[1:] == [(95, 110)]
