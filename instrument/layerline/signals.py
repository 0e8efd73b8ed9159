"""The signal catalogue: what Layerline's readings are called, what they count and in which unit.

A signal is one quantity of one kind of entity. Names are OpenTelemetry's where its semantic conventions have one;
``aliases`` are the names under which others report the same quantity (``aliases.py``). Inside, time is integer
nanoseconds and sizes are bytes; a value is converted once, where it enters, by ``translate``.

No third-party import: the wrapper, the agent and the correlator share this file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from layerline.aliases import (
    CONVENTIONS,
    FULL,
    MACHINE_BYTES,
    MACHINE_OPERATIONS,
    READ,
    RECEIVE,
    SOME,
    TRANSMIT,
    VOLUME_BYTES,
    VOLUME_OPERATIONS,
    WRITE,
    Alias,
    Attributes,
    azuremonitor,
    cadvisor,
    cloudwatch,
    conventions,
    docker_stats,
    googlecloudmonitoring,
    hostmetrics,
    in_our_words,
    k8s_cluster,
    kube_state_metrics,
    kubeletstats,
    left_out,
    node_exporter,
)
from layerline.attributes import CGROUP, MEANING


class Kind(StrEnum):
    """How a signal's values are to be read."""

    COUNTER = "counter"  # only grows; its increase over an interval is the reading
    GAUGE = "gauge"  # holds until the next value


@dataclass(frozen=True, slots=True)
class Signal:
    """One quantity of one kind of entity."""

    name: str
    entity: str  # "container", "host" or "service"
    kind: Kind
    unit: str  # as stored: "ns", "By", "By/s", "1", "{cpu}", "{period}", "{operation}", …
    meaning: str
    source: str  # the kernel file or endpoint, and since when
    dimensions: tuple[str, ...] = ()  # attributes of a point that make it a series of its own
    aliases: tuple[Alias, ...] = ()
    stall: bool = False  # the agent reads it several times a second: a finer grid gives a narrower range
    #: A counter that the kernel may let step back by less than this, without beginning anew.
    steps_back: int = 0
    additive: str = ""  # "cpus": sums over CPUs; "tasks": sums over tasks; "union": wall time in which any was stalled


# UCUM time units as OTLP writes them, in nanoseconds.
TIME_UNITS_NS = {
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
}

#: What tells cgroups above a container apart: their path.
ABOVE = (CGROUP,)

