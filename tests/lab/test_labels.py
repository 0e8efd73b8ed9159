"""The lab's cases as labels: `layerline evaluate` scores them as the lab does."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_score import MS, case, part

from benchmarks.lab.labels import label
from benchmarks.lab.record import Record, Truth
from benchmarks.lab.score import score as lab_score
from layerline_api.evaluate.labels import Label
from layerline_api.evaluate.score import Named, Said, score

_TWO = (Truth("app.cpu_busy", "c1", 200 * MS, "client"), Truth("host.io_saturated", "c2", 190 * MS, "client"))

CASES = {
    "right": case(part("app.cpu_busy", 190)),
    "somebody else": case(part("app.cpu_busy", 190, entity="c2")),
    "not conclusive": case(part("app.cpu_busy", 190), conclusive=False),
    "second": case(part("host.io_saturated", 300), part("app.cpu_busy", 190)),
    "both": case(part("host.io_saturated", 190, entity="c2"), part("app.cpu_busy", 180), truths=_TWO),
    "one missing": case(part("app.cpu_busy", 190), truths=_TWO),
    "also right": case(
        part("app.blocked", 190), truths=(Truth("app.cpu_busy", None, 200 * MS, "client", ("app.blocked",)),)
    ),
    "healthy": case(part("app.cpu_busy", 20), kind="none", truths=()),
    "healthy and blamed": case(part("host.io_saturated", 200), kind="none", truths=()),
    "honest": case(part("app.cpu_busy", 300), kind="honest"),
    "honest and missed": case(part("app.blocked", 40), kind="honest"),
}


def _said(record: Record) -> Said:
    """The record's verdict, as evaluate reads one."""
    verdict = record.verdict or {}
    named = tuple(
        Named(one["cause"], one["entity"]["type"], one["entity"]["id"], one["entity"]["name"], "s", one["excess_ns"])
        for one in verdict["parts"]
    )
    return Said(named, named, verdict["conclusive"], verdict["duration_ns"])


@pytest.mark.parametrize("name", CASES)
def test_evaluate_says_what_the_lab_says(tmp_path: Path, name: str) -> None:
    """Right, abstained, blamed falsely, and by how much the blame is off: all as the lab's own score has it."""
    record = CASES[name]
    (tmp_path / "piece-1" / "layerline").mkdir(parents=True)
    made = label(record, tmp_path)
    assert made is not None
    ours, theirs = score(Label.model_validate(made), _said(record)), lab_score(record)
    assert (ours.right, ours.abstained, ours.false_blame) == (theirs.right, theirs.abstained, theirs.false_blame)
    if not ours.label.quiet:
        assert list(ours.error_ns) == [blame.error_ns for blame in theirs.blames]


def test_what_has_no_store_has_no_label(tmp_path: Path) -> None:
    """A piece that was cut off left no store: its cases cannot be asked about again."""
    assert label(CASES["right"], tmp_path) is None
