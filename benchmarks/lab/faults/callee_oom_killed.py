"""The container that is called is killed for its memory meanwhile; the caller tries again."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import lives


def draw(chance: random.Random) -> Parameters:
    """Nothing: it takes as long as it takes."""
    return {}


FAULT = Fault(
    name="callee_oom_killed",
    kind=Kind.SINGLE,
    expected=(Expected("container.oom_killed", entity="callee"),),
    draw=draw,
    healthy=lambda p: "/retry?ms=5&url=http://{callee}/ready",
    faulty=lambda p: "/retry?ms=5&url=http://{callee}/ready",
    arm=lambda subject, p: lives.callee_killed(subject),
    quick=False,
    restarts=True,
)
