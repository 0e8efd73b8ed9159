"""Pressure of a container: wall time in which its tasks waited for CPU, block I/O or memory.

Only cgroup v2 has it. On a hybrid machine the files are in the unified hierarchy, beside the v1 controllers.
"""

from __future__ import annotations

from layerline_agent.pressure import pressure
from layerline_agent.sensor import Sensor, Source

SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/cpu.pressure",), pressure("container.cpu.pressure"), stalls=True),
        Source(("unified/io.pressure",), pressure("container.io.pressure"), stalls=True),
        Source(("unified/memory.pressure",), pressure("container.memory.pressure"), stalls=True),
    ),
)
