"""The container is frozen in the middle of a request (docker pause)."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import lives


def draw(chance: random.Random) -> Parameters:
    """For how long, and when it begins."""
    return {"ms": chance.randint(120, 700), "after_ms": chance.randint(10, 60)}


FAULT = Fault(
    name="paused",
    kind=Kind.SINGLE,
    expected=(Expected("container.paused"),),
    draw=draw,
    healthy=lambda p: "/frozen?ms=90",
    faulty=lambda p: "/frozen?ms=90",
    arm=lambda subject, p: lives.frozen(subject, p["after_ms"], p["ms"]),
)