SIGNALS: tuple[Signal, ...] = (
    # ---- container: CPU
    Signal(
        "container.cpu.time",
        "container",
        Kind.COUNTER,
        "ns",
        "CPU time used by all its tasks",
        "v1 cpuacct.usage; v2 cpu.stat usage_usec",
        stall=True,
        additive="cpus",
        aliases=(
            docker_stats("container.cpu.usage.total"),
            kubeletstats("container.cpu.time"),
            cadvisor("container_cpu_usage_seconds_total"),
        ),
    ),
    Signal(
        "container.cpu.throttled",
        "container",
        Kind.COUNTER,
        "ns",
        "time its runnable tasks were held back because a CPU quota was used up, its own or that of a cgroup above it, "
        "summed over CPUs",
        "cpu.stat.local, Linux 6.5: v1 throttled_time, v2 throttled_usec; before that and from others cpu.stat, which "
        "counts its own quota only",
        stall=True,
        additive="cpus",
        aliases=(
            docker_stats("container.cpu.throttling_data.throttled_time"),
            cadvisor("container_cpu_cfs_throttled_seconds_total"),
        ),
    ),
    Signal(
        "container.cpu.periods",
        "container",
        Kind.COUNTER,
        "{period}",
        "enforcement periods of its own quota that have passed",
        "cpu.stat nr_periods",
        aliases=(
            docker_stats("container.cpu.throttling_data.periods"),
            cadvisor("container_cpu_cfs_periods_total"),
        ),
    ),
    Signal(
        "container.cpu.throttled_periods",
        "container",
        Kind.COUNTER,
        "{period}",
        "enforcement periods in which its own quota was used up",
        "cpu.stat nr_throttled",
        aliases=(
            docker_stats("container.cpu.throttling_data.throttled_periods"),
            cadvisor("container_cpu_cfs_throttled_periods_total"),
        ),
    ),
    Signal(
        "container.cpu.limit",
        "container",
        Kind.GAUGE,
        "{cpu}",
        "CPUs it may use by quota; absent when there is no quota",
        "v1 cpu.cfs_quota_us / cpu.cfs_period_us; v2 cpu.max",
        aliases=(
            docker_stats("container.cpu.limit"),
            k8s_cluster("k8s.container.cpu_limit"),
            conventions("k8s.container.cpu.limit.current"),
            conventions("k8s.container.cpu.limit.desired", ("k8s.limit", "desired")),
            conventions("k8s.container.cpu.limit"),  # until 1.43
            kube_state_metrics("kube_pod_container_resource_limits", only=(("resource", "cpu"),)),
            kube_state_metrics("kube_pod_container_resource_limits_cpu_cores"),  # 1.x
        ),
    ),
    Signal(
        "container.cpu.quota",
        "container",
        Kind.GAUGE,
        "ns",
        "CPU time it may use in each period of its quota; its limit is this divided by the period",
        "from others: v1 cpu.cfs_quota_us, v2 the first figure of cpu.max",
        aliases=(cadvisor("container_spec_cpu_quota", unit="us", zero=False),),
    ),
    Signal(
        "container.cpu.quota.period",
        "container",
        Kind.GAUGE,
        "ns",
        "how long a period of its quota is",
        "from others: v1 cpu.cfs_period_us, v2 the second figure of cpu.max",
        aliases=(cadvisor("container_spec_cpu_period", unit="us", zero=False),),
    ),
    Signal(
        "container.cpu.limit_utilization",
        "container",
        Kind.GAUGE,
        "1",
        "how much of its CPU limit it used, as a share",
        "from others",
        aliases=(
            kubeletstats("k8s.container.cpu_limit_utilization"),
            conventions("k8s.container.cpu.limit.utilization"),
        ),
    ),
    Signal(
        "container.cpu.shares",
        "container",
        Kind.GAUGE,
        "{share}",
        "its weight where CPUs are short, beside others on the same machine: no limit",
        "from others: v1 cpu.shares, v2 cpu.weight as shares",
        aliases=(
            docker_stats("container.cpu.shares"),
            cadvisor("container_spec_cpu_shares"),
        ),
    ),
    Signal(
        "container.cpu.pressure",
        "container",
        Kind.COUNTER,
        "ns",
        "wall time in which some (all: full) of its tasks waited for a CPU",
        "cgroup v2 cpu.pressure total, Linux 4.20",
        dimensions=("pressure.kind",),
        additive="union",
        aliases=(
            cadvisor("container_pressure_cpu_waiting_seconds_total", SOME),
            cadvisor("container_pressure_cpu_stalled_seconds_total", FULL),
        ),
    ),
    # ---- container: memory
    Signal(
        "container.memory.usage",
        "container",
        Kind.GAUGE,
        "By",
        "memory charged to it, page cache included",
        "v1 memory.usage_in_bytes; v2 memory.current",
        aliases=(
            kubeletstats("container.memory.usage"),
            cadvisor("container_memory_usage_bytes"),
        ),
    ),
    Signal(
        "container.memory.working_set",
        "container",
        Kind.GAUGE,
        "By",
        "memory charged to it less inactive file pages",
        "usage less memory.stat (total_)inactive_file",
        aliases=(
            docker_stats("container.memory.usage.total"),
            kubeletstats("container.memory.working_set"),
            cadvisor("container_memory_working_set_bytes"),
        ),
    ),
    Signal(
        "container.memory.limit",
        "container",
        Kind.GAUGE,
        "By",
        "its memory limit; absent when there is none",
        "v1 memory.limit_in_bytes; v2 memory.max or memory.high, the lower",
        aliases=(
            docker_stats("container.memory.usage.limit", zero=False),
            k8s_cluster("k8s.container.memory_limit"),
            conventions("k8s.container.memory.limit.current"),
            conventions("k8s.container.memory.limit.desired", ("k8s.limit", "desired")),
            conventions("k8s.container.memory.limit"),  # until 1.43
            cadvisor("container_spec_memory_limit_bytes", zero=False),
            kube_state_metrics("kube_pod_container_resource_limits", only=(("resource", "memory"),)),
            kube_state_metrics("kube_pod_container_resource_limits_memory_bytes"),  # 1.x
        ),
    ),
    Signal(
        "container.memory.limit_utilization",
        "container",
        Kind.GAUGE,
        "1",
        "how much of its memory limit it used, as a share; the kubelet counts the whole usage, page cache included",
        "from others",
        aliases=(
            kubeletstats("k8s.container.memory_limit_utilization"),
            conventions("k8s.container.memory.limit.utilization"),
        ),
    ),
    Signal(
        "container.memory.pressure",
        "container",
        Kind.COUNTER,
        "ns",
        "wall time in which some (all: full) of its tasks waited for memory",
        "cgroup v2 memory.pressure total, Linux 4.20",
        dimensions=("pressure.kind",),
        stall=True,
        additive="union",
        aliases=(
            cadvisor("container_pressure_memory_waiting_seconds_total", SOME),
            cadvisor("container_pressure_memory_stalled_seconds_total", FULL),
        ),
    ),
    Signal(
        "container.memory.refaults",
        "container",
        Kind.COUNTER,
        "{page}",
        "pages it had to read back because memory had run short and they had been evicted",
        "v1 memory.stat workingset_refault_file + _anon, Linux 5.9 (before: workingset_refault, 4.15); v1 total_…",
        aliases=(  # shares of one figure
            cadvisor("container_memory_workingset_refault_file_total", ("page.kind", "file"), zero=False),
            cadvisor("container_memory_workingset_refault_anon_total", ("page.kind", "anon"), zero=False),
        ),
    ),
    Signal(
        "container.memory.major_faults",
        "container",
        Kind.COUNTER,
        "{fault}",
        "page faults that had to wait for a device",
        "v1 memory.stat total_pgmajfault; v2 memory.stat pgmajfault, Linux 4.11",
        aliases=(
            docker_stats("container.memory.pgmajfault"),
            docker_stats("container.memory.total_pgmajfault"),
            kubeletstats("container.memory.major_page_faults"),
            conventions("container.paging.faults", only=(("system.paging.fault.type", "major"),)),
            conventions("container.memory.paging.faults", only=(("system.paging.fault.type", "major"),)),  # until 1.43
            cadvisor("container_memory_failures_total", only=(("scope", "hierarchy"), ("failure_type", "pgmajfault"))),
            cadvisor("container_memory_failures_total", only=(("scope", "hierarchy"), ("type", "pgmajfault"))),  # 0.31
        ),
    ),
    Signal(
        "container.memory.limit_hits",
        "container",
        Kind.COUNTER,
        "{hit}",
        "times its usage came up against its limit, whereupon the kernel reclaims in the task that asked",
        "v1 memory.failcnt + memory.memsw.failcnt (blind where both limits are equal); v2 memory.events max + high",
        stall=True,
        aliases=(
            docker_stats("container.memory.fails", zero=False),
            cadvisor("container_memory_failcnt", zero=False),
            cadvisor("container_memory_events_max_total", zero=False),
        ),
    ),
    Signal(
        "container.memory.oom_kills",
        "container",
        Kind.COUNTER,
        "{kill}",
        "processes of it that the kernel killed for want of memory",
        "v1 memory.oom_control oom_kill, Linux 4.13; v2 memory.events oom_kill, Linux 4.13",
        aliases=(cadvisor("container_oom_events_total"),),
    ),
    # ---- container: block I/O
    Signal(
        "container.disk.io",
        "container",
        Kind.COUNTER,
        "By",
        "bytes it read from and wrote to block devices",
        "v1 blkio.throttle.io_service_bytes_recursive; v2 io.stat rbytes, wbytes",
        dimensions=("disk.io.direction", "system.device"),
        aliases=(
            docker_stats("container.blockio.io_service_bytes_recursive"),
            cadvisor("container_fs_reads_bytes_total", READ),
            cadvisor("container_fs_writes_bytes_total", WRITE),
        ),
    ),
    Signal(
        "container.disk.operations",
        "container",
        Kind.COUNTER,
        "{operation}",
        "block I/O operations it made; 0 for the device `none` while it has touched none",
        "v1 blkio.throttle.io_serviced_recursive; v2 io.stat rios, wios",
        dimensions=("disk.io.direction", "system.device"),
        aliases=(
            docker_stats("container.blockio.io_serviced_recursive"),
            cadvisor("container_fs_reads_total", READ),
            cadvisor("container_fs_writes_total", WRITE),
        ),
    ),
    Signal(
        "container.disk.limit",
        "container",
        Kind.GAUGE,
        "By/s",
        "bytes per second it may read from or write to a device; absent when there is no limit",
        "v1 blkio.throttle.{read,write}_bps_device; v2 io.max",
        dimensions=("disk.io.direction", "system.device"),
    ),
    Signal(
        "container.disk.operations.limit",
        "container",
        Kind.GAUGE,
        "{operation}/s",
        "operations per second it may make on a device; absent when there is no limit",
        "v1 blkio.throttle.{read,write}_iops_device; v2 io.max",
        dimensions=("disk.io.direction", "system.device"),
    ),
    Signal(
        "container.io.pressure",
        "container",
        Kind.COUNTER,
        "ns",
        "wall time in which some (all: full) of its tasks waited for block I/O",
        "cgroup v2 io.pressure total, Linux 4.20",
        dimensions=("pressure.kind",),
        stall=True,
        additive="union",
        aliases=(
            cadvisor("container_pressure_io_waiting_seconds_total", SOME),
            cadvisor("container_pressure_io_stalled_seconds_total", FULL),
        ),
    ),
    # ---- container: network
    Signal(
        "container.network.io",
        "container",
        Kind.COUNTER,
        "By",
        "bytes received and transmitted on the interfaces of its own network, loopback left out",
        "/proc/<pid>/net/dev of one of its processes; absent where it shares the host's network",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            docker_stats("container.network.io.usage.rx_bytes", RECEIVE),
            docker_stats("container.network.io.usage.tx_bytes", TRANSMIT),
            cadvisor("container_network_receive_bytes_total", RECEIVE),
            cadvisor("container_network_transmit_bytes_total", TRANSMIT),
        ),
    ),
    Signal(
        "container.network.packets",
        "container",
        Kind.COUNTER,
        "{packet}",
        "packets received and transmitted on the interfaces of its own network",
        "/proc/<pid>/net/dev of one of its processes; absent where it shares the host's network",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            docker_stats("container.network.io.usage.rx_packets", RECEIVE),
            docker_stats("container.network.io.usage.tx_packets", TRANSMIT),
            cadvisor("container_network_receive_packets_total", RECEIVE),
            cadvisor("container_network_transmit_packets_total", TRANSMIT),
        ),
    ),
    Signal(
        "container.network.errors",
        "container",
        Kind.COUNTER,
        "{error}",
        "packets that the interfaces of its own network could not receive or transmit",
        "/proc/<pid>/net/dev of one of its processes; absent where it shares the host's network",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            docker_stats("container.network.io.usage.rx_errors", RECEIVE),
            docker_stats("container.network.io.usage.tx_errors", TRANSMIT),
            cadvisor("container_network_receive_errors_total", RECEIVE),
            cadvisor("container_network_transmit_errors_total", TRANSMIT),
        ),
    ),
    Signal(
        "container.network.dropped",
        "container",
        Kind.COUNTER,
        "{packet}",
        "packets that the interfaces of its own network dropped for want of room, or because nobody wanted them",
        "/proc/<pid>/net/dev of one of its processes; absent where it shares the host's network",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            docker_stats("container.network.io.usage.rx_dropped", RECEIVE),
            docker_stats("container.network.io.usage.tx_dropped", TRANSMIT),
            cadvisor("container_network_receive_packets_dropped_total", RECEIVE),
            cadvisor("container_network_transmit_packets_dropped_total", TRANSMIT),
        ),
    ),
    Signal(
        "container.network.tcp.retransmits",
        "container",
        Kind.COUNTER,
        "{segment}",
        "TCP segments that its network had to send again",
        "/proc/<pid>/net/snmp Tcp RetransSegs of one of its processes; absent where it shares the host's network",
    ),
    Signal(
        "container.network.tcp.needless_retransmits",
        "container",
        Kind.COUNTER,
        "{segment}",
        "of those, segments that the other end said it had already: they were late, not lost",
        "/proc/<pid>/net/netstat TcpExt TCPDSACKRecvSegs (Linux 5.11), else TCPDSACKRecv; absent as above",
    ),
    # ---- container: processes
    Signal(
        "container.pids",
        "container",
        Kind.GAUGE,
        "{process}",
        "processes and threads in it",
        "pids.current, Linux 4.3",
        aliases=(
            docker_stats("container.pids.count"),
            cadvisor("container_threads"),
        ),
    ),
    Signal(
        "container.pids.limit",
        "container",
        Kind.GAUGE,
        "{process}",
        "processes and threads that it may have",
        "pids.max, Linux 4.3; absent where there is no limit",
        aliases=(
            docker_stats("container.pids.limit", zero=False),
            cadvisor("container_threads_max", zero=False),
        ),
    ),
    # ---- cgroups above a container: only while they have a limit of that kind, by the path of the cgroup
    Signal(
        "container.ancestor.cpu.limit",
        "container",
        Kind.GAUGE,
        "{cpu}",
        "CPUs that a cgroup above it may use by quota, all below it together",
        "v1 cpu.cfs_quota_us / cpu.cfs_period_us; v2 cpu.max",
        dimensions=ABOVE,
    ),
    Signal(
        "container.ancestor.cpu.throttled",
        "container",
        Kind.COUNTER,
        "ns",
        "time withheld by the quota of a cgroup above it, from all below it, summed over CPUs",
        "v1 cpu.stat throttled_time; v2 cpu.stat throttled_usec",
        dimensions=ABOVE,
        stall=True,
        additive="cpus",
    ),
    Signal(
        "container.ancestor.cpu.periods",
        "container",
        Kind.COUNTER,
        "{period}",
        "enforcement periods of that quota that have passed",
        "cpu.stat nr_periods",
        dimensions=ABOVE,
    ),
    Signal(
        "container.ancestor.cpu.throttled_periods",
        "container",
        Kind.COUNTER,
        "{period}",
        "enforcement periods in which that quota was used up",
        "cpu.stat nr_throttled",
        dimensions=ABOVE,
    ),
    Signal(
        "container.ancestor.cpu.time",
        "container",
        Kind.COUNTER,
        "ns",
        "CPU time used by all below a cgroup above it that has a CPU quota",
        "v1 cpuacct.usage; v2 cpu.stat usage_usec",
        dimensions=ABOVE,
        stall=True,
        additive="cpus",
    ),
    Signal(
        "container.ancestor.memory.limit",
        "container",
        Kind.GAUGE,
        "By",
        "memory limit of a cgroup above it, for all below it together",
        "v1 memory.limit_in_bytes, unless memory.use_hierarchy is 0; v2 memory.max or memory.high, the lower",
        dimensions=ABOVE,
    ),
    Signal(
        "container.ancestor.memory.usage",
        "container",
        Kind.GAUGE,
        "By",
        "memory charged to all below a cgroup above it that has a memory limit, page cache included",
        "v1 memory.usage_in_bytes; v2 memory.current",
        dimensions=ABOVE,
    ),
    Signal(
        "container.ancestor.memory.limit_hits",
        "container",
        Kind.COUNTER,
        "{hit}",
        "times that usage came up against that limit",
        "v1 memory.failcnt + memory.memsw.failcnt; v2 memory.events.local max + high, Linux 5.2",
        dimensions=ABOVE,
        stall=True,
    ),
    Signal(
        "container.ancestor.disk.limit",
        "container",
        Kind.GAUGE,
        "By/s",
        "bytes per second that all below a cgroup above it may read from or write to a device",
        "v2 io.max; v1 has no such limits: there they hold for their own cgroup only",
        dimensions=(*ABOVE, "disk.io.direction", "system.device"),
    ),
    Signal(
        "container.ancestor.disk.operations.limit",
        "container",
        Kind.GAUGE,
        "{operation}/s",
        "operations per second that all below a cgroup above it may make on a device",
        "v2 io.max",
        dimensions=(*ABOVE, "disk.io.direction", "system.device"),
    ),
    Signal(
        "container.ancestor.disk.io",
        "container",
        Kind.COUNTER,
        "By",
        "bytes that all below a cgroup above it with such a limit read from and wrote to block devices",
        "v2 io.stat rbytes, wbytes",
        dimensions=(*ABOVE, "disk.io.direction", "system.device"),
    ),
    Signal(
        "container.ancestor.disk.operations",
        "container",
        Kind.COUNTER,
        "{operation}",
        "block I/O operations that all below a cgroup above it with such a limit made",
        "v2 io.stat rios, wios",
        dimensions=(*ABOVE, "disk.io.direction", "system.device"),
    ),
    # ---- host
    Signal(
        "system.cpu.time",
        "host",
        Kind.COUNTER,
        "ns",
        "CPU time of all CPUs by mode; iowait and others may step back a little, which is no new beginning",
        "/proc/stat cpu",
        dimensions=("cpu.mode",),
        stall=True,
        steps_back=3_000_000_000,
        additive="cpus",
        aliases=(
            hostmetrics("system.cpu.time"),
            node_exporter("node_cpu_seconds_total"),
        ),
    ),
    Signal(
        "system.cpu.logical.count",
        "host",
        Kind.GAUGE,
        "{cpu}",
        "CPUs online",
        "/proc/stat cpuN",
        aliases=(
            hostmetrics("system.cpu.logical.count"),
            cadvisor("machine_cpu_cores"),
        ),
    ),
    Signal(
        "system.cpu.pressure",
        "host",
        Kind.COUNTER,
        "ns",
        "wall time in which some task waited for a CPU",
        "/proc/pressure/cpu total, Linux 4.20",
        dimensions=("pressure.kind",),
        stall=True,
        additive="union",
        aliases=(
            hostmetrics("system.cpu.linux.pressure.total", unit="us"),
            node_exporter("node_pressure_cpu_waiting_seconds_total", SOME),
        ),
    ),
    Signal(
        "system.memory.pressure",
        "host",
        Kind.COUNTER,
        "ns",
        "wall time in which some (all: full) task waited for memory",
        "/proc/pressure/memory total, Linux 4.20",
        dimensions=("pressure.kind",),
        stall=True,
        additive="union",
        aliases=(
            hostmetrics("system.memory.linux.pressure.total", unit="us"),
            node_exporter("node_pressure_memory_waiting_seconds_total", SOME),
            node_exporter("node_pressure_memory_stalled_seconds_total", FULL),
        ),
    ),
    Signal(
        "system.io.pressure",
        "host",
        Kind.COUNTER,
        "ns",
        "wall time in which some (all: full) task waited for block I/O",
        "/proc/pressure/io total, Linux 4.20",
        dimensions=("pressure.kind",),
        stall=True,
        additive="union",
        aliases=(
            hostmetrics("system.io.linux.pressure.total", unit="us"),
            node_exporter("node_pressure_io_waiting_seconds_total", SOME),
            node_exporter("node_pressure_io_stalled_seconds_total", FULL),
        ),
    ),
    Signal(
        "system.disk.io",
        "host",
        Kind.COUNTER,
        "By",
        "bytes read from and written to a device",
        "/proc/diskstats",
        dimensions=("disk.io.direction", "system.device"),
        aliases=(
            hostmetrics("system.disk.io"),
            node_exporter("node_disk_read_bytes_total", READ),
            node_exporter("node_disk_written_bytes_total", WRITE),
        ),
    ),
    Signal(
        "system.disk.operations",
        "host",
        Kind.COUNTER,
        "{operation}",
        "operations completed by a device",
        "/proc/diskstats",
        dimensions=("disk.io.direction", "system.device"),
        aliases=(
            hostmetrics("system.disk.operations"),
            node_exporter("node_disk_reads_completed_total", READ),
            node_exporter("node_disk_writes_completed_total", WRITE),
        ),
    ),
    Signal(
        "system.disk.io_time",
        "host",
        Kind.COUNTER,
        "ns",
        "wall time in which a device was busy",
        "/proc/diskstats field 13 (milliseconds)",
        dimensions=("system.device",),
        stall=True,
        additive="union",
        aliases=(
            hostmetrics("system.disk.io_time"),
            node_exporter("node_disk_io_time_seconds_total"),
        ),
    ),
    Signal(
        "system.network.io",
        "host",
        Kind.COUNTER,
        "By",
        "bytes received and transmitted on the host's own interfaces, loopback and veth left out",
        "net/dev below /proc/self, or /proc/1 of a host mounted elsewhere",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            hostmetrics("system.network.io"),
            kubeletstats("k8s.node.network.io"),
            node_exporter("node_network_receive_bytes_total", RECEIVE),
            node_exporter("node_network_transmit_bytes_total", TRANSMIT),
        ),
    ),
    Signal(
        "system.network.packets",
        "host",
        Kind.COUNTER,
        "{packet}",
        "packets received and transmitted on the host's own interfaces",
        "net/dev below /proc/self, or /proc/1 of a host mounted elsewhere",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            hostmetrics("system.network.packets"),
            conventions("system.network.packet.count"),
            node_exporter("node_network_receive_packets_total", RECEIVE),
            node_exporter("node_network_transmit_packets_total", TRANSMIT),
        ),
    ),
    Signal(
        "system.network.errors",
        "host",
        Kind.COUNTER,
        "{error}",
        "packets that the host's own interfaces could not receive or transmit",
        "net/dev below /proc/self, or /proc/1 of a host mounted elsewhere",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            hostmetrics("system.network.errors"),
            kubeletstats("k8s.node.network.errors"),
            node_exporter("node_network_receive_errs_total", RECEIVE),
            node_exporter("node_network_transmit_errs_total", TRANSMIT),
        ),
    ),
    Signal(
        "system.network.dropped",
        "host",
        Kind.COUNTER,
        "{packet}",
        "packets that the host's own interfaces dropped for want of room, or because nobody wanted them",
        "net/dev below /proc/self, or /proc/1 of a host mounted elsewhere",
        dimensions=("network.io.direction", "network.interface.name"),
        aliases=(
            hostmetrics("system.network.dropped"),
            conventions("system.network.packet.dropped"),
            node_exporter("node_network_receive_drop_total", RECEIVE),
            node_exporter("node_network_transmit_drop_total", TRANSMIT),
        ),
    ),
    Signal(
        "system.network.speed",
        "host",
        Kind.GAUGE,
        "By/s",
        "what the interface can carry in each direction; absent where it does not say",
        "/sys/class/net/*/speed (Mbit/s), Linux 2.6.33",
        dimensions=("network.interface.name",),
        aliases=(node_exporter("node_network_speed_bytes"),),
    ),
    Signal(
        "system.network.tcp.retransmits",
        "host",
        Kind.COUNTER,
        "{segment}",
        "TCP segments that the host's own network had to send again",
        "net/snmp below /proc/self, or /proc/1 of a host mounted elsewhere: Tcp RetransSegs",
        aliases=(node_exporter("node_netstat_Tcp_RetransSegs"),),
    ),
    Signal(
        "system.memory.refaults",
        "host",
        Kind.COUNTER,
        "{page}",
        "pages that had to be read back because memory had run short and they had been evicted",
        "/proc/vmstat workingset_refault_{file,anon}, Linux 5.9; one figure before, since 3.15",
    ),
    Signal(
        "system.paging.operations",
        "host",
        Kind.COUNTER,
        "{operation}",
        "pages swapped in and out",
        "/proc/vmstat pswpin, pswpout",
        dimensions=("system.paging.direction",),
        aliases=(
            # hostmetrics counts bytes there, and what is read and written otherwise beside what is swapped.
            conventions(
                "system.paging.operations",
                only=(("type", ""), ("system.paging.type", ""), ("system.paging.fault.type", "")),
            ),
            node_exporter("node_vmstat_pswpin", ("system.paging.direction", "in")),
            node_exporter("node_vmstat_pswpout", ("system.paging.direction", "out")),
        ),
    ),
    Signal(
        "system.memory.available",
        "host",
        Kind.GAUGE,
        "By",
        "memory that can be had without swapping, as the kernel estimates",
        "/proc/meminfo MemAvailable, Linux 3.14",
        aliases=(
            hostmetrics("system.linux.memory.available"),
            conventions("system.memory.linux.available"),
            node_exporter("node_memory_MemAvailable_bytes"),
        ),
    ),
    Signal(
        "system.memory.limit",
        "host",
        Kind.GAUGE,
        "By",
        "memory the host has",
        "/proc/meminfo MemTotal",
        aliases=(
            hostmetrics("system.memory.limit"),
            cadvisor("machine_memory_bytes"),
            node_exporter("node_memory_MemTotal_bytes"),
        ),
    ),
    Signal(
        "system.process.cpu.time",
        "host",
        Kind.COUNTER,
        "ns",
        "CPU time of a process in no container; of the ten busiest that used 2 % of a core in the last minute",
        "/proc/<pid>/stat utime, stime (ticks of 10 ms); kernel threads too",
        dimensions=("process.pid", "process.executable.name"),
        additive="cpus",
    ),
    # ---- host: the virtual machine's own limits, as its provider tells them
    Signal(
        "system.cpu.credits",
        "host",
        Kind.GAUGE,
        "{credit}",
        "CPU credits that a burstable machine has left; without any it runs at its baseline",
        "from the provider; one credit is a CPU for a minute",
        aliases=(
            cloudwatch("AWS/EC2/CPUCreditBalance"),
            azuremonitor("cpu_credits_remaining_average"),
        ),
    ),
    Signal(
        "system.disk.limit_exceeded",
        "host",
        Kind.GAUGE,
        "1",
        "share of the interval in which more was asked of a volume, or of all volumes of the machine, than their limit",
        "from the provider",
        dimensions=("disk.limit", "cloud.volume.id"),
        aliases=(
            cloudwatch("AWS/EBS/VolumeIOPSExceededCheck", VOLUME_OPERATIONS),
            cloudwatch("AWS/EBS/VolumeThroughputExceededCheck", VOLUME_BYTES),
            cloudwatch("AWS/EC2/InstanceEBSIOPSExceededCheck", MACHINE_OPERATIONS),
            cloudwatch("AWS/EC2/InstanceEBSThroughputExceededCheck", MACHINE_BYTES),
        ),
    ),
    Signal(
        "system.disk.burst_balance",
        "host",
        Kind.GAUGE,
        "%",
        "what is left of the credits by which a volume, or all of the machine together, may exceed their baseline",
        "from the provider",
        dimensions=("disk.limit", "cloud.volume.id"),
        aliases=(
            cloudwatch("AWS/EBS/BurstBalance", VOLUME_OPERATIONS),
            cloudwatch("AWS/EC2/EBSIOBalance%", MACHINE_OPERATIONS),
            cloudwatch("AWS/EC2/EBSByteBalance%", MACHINE_BYTES),
        ),
    ),
    Signal(
        "system.disk.limit_utilization",
        "host",
        Kind.GAUGE,
        "%",
        "how much was used of the limit of a disk, or of all disks of the machine",
        "from the provider",
        dimensions=("disk.limit", "lun"),
        aliases=(
            azuremonitor("data_disk_iops_consumed_percentage_average", VOLUME_OPERATIONS),
            azuremonitor("data_disk_bandwidth_consumed_percentage_average", VOLUME_BYTES),
            azuremonitor("vm_uncached_iops_consumed_percentage_average", MACHINE_OPERATIONS),
            azuremonitor("vm_uncached_bandwidth_consumed_percentage_average", MACHINE_BYTES),
        ),
    ),
    Signal(
        "system.disk.queue_length",
        "host",
        Kind.GAUGE,
        "{operation}",
        "operations that waited for a volume to complete them",
        "from the provider",
        dimensions=("cloud.volume.id",),
        aliases=(cloudwatch("AWS/EBS/VolumeQueueLength"),),
    ),
    Signal(
        "system.disk.throttled_operations",
        "host",
        Kind.COUNTER,
        "{operation}",
        "operations that the provider delayed because a limit of the disk or the machine was reached",
        "from the provider",
        dimensions=("disk.io.direction",),
        aliases=(
            googlecloudmonitoring("instance/disk/throttled_read_ops_count", READ),
            googlecloudmonitoring("instance/disk/throttled_write_ops_count", WRITE),
        ),
    ),
    Signal(
        "system.network.allowance_exceeded",
        "host",
        Kind.COUNTER,
        "{packet}",
        "packets that the provider queued or dropped because an allowance of the machine was exceeded",
        "from others: `ethtool -S` of the ENA driver",
        dimensions=("network.allowance", "network.interface.name"),
        aliases=(
            node_exporter("node_ethtool_bw_in_allowance_exceeded", ("network.allowance", "bandwidth in")),
            node_exporter("node_ethtool_bw_out_allowance_exceeded", ("network.allowance", "bandwidth out")),
            node_exporter("node_ethtool_pps_allowance_exceeded", ("network.allowance", "packets per second")),
            node_exporter("node_ethtool_conntrack_allowance_exceeded", ("network.allowance", "tracked connections")),
            node_exporter("node_ethtool_linklocal_allowance_exceeded", ("network.allowance", "local services")),
        ),
    ),
    # ---- services: pools of connections, as the process that has the pool tells
    Signal(
        "db.client.connection.count",
        "service",
        Kind.GAUGE,
        "{connection}",
        "connections of a pool, by state",
        "the app's own instrumentation",
        dimensions=("db.client.connection.pool.name", "db.client.connection.state"),
        aliases=(conventions("db.client.connections.usage"),),  # until 1.26
    ),
    Signal(
        "db.client.connection.max",
        "service",
        Kind.GAUGE,
        "{connection}",
        "how many connections a pool may have",
        "the app's own instrumentation",
        dimensions=("db.client.connection.pool.name",),
        aliases=(conventions("db.client.connections.max"),),
    ),
    Signal(
        "db.client.connection.pending_requests",
        "service",
        Kind.GAUGE,
        "{request}",
        "requests that wait for a connection of a pool",
        "the app's own instrumentation",
        dimensions=("db.client.connection.pool.name",),
        aliases=(conventions("db.client.connections.pending_requests"),),
    ),
    # ---- services: file descriptors, as the process that has them tells
    Signal(
        "process.unix.file_descriptor.count",
        "service",
        Kind.GAUGE,
        "{file_descriptor}",
        "open file descriptors of a process",
        "the app's own instrumentation",
        aliases=(conventions("process.open_file_descriptor.count"), conventions("jvm.file_descriptor.count")),
    ),
    Signal(
        "process.unix.file_descriptor.limit",
        "service",
        Kind.GAUGE,
        "{file_descriptor}",
        "file descriptors that a process may have open",
        "the app's own instrumentation",
        aliases=(conventions("jvm.file_descriptor.limit"),),
    ),
    # ---- the agent itself
    Signal(
        "layerline.sensor.success",
        "host",
        Kind.GAUGE,
        "1",
        "1 where the sensor could read all it found in the last interval, 0 where it could not",
        "the agent",
        dimensions=("layerline.sensor",),
    ),
    Signal(
        "layerline.sensor.duration",
        "host",
        Kind.GAUGE,
        "ns",
        "time the sensor took in the last interval, over all entities",
        "the agent",
        dimensions=("layerline.sensor",),
    ),
    Signal(
        "layerline.agent.dropped_points",
        "host",
        Kind.COUNTER,
        "{point}",
        "points and events lost since the agent started: no room or too old while the server was away, or refused",
        "the agent",
    ),
    Signal(
        "layerline.agent.running",
        "host",
        Kind.GAUGE,
        "1",
        "1 while the agent runs, with its version",
        "the agent",
        dimensions=("layerline.version",),
    ),
    Signal(
        "layerline.agent.clock_offset",
        "host",
        Kind.GAUGE,
        "ns",
        "how far the machine's clock is ahead of the server's (negative: behind), by the exchange of a minute that"
        " leaves least open",
        "the agent's clock, and the times that the server's answers carry",
    ),
    Signal(
        "layerline.agent.clock_uncertainty",
        "host",
        Kind.GAUGE,
        "ns",
        "how far that may be wrong: half of what the exchange took, without the server's own work",
        "the agent's clock, and the times that the server's answers carry",
    ),
)

