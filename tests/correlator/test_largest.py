"""The largest values that are let in, in every signal and every figure at once, cost nobody an answer or a reading."""

from __future__ import annotations

from typing import Any

import pytest
from spans import MS, a_while_ago, batch, container_id, series_rows, span_row, together

from layerline.attributes import SPAN_FIGURES
from layerline.signals import SIGNALS
from layerline_api.doors.bounds import SIGNAL_LIMIT, figure_limit
from layerline_correlator.correlator import Correlator
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.store.model import Batch, PointRow, SpanRow
from layerline_correlator.tagquery.parse import parse

TRACE = "1" * 32


def largest_readings(zero_ns: int) -> Batch:
    """Every signal of the catalogue, of two containers and their machine, from 0 to the largest in each interval: what
    falls began again, and grew by its value."""
    drawn: list[dict[str, Any]] = [
        {"signal": signal.name, "tags": dict.fromkeys(signal.dimensions, "x"), "at": [], "values": [], **owner}
        for signal in SIGNALS
        for owner in ([{"container": "web"}, {"container": "other"}] if signal.entity == "container" else [{}])
    ]
    found = []
    for one in drawn:
        owner, series, _ = series_rows(one, zero_ns)
        points = [
            PointRow(series.series, zero_ns - 3_600_000 * MS, zero_ns + at * 200 * MS, SIGNAL_LIMIT * (at % 2))
            for at in range(-5, 10)
        ]
        found.append(Batch(resources=[owner], series=[series], points=points))
    return together(found)


def largest_figures(row: SpanRow) -> SpanRow:
    return row._replace(figures=tuple(figure_limit(name) for name in SPAN_FIGURES))


@pytest.mark.parametrize("measured", [False, True], ids=["another SDK's spans", "our wrapper's spans"])
def test_the_largest_of_everything(correlator: Correlator, measured: bool) -> None:
    """Requests on a machine whose every counter rises by the largest value in each interval are worked out with their
    readings, add up, and every question about them is answered."""
    zero_ns = a_while_ago(120)
    drawn: list[dict[str, Any]] = [
        {"id": "a", "kind": "server", "service": "web", "container": "web", "ms": [0, 900]},
        {"id": "b", "parent": "a", "kind": "client", "service": "web", "container": "web", "ms": [100, 700]},
        {"id": "c", "parent": "b", "kind": "server", "service": "stock", "container": "other", "ms": [150, 650]},
    ]
    if measured:
        drawn = [{**one, "cpu": 10, "wait": 10} for one in drawn]
    spans = [span_row(one, TRACE, zero_ns) for one in drawn]
    if measured:
        spans = [(owner, largest_figures(row), *more) for owner, row, *more in spans]  # type: ignore[misc]
    correlator.append(together([largest_readings(zero_ns), batch(spans)]))
    while correlator._pass():
        pass
    health = correlator.health()
    assert (health.unread_traces, health.failed_traces, health.refused_ledgers) == (0, 0, 0), health
    verdict = correlator.verdict(TRACE)
    assert verdict is not None
    assert sum(part.lost_ns for part in verdict.parts) + verdict.unexplained_ns == 900 * MS
    window = zero_ns - 1_000 * MS, zero_ns + 3_000 * MS
    assert correlator.verdicts(RequestQuery(*window)).items
    correlator.coverage(*window)
    correlator.timeline(TimelineQuery(*window))
    lives = correlator.entities(*window)
    assert {life.id for life in lives} >= {container_id("web"), container_id("other")}
    for signal in SIGNALS:
        if signal.entity == "container":
            name = signal.name.removeprefix("container.")
            correlator.containers(parse(f"{name} > 1.5 * avg({name}) over 1m"), window[1], 10)
