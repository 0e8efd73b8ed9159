"""A service that is not ours asks a database that takes long."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="node_slow_database",
    kind=Kind.SINGLE,
    expected=(Expected("dependency.slow", entity="database", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/db?ms=0&n=1",
    faulty=lambda p: f"/db?ms={p['ms']}&n=1",
    variant=Variant(database=True),
    servers=("node",),
    quick=False,
)
