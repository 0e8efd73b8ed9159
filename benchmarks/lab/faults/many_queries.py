"""One query for each row instead of one for all (N+1)."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant


def draw(chance: random.Random) -> Parameters:
    """How many rows."""
    return {"rows": chance.randint(150, 500)}


FAULT = Fault(
    name="many_queries",
    kind=Kind.SINGLE,
    expected=(Expected("dependency.chatty", entity="database"),),
    draw=draw,
    healthy=lambda p: "/rows?n=2",
    faulty=lambda p: f"/rows?n={p['rows']}",
    variant=Variant(database=True),
    quick=False,
)
