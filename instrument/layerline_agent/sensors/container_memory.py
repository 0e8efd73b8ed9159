"""Memory of a container: what is charged to it, how much of that it works with, its limit, and what that costs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source, flat_keyed

#: v1 writes "no limit" as the largest multiple of the page size in 63 bits; no machine has an exbibyte.
NO_LIMIT_BYTES = 2**60

INACTIVE_V1 = re.compile(rb"^total_inactive_file (\d+)", re.MULTILINE)
INACTIVE_V2 = re.compile(rb"^inactive_file (\d+)", re.MULTILINE)
REFAULTS_V1 = re.compile(rb"^total_workingset_refault(?:_file|_anon)? (\d+)", re.MULTILINE)
REFAULTS_V2 = re.compile(rb"^workingset_refault(?:_file|_anon)? (\d+)", re.MULTILINE)
FAULTS_V1 = re.compile(rb"^total_pgmajfault (\d+)", re.MULTILINE)
FAULTS_V2 = re.compile(rb"^pgmajfault (\d+)", re.MULTILINE)


def _faults(stat: bytes | None, refaults: re.Pattern[bytes], faults: re.Pattern[bytes]) -> Iterator[Raw]:
    if stat is None:
        return
    if pages := refaults.findall(stat):
        yield Raw("container.memory.refaults", sum(map(int, pages)))
    if found := faults.search(stat):
        yield Raw("container.memory.major_faults", int(found[1]))


def _usage(usage_bytes: bytes | None, stat: bytes | None, inactive: re.Pattern[bytes]) -> Iterator[Raw]:
    if usage_bytes is None:
        return
    usage = int(usage_bytes)
    yield Raw("container.memory.usage", usage)
    # The two files are read one after the other, so that pages may have moved in between: never below zero.
    if stat is not None and (found := inactive.search(stat)):
        yield Raw("container.memory.working_set", max(0, usage - int(found[1])))


def usage_v1(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, what is left without inactive file pages, and what was read again, its children included.

    Source: v1 ``memory.usage_in_bytes``, ``memory.stat`` (``total_inactive_file``), bytes; ``total_pgmajfault``;
    ``total_workingset_refault_file`` and ``_anon`` (pages, Linux 5.9; before, without the ending).
    """
    yield from _usage(usage_bytes, stat, INACTIVE_V1)
    yield from _faults(stat, REFAULTS_V1, FAULTS_V1)


def hits_v1(_: Machine, count: bytes) -> Iterator[Raw]:
    """How often it was at its limit. Source: v1 ``memory.failcnt``; only grows, unless somebody writes 0 to it."""
    yield Raw("container.memory.limit_hits", int(count))


def kills_v1(_: Machine, control: bytes) -> Iterator[Raw]:
    """Processes killed for want of memory. Source: v1 ``memory.oom_control`` (``oom_kill``), Linux 4.13."""
    return flat_keyed(control, {b"oom_kill": ("container.memory.oom_kills", 1)})


def limit_v1(_: Machine, limit_bytes: bytes) -> Iterator[Raw]:
    """Its memory limit. Source: v1 ``memory.limit_in_bytes``; 9223372036854771712 and its like are no limit."""
    if int(limit_bytes) < NO_LIMIT_BYTES:
        yield Raw("container.memory.limit", int(limit_bytes))


def usage_v2(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, what is left without inactive file pages, and what was read again.

    Source: v2 ``memory.current``, ``memory.stat`` (``inactive_file``), bytes, Linux 4.5; ``pgmajfault``;
    ``workingset_refault_file`` and ``_anon`` (pages, Linux 5.9; before, without the ending).
    """
    yield from _usage(usage_bytes, stat, INACTIVE_V2)
    yield from _faults(stat, REFAULTS_V2, FAULTS_V2)


def events_v2(_: Machine, events: bytes) -> Iterator[Raw]:
    """How often it was at its limit, and how many were killed for it. Source: v2 ``memory.events``."""
    return flat_keyed(
        events, {b"max": ("container.memory.limit_hits", 1), b"oom_kill": ("container.memory.oom_kills", 1)}
    )


def limit_v2(_: Machine, limit_bytes: bytes) -> Iterator[Raw]:
    """Its memory limit. Source: v2 ``memory.max``; ``max`` is no limit."""
    if limit_bytes.strip() != b"max":
        yield Raw("container.memory.limit", int(limit_bytes))


SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/memory.current", "unified/memory.stat"), usage_v2),
        Source(("unified/memory.max",), limit_v2),
        Source(("unified/memory.events",), events_v2, stalls=True),
    ),
    controller="memory",
    sources_v1=(
        Source(("memory/memory.usage_in_bytes", "memory/memory.stat"), usage_v1),
        Source(("memory/memory.limit_in_bytes",), limit_v1),
        Source(("memory/memory.failcnt",), hits_v1, stalls=True),
        Source(("memory/memory.oom_control",), kills_v1),
    ),
)
