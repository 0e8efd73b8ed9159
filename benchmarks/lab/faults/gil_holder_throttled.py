"""A CPU limit holds back the thread that has the interpreter lock."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core, for 60 ms of work by the holder."""
    return {"percent": chance.randint(12, 24)}


FAULT = Fault(
    name="gil_holder_throttled",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "container.cpu_throttled",
            because="the interpreter lock is passed on as usual: only a higher limit lets its holder get there sooner",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/interpreted?steps=30&hold=60",
    faulty=lambda p: "/interpreted?steps=30&hold=60",
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
    holder=True,
)
