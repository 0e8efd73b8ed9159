"""The table at the end: injected, blamed, and whether that is right."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

from layerline_api.demo.faults import Fault
from layerline_api.demo.judge import Judgement


def table(judgements: Iterable[Judgement], left_out: Iterable[Fault] = ()) -> Table:
    """One row per fault; those that could not be shown have their reason where the verdict would be."""
    rows = Table(title="What was injected, and what Layerline said", title_justify="left", box=box.SIMPLE_HEAD)
    rows.add_column("injected fault")
    rows.add_column("first culprit", no_wrap=True)
    rows.add_column("injected", justify="right", no_wrap=True)
    rows.add_column("blamed\n(range)", justify="right", no_wrap=True)
    rows.add_column("", no_wrap=True, min_width=6)
    for judgement in judgements:
        agreed = (
            f"\n{judgement.agreeing} of {judgement.requests} requests"
            if judgement.agreeing < judgement.requests
            else ""
        )
        low, high = milliseconds(judgement.low_ns), milliseconds(judgement.high_ns)
        rows.add_row(
            judgement.chapter.fault.title,
            f"{judgement.cause or 'none'}\n{judgement.entity}{agreed}",
            f"{milliseconds(judgement.chapter.injected_ns)} ms",
            f"{milliseconds(judgement.blamed_ns)} ms\n({low}–{high})",
            "[green]ok[/green]" if judgement.ok else "[red]not ok[/red]",
            end_section=True,
        )
    for fault in left_out:
        rows.add_row(fault.title, f"[dim]not shown: {fault.unable}[/dim]", "", "", "", end_section=True)
    return rows


def milliseconds(ns: int) -> str:
    """Whole milliseconds."""
    return f"{ns / 1e6:.0f}"
