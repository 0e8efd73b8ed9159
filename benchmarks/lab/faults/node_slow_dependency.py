"""A service that is not ours calls another that answers later."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import supplier


def draw(chance: random.Random) -> Parameters:
    """By how much."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="node_slow_dependency",
    kind=Kind.SINGLE,
    expected=(Expected("dependency.slow", entity="supplier", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/call?url=http://{supplier}/prices",
    faulty=lambda p: "/call?url=http://{supplier}/prices",
    inject=lambda subject, p: supplier.delay(subject, p["ms"]),
    servers=("node",),
    quick=False,
)
