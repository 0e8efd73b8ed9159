"""CPU of a container: time used, time withheld by the quota, and the quota itself."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source, flat_keyed

#: What ``cpu.stat`` holds, by its key: the signal, and what to multiply by to get the catalogue's unit.
STAT_V1 = {
    b"throttled_time": ("container.cpu.throttled", 1),  # nanoseconds
    b"nr_periods": ("container.cpu.periods", 1),
    b"nr_throttled": ("container.cpu.throttled_periods", 1),
}
STAT_V2 = {
    b"usage_usec": ("container.cpu.time", 1_000),
    b"throttled_usec": ("container.cpu.throttled", 1_000),
    b"nr_periods": ("container.cpu.periods", 1),
    b"nr_throttled": ("container.cpu.throttled_periods", 1),
}
#: The same of a cgroup above it.
ABOVE = {
    key: (signal.replace("container.", "container.ancestor."), factor)
    for key, (signal, factor) in {**STAT_V1, **STAT_V2}.items()
}


def usage_v1(_: Machine, usage_ns: bytes) -> Iterator[Raw]:
    """CPU time used by all its tasks. Source: v1 ``cpuacct.usage``, nanoseconds, only grows."""
    yield Raw("container.cpu.time", int(usage_ns))


def _with_local(stat: bytes | None, local: bytes | None, signals: dict[bytes, tuple[str, int]]) -> Iterator[Raw]:
    """``cpu.stat``, with the throttled time of ``cpu.stat.local`` in place of its own where there is one."""
    withheld = [raw for raw in flat_keyed(local or b"", signals) if raw.signal == "container.cpu.throttled"]
    for raw in flat_keyed(stat or b"", signals):
        if not withheld or raw.signal != "container.cpu.throttled":
            yield raw
    yield from withheld


def stat_v1(_: Machine, stat: bytes | None, local: bytes | None) -> Iterator[Raw]:
    """Time withheld by quotas, summed over CPUs, and the periods of its own quota.

    Source: v1 ``cpu.stat``; only grows. A period counts only while something ran in it. Without a quota all three stay
    where they are: that is a true zero. ``cpu.stat.local`` (``throttled_time``, ns, Linux 6.5) also counts what the
    quota of a cgroup above it withheld, and counts a moment once where both did; before that, only its own counts.
    """
    return _with_local(stat, local, STAT_V1)


def limit_v1(_: Machine, quota_us: bytes | None, period_us: bytes | None) -> Iterator[Raw]:
    """CPUs it may use. Source: v1 ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us``; a quota of -1 is none."""
    if quota_us is not None and period_us is not None and int(quota_us) > 0:
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


def stat_v2(_: Machine, stat: bytes | None, local: bytes | None) -> Iterator[Raw]:
    """Time used, and time withheld by quotas.

    Source: v2 ``cpu.stat``, Linux 4.15, and ``cpu.stat.local`` (``throttled_usec``), Linux 6.5, as with v1; only grow.
    Where the cpu controller is not enabled for the group, only the usage is there.
    """
    return _with_local(stat, local, STAT_V2)


def limit_v2(_: Machine, limit: bytes) -> Iterator[Raw]:
    """CPUs it may use. Source: v2 ``cpu.max``: quota and period in microseconds; a quota of ``max`` is none."""
    quota_us, period_us = limit.split()
    if quota_us != b"max":
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


def above_v1(
    _: Machine, stat: bytes | None, usage_ns: bytes | None, quota_us: bytes | None, period_us: bytes | None
) -> Iterator[Raw]:
    """The quota of a cgroup above it, what it withheld from all below, and what they used.

    Source: v1 ``cpu.stat``, ``cpuacct.usage``, ``cpu.cfs_quota_us``, ``cpu.cfs_period_us``.
    """
    yield from flat_keyed(stat or b"", ABOVE)
    if usage_ns is not None:
        yield Raw("container.ancestor.cpu.time", int(usage_ns))
    for raw in limit_v1(_, quota_us, period_us):
        yield Raw("container.ancestor.cpu.limit", raw.value)


def above_v2(_: Machine, stat: bytes | None, limit: bytes | None) -> Iterator[Raw]:
    """The same. Source: v2 ``cpu.stat`` and ``cpu.max``."""
    yield from flat_keyed(stat or b"", ABOVE)
    for raw in limit_v2(_, limit) if limit is not None else ():
        yield Raw("container.ancestor.cpu.limit", raw.value)


SENSOR = Sensor(
    entity="container",
    totals=True,
    sources=(
        Source(("unified/cpu.stat", "unified/cpu.stat.local"), stat_v2, stalls=True),
        Source(("unified/cpu.max",), limit_v2),
    ),
    controller="cpu",
    sources_v1=(
        Source(("cpuacct/cpuacct.usage",), usage_v1, stalls=True),
        Source(("cpu/cpu.stat", "cpu/cpu.stat.local"), stat_v1, stalls=True),
        Source(("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"), limit_v1),
    ),
    above=(Source(("unified/cpu.stat", "unified/cpu.max"), above_v2, stalls=True),),
    above_v1=(
        Source(
            ("cpu/cpu.stat", "cpuacct/cpuacct.usage", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"),
            above_v1,
            stalls=True,
        ),
    ),
)
