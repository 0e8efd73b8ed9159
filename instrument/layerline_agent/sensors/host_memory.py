"""Memory of the host: how much there is and can be had, and what it had to fetch back."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

MEMORY = {b"MemTotal:": "system.memory.limit", b"MemAvailable:": "system.memory.available"}
PAGING = {b"pswpin": "in", b"pswpout": "out"}
REFAULTS = frozenset({b"workingset_refault_file", b"workingset_refault_anon", b"workingset_refault"})


def memory(_: Machine, content: bytes) -> Iterator[Raw]:
    """Memory there is, and memory that can be had without swapping.

    Source: ``/proc/meminfo`` (``MemTotal``; ``MemAvailable``, Linux 3.14), in units of 1024 bytes.
    """
    for line in content.splitlines():
        key, value, *_unit = line.split()
        if signal := MEMORY.get(key):
            yield Raw(signal, int(value) * 1024)


def paging(_: Machine, content: bytes) -> Iterator[Raw]:
    """Pages that were evicted and had to be read back, and pages swapped in and out.

    Source: ``/proc/vmstat`` (``workingset_refault_file`` and ``_anon``, Linux 5.9, before that ``workingset_refault``,
    3.15; ``pswpin``, ``pswpout``), pages, only grow.
    """
    refaults = None
    words = iter(content.split())
    for key, value in zip(words, words, strict=True):
        if key in REFAULTS:
            refaults = (refaults or 0) + int(value)
        elif direction := PAGING.get(key):
            yield Raw("system.paging.operations", int(value), (("system.paging.direction", direction),))
    if refaults is not None:
        yield Raw("system.memory.refaults", refaults)


SENSOR = Sensor(entity="host", sources=(Source(("proc/meminfo",), memory), Source(("proc/vmstat",), paging)))
