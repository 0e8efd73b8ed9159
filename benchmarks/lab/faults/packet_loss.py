"""The segment that carries the call is lost on its way, once or twice; TCP sends it again after 200 ms, then 400."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant
from benchmarks.lab.injectors import network


def draw(chance: random.Random) -> Parameters:
    """How often it is lost."""
    return {"segments": chance.randint(1, 2)}


FAULT = Fault(
    name="packet_loss",
    kind=Kind.SINGLE,
    expected=(Expected("network.retransmitted"),),
    draw=draw,
    healthy=lambda p: "/fetch?ms=5&url=http://{partner}/quiet?ms=5",
    faulty=lambda p: "/fetch?ms=5&url=http://{partner}/quiet?ms=5",
    variant=Variant(partner=True),
    arm=lambda subject, p: network.lost(subject, p["segments"]),
    quick=False,
)
