"""A request sleeps while another thread of its container stands at the write limit: the disk is not to blame."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant
from benchmarks.lab.injectors import app


def draw(chance: random.Random) -> Parameters:
    """For how long."""
    return {"ms": chance.randint(120, 700)}


FAULT = Fault(
    name="asleep_while_sibling_writes",
    kind=Kind.LOOK_ALIKE,
    expected=(Expected("app.blocked", entity=None, constant="ms"),),
    draw=draw,
    healthy=lambda p: "/sleep?ms=0",
    faulty=lambda p: f"/sleep?ms={p['ms']}",
    variant=Variant(write_kib_per_second=1024),
    inject=lambda subject, p: app.siblings(subject, write=1),
)
