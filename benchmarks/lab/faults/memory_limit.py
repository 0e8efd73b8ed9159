"""A mapped file does not fit below the container's memory limit: its pages are read again and again."""

from __future__ import annotations

import random

from benchmarks.lab.fault import Expected, Fault, Kind, Parameters, Variant
from benchmarks.lab.injectors import limits


def draw(chance: random.Random) -> Parameters:
    """How many pages of the file are read at random; they are in memory while there is no limit."""
    return {"reads": chance.randint(2000, 6000)}


FAULT = Fault(
    name="memory_limit",
    kind=Kind.SINGLE,
    expected=(Expected("container.memory_stalled"),),
    draw=draw,
    healthy=lambda p: f"/map?mib=256&reads={p['reads']}",
    faulty=lambda p: f"/map?mib=256&reads={p['reads']}",
    inject=lambda subject, p: limits.memory(subject, 128 << 20),
    variant=Variant(memory=True),
)
