"""Pressure files say the same everywhere: one parser for containers and the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw

TOTAL = re.compile(rb"^(some|full) .*\btotal=(\d+)", re.MULTILINE)

#: The dimension of each line; the same tuple each time, so that a reading makes none.
KINDS = {kind.encode(): (("pressure.kind", kind),) for kind in ("some", "full")}


def pressure(signal: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """Wall time in which some, or all (full), tasks were stalled: a union over tasks, not a sum.

    Source: the ``total=`` field of a pressure file (microseconds, only grows), Linux 4.20; ``full`` of cpu since 5.13.
    The averages beside it are left out: they lag.
    """

    def read(_machine: Machine, content: bytes) -> Iterator[Raw]:
        for kind, total_us in TOTAL.findall(content):
            yield Raw(signal, int(total_us) * 1_000, KINDS[kind])

    return read
