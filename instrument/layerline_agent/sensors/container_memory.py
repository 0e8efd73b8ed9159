"""Memory of a container: what is charged to it, how much of that it works with, and its limit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source

#: v1 writes "no limit" as the largest multiple of the page size in 63 bits; no machine has an exbibyte.
NO_LIMIT_BYTES = 2**60

INACTIVE_V1 = re.compile(rb"^total_inactive_file (\d+)", re.MULTILINE)
INACTIVE_V2 = re.compile(rb"^inactive_file (\d+)", re.MULTILINE)


def _usage(usage_bytes: bytes | None, stat: bytes | None, inactive: re.Pattern[bytes]) -> Iterator[Raw]:
    if usage_bytes is None:
        return
    usage = int(usage_bytes)
    yield Raw("container.memory.usage", usage)
    # The two files are read one after the other, so that pages may have moved in between: never below zero.
    if stat is not None and (found := inactive.search(stat)):
        yield Raw("container.memory.working_set", max(0, usage - int(found[1])))


def usage_v1(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, and what is left without inactive file pages, its children included.

    Source: v1 ``memory.usage_in_bytes``, ``memory.stat`` (``total_inactive_file``), bytes.
    """
    return _usage(usage_bytes, stat, INACTIVE_V1)


def limit_v1(_: Machine, limit_bytes: bytes) -> Iterator[Raw]:
    """Its memory limit. Source: v1 ``memory.limit_in_bytes``; 9223372036854771712 and its like are no limit."""
    if int(limit_bytes) < NO_LIMIT_BYTES:
        yield Raw("container.memory.limit", int(limit_bytes))


def usage_v2(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, and what is left without inactive file pages.

    Source: v2 ``memory.current``, ``memory.stat`` (``inactive_file``), bytes, Linux 4.5.
    """
    return _usage(usage_bytes, stat, INACTIVE_V2)


def limit_v2(_: Machine, limit_bytes: bytes) -> Iterator[Raw]:
    """Its memory limit. Source: v2 ``memory.max``; ``max`` is no limit."""
    if limit_bytes.strip() != b"max":
        yield Raw("container.memory.limit", int(limit_bytes))


SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/memory.current", "unified/memory.stat"), usage_v2),
        Source(("unified/memory.max",), limit_v2),
    ),
    controller="memory",
    sources_v1=(
        Source(("memory/memory.usage_in_bytes", "memory/memory.stat"), usage_v1),
        Source(("memory/memory.limit_in_bytes",), limit_v1),
    ),
)
