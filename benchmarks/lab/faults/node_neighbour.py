"""A neighbour on the core of a service that is not ours."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import neighbours


def draw(chance: random.Random) -> Parameters:
    """The neighbour's weight, in CPU shares; the subject has 1024."""
    return {"shares": 1024 * chance.randint(4, 9)}


FAULT = Fault(
    name="node_neighbour",
    kind=Kind.SINGLE,
    expected=(Expected("host.cpu_contended", entity=None),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    inject=lambda subject, p: neighbours.neighbour(subject, p["shares"]),
    neighbour=True,
    blind="without our account only cpu.pressure tells of a wait for a CPU, and it has no lower bound",
    servers=("node",),
    quick=False,
)
