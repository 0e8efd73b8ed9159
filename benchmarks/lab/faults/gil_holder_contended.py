"""A neighbour takes the CPU from the thread that has the interpreter lock."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import neighbours


def draw(chance: random.Random) -> Parameters:
    """The neighbour's weight, in CPU shares; the subject has 1024."""
    return {"shares": 1024 * chance.randint(4, 9)}


FAULT = Fault(
    name="gil_holder_contended",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "host.cpu_contended",
            entity=None,
            because="the interpreter lock is passed on as usual: its holder waits for a CPU that others have",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/interpreted?steps=30&hold=60",
    faulty=lambda p: "/interpreted?steps=30&hold=60",
    inject=lambda subject, p: neighbours.neighbour(subject, p["shares"]),
    neighbour=True,
    traced=True,
    holder=True,
    quick=False,
)