_BY_NAME = {signal.name: signal for signal in SIGNALS}


def _tongues() -> dict[str, list[tuple[Signal, Alias]]]:
    """By every name that anybody uses: which signal it may mean. Who uses our own names needs no entry for each."""
    found: dict[str, list[tuple[Signal, Alias]]] = defaultdict(list)
    for signal in SIGNALS:
        for alias in signal.aliases:
            found[alias.name].append((signal, alias))
        if signal.name not in found:
            found[signal.name].append((signal, conventions(signal.name)))
    return dict(found)


_MEANT = _tongues()


class Translation(NamedTuple):
    """What one point of somebody's metric is in the catalogue's words."""

    signal: Signal
    factor: float  # from the metric's unit to the stored one
    attributes: dict[str, str]
    zero: bool  # False: its zeros say nothing
    source: str  # who uses that name (``aliases.py``)


def find(name: str) -> Signal | None:
    """The signal of that name; None where the catalogue does not know it."""
    return _BY_NAME.get(name)


def translate(name: str, unit: str, attributes: Attributes) -> Translation | None:
    """The signal that a point with these attributes belongs to; None where it is none of ours.

    A metric's points need not all be translated: block I/O counts ``total`` beside ``read`` and ``write``. A time whose
    unit is not one of ``TIME_UNITS_NS`` is taken to be in the stored unit already.
    """
    for signal, alias in _MEANT.get(name, ()):
        ours = in_our_words(alias, signal.dimensions, attributes)
        if ours is not None and not left_out(signal.name, ours):
            factor = float(TIME_UNITS_NS.get(alias.unit or unit, 1)) if signal.unit == "ns" else 1.0
            # A name that is ours, too, is anybody's.
            source = CONVENTIONS if name == signal.name else alias.source
            return Translation(signal, factor, ours, alias.zero, source)
    return None


