"""Pressure of a container: wall time in which its tasks waited for CPU, block I/O or memory.

CPU pressure is no measure of waiting (it grew 383 ms for a thread that had waited 18), so that it is read each second
only. Only cgroup v2 has pressure; on a hybrid machine the files are in the unified hierarchy, beside the controllers.
"""

from __future__ import annotations

from layerline_agent.pressure import pressure
from layerline_agent.sensor import Sensor, Source

SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/cpu.pressure",), pressure("container.cpu.pressure")),
        Source(("unified/io.pressure",), pressure("container.io.pressure"), stalls=True),
        Source(("unified/memory.pressure",), pressure("container.memory.pressure"), stalls=True),
    ),
)
