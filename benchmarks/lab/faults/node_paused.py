"""A service that is not ours is frozen in the middle of a request."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import lives


def draw(chance: random.Random) -> Parameters:
    """For how long, and when it begins."""
    return {"ms": chance.randint(150, 700), "after_ms": chance.randint(10, 30)}


FAULT = Fault(
    name="node_paused",
    kind=Kind.SINGLE,
    expected=(Expected("container.paused"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    arm=lambda subject, p: lives.frozen(subject, p["after_ms"], p["ms"]),
    servers=("node",),
    quick=False,
)
