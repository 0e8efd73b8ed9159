"""The table at the end: injected, blamed, and whether that is right."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from layerline_api.demo.faults import Fault
from layerline_api.demo.judge import Judgement


def table(judgements: Iterable[Judgement], left_out: Iterable[Fault] = ()) -> Table:
    """One row per fault; those that could not be shown have their reason where the verdict would be."""
    rows = Table(title="What was injected, and what Layerline said", title_justify="left", title_style="bold")
    rows.add_column("injected fault")
    rows.add_column("first culprit")
    for heading in ("injected", "blamed", "range"):
        rows.add_column(f"{heading}\nms", justify="right")
    rows.add_column("")
    for judgement in judgements:
        verdict = f"{judgement.cause or 'none'}\n{judgement.entity}"
        if judgement.agreeing < judgement.requests:
            verdict += f" ({judgement.agreeing} of {judgement.requests})"
        rows.add_row(
            judgement.chapter.fault.title,
            verdict,
            milliseconds(judgement.chapter.injected_ns),
            milliseconds(judgement.blamed_ns),
            f"{milliseconds(judgement.low_ns)}–{milliseconds(judgement.high_ns)}",
            "[green]ok[/green]" if judgement.ok else "[red]not ok[/red]",
        )
    for fault in left_out:
        rows.add_row(fault.title, f"[dim]not shown: {fault.unable}[/dim]", "", "", "", "")
    return rows


def milliseconds(ns: int) -> str:
    """Whole milliseconds."""
    return f"{ns / 1e6:.0f}"
