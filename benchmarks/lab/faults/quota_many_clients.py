"""A CPU limit that the requests of several clients use up together, at the same time."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app, limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core, and how many others ask meanwhile, each for as much work."""
    return {"percent": chance.randint(20, 40), "clients": chance.randint(2, 3)}


FAULT = Fault(
    name="quota_many_clients",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/cpu?ms=60",
    faulty=lambda p: "/cpu?ms=60",
    servers=("gthread", "flask"),
    least_threads=4,
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    arm=lambda subject, p: app.visited(subject, p["clients"], "/cpu?ms=60"),
    traced=True,
)
