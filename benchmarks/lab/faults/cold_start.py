"""The first request of a process builds what the others find ready."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


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
    arm=lambda subject, p: subject.started_anew(),
    restarts=True,
)
