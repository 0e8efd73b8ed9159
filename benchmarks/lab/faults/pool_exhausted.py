"""The pool that the request hands its work to is full."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="pool_exhausted",
    kind=Kind.SINGLE,
    expected=(Expected("app.pool_waited"),),
    draw=draw,
    healthy=lambda p: "/pool?ms=5",
    faulty=lambda p: "/pool?ms=5",
    arm=lambda subject, p: app.handle(subject, f"/pool?ms={p['ms']}"),
)
