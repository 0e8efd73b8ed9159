"""Memory of a container: what is charged to it, its limit, and what happened when it came up against it."""

from __future__ import annotations

from collections.abc import Iterator

from layerline_agent.machine import Machine
from layerline_agent.sensor import Raw, Sensor, Source, flat_keyed

#: v1 writes "no limit" as the largest multiple of the page size in 63 bits; no machine has an exbibyte.
NO_LIMIT_BYTES = 2**60

HITS_V1 = tuple(
    f"memory/memory.{name}" for name in ("failcnt", "limit_in_bytes", "memsw.failcnt", "memsw.limit_in_bytes")
)

#: ``memory.events`` of v2. All count what happened in its children too.
KILLS_V2 = {b"oom_kill": ("container.memory.oom_kills", 1)}
HITS_V2 = dict.fromkeys((b"max", b"high"), ("container.memory.limit_hits", 1))
OOM_CONTROL_V1 = {b"oom_kill": ("container.memory.oom_kills", 1)}


def _figure(stat: bytes, key: bytes) -> int | None:
    """The value of a line ``key value`` that is not the first; None where there is none."""
    start = stat.find(b"\n" + key + b" ")
    if start < 0:
        return None
    start += len(key) + 2
    end = stat.find(b"\n", start)
    return int(stat[start:] if end < 0 else stat[start:end])


def _usage(usage_bytes: bytes | None, stat: bytes | None, prefix: bytes) -> Iterator[Raw]:
    usage = None if usage_bytes is None else int(usage_bytes)
    if usage is not None:
        yield Raw("container.memory.usage", usage)
    if stat is None:
        return
    # The two files are read one after the other, so that pages may have moved in between: never below zero.
    if usage is not None and (inactive := _figure(stat, prefix + b"inactive_file")) is not None:
        yield Raw("container.memory.working_set", max(0, usage - inactive))
    refaults = [_figure(stat, prefix + b"workingset_refault" + kind) for kind in (b"_file", b"_anon", b"")]
    if known := [figure for figure in refaults if figure is not None]:
        yield Raw("container.memory.refaults", sum(known))
    if (faults := _figure(stat, prefix + b"pgmajfault")) is not None:
        yield Raw("container.memory.major_faults", faults)


