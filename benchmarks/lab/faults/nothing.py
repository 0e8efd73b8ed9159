"""Nothing is done: no request may be blamed on anybody."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """Nothing."""
    return {}


FAULT = Fault(
    name="nothing",
    kind=Kind.NONE,
    expected=(),
    draw=draw,
    healthy=lambda p: "/quiet?ms=30",
    faulty=lambda p: "/quiet?ms=30",
)
