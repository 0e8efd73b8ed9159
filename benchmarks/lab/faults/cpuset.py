"""Threads that ran side by side are put on one core."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """Nothing: two threads compute 200 ms each."""
    return {}


FAULT = Fault(
    name="cpuset",
    kind=Kind.SINGLE,
    expected=(Expected("app.cpu_crowded"),),
    draw=draw,
    healthy=lambda p: "/pair?k=2&ms=200",
    faulty=lambda p: "/pair?k=2&ms=200",
    cores=("all",),
    inject=lambda subject, p: limits.pinned(subject),
    quick=False,
    traced=True,
)
