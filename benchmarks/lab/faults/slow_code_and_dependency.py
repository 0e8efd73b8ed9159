"""Slow code and a slow dependency at once."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters
from benchmarks.lab.injectors import supplier


def draw(chance: random.Random) -> Parameters:
    """CPU time, and the delay."""
    return {"cpu_ms": chance.randint(150, 500), "ms": chance.randint(150, 500)}


FAULT = Fault(
    name="slow_code_and_dependency",
    kind=Kind.DOUBLE,
    expected=(
        Expected("app.cpu_busy", constant="cpu_ms"),
        Expected("dependency.slow", entity="supplier", constant="ms"),
    ),
    draw=draw,
    healthy=lambda p: "/both?ms=60&url=http://{supplier}/prices",
    faulty=lambda p: f"/both?ms={60 + p['cpu_ms']}&url=http://{{supplier}}/prices",
    inject=lambda subject, p: supplier.delay(subject, p["ms"]),
)
