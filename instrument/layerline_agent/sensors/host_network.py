"""Network of the host: what its own interfaces moved and can move, and what its TCP had to send again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from layerline_agent.interfaces import NOT_ITS_OWN, retransmits, traffic
from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

_BYTES_PER_MBIT = 125_000


def interfaces(machine: Machine, listing: bytes) -> Iterator[Raw]:
    """Bytes, packets, errors and drops of the machine's own interfaces, and their speed.

    Source: ``/proc/1/net/dev``; ``/sys/class/net/<interface>/speed`` (Mbit/s; -1 or unreadable where it is not known).
    """
    yield from traffic("system", listing)
    folder = machine.path("sys/class/net")
    for interface in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if interface.startswith(NOT_ITS_OWN):
            continue
        try:
            speed = int(Path(folder, interface, "speed").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if speed > 0:
            yield Raw("system.network.speed", speed * _BYTES_PER_MBIT, (("network.interface.name", interface),))


def tcp(_: Machine, snmp: bytes) -> Iterator[Raw]:
    """TCP segments sent again. Source: ``/proc/1/net/snmp``."""
    return retransmits("system", snmp)


SENSOR = Sensor(entity="host", sources=(Source(("proc/1/net/dev",), interfaces), Source(("proc/1/net/snmp",), tcp)))
