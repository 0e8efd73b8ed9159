"""A CPU limit holds back a task that computes, and with it the event loop that the request waits for."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import limits
from benchmarks.lab.way import ASYNCHRONOUS


def draw(chance: random.Random) -> Parameters:
    """The limit, in per cent of a core, for 40 ms of work by the other task."""
    return {"percent": chance.randint(8, 16)}


FAULT = Fault(
    name="asyncio_loop_throttled",
    kind=Kind.SINGLE,
    expected=(
        Expected(
            "container.cpu_throttled",
            because="the other task has the loop for no more CPU time than usual: only a higher limit shortens it",
        ),
    ),
    draw=draw,
    healthy=lambda p: "/behind?hold=40",
    faulty=lambda p: "/behind?hold=40",
    servers=ASYNCHRONOUS,
    limit=True,
    inject=lambda subject, p: limits.quota(subject, p["percent"]),
    traced=True,
)
