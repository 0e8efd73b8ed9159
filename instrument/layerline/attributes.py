"""The attribute names that Layerline adds to spans and resources (design, section 7.6).

Times are integer nanoseconds. A figure that the kernel does not give is absent, never 0.
No third-party import: the wrapper writes these, the correlator reads them.
"""

from __future__ import annotations

from typing import Final

# ---- on every span: its own time, children excluded
THREAD_ID: Final = "thread.id"
CPU_NS: Final = "layerline.thread.cpu_ns"
SYSTEM_NS: Final = "layerline.thread.system_ns"
RUNQUEUE_NS: Final = "layerline.thread.runqueue_ns"
BLKIO_NS: Final = "layerline.thread.blkio_ns"
MAJOR_FAULTS: Final = "layerline.thread.major_faults"
VOLUNTARY_SWITCHES: Final = "layerline.thread.voluntary_switches"
INVOLUNTARY_SWITCHES: Final = "layerline.thread.involuntary_switches"
BLOCKS_READ: Final = "layerline.thread.blocks_read"  # 512-byte blocks the thread made the file system read
BLOCKS_WRITTEN: Final = "layerline.thread.blocks_written"  # … and write (counted when a page is dirtied)
GC_NS: Final = "layerline.gc_ns"
SLICES: Final = "layerline.slices"  # integers, four a slice: offset, length, cpu, wait
ACCOUNT: Final = "layerline.account"  # "thread" | "task" | "none"
ACCOUNT_REASON: Final = "layerline.account.reason"

# ---- on entry spans: what the container's own meters gained during exactly the span
CONTAINER_THROTTLED_NS: Final = "layerline.container.throttled_ns"
CONTAINER_USAGE_NS: Final = "layerline.container.usage_ns"
CONTAINER_RUNNABLE_NS: Final = "layerline.container.runnable_ns"  # cpu + wait over its threads
CONTAINER_REFAULTS: Final = "layerline.container.refaults"
CONTAINER_IO_PRESSURE_NS: Final = "layerline.container.io_pressure_ns"
CONTAINER_MEMORY_PRESSURE_NS: Final = "layerline.container.memory_pressure_ns"
CONTAINER_OOM_KILLS: Final = "layerline.container.oom_kills"
ACCEPT_WAIT_NS: Final = "layerline.accept_wait_ns"

# ---- on the resource
CONTAINER_ID: Final = "container.id"
CONTAINER_ID_SOURCE: Final = "layerline.container.id_source"  # "cgroup" | "mountinfo" | "environment"
CGROUP_INODE: Final = "layerline.cgroup.inode"
BOOT_ID: Final = "layerline.boot_id"
VERSION: Final = "layerline.version"
CPUS: Final = "layerline.cpus"  # how many CPUs the process may use, by its affinity and cpuset

#: Span attributes that carry a figure, in the order above. The store gives each a column of its own.
SPAN_FIGURES: Final = (
    CPU_NS, SYSTEM_NS, RUNQUEUE_NS, BLKIO_NS, MAJOR_FAULTS, VOLUNTARY_SWITCHES, INVOLUNTARY_SWITCHES,
    BLOCKS_READ, BLOCKS_WRITTEN, GC_NS,
    CONTAINER_THROTTLED_NS, CONTAINER_USAGE_NS, CONTAINER_RUNNABLE_NS, CONTAINER_REFAULTS,
    CONTAINER_IO_PRESSURE_NS, CONTAINER_MEMORY_PRESSURE_NS, CONTAINER_OOM_KILLS, ACCEPT_WAIT_NS,
)  # fmt: skip


def column(attribute: str) -> str:
    """The store's column for a figure: ``layerline.thread.cpu_ns`` is ``thread_cpu_ns``."""
    return attribute.removeprefix("layerline.").replace(".", "_")
