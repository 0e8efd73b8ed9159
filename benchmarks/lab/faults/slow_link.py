"""A long answer over a link that is slow all of a sudden."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant
from benchmarks.lab.injectors import network


def draw(chance: random.Random) -> Parameters:
    """What the link moves, in kbit/s; 100 KiB go over it."""
    return {"kbit_per_second": chance.randint(1300, 5000)}


FAULT = Fault(
    name="slow_link",
    kind=Kind.SINGLE,
    expected=(Expected("network.transit_slow", entity="partner"),),
    draw=draw,
    healthy=lambda p: "/call?ms=5&url=http://{partner}/big?kib=100",
    faulty=lambda p: "/call?ms=5&url=http://{partner}/big?kib=100",
    variant=Variant(partner=True),
    inject=lambda subject, p: network.slow(subject, 1_000 * p["kbit_per_second"]),
    quick=False,
)
