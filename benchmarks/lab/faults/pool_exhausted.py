"""The pool that the request hands its work to is full."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


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
    arm=lambda subject, p: subject.handle(f"/pool?ms={p['ms']}"),
)
