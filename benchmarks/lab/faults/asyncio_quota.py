"""A CPU limit on an event loop."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits
from benchmarks.lab.way import ASYNCHRONOUS


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core."""
    return {"percent": chance.randint(10, 20)}


FAULT = Fault(
    name="asyncio_quota",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    servers=ASYNCHRONOUS,
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
    quick=False,
)
