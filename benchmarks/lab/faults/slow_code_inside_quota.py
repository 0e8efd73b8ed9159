"""There is a CPU limit, and it never stops the container: the code is slow."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """By how much, in CPU time."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="slow_code_inside_quota",
    kind=Kind.LOOK_ALIKE,
    expected=(Expected("app.cpu_busy", constant="ms"),),
    draw=draw,
    healthy=lambda p: "/slow?ms=20",
    faulty=lambda p: f"/slow?ms={20 + p['ms']}",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, 150),
)
