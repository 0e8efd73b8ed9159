"""The rules of judgement, as drawings: a few spans, a line of readings, the ledger that must come out.

A cause ``container.cpu_throttled`` is tested by ``tests/scenarios/container_cpu_throttled.toml``. Each scenario says in
``must`` what has to be true. Times are milliseconds. ``parts`` gives ``lost`` or ``[lost, low, high]`` per cause.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from spans import MS, a_while_ago, batch, event_row, hex_id, series_rows, span_row

from layerline_correlator.correlator import Correlator
from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.questions.requests import RequestQuery

SCENARIOS = Path(__file__).parent.parent / "scenarios"
FILES = sorted(SCENARIOS.glob("*.toml"))
TRACE = "5ce7a710" * 4


def load() -> list[Any]:
    return [
        pytest.param(scenario, id=f"{path.stem}: {scenario['must']}")
        for path in FILES
        for scenario in tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]
    ]


def test_every_cause_has_its_scenarios() -> None:
    """A cause is not believed before it has been seen to happen, to be told from its look-alike, and to be blind."""
    for cause in all_causes():
        path = SCENARIOS / f"{cause.name.replace('.', '_')}.toml"
        assert path.exists(), f"{cause.name} has no {path.name}"
        kinds = {scenario["kind"] for scenario in tomllib.loads(path.read_text(encoding="utf-8"))["scenario"]}
        assert kinds >= {"happened", "look-alike", "missing"}, f"{path.name} has only {kinds}"


def earlier(drawn: dict[str, Any], zero_ns: int) -> list[Any]:
    """The same operation ``times`` over, a second apart, before the request of the drawing."""
    return [
        span_row(span, f"{number:032x}", zero_ns - (number + 5) * 1_000 * MS)
        for number in range(drawn["times"])
        for span in drawn["spans"]
    ]


def total(parts: list[Any], bound: str) -> float:
    """Milliseconds of several parts of one cause: more than one service can have it."""
    return sum(getattr(part, bound) for part in parts) / MS


@pytest.mark.parametrize("scenario", load())
def test_scenario(scenario: dict[str, Any], correlator: Correlator) -> None:
    """The ledger of the drawing is the one that its author worked out by hand."""
    zero_ns = a_while_ago()
    if "before" in scenario:
        correlator.append(batch(earlier(scenario["before"], zero_ns)))
        correlator.requests(
            RequestQuery(from_ns=0, to_ns=zero_ns)
        )  # their ledgers are there before it is asked for its own
    correlator.append(
        batch(
            (span_row(span, TRACE, zero_ns) for span in scenario["spans"]),
            (series_rows(series, zero_ns) for series in scenario.get("readings", [])),
            (event_row(event, zero_ns) for event in scenario.get("events", [])),
        )
    )
    asked = hex_id(scenario["of"]) if "of" in scenario else None
    verdict = correlator.verdict(TRACE, asked)
    assert verdict is not None

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
        assert (found[cause].entity.type, found[cause].entity.name) == (kind, name)
    for cause, names in scenario.get("by", {}).items():
        assert [neighbour.entity.name for neighbour in found[cause].by] == names
    for cause, evidence in scenario.get("evidence", {}).items():
        assert found[cause].evidence == evidence
    for cause, place in scenario.get("where", {}).items():
        where = found[cause].where
        assert where is not None, f"{cause} has no place"
        assert f"{where['function']} {where['file']}:{where['line']}" == place
    if "skew_adjusted" in scenario:
        assert verdict.join.skew_adjusted_ns == scenario["skew_adjusted"] * MS
