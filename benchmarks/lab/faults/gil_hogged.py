"""Another thread computes in pure Python, and the request needs the interpreter lock often."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters


def draw(chance: random.Random) -> Parameters:
    """How often it asks for the lock while the other has it: each time costs a switch interval (5 ms)."""
    return {"steps": chance.randint(30, 90)}


FAULT = Fault(
    name="gil_hogged",
    kind=Kind.SINGLE,
    expected=(Expected("app.gil_waited"),),
    draw=draw,
    healthy=lambda p: "/gil?steps=6",
    faulty=lambda p: f"/gil?steps={p['steps']}",
    arm=lambda subject, p: subject.handle("/hog?ms=900"),
)
