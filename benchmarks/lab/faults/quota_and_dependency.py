"""A CPU limit and a slow dependency at once."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, both
from benchmarks.lab.injectors import limits, supplier


def draw(chance: random.Random) -> Parameters:
    """The limit in per cent of a core, and the delay."""
    return {"percent": chance.randint(10, 20), "ms": chance.randint(150, 600)}


FAULT = Fault(
    name="quota_and_dependency",
    kind=Kind.DOUBLE,
    expected=(
        Expected("container.cpu_throttled"),
        Expected("dependency.slow", entity="supplier", constant="ms"),
    ),
    draw=draw,
    healthy=lambda p: "/both?ms=60&url=http://{supplier}/prices",
    faulty=lambda p: "/both?ms=60&url=http://{supplier}/prices",
    limit=True,
    inject=lambda subject, p: both(limits.quota(subject, p["percent"]), supplier.delay(subject, p["ms"])),
    traced=True,
)
