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
#: Time withheld by a CPU quota: that of the container or of a cgroup above it, whichever withheld most.
CONTAINER_THROTTLED_NS: Final = "layerline.container.throttled_ns"
CONTAINER_THROTTLED_PERIODS: Final = "layerline.container.throttled_periods"  # in which that quota was used up
#: The path of the cgroup whose quota that was; absent where it was the container's own.
CONTAINER_THROTTLED_BY: Final = "layerline.container.throttled_by"
#: That quota: CPU time per period, and the period's length (ns); absent where there is none.
CONTAINER_CPU_QUOTA_NS: Final = "layerline.container.cpu_quota_ns"
CONTAINER_CPU_PERIOD_NS: Final = "layerline.container.cpu_period_ns"
CONTAINER_USAGE_NS: Final = "layerline.container.usage_ns"
CONTAINER_RUNNABLE_NS: Final = "layerline.container.runnable_ns"  # cpu + wait over its threads, ours left out
CONTAINER_REFAULTS: Final = "layerline.container.refaults"
CONTAINER_IO_PRESSURE_NS: Final = "layerline.container.io_pressure_ns"
CONTAINER_MEMORY_PRESSURE_NS: Final = "layerline.container.memory_pressure_ns"
CONTAINER_OOM_KILLS: Final = "layerline.container.oom_kills"
FIRST_REQUEST: Final = "layerline.process.first_request"  # 1 on the first of its operation that its process served

# ---- waiting before the work began: the span starts when the work was handed over, and this long went by before it ran
ACCEPT_WAIT_NS: Final = "layerline.accept_wait_ns"  # entry spans: from the arrival of its last bytes to the handler
ACCEPT_BUSY_NS: Final = "layerline.accept_busy_ns"  # of it, until its thread was done with the request before
ACCEPT_RUNQUEUE_NS: Final = "layerline.accept_runqueue_ns"  # of it, its thread stood ready without a core
POOL_WAIT_NS: Final = "layerline.pool_wait_ns"  # work records: from submit until a thread of the pool took it

# ---- asyncio, on spans whose account is a task's: suspended while other tasks held the loop
LOOP_WAIT_NS: Final = "layerline.loop.wait_ns"  # at most: steps of other tasks right before it went on
LOOP_WAIT_LOW_NS: Final = "layerline.loop.wait_low_ns"  # at least: it was known to be ready
#: Of loop.wait_ns, the loop's thread stood ready without a core, at most and at least.
LOOP_RUNQUEUE_NS: Final = "layerline.loop.runqueue_ns"
LOOP_RUNQUEUE_LOW_NS: Final = "layerline.loop.runqueue_low_ns"
LOOP_QUEUED_NS: Final = "layerline.loop.queued_ns"  # of accept_wait_ns, while a task held the loop
LOOP_HELD_BY: Final = "layerline.loop.held_by"  # who held it longest: "function file:line"

# ---- slow requests, looked at from beside: what the span's thread was seen doing
SAMPLES: Final = "layerline.samples"  # strings "count kind state wait function file:line", most often first
SAMPLES_EVERY_NS: Final = "layerline.samples.every_ns"  # one look stands for so long
#: Where it was seen waiting for a lock or in a sleep: the share of that time in which those that may hold a lock waited
#: for a CPU, at least and at most.
HOLDER_WAIT_LOW: Final = "layerline.holder.wait_low_ratio"
HOLDER_WAIT_HIGH: Final = "layerline.holder.wait_high_ratio"
#: Where the thread stood that held the lock, "function file:line": then the two figures above are that thread's.
LOCK_HELD_BY: Final = "layerline.lock.held_by"
#: What a look can find: on a CPU (or ready for one), at a lock, waiting for a connection or thread of a pool, in a
#: sleep, at a socket or pipe, at a disk, or none of these.
SAMPLE_KINDS: Final = ("cpu", "lock", "pool", "sleep", "socket", "disk", "other")

# ---- on the resource
CONTAINER_ID: Final = "container.id"
CONTAINER_ID_SOURCE: Final = "layerline.container.id_source"  # "cgroup" | "mountinfo" | "containerenv" | "environment"
CGROUP_INODE: Final = "layerline.cgroup.inode"
#: Of containers, by the agent: where its cgroup is from the root of the tree, as in /proc/<pid>/cgroup.
CGROUP_PATH: Final = "layerline.cgroup.path"
#: The id of the container that it runs inside of (Docker in Docker, kind). What that one used contains what it used.
CONTAINER_PARENT: Final = "layerline.container.parent"
#: Of containers, by the agent, before Linux 6.5: ``own``, where `container.cpu.throttled` counts its own quota only.
THROTTLED_SCOPE: Final = "layerline.container.throttled_scope"
BOOT_ID: Final = "layerline.boot_id"
VERSION: Final = "layerline.version"
CPUS: Final = "layerline.cpus"  # how many CPUs the process may use, by its affinity and cpuset; also on entry spans

#: The id by which a cloud provider names the machine, where its firmware has it.
INSTANCE_ID: Final = "layerline.instance.id"
#: On points of ``container.ancestor.*``: the path of the cgroup above the container.
CGROUP: Final = "layerline.cgroup"

#: On the resource of a process: what it has installed and nothing instruments, as "library (package==version), …";
#: absent where all is instrumented.
UNINSTRUMENTED: Final = "layerline.uninstrumented"
#: Instrumentations that are installed and could not be applied: "name: reason; …".
NOT_INSTRUMENTED: Final = "layerline.instrumentation.failed"

