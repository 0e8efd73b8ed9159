"""Every thread of the only worker is busy with another client's request."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """For how long it is."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="too_few_workers",
    kind=Kind.SINGLE,
    expected=(Expected("app.queue_waited"),),
    draw=draw,
    healthy=lambda p: "/queued?ms=5",
    faulty=lambda p: "/queued?ms=5",
    servers=("sync", "gthread"),
    arm=lambda subject, p: app.occupied(subject, p["ms"]),
)
