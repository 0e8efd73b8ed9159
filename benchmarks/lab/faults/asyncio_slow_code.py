"""A coroutine that computes longer than it did."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.way import ASYNCHRONOUS


def draw(chance: random.Random) -> Parameters:
    """By how much, in CPU time."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="asyncio_slow_code",
    kind=Kind.SINGLE,
    expected=(Expected("app.cpu_busy", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: f"/cpu?ms={60 + p['ms']}",
    servers=ASYNCHRONOUS,
)
