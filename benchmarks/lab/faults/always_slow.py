"""An operation that is always slow: nobody is to blame for what is usual."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """Nothing."""
    return {}


FAULT = Fault(
    name="always_slow",
    kind=Kind.NONE,
    expected=(),
    draw=draw,
    healthy=lambda p: "/steady?ms=150",
    faulty=lambda p: "/steady?ms=150",
)
