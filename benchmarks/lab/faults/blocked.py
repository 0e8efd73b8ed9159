"""A request that sleeps, as one that waits for something nobody measures."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="blocked",
    kind=Kind.SINGLE,
    expected=(Expected("app.blocked", entity=None, constant="ms"),),
    draw=draw,
    healthy=lambda p: "/sleep?ms=0",
    faulty=lambda p: f"/sleep?ms={p['ms']}",
)
