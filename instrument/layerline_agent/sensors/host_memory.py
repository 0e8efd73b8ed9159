"""Memory of the host: what is to be had, what was swapped, and what had to be read again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

AVAILABLE = re.compile(rb"^MemAvailable: +(\d+) kB", re.MULTILINE)
REFAULTS = re.compile(rb"^workingset_refault(?:_file|_anon)? (\d+)", re.MULTILINE)
SWAPPED = re.compile(rb"^pswp(in|out) (\d+)", re.MULTILINE)


def available(_: Machine, meminfo: bytes) -> Iterator[Raw]:
    """Memory to be had without swapping. Source: ``/proc/meminfo`` (``MemAvailable``, KiB, Linux 3.14)."""
    if found := AVAILABLE.search(meminfo):
        yield Raw("system.memory.available", int(found[1]) * 1024)


def paging(_: Machine, vmstat: bytes) -> Iterator[Raw]:
    """Pages read again, and pages swapped. Source: ``/proc/vmstat``; only grow."""
    if pages := REFAULTS.findall(vmstat):
        yield Raw("system.memory.refaults", sum(map(int, pages)))
    for direction, pages_swapped in SWAPPED.findall(vmstat):
        yield Raw("system.paging.operations", int(pages_swapped), (("system.paging.direction", direction.decode()),))


SENSOR = Sensor(entity="host", sources=(Source(("proc/meminfo",), available), Source(("proc/vmstat",), paging)))