def usage_v1(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, what is left without inactive file pages, refaults and major faults, its children included.

    Source: v1 ``memory.usage_in_bytes``, ``memory.stat`` (``total_inactive_file``, bytes;
    ``total_workingset_refault_file`` and ``_anon``, pages, Linux 5.9, before that ``total_workingset_refault``, 4.15;
    ``total_pgmajfault``).
    """
    return _usage(usage_bytes, stat, b"total_")


def hits_v1(
    _: Machine, hits: bytes | None, limit: bytes | None, swap_hits: bytes | None, swap_limit: bytes | None
) -> Iterator[Raw]:
    """Times the usage came up against a limit: that of memory, or that of memory and swap together.

    Source: v1 ``memory.failcnt`` and ``memory.memsw.failcnt``; both grow unless someone resets them. Where both limits
    are the same (``--memory-swap`` equal to ``--memory``) the kernel asks the second one first, so that only that one
    counts, and on newer kernels it does not count at all (seen on 6.18, through OOM kills): a zero there says nothing,
    and nothing is yielded.
    """
    if hits is None:
        return
    total = int(hits) + int(swap_hits or 0)
    if total or swap_limit is None or limit != swap_limit or int(swap_limit) >= NO_LIMIT_BYTES:
        yield Raw("container.memory.limit_hits", total)


def kills_v1(_: Machine, control: bytes) -> Iterator[Raw]:
    """Processes killed for want of memory. Source: v1 ``memory.oom_control`` (``oom_kill``), Linux 4.13."""
    return flat_keyed(control, OOM_CONTROL_V1)


def limit_v1(_: Machine, limit_bytes: bytes) -> Iterator[Raw]:
    """Its memory limit. Source: v1 ``memory.limit_in_bytes``; 9223372036854771712 and its like are no limit."""
    if int(limit_bytes) < NO_LIMIT_BYTES:
        yield Raw("container.memory.limit", int(limit_bytes))


def usage_v2(_: Machine, usage_bytes: bytes | None, stat: bytes | None) -> Iterator[Raw]:
    """Memory charged, what is left without inactive file pages, refaults and major faults, its children included.

    Source: v2 ``memory.current``, ``memory.stat`` (``inactive_file``, bytes, Linux 4.5; ``workingset_refault_file`` and
    ``_anon``, pages, 5.9, before that ``workingset_refault``, 4.15; ``pgmajfault``, 4.11).
    """
    return _usage(usage_bytes, stat, b"")


def events_v2(_: Machine, events: bytes) -> Iterator[Raw]:
    """Times the usage came up against a limit, and processes killed for want of memory.

    Source: v2 ``memory.events`` (``max`` and ``high``, Linux 4.5; ``oom_kill``, 4.13); only grow.
    """
    yield from _hits_v2(events)
    yield from flat_keyed(events, KILLS_V2)


def _hits_v2(events: bytes | None) -> Iterator[Raw]:
    """Hits of ``memory.max`` and of ``memory.high`` together: either makes the kernel take pages back."""
    if hits := [raw.value for raw in flat_keyed(events or b"", HITS_V2)]:
        yield Raw("container.memory.limit_hits", sum(hits))


def limit_v2(_: Machine, limit_bytes: bytes | None, high_bytes: bytes | None) -> Iterator[Raw]:
    """The memory that it may have. Source: v2 ``memory.max`` and ``memory.high``, whichever is lower; ``max`` is none.

    Above ``memory.high`` nobody is killed, but pages are taken back and read again as at ``memory.max``.
    """
    if limits := [int(one) for one in (limit_bytes, high_bytes) if one is not None and one.strip() != b"max"]:
        yield Raw("container.memory.limit", min(limits))


def _above(raws: Iterator[Raw]) -> Iterator[Raw]:
    for raw in raws:
        yield Raw(raw.signal.replace("container.", "container.ancestor."), raw.value)


def above_v1(
    _: Machine,
    usage_bytes: bytes | None,
    hits: bytes | None,
    limit: bytes | None,
    swap_hits: bytes | None,
    swap_limit: bytes | None,
    hierarchical: bytes | None,
) -> Iterator[Raw]:
    """The limit of a cgroup above it, what is charged there, and how often that came up against the limit.

    Source: v1, as of the container itself. ``memory.use_hierarchy``: 0 means that a limit does not hold for the groups
    below it, which was so before Linux 5.11 unless somebody had it otherwise.
    """
    if (hierarchical or b"1").strip() != b"1" or limit is None:
        return
    if usage_bytes is not None:
        yield Raw("container.ancestor.memory.usage", int(usage_bytes))
    yield from _above(hits_v1(_, hits, limit, swap_hits, swap_limit))
    yield from _above(limit_v1(_, limit))


def above_v2(
    _: Machine, usage_bytes: bytes | None, events: bytes | None, limit: bytes | None, high: bytes | None
) -> Iterator[Raw]:
    """The same. Source: v2 ``memory.current``, ``memory.max``, ``memory.high`` and ``memory.events.local``, Linux 5.2.

    ``memory.events`` would count hits of the limits below it too.
    """
    if usage_bytes is not None:
        yield Raw("container.ancestor.memory.usage", int(usage_bytes))
    yield from _above(_hits_v2(events))
    yield from _above(limit_v2(_, limit, high))


SENSOR = Sensor(
    entity="container",
    sources=(
        Source(("unified/memory.current", "unified/memory.stat"), usage_v2),
        Source(("unified/memory.max", "unified/memory.high"), limit_v2),
        Source(("unified/memory.events",), events_v2, stalls=True),
    ),
    controller="memory",
    sources_v1=(
        Source(("memory/memory.usage_in_bytes", "memory/memory.stat"), usage_v1),
        Source(("memory/memory.limit_in_bytes",), limit_v1),
        Source(HITS_V1, hits_v1, stalls=True),
        Source(("memory/memory.oom_control",), kills_v1),
    ),
    above=(
        Source(
            ("unified/memory.current", "unified/memory.events.local", "unified/memory.max", "unified/memory.high"),
            above_v2,
            stalls=True,
        ),
    ),
    above_v1=(
        Source(("memory/memory.usage_in_bytes", *HITS_V1, "memory/memory.use_hierarchy"), above_v1, stalls=True),
    ),
)
