"""A CPU limit on a service that is not ours."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core."""
    return {"percent": chance.randint(7, 12)}


FAULT = Fault(
    name="node_quota",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    servers=("node",),
    limit=True,
    quick=False,
)
