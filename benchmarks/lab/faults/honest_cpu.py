"""More work is asked for and done: nobody but the computing itself may be named."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """How much more, in CPU time."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="honest_cpu",
    kind=Kind.HONEST,
    expected=(Expected("app.cpu_busy"),),
    draw=draw,
    healthy=lambda p: "/honest?ms=20",
    faulty=lambda p: f"/honest?ms={p['ms']}",
)
