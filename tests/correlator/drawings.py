"""Scenarios: drawings of a few spans and readings, put into a store together, and compared with what it says of each.

Times are milliseconds. ``parts`` gives ``lost`` or ``[lost, low, high]`` per cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from spans import MS, a_while_ago, alone, batch, drawn_name, event_row, hex_id, series_rows, span_row, together

from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.store.model import Batch
from layerline_correlator.verdict.model import Verdict

#: Requests that happened before, and the one that is asked for.
_BEFORE, _ASKED = 0, 1


def judged(scenarios: Sequence[dict[str, Any]], correlator: Correlator) -> list[Verdict]:
    """The verdict of each, worked out in one pass; each has machines, containers and services of its own."""
    zero_ns = a_while_ago()
    parts = [
        together(
            alone(earlier(one, number, zero_ns), number) for number, one in enumerate(scenarios) if "before" in one
        ),
        together(alone(asked(one, number, zero_ns), number) for number, one in enumerate(scenarios)),
    ]
    # Names are read at most every two seconds: all of them are there before the first is asked for.
    correlator.append(Batch(resources=[row for part in parts for row in part.resources]))
    for part in parts:
        correlator.append(part)
        while correlator.behind():
            correlator.requests(RequestQuery(from_ns=0, to_ns=zero_ns))
    verdicts = []
    for number, one in enumerate(scenarios):
        verdict = correlator.verdict(_trace(number, _ASKED), hex_id(one["of"]) if "of" in one else None)
        assert verdict is not None, f"no request in the scenario “{one['must']}”"
        verdicts.append(verdict)
    return verdicts


def earlier(scenario: dict[str, Any], number: int, zero_ns: int) -> Batch:
    """The same operation ``times`` over, a second apart, before the request of the drawing."""
    drawn = scenario["before"]
    return batch(
        span_row(span, _trace(number, _BEFORE, turn), zero_ns - (turn + 5) * 1_000 * MS)
        for turn in range(drawn["times"])
        for span in drawn["spans"]
    )


def asked(scenario: dict[str, Any], number: int, zero_ns: int) -> Batch:
    """The request of the drawing, and what was measured around it."""
    return batch(
        (span_row(span, _trace(number, _ASKED), zero_ns) for span in scenario["spans"]),
        (series_rows(series, zero_ns) for series in scenario.get("readings", [])),
        (event_row(event, zero_ns) for event in scenario.get("events", [])),
    )


def _trace(number: int, part: int, turn: int = 0) -> str:
    return f"5ce7a710{number:08x}{part:08x}{turn:08x}"


def total(parts: list[Any], bound: str) -> float:
    """Milliseconds of several parts of one cause: more than one service can have it."""
    return sum(getattr(part, bound) for part in parts) / MS


def check(scenario: dict[str, Any], verdict: Verdict) -> None:
    """The ledger is the one that the drawing's author worked out by hand."""
    found = {part.cause: part for part in verdict.parts}
    sums = {cause: [part for part in verdict.parts if part.cause == cause] for cause in found}
    shown = {
        cause: tuple(total(parts, bound) for bound in ("lost_ns", "low_ns", "high_ns")) for cause, parts in sums.items()
    }
    for cause, expected in scenario["parts"].items():
        assert cause in found, f"{cause} is missing in {shown}"
        lost, low, high = expected if isinstance(expected, list) else (expected, None, None)
        assert shown[cause][0] == pytest.approx(lost, abs=0.002), f"{cause} in {shown}"
        if low is not None:
            assert shown[cause][1:] == pytest.approx((low, high), abs=0.002), f"range of {cause} in {shown}"
    extra = {cause for cause, part in found.items() if cause not in scenario["parts"] and part.lost_ns > 2_000}
    assert not extra, f"not drawn: {extra} in {shown}"
    if "unexplained" in scenario:
        assert verdict.unexplained_ns == pytest.approx(scenario["unexplained"] * MS, abs=4_000)
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == verdict.duration_ns

    blind = {one.cause for one in verdict.blind}
    assert blind >= set(scenario.get("blind", [])), f"blind: {blind}"
    assert not blind & set(scenario.get("sees", [])), f"blind: {blind}"
    for cause, (kind, name) in scenario.get("entities", {}).items():
        assert (found[cause].entity.type, drawn_name(found[cause].entity.name)) == (kind, name)
    for cause, names in scenario.get("by", {}).items():
        assert [drawn_name(neighbour.entity.name) for neighbour in found[cause].by] == names
    for cause, evidence in scenario.get("evidence", {}).items():
        assert found[cause].evidence == evidence
    for cause, words in scenario.get("because", {}).items():
        assert words in found[cause].because, found[cause].because
    for cause, place in scenario.get("where", {}).items():
        where = found[cause].where
        assert where is not None, f"{cause} has no place"
        assert f"{where['function']} {where['file']}:{where['line']}" == place
    if "skew_adjusted" in scenario:
        assert verdict.join.skew_adjusted_ns == scenario["skew_adjusted"] * MS
