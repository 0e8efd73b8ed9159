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


def usage_v1(_: Machine, usage_ns: bytes) -> Iterator[Raw]:
    """CPU time used by all its tasks. Source: v1 ``cpuacct.usage``, nanoseconds, only grows."""
    yield Raw("container.cpu.time", int(usage_ns))


def stat_v1(_: Machine, stat: bytes) -> Iterator[Raw]:
    """Time withheld by the quota, summed over CPUs, and the periods it was counted in.

    Source: v1 ``cpu.stat``; only grows. A period counts only while something ran in it. Without a quota all three stay
    where they are: that is a true zero.
    """
    return flat_keyed(stat, STAT_V1)


def limit_v1(_: Machine, quota_us: bytes | None, period_us: bytes | None) -> Iterator[Raw]:
    """CPUs it may use. Source: v1 ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us``; a quota of -1 is none."""
    if quota_us is not None and period_us is not None and int(quota_us) > 0:
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


def stat_v2(_: Machine, stat: bytes) -> Iterator[Raw]:
    """Time used, and time withheld by the quota.

    Source: v2 ``cpu.stat``, Linux 4.15; only grows. Where the cpu controller is not enabled for the group, only the
    usage is there.
    """
    return flat_keyed(stat, STAT_V2)


def limit_v2(_: Machine, limit: bytes) -> Iterator[Raw]:
    """CPUs it may use. Source: v2 ``cpu.max``: quota and period in microseconds; a quota of ``max`` is none."""
    quota_us, period_us = limit.split()
    if quota_us != b"max":
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


SENSOR = Sensor(
    entity="container",
    totals=True,
    sources=(
        Source(("unified/cpu.stat",), stat_v2, stalls=True),
        Source(("unified/cpu.max",), limit_v2),
    ),
    controller="cpu",
    sources_v1=(
        Source(("cpuacct/cpuacct.usage",), usage_v1, stalls=True),
        Source(("cpu/cpu.stat",), stat_v1, stalls=True),
        Source(("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"), limit_v1),
    ),
)
