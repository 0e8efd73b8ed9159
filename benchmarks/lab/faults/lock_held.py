"""Another thread holds the lock that the request needs."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="lock_held",
    kind=Kind.SINGLE,
    expected=(Expected("app.lock_waited"),),
    draw=draw,
    healthy=lambda p: "/lock?ms=5",
    faulty=lambda p: "/lock?ms=5",
    arm=lambda subject, p: app.handle(subject, f"/lock?ms={p['ms']}"),
)
