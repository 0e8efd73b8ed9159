"""The table at the end of the demo."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from demo.demo_stories import chapter, fault, part, verdict
from layerline_api.demo.faults import all_faults
from layerline_api.demo.judge import judge
from layerline_api.demo.table import table


def printed(*arguments: object) -> str:
    """A table as a terminal of 80 columns shows it."""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table(*arguments))  # type: ignore[arg-type]  # handed through
    return console.export_text()


def test_a_row_says_what_was_injected_and_what_was_blamed() -> None:
    """Fault, first culprit with its entity, injected and blamed milliseconds with their range, and whether it is ok."""
    text = printed([judge(chapter(), [verdict(part(excess_ms=290, low_ms=280, high_ms=300))] * 5)])
    for expected in ("a fault", "container.cpu_throttled", "stock-1", "300 ms", "290 ms", "(280–300)", " ok"):
        assert expected in text


def test_it_fits_80_columns() -> None:
    """The longest cause and the longest fault fit a terminal of 80 columns; no cause and no figure is cut off."""
    judgements = [
        judge(
            replace(chapter(faulty_ms=2_350), fault=fault),
            [verdict(part("container.cpu_throttled", excess_ms=1_100), trace_id="1")] * 5,
        )
        for fault in all_faults()
    ]
    text = printed(judgements)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "not ok" in text


def test_a_fault_that_cannot_be_shown_says_why() -> None:
    """A fault that the machine does not allow stands in the table with its reason."""
    text = printed([], [replace(fault(), unable="it needs a container")])
    assert "not shown: it needs a container" in " ".join(text.split())


def test_no_culprit_is_said() -> None:
    """Requests without a culprit show as none, and how many agreed."""
    text = printed([judge(chapter(), [verdict()] * 5)])
    assert "none" in text
    assert "0 of 5" in text
