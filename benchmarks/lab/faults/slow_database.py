"""A query that the database takes long to answer (pg_sleep)."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="slow_database",
    kind=Kind.SINGLE,
    expected=(Expected("dependency.slow", entity="database", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/db",
    faulty=lambda p: f"/db?ms={p['ms']}",
    variant=Variant(database=True),
    quick=False,
)
