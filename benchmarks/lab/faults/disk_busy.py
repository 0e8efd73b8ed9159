"""Another container keeps the disk busy (fio), and the request waits in fsync."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import neighbours


def draw(chance: random.Random) -> Parameters:
    """How many writes the other has in flight."""
    return {"depth": chance.randint(16, 64)}


FAULT = Fault(
    name="disk_busy",
    kind=Kind.SINGLE,
    expected=(Expected("host.io_saturated", entity=None),),
    draw=draw,
    healthy=lambda p: "/journal?kib=64&times=120",
    faulty=lambda p: "/journal?kib=64&times=120",
    cores=("all",),
    inject=lambda subject, p: neighbours.disk_busy(subject, 20, p["depth"]),
    neighbour=True,
    quick=False,
)
