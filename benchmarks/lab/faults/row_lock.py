"""Somebody else holds the row that the request changes: the database answers when it is free."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant
from benchmarks.lab.injectors import postgres


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(150, 700)}


FAULT = Fault(
    name="row_lock",
    kind=Kind.SINGLE,
    expected=(Expected("dependency.slow", entity="database"),),
    draw=draw,
    healthy=lambda p: "/update",
    faulty=lambda p: "/update",
    variant=Variant(database=True),
    arm=lambda subject, p: postgres.row_locked(subject, p["ms"]),
    quick=False,
)
