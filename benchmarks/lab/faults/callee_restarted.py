"""The container that is called is restarted meanwhile (docker restart); the caller tries again."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import lives


def draw(chance: random.Random) -> Parameters:
    """Nothing: it takes as long as it takes."""
    return {}


FAULT = Fault(
    name="callee_restarted",
    kind=Kind.SINGLE,
    expected=(Expected("container.restarted", entity="callee"),),
    draw=draw,
    healthy=lambda p: "/retry?ms=5&url=http://{callee}/ready",
    faulty=lambda p: "/retry?ms=5&url=http://{callee}/ready",
    arm=lambda subject, p: lives.callee_restarted(subject),
    quick=False,
    restarts=True,
)
