"""The device's read limit of the container (docker run --device-read-bps); the file is not in the page cache."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant


def draw(chance: random.Random) -> Parameters:
    """What is read, at 1024 KiB/s."""
    return {"kib": chance.randint(256, 700)}


FAULT = Fault(
    name="read_limit",
    kind=Kind.SINGLE,
    expected=(Expected("container.io_throttled"),),
    draw=draw,
    healthy=lambda p: "/read?ms=5",
    faulty=lambda p: f"/read?ms=5&kib={p['kib']}",
    variant=Variant(read_kib_per_second=1024),
)
