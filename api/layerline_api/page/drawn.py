"""Small pictures in a line of text or a table: lines over a window, and where time went as a bar of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from layerline_api.words.amounts import human

Values = Sequence[float | None]

_HIGH, _LOW = 2.0, 30.0
#: What a layer takes is pointed at from this share of the usual whole on, and from so many nanoseconds.
_MORE, _LEAST_NS = 0.2, 1e6


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines on one scale, from 0 to the highest of all. Each is its style (a class) and its path."""

    points: int
    lines: list[tuple[str, str]]
    told: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer's place in a bar, in thousandths of the longer of both bars."""

    layer: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Layers:
    """Where a service's time goes, above where it went before."""

    now: list[Piece]
    before: list[Piece]
    told: str
    more: list[tuple[str, str]]
    """The layers that take clearly more than before, and how much more."""


def lines(series: Sequence[tuple[str, Values]], told: str) -> Lines:
    """Lines of as many values each; a missing value is a hole, and a single value between two holes a short dash."""
    top = max((value for _, values in series for value in values if value is not None), default=0.0)
    points = max((len(values) for _, values in series), default=1)
    return Lines(points, [(style, _path(values, top)) for style, values in series], told)


def _path(values: Values, top: float) -> str:
    found = []
    for is_known, steps in groupby(range(len(values)), key=lambda step: values[step] is not None):
        run = list(steps)
        if is_known:
            heights = [(values[step] or 0.0) / top if top > 0 else 0.0 for step in run]
            marks = [
                f"{step + 0.5:g} {_LOW - (_LOW - _HIGH) * high:.1f}" for step, high in zip(run, heights, strict=True)
            ]
            found.append(f"M{run[0]:g} {marks[0].split()[1]}H{run[0] + 1}" if len(run) == 1 else "M" + "L".join(marks))
    return "".join(found)


def layers(times: Sequence[Mapping[str, Any]]) -> Layers:
    """The bars of a service's ``layers`` (``LayerTime`` in JSON)."""
    has_before = any(one["before_ns"] is not None for one in times)
    now = sum(one["lost_ns"] for one in times)
    before = sum(one["before_ns"] or 0 for one in times)
    scale = max(now, before) or 1
    more = [
        (one["layer"], human(one["lost_ns"] - one["before_ns"]))
        for one in times
        if has_before and one["lost_ns"] - one["before_ns"] >= max(_LEAST_NS, _MORE * before)
    ]
    said = ", ".join(f"{one['layer']} {human(one['lost_ns'])}" for one in times if one["lost_ns"])
    was = f"; before {human(before)}" if has_before else ""
    return Layers(
        now=_pieces(times, "lost_ns", scale),
        before=_pieces(times, "before_ns", scale) if has_before else [],
        told=f"of a request: {said or 'nothing'}{was}",
        more=more,
    )


def _pieces(times: Sequence[Mapping[str, Any]], which: str, scale: float) -> list[Piece]:
    found, x = [], 0.0
    for one in times:
        width = 1000 * (one[which] or 0) / scale
        if width:
            found.append(Piece(one["layer"], round(x, 1), round(width, 1), f"{one['layer']} {human(one[which])}"))
        x += width
    return found
