"""Network of the host: its interfaces and how fast they are, and what TCP had to send again."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.network import interfaces, retransmits
from layerline_agent.sensor import Raw, Sensor, Source

MEGABIT_BYTES = 1_000_000 // 8


def read(machine: Machine, content: bytes) -> Iterator[Raw]:
    """What each interface moved, and what it could.

    Source: ``net/dev``; ``/sys/class/net/<interface>/speed``, Mbit/s, Linux 2.6.33. An interface that has no speed
    (-1, or the file cannot be read: down, or not a device) yields none.
    """
    names: dict[tuple[str, str], None] = {}
    for raw in interfaces("system.network")(machine, content):
        names[raw.dimensions[1]] = None
        yield raw
    for where in names:
        if (speed_megabit := machine.link_speed_megabit(where[1])) is not None:
            yield Raw("system.network.speed", speed_megabit * MEGABIT_BYTES, (where,))


SENSOR = Sensor(
    entity="host",
    sources=(
        Source(("network/dev",), read),
        Source(("network/snmp",), retransmits("system.network.tcp.retransmits")),
    ),
)
