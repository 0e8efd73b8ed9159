"""A CPU limit that each of several short bursts of work runs into."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core."""
    return {"percent": chance.randint(8, 14)}


FAULT = Fault(
    name="cpu_quota_bursty",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/bursts?ms=20&times=3&pause=5",
    faulty=lambda p: "/bursts?ms=20&times=3&pause=5",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
)
