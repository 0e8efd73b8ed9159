"""Cycles of garbage are made, and collected again and again."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """Thousands of objects, and how often they are looked through."""
    return {"objects": chance.randint(200, 300), "times": chance.randint(8, 16)}


FAULT = Fault(
    name="gc_storm",
    kind=Kind.SINGLE,
    expected=(Expected("app.gc_paused"),),
    draw=draw,
    healthy=lambda p: "/gc?ms=10",
    faulty=lambda p: f"/gc?ms=10&objects={p['objects']}&times={p['times']}",
)
