"""A heatmap of latency: time from left to right, duration upwards (logarithmic), darker where more requests are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from layerline_api.words.amounts import human
from layerline_api.words.times import length, ns_of

#: Shades, from few to many: as many classes in the style sheet (``.heat1`` …).
SHADES = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """Requests of a step that took about the same time."""

    x: int
    y: int
    shade: int
    told: str


@dataclass(frozen=True, slots=True)
class Heat:
    """What ``_heatmap.html`` draws, and what its script needs: times in ms, durations in ns."""

    points: int
    rows: int
    cells: list[Cell]
    durations: list[str]  # from the top down
    times: list[str]
    origin_ms: int
    step_ms: int
    bounds_ns: list[int]
    told: str


def heat(body: Mapping[str, Any]) -> Heat | None:
    """The heatmap of ``GET /api/v1/service``; None where it has no request."""
    found = body["heatmap"]
    bounds, rows = found["bounds_ns"], found["cells"]
    if not rows:
        return None
    points, step_ns, origin_ns = body["points"], body["step_ns"], ns_of(body["origin"])
    most = max(max(row) for row in rows)

    def clock(step: int) -> str:
        moment = datetime.fromtimestamp((origin_ns + step * step_ns) / 1e9, UTC)
        return moment.strftime("%d %b %H:%M" if points * step_ns >= 24 * 3600 * 10**9 else "%H:%M")

    cells = [
        Cell(
            x=step,
            y=len(rows) - 1 - number,
            shade=max(1, math.ceil(SHADES * math.log1p(count) / math.log1p(most))),
            told=f"{clock(step)}, {human(bounds[number])} to {human(bounds[number + 1])}: {count:,} requests",
        )
        for number, row in enumerate(rows)
        for step, count in enumerate(row)
        if count
    ]
    marks = sorted({0, len(rows) // 3, 2 * len(rows) // 3, len(rows)}, reverse=True)
    return Heat(
        points=points,
        rows=len(rows),
        cells=cells,
        durations=[human(bounds[mark]) for mark in marks],
        times=[clock(points * quarter // 4) for quarter in range(4)],
        origin_ms=origin_ns // 10**6,
        step_ms=step_ns // 10**6,
        bounds_ns=bounds,
        told=f"how many requests took how long: from {human(bounds[0])} to {human(bounds[-1])},"
        f" a column for each {length(step_ns)}",
    )