SAMPLER: Final = "layerline.sampler"  # the sampler of its TracerProvider, as the SDK describes it

#: On a span, put there by the receiver: the threshold of ``ot=th:`` in its trace state (OpenTelemetry, "Probability
#: sampling"), up to 14 hex digits: of 2^56, what was not kept.
SAMPLING_THRESHOLD: Final = "layerline.sampling.threshold"

#: The event by which the agent tells of readings that were lost on the way, and its attributes: how many points and
#: events, when the first and the last were read (ns, UTC), and why.
DROPPED: Final = "layerline.agent.dropped"
DROPPED_POINTS: Final = "layerline.agent.dropped.points"
DROPPED_FROM_NS: Final = "layerline.agent.dropped.from_ns"
DROPPED_TO_NS: Final = "layerline.agent.dropped.to_ns"
DROPPED_REASON: Final = "layerline.agent.dropped.reason"

#: Other events by which the agent says what its readings do not: the engine did not answer, the machine's clock was
#: set, a container has ended and nobody knows when. Two attributes say between which moments (ns, UTC).
ENGINE_AWAY: Final = "layerline.agent.engine_away"
CLOCK_STEPPED: Final = "layerline.agent.clock_stepped"
CLOCK_STEP_NS: Final = "layerline.agent.clock_step_ns"
CONTAINER_GONE: Final = "container.gone"
SEEN_FROM_NS: Final = "layerline.agent.from_ns"
SEEN_TO_NS: Final = "layerline.agent.to_ns"

#: Span attributes that carry a figure, in the order above. The store gives each a column of its own.
SPAN_FIGURES: Final = (
    CPU_NS, SYSTEM_NS, RUNQUEUE_NS, BLKIO_NS, MAJOR_FAULTS, VOLUNTARY_SWITCHES, INVOLUNTARY_SWITCHES,
    BLOCKS_READ, BLOCKS_WRITTEN, GC_NS,
    CONTAINER_THROTTLED_NS, CONTAINER_USAGE_NS, CONTAINER_RUNNABLE_NS, CONTAINER_REFAULTS,
    CONTAINER_IO_PRESSURE_NS, CONTAINER_MEMORY_PRESSURE_NS, CONTAINER_OOM_KILLS, FIRST_REQUEST,
    ACCEPT_WAIT_NS, ACCEPT_BUSY_NS, ACCEPT_RUNQUEUE_NS, POOL_WAIT_NS, LOOP_WAIT_NS, LOOP_WAIT_LOW_NS, LOOP_QUEUED_NS,
    SAMPLES_EVERY_NS,
    CONTAINER_THROTTLED_PERIODS, CONTAINER_CPU_QUOTA_NS, CONTAINER_CPU_PERIOD_NS,
)  # fmt: skip


#: What the container's meters say on entry spans, and where a container is: for docs/SIGNALS.md.
MEANING: Final = {
    CONTAINER_THROTTLED_NS: "entry span: CPU time withheld from the container by quotas during the request, summed "
    "over CPUs (ns). From Linux 6.5 (`cpu.stat.local`) by whatever quota, each moment once; before that by the one "
    "quota, its own or that of a visible cgroup above it, that withheld most: nested ones do not add up",
    CONTAINER_THROTTLED_BY: "entry span: the path of the cgroup whose quota withheld most, where it is not the "
    "container's own; `/..` where it cannot be seen from inside. Absent where nothing was withheld",
    CONTAINER_THROTTLED_PERIODS: "entry span: enforcement periods in which that quota was used up; absent where its "
    "cgroup cannot be seen",
    CONTAINER_CPU_QUOTA_NS: "entry span: that quota, or the container's own where nothing was withheld: CPU time per "
    "period (ns). Absent where there is none or it cannot be seen. CPUs held back = throttled_ns / "
    "(throttled_periods × cpu_period_ns) + cpu_quota_ns / cpu_period_ns",
    CONTAINER_CPU_PERIOD_NS: "entry span: the period of that quota (ns)",
    CONTAINER_USAGE_NS: "entry span: CPU time that the container used (outside one: the process), the wrapper's own "
    "threads included (ns)",
    CONTAINER_RUNNABLE_NS: "entry span: time on a CPU or ready for one, summed over the container's threads, without "
    "those that are named `layerline-…`: the wrapper's own, of all its processes (ns)",
    CPUS: "resource of a process: how many CPUs it may use, by its affinity and cpuset. Entry span: the same, where it "
    "has changed since",
    CGROUP_PATH: "resource of a container, by the agent: the path of its cgroup from the root of the tree. Where it is "
    "there, the cgroups above it were looked at: without `container.ancestor.*` none of them has a limit",
    CONTAINER_PARENT: "resource of a container, by the agent: the id of the container that it runs inside of. What "
    "that one used contains what it used",
    THROTTLED_SCOPE: "resource of a container, by the agent: `own` where `container.cpu.throttled` counts its own "
    "quota only (before Linux 6.5), so that what a quota above it withheld is in "
    "`container.ancestor.cpu.throttled` alone. Absent elsewhere",
    INSTANCE_ID: "resource of a machine and its containers, by the agent: the id by which its cloud provider names it, "
    "where the firmware has it (EC2 on Nitro)",
    CGROUP: "points of `container.ancestor.*`: the path of the cgroup above the container",
}


def column(attribute: str) -> str:
    """The store's column for a figure: ``layerline.thread.cpu_ns`` is ``thread_cpu_ns``."""
    return attribute.removeprefix("layerline.").replace(".", "_")
