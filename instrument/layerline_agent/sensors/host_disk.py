"""Disks of the host: how long each was busy, and what was read from and written to it."""

from __future__ import annotations

from collections.abc import Iterator

from layerline.aliases import DISKS_LEFT_OUT
from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

SECTOR_BYTES = 512
"""What ``/proc/diskstats`` calls a sector, whatever the device's own sectors are."""


def read(_machine: Machine, content: bytes) -> Iterator[Raw]:
    """Busy time, bytes and completed operations of whole disks.

    Source: ``/proc/diskstats`` (Documentation/admin-guide/iostats.rst), counting fields after the name from 1: 1 reads,
    3 sectors read, 5 writes, 7 sectors written, 10 milliseconds in which any request was in flight; only grow.
    """
    for line in content.splitlines():
        _major, _minor, device, *fields = line.split()
        if DISKS_LEFT_OUT.fullmatch(device.decode()):
            continue
        name = ("system.device", device.decode())
        reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms = map(int, fields[:10])
        yield Raw("system.disk.io_time", busy_ms * 1_000_000, (name,))
        for direction, sectors, operations in (("read", sectors_read, reads), ("write", sectors_written, writes)):
            where = (("disk.io.direction", direction), name)
            yield Raw("system.disk.io", sectors * SECTOR_BYTES, where)
            yield Raw("system.disk.operations", operations, where)


SENSOR = Sensor(entity="host", sources=(Source(("proc/diskstats",), read, stalls=True),))
