"""CPU of a container: time used, time withheld by the quota, and the quota itself."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source, flat_keyed


def usage_v1(_: Machine, usage_ns: bytes) -> Iterator[Raw]:
    """CPU time used by all its tasks. Source: v1 ``cpuacct.usage``, nanoseconds, only grows."""
    yield Raw("container.cpu.time", int(usage_ns))


def throttling_v1(_: Machine, stat: bytes) -> Iterator[Raw]:
    """Time withheld by the quota, summed over CPUs, and the periods it was counted in.

    Source: v1 ``cpu.stat`` (``throttled_time``, nanoseconds, only grows; ``nr_periods``, ``nr_throttled``). A period
    counts only while something ran in it. Without a quota all three stay where they are: that is a true zero.
    """
    values = flat_keyed(stat)
    if (throttled_ns := values.get(b"throttled_time")) is not None:
        yield Raw("container.cpu.throttled", throttled_ns)
    if (periods := values.get(b"nr_periods")) is not None:
        yield Raw("container.cpu.periods", periods)
    if (throttled_periods := values.get(b"nr_throttled")) is not None:
        yield Raw("container.cpu.throttled_periods", throttled_periods)


def limit_v1(_: Machine, quota_us: bytes | None, period_us: bytes | None) -> Iterator[Raw]:
    """CPUs it may use. Source: v1 ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us``; a quota of -1 is none."""
    if quota_us is not None and period_us is not None and int(quota_us) > 0:
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


def stat_v2(_: Machine, stat: bytes) -> Iterator[Raw]:
    """Time used, and time withheld by the quota.

    Source: v2 ``cpu.stat`` (``usage_usec``, ``throttled_usec``: microseconds, only grow), Linux 4.15. Where the cpu
    controller is not enabled for the group only the usage is there.
    """
    values = flat_keyed(stat)
    if (usage_usec := values.get(b"usage_usec")) is not None:
        yield Raw("container.cpu.time", usage_usec * 1_000)
    if (throttled_usec := values.get(b"throttled_usec")) is not None:
        yield Raw("container.cpu.throttled", throttled_usec * 1_000)
    if (periods := values.get(b"nr_periods")) is not None:
        yield Raw("container.cpu.periods", periods)
    if (throttled_periods := values.get(b"nr_throttled")) is not None:
        yield Raw("container.cpu.throttled_periods", throttled_periods)


def limit_v2(_: Machine, limit: bytes) -> Iterator[Raw]:
    """CPUs it may use. Source: v2 ``cpu.max``: quota and period in microseconds; a quota of ``max`` is none."""
    quota_us, period_us = limit.split()
    if quota_us != b"max":
        yield Raw("container.cpu.limit", int(quota_us) / int(period_us))


SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/cpu.stat",), stat_v2, stalls=True),
        Source(("unified/cpu.max",), limit_v2),
    ),
    controller="cpu",
    sources_v1=(
        Source(("cpuacct/cpuacct.usage",), usage_v1, stalls=True),
        Source(("cpu/cpu.stat",), throttling_v1, stalls=True),
        Source(("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"), limit_v1),
    ),
)
