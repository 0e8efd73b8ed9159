"""Other threads of the container take the CPU from the one that has the interpreter lock."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """How many of them compute all the time, for each core."""
    return {"burn": chance.randint(3, 5)}


FAULT = Fault(
    name="gil_holder_crowded",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "app.cpu_crowded",
            also=("app.gil_waited",),
            because="the threads that crowd the holder out ask for the interpreter lock too: fewer of them mend both",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/interpreted?steps=30&hold=60",
    faulty=lambda p: "/interpreted?steps=30&hold=60",
    inject=lambda subject, p: app.crowd(subject, p["burn"]),
    traced=True,
    holder=True,
    quick=False,
)
