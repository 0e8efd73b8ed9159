"""A CPU limit below what the request needs, set while the container runs (docker update)."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core: 60 ms of work then take some hundred milliseconds."""
    return {"percent": chance.randint(10, 22)}


FAULT = Fault(
    name="cpu_quota",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
)
