"""The first request of a process builds what the others find ready."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import lives


def draw(chance: random.Random) -> Parameters:
    """Nothing: what it builds is fixed when the container is made."""
    return {}


FAULT = Fault(
    name="cold_start",
    kind=Kind.SINGLE,
    expected=(Expected("app.cold_started", entity=None),),
    draw=draw,
    healthy=lambda p: "/first?ms=10",
    faulty=lambda p: "/first?ms=10",
    arm=lambda subject, p: lives.started_anew(subject),
    restarts=True,
)