def document() -> str:
    """``docs/SIGNALS.md``: every signal, what it means, its unit, and where it comes from."""
    lines = [
        "# Signals",
        "",
        "What Layerline's readings are called, what they count and where they come from. Generated from the catalogue",
        "by `python docs/make.py`.",
        "",
        "Units are those stored; whoever sends another time unit is converted on receipt. A **counter** only grows:",
        "its increase over an interval is the reading. A **gauge** holds until the next value. What the kernel does",
        "not give is absent, never 0. The agent reads everything each second (`--interval`), and the counters marked",
        "*fine* every 200 ms (`--fine`): of those it sends what changed, with the last reading before the change.",
        "",
    ]
    for entity, title in (("container", "Containers"), ("host", "Hosts"), ("service", "Services")):
        lines += [f"## {title}", "", "| signal | kind | unit | what it is | from |", "| --- | --- | --- | --- | --- |"]
        for signal in SIGNALS:
            if signal.entity == entity:
                kind = f"{signal.kind}, fine" if signal.stall else str(signal.kind)
                meaning = signal.meaning
                if signal.dimensions:
                    meaning += "; by " + ", ".join(f"`{dimension}`" for dimension in signal.dimensions)
                lines.append(f"| `{signal.name}` | {kind} | `{signal.unit}` | {meaning} | {signal.source} |")
        lines.append("")
    lines += ["## Attributes of quotas and places", "", "| attribute | what it is |", "| --- | --- |"]
    lines += [f"| `{attribute}` | {meaning} |" for attribute, meaning in MEANING.items()]
    lines += [
        "",
        "## Also known as",
        "",
        "Whoever sends these gets the same readings: by OTLP from a Collector (its receivers `docker_stats`,",
        "`hostmetrics`, `kubeletstats`, `k8s_cluster`, or its Prometheus receiver, which scrapes cAdvisor,",
        "kube-state-metrics and node_exporter), from cloud providers (CloudWatch's metric streams and the receivers",
        "`awscloudwatch`, `azuremonitor` and `googlecloudmonitoring`: `layerline docs cloud`), or from anybody who",
        "uses the names of OpenTelemetry's semantic conventions, with today's attributes or those of old (`state`,",
        "`device`, `direction` …). Figures per CPU, and those of file and anonymous pages, are added up when read.",
        "What is not listed here is kept under its own name.",
        "",
        "| signal | also known as |",
        "| --- | --- |",
    ]
    for signal in SIGNALS:
        if signal.aliases:
            by_source: dict[str, list[str]] = defaultdict(list)
            for alias in signal.aliases:
                by_source[alias.source].append(_shown(signal, alias))
            told = "; ".join(f"{source}: {', '.join(names)}" for source, names in by_source.items())
            lines.append(f"| `{signal.name}` | {told} |")
    lines.append("")
    return "\n".join(lines)


def _shown(signal: Signal, alias: Alias) -> str:
    """An alias as the document has it: under which name, and which of its points."""
    name = "the same name" if alias.name == signal.name else f"`{alias.name}`"
    told = [f"`{key}` = {value}" if value else f"without `{key}`" for key, value in alias.only]
    if not alias.zero:
        told.append("0 is left out: it is also said where nothing was counted or set")
    return f"{name} ({'; '.join(told)})" if told else name
