"""The device's write limit of the container (docker run --device-write-bps)."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant


def draw(chance: random.Random) -> Parameters:
    """What is written and synced, at 1024 KiB/s."""
    return {"kib": chance.randint(256, 700)}


FAULT = Fault(
    name="write_limit",
    kind=Kind.SINGLE,
    expected=(Expected("container.io_throttled"),),
    draw=draw,
    healthy=lambda p: "/write?ms=5",
    faulty=lambda p: f"/write?ms=5&kib={p['kib']}",
    variant=Variant(write_kib_per_second=1024),
)
