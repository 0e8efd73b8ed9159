"""How many processes and threads a container has, and may have."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source


def read(_: Machine, current: bytes) -> Iterator[Raw]:
    """Processes and threads in it and its children. Source: v1 and v2 ``pids.current``, Linux 4.3."""
    yield Raw("container.pids", int(current))


def limit(_: Machine, most: bytes) -> Iterator[Raw]:
    """How many it may have. Source: v1 and v2 ``pids.max``, Linux 4.3; ``max`` is no limit."""
    if most.strip() != b"max":
        yield Raw("container.pids.limit", int(most))


SENSOR = Sensor(
    entity="container",
    sources=(Source(("unified/pids.current",), read), Source(("unified/pids.max",), limit)),
    controller="pids",
    sources_v1=(Source(("pids/pids.current",), read), Source(("pids/pids.max",), limit)),
)
