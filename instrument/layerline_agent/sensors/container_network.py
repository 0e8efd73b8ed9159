"""Network of a container: what its interfaces moved, and what its TCP had to send again.

Read through one of its processes, whose network namespace is the container's. A container that shares the host's has
no network of its own: it has no ``netns`` then (``cgroups.py``), and nothing is yielded.
"""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.interfaces import retransmits, traffic
from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source


def interfaces(_: Machine, listing: bytes) -> Iterator[Raw]:
    """Bytes, packets, errors and drops. Source: ``/proc/<pid>/net/dev``."""
    return traffic("container", listing)


def tcp(_: Machine, snmp: bytes) -> Iterator[Raw]:
    """TCP segments sent again. Source: ``/proc/<pid>/net/snmp``."""
    return retransmits("container", snmp)


SENSOR = Sensor(entity="container", sources=(Source(("netns/dev",), interfaces), Source(("netns/snmp",), tcp)))
