"""Another thread computes in pure Python, and the request needs the interpreter lock often."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """For how long the other has it: each time that the request asks for it costs a switch interval (5 ms)."""
    return {"ms": chance.randint(150, 600)}


FAULT = Fault(
    name="gil_hogged",
    kind=Kind.SINGLE,
    expected=(Expected("app.gil_waited"),),
    draw=draw,
    healthy=lambda p: "/gil?steps=120",
    faulty=lambda p: "/gil?steps=120",
    cores=("all",),
    arm=lambda subject, p: app.handle(subject, f"/hog?ms={p['ms']}"),
)
