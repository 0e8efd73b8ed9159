"""Pressure files say the same everywhere: one parser for containers and the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw


def pressure(signal: str) -> Callable[[Machine, bytes], Iterator[Raw]]:
    """Wall time in which some, or all (full), tasks were stalled: a union over tasks, not a sum.

    Source: the ``total=`` field of a pressure file (microseconds, only grows), Linux 4.20; ``full`` of cpu since 5.13.
    The averages beside it are left out: they lag.
    """

    def read(_machine: Machine, content: bytes) -> Iterator[Raw]:
        for line in content.splitlines():
            kind, _, rest = line.partition(b" ")
            total_us = int(rest[rest.index(b"total=") + len(b"total=") :])
            yield Raw(signal, total_us * 1_000, (("pressure.kind", kind.decode()),))

    return read
