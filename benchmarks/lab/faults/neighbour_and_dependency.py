"""A neighbour on the same core and a slow dependency at once."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, both
from benchmarks.lab.injectors import neighbours, supplier


def draw(chance: random.Random) -> Parameters:
    """The neighbour's weight, and the delay."""
    return {"shares": 1024 * chance.randint(4, 9), "ms": chance.randint(150, 600)}


FAULT = Fault(
    name="neighbour_and_dependency",
    kind=Kind.DOUBLE,
    expected=(
        Expected("host.cpu_contended", entity=None),
        Expected("dependency.slow", entity="supplier", constant="ms"),
    ),
    draw=draw,
    healthy=lambda p: "/both?ms=60&url=http://{supplier}/prices",
    faulty=lambda p: "/both?ms=60&url=http://{supplier}/prices",
    inject=lambda subject, p: both(neighbours.neighbour(subject, p["shares"]), supplier.delay(subject, p["ms"])),
    neighbour=True,
    traced=True,
    quick=False,
)
