"""Threads of the same container want the same core."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """How many of them compute all the time, for each core."""
    return {"burn": chance.randint(3, 6)}


FAULT = Fault(
    name="crowded",
    kind=Kind.SINGLE,
    expected=(Expected("app.cpu_crowded"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    inject=lambda subject, p: app.crowd(subject, p["burn"]),
    traced=True,
)
