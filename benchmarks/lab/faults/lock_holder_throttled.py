"""A CPU limit holds back the thread that holds the lock which the request needs."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core, for 30 ms of work by the holder and 5 ms by the request."""
    return {"percent": chance.randint(8, 16)}


FAULT = Fault(
    name="lock_holder_throttled",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "container.cpu_throttled",
            because="the lock is held for no more CPU time than usual: only a higher limit gives it back sooner",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/behind?ms=5&hold=30",
    faulty=lambda p: "/behind?ms=5&hold=30",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
    holder=True,
)
