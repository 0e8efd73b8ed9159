"""A neighbour takes the CPU from the thread that holds the lock which the request needs."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import neighbours


def draw(chance: random.Random) -> Parameters:
    """The neighbour's weight, in CPU shares; the subject has 1024."""
    return {"shares": 1024 * chance.randint(4, 9)}


FAULT = Fault(
    name="lock_holder_contended",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "host.cpu_contended",
            entity=None,
            because="the lock is held for no more CPU time than usual: its holder waits for a CPU that others have",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/behind?ms=5&hold=30",
    faulty=lambda p: "/behind?ms=5&hold=30",
    inject=lambda subject, p: neighbours.neighbour(subject, p["shares"]),
    neighbour=True,
    traced=True,
    holder=True,
    quick=False,
)
