"""Pressure of the host: wall time in which its tasks waited for CPU, block I/O or memory."""

from __future__ import annotations

from layerline_agent.pressure import pressure
from layerline_agent.sensor import Sensor, Source

SENSOR = Sensor(
    entity="host",
    sources=(
        Source(("proc/pressure/cpu",), pressure("system.cpu.pressure"), stalls=True),
        Source(("proc/pressure/io",), pressure("system.io.pressure"), stalls=True),
        Source(("proc/pressure/memory",), pressure("system.memory.pressure"), stalls=True),
    ),
)
