"""The waterfall of a request: each span's own time by cause, together exactly the ledger that is stored."""

from __future__ import annotations

from typing import Any

from spans import a_while_ago, batch, hex_id, span_row

from layerline_correlator.correlator import Correlator

TRACE, LONG = "a" * 32, "b" * 32


def request(calls: int) -> list[dict[str, Any]]:
    """A request that computes, is throttled in a second service, and makes some calls of one kind."""
    spans: list[dict[str, Any]] = [
        {"id": "r", "kind": "server", "name": "GET /cart", "container": "web-1", "ms": [0, 500], "cpu": 20,
         "slices": [[0, 20, 20, 0]]},
        {"id": "c", "parent": "r", "kind": "client", "name": "GET", "container": "web-1", "ms": [20, 420], "cpu": 0,
         "slices": [[0, 400, 0, 0]]},
        {"id": "s", "parent": "c", "kind": "server", "name": "GET /stock", "service": "stock", "container": "stock-1",
         "ms": [21, 419], "cpu": 48, "wait": 350, "slices": [[0, 398, 48, 350]], "throttled": 350, "usage": 48,
         "runnable": 398},
    ]  # fmt: skip
    spans += [
        {"id": f"q{number}", "parent": "r", "kind": "client", "name": "SELECT", "container": "web-1",
         "ms": [420 + number, 421 + number], "cpu": 0, "slices": [[0, 1, 0, 0]],
         "attributes": {"db.system": "postgresql", "server.address": "db", "server.port": "5432"}}
        for number in range(calls)
    ]  # fmt: skip
    return spans


def test_each_span_has_its_causes_and_all_add_up(correlator: Correlator) -> None:
    """What spans lost is, summed, what the request's verdict says, and with what is unexplained its duration."""
    at_ns = a_while_ago(300)
    correlator.append(batch([span_row(span, TRACE, at_ns) for span in request(3)]))
    verdict = correlator.verdict(TRACE)
    found = correlator.waterfall(TRACE)
    assert verdict is not None
    assert found is not None
    assert sum(row.own_ns for row in found.rows) == found.duration_ns == verdict.duration_ns
    assert all(
        row.unexplained_ns + sum(share.lost_ns for share in row.shares) == row.own_ns and row.unexplained_ns >= 0
        for row in found.rows
    )
    assert sum(row.unexplained_ns for row in found.rows) == verdict.unexplained_ns
    lost: dict[tuple[str, str], int] = {}
    for share in (share for row in found.rows for share in row.shares):
        lost[share.cause, share.entity.id] = lost.get((share.cause, share.entity.id), 0) + share.lost_ns
    stored: dict[tuple[str, str], int] = {}
    for part in verdict.parts:
        stored[part.cause, part.entity.id] = stored.get((part.cause, part.entity.id), 0) + part.lost_ns
    assert lost == stored
    by_name = {row.span["name"]: row for row in found.rows}
    assert by_name["GET /stock"].shares[-1].cause == "container.cpu_throttled"
    assert by_name["GET /stock"].depth == 2
    assert sum(stretch.length_ns for stretch in by_name["GET /stock"].path) == by_name["GET /stock"].own_ns


def test_many_calls_are_one_row_that_can_be_unfolded(correlator: Correlator) -> None:
    """Fifty calls of a kind are two rows that add up; below their caller each has its own. Nothing is stored."""
    at_ns = a_while_ago(300)
    correlator.append(batch([span_row(span, LONG, at_ns) for span in request(50)]))
    before = correlator.verdict(LONG)
    folded = correlator.waterfall(LONG)
    assert folded is not None
    assert [(row.span["name"], row.alike) for row in folded.rows][-2:] in (
        [("SELECT", 1), ("SELECT", 49)], [("SELECT", 49), ("SELECT", 1)]
    )  # fmt: skip
    assert sum(row.own_ns for row in folded.rows) == folded.duration_ns
    below = correlator.waterfall(LONG, under=hex_id("r"))
    assert below is not None
    assert sum(row.span["name"] == "SELECT" for row in below.rows) == 50
    part = correlator.waterfall(LONG, under=hex_id("c"))
    assert part is not None
    assert ([row.span["name"] for row in part.rows], part.elsewhere) == (["GET", "GET /stock"], 51)
    assert (part.from_ns, part.to_ns) == (20_000_000, 420_000_000)
    assert correlator.verdict(LONG) == before


def test_what_is_not_there(correlator: Correlator) -> None:
    """An unknown trace, request or span has no waterfall."""
    correlator.append(batch([span_row(span, TRACE, a_while_ago(300)) for span in request(1)]))
    assert correlator.waterfall("f" * 32) is None
    assert correlator.waterfall(TRACE, span_id="f" * 16) is None
    assert correlator.waterfall(TRACE, under="f" * 16) is None
