"""A CPU limit that several threads of one request use up together."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core, for three threads that compute 20 ms each."""
    return {"percent": chance.randint(10, 22)}


FAULT = Fault(
    name="cpu_quota_threads",
    kind=Kind.SINGLE,
    expected=(Expected("container.cpu_throttled"),),
    draw=draw,
    healthy=lambda p: "/threads?k=3&ms=20",
    faulty=lambda p: "/threads?k=3&ms=20",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
)
