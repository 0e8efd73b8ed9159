"""The tables of the coarse part: on the terminal, and as a section of docs/ACCURACY.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.lab.coarse.judge import Judged, Named
from benchmarks.lab.coarse.score import floors, goals, noticed_s, right_entity, right_incident, right_layer

TITLE = "With other people's telemetry"
RULES = (
    "A shop of five services in containers, instrumented by plain OpenTelemetry SDKs: no account, no attribute of",
    "ours. Real faults are done to it, one after the other, with healthy time between. Of our agent's readings of",
    "that run every 15th or 60th is kept, in cAdvisor's and node_exporter's words or docker_stats' and",
    "hostmetrics', without counters of throttling and pressure. Each of the four is imported and judged. *why* is",
    "who `layerline why` over the window of the fault names first. An incident in a window in which nothing was",
    "done is a false one. *Floors* are simple rules on the same data: the container whose CPU use is farthest",
    "from before, and the callee whose calls got slowest beyond its answers.",
)
Section = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def percent(value: float | None) -> str:
    """A share."""
    return "–" if value is None else f"{value:.0%}"


def sections(judged: Sequence[Judged]) -> list[Section]:
    """Title, heads and rows of every table."""
    return [_goals(judged), _faults(judged), _quiet(judged)]


def _goals(judged: Sequence[Judged]) -> Section:
    rows: list[tuple[str, ...]] = []
    for goal in goals(judged):
        seconds = "seconds" in goal.title
        shown = [f"{one:.0f} s" if seconds and one is not None else percent(one) for one in (goal.value, goal.bound)]
        rows.append(
            (
                goal.title,
                shown[0],
                f"{'≥' if goal.at_least else '≤'} {shown[1]}",
                "reached" if goal.reached else "missed",
            )
        )
    rows += [(f"floor: {title}, right entity", percent(value), "", "") for title, value in floors(judged)]
    return "Goals", ("figure", "found", "must be", ""), rows


def _faults(judged: Sequence[Judged]) -> Section:
    rows: list[tuple[str, ...]] = []
    for one in judged:
        if one.window.fault is None:
            continue
        why = said(one.why)
        waited = noticed_s(one)
        named = said(one.incidents[0].named) if one.incidents else ""
        incidents = f"{_mark(right_incident(one))} {len(one.incidents)} {named}".strip()
        rows.append(
            (
                one.window.fault,
                one.case,
                f"{_mark(right_entity(one))} {_mark(right_layer(one))} {why}",
                incidents,
                "–" if waited is None else f"{waited:.0f} s",
                one.cpu_floor or "–",
                one.gap_floor or "–",
            )
        )
    heads = ("fault", "readings", "why: entity, layer", "incidents", "noticed after", "CPU floor", "gap floor")
    return "Each fault", heads, sorted(rows)


def _quiet(judged: Sequence[Judged]) -> Section:
    rows: list[tuple[str, ...]] = [
        (one.window.name, one.case, "; ".join(found.summary for found in one.incidents) or "none", said(one.why))
        for one in judged
        if one.window.fault is None and (one.incidents or one.why is not None)
    ]
    return "Quiet windows in which somebody was named", ("window", "readings", "incidents", "why"), rows


def said(named: Named | None) -> str:
    """Who was named, for what, and whether only perhaps."""
    if named is None:
        return "nobody"
    what = f"{named.cause or named.how}: {named.entity[1] or named.entity[0]}"
    if named.how == "slow":
        return f"{what} (of slow requests: nothing to compare with)"
    return f"perhaps {what}" if named.how == "suspect" else what


def _mark(right: bool) -> str:
    return "✓" if right else "✗"


def show(console: Console, judged: Sequence[Judged]) -> None:
    """The tables on the terminal."""
    for title, heads, rows in sections(judged):
        table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(table)


def markdown(judged: Sequence[Judged], setting: str) -> str:
    """The section of the document."""
    text = [f"## {TITLE}", "", *RULES, "", setting]
    for title, heads, rows in sections(judged):
        text += ["", f"### {title}", ""]
        if rows:
            text += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
            text += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
        else:
            text += ["None."]
    return "\n".join(text) + "\n"
