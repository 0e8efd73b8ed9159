"""Other threads of the container take the CPU from the one that holds the lock which the request needs."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """How many of them compute all the time, for each core."""
    return {"burn": chance.randint(3, 5)}


FAULT = Fault(
    name="lock_holder_crowded",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "app.cpu_crowded",
            because="the lock is held for no more CPU time than usual: its holder waits for its container's threads",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/behind?ms=5&hold=30",
    faulty=lambda p: "/behind?ms=5&hold=30",
    inject=lambda subject, p: app.crowd(subject, p["burn"]),
    traced=True,
    holder=True,
    quick=False,
)
