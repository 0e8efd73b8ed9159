"""Cycles of garbage are made, and collected again and again."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """How often a quarter of a million objects are looked through; usually they are once."""
    return {"times": chance.randint(4, 10)}


FAULT = Fault(
    name="gc_storm",
    kind=Kind.SINGLE,
    expected=(Expected("app.gc_paused"),),
    draw=draw,
    healthy=lambda p: "/gc?ms=10&objects=250&times=1",
    faulty=lambda p: f"/gc?ms=10&objects=250&times={p['times']}",
)
