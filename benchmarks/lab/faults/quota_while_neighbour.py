"""A CPU limit well below the fair share, while a neighbour is busy: the limit is to blame."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, both
from benchmarks.lab.injectors import limits, neighbours


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core."""
    return {"percent": chance.randint(8, 12)}


FAULT = Fault(
    name="quota_while_neighbour",
    kind=Kind.LOOK_ALIKE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    limit=True,
    inject=lambda subject, p: both(neighbours.neighbour(subject, 1024), limits.quota(subject, p["percent"])),
    traced=True,
    quick=False,
)
