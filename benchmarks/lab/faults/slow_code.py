"""Code that computes longer than it did."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """By how much, in CPU time."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="slow_code",
    kind=Kind.SINGLE,
    expected=(Expected("app.cpu_busy", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/slow?ms=20",
    faulty=lambda p: f"/slow?ms={20 + p['ms']}",
)
