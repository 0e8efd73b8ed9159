"""Another task computes or sleeps without giving the event loop back."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app
from benchmarks.lab.way import ASYNCHRONOUS


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(150, 700)}


FAULT = Fault(
    name="asyncio_loop_blocked",
    kind=Kind.SINGLE,
    expected=(Expected("app.loop_blocked"),),
    draw=draw,
    healthy=lambda p: "/victim?ms=60",
    faulty=lambda p: "/victim?ms=60",
    servers=ASYNCHRONOUS,
    arm=lambda subject, p: app.handle(subject, f"/hold?ms={p['ms']}&after=15"),
)
