"""What others call a quantity that the catalogue knows, and how their attributes and values read in our words.

``signals.py`` names the aliases beside each signal. Here stands what an alias is, and the words that all of a sender's
metrics share: how attributes are renamed, which values mean the same, and which points say something else.

Sources, read field by field: the ``documentation.md`` of the Collector's dockerstats, kubeletstats, k8scluster and
hostmetrics receivers (opentelemetry-collector-contrib) and what their scrapers put into these fields; cAdvisor's
``docs/storage/prometheus.md`` and ``metrics/prometheus.go``; the collectors of node_exporter; kube-state-metrics'
``docs/metrics/workload/pod-metrics.md``; OpenTelemetry's semantic conventions for system, container and Kubernetes
metrics, with the attributes' former names; AWS' "CloudWatch metric stream output in OpenTelemetry 1.0.0 format", the
``README.md`` and golden files of the Collector's awscloudwatch, azuremonitor and googlecloudmonitoring receivers. What
is scraped is meant as it comes out of the Collector's Prometheus receiver: names and labels as scraped, mostly without
a unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Attributes as a point has them.
Attributes = tuple[tuple[str, str], ...]

DOCKER_STATS = "docker_stats"
HOSTMETRICS = "hostmetrics"
KUBELETSTATS = "kubeletstats"
K8S_CLUSTER = "k8s_cluster"
CADVISOR = "cAdvisor"
NODE_EXPORTER = "node_exporter"
KUBE_STATE_METRICS = "kube-state-metrics"
CLOUDWATCH = "CloudWatch"
AZUREMONITOR = "azuremonitor"
GOOGLECLOUDMONITORING = "googlecloudmonitoring"
CONVENTIONS = "semantic conventions"
AGENT = "layerline agent"
#: What our agent says of whatever it reads, and nobody else does.
AGENT_SAYS = "layerline.boot_id"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name under which somebody reports a signal's quantity."""

    name: str
    source: str  # who
    unit: str = ""  # of its values, where the metric says none or a wrong one
    implies: Attributes = ()  # what the name says and ours says by attributes
    only: Attributes = ()  # the points of that metric that are meant; "" where it must lack the attribute
    zero: bool = True  # False: 0 is also said where nothing was counted, and is left out


def docker_stats(name: str, *implies: tuple[str, str], zero: bool = True) -> Alias:
    """A metric of the Collector's ``docker_stats`` receiver; it says its unit."""
    return Alias(name, DOCKER_STATS, implies=implies, zero=zero)


def hostmetrics(name: str, *implies: tuple[str, str], unit: str = "") -> Alias:
    """A metric of the Collector's ``hostmetrics`` receiver; it says its unit, with one exception."""
    return Alias(name, HOSTMETRICS, unit, implies)


def kubeletstats(name: str) -> Alias:
    """A metric of the Collector's ``kubeletstats`` receiver; it says its unit."""
    return Alias(name, KUBELETSTATS)


def k8s_cluster(name: str) -> Alias:
    """A metric of the Collector's ``k8s_cluster`` receiver, which asks the API server; it says its unit."""
    return Alias(name, K8S_CLUSTER)


def cadvisor(name: str, *implies: tuple[str, str], only: Attributes = (), zero: bool = True, unit: str = "") -> Alias:
    """A metric of cAdvisor; its name says whether it is in seconds, its documentation whether in microseconds."""
    return Alias(name, CADVISOR, unit or _told_by(name), implies, only, zero)


def node_exporter(name: str, *implies: tuple[str, str]) -> Alias:
    """A metric of node_exporter; its name says whether it is in seconds."""
    return Alias(name, NODE_EXPORTER, _told_by(name), implies)


def kube_state_metrics(name: str, only: Attributes = ()) -> Alias:
    """A metric of kube-state-metrics, which asks the API server: what the specs of containers say."""
    return Alias(name, KUBE_STATE_METRICS, only=only)


def cloudwatch(name: str, *implies: tuple[str, str]) -> Alias:
    """A metric of CloudWatch, as its metric streams and the Collector's ``awscloudwatch`` receiver name it."""
    return Alias(f"amazonaws.com/{name}", CLOUDWATCH, implies=implies)


def azuremonitor(name: str, *implies: tuple[str, str]) -> Alias:
    """A metric of the Collector's ``azuremonitor`` receiver: in lower case, with its aggregation at the end."""
    return Alias(f"azure_{name}", AZUREMONITOR, implies=implies)


def googlecloudmonitoring(name: str, *implies: tuple[str, str]) -> Alias:
    """A metric of the Collector's ``googlecloudmonitoring`` receiver, which keeps Google's names."""
    return Alias(f"compute.googleapis.com/{name}", GOOGLECLOUDMONITORING, implies=implies)


def conventions(name: str, *implies: tuple[str, str], only: Attributes = ()) -> Alias:
    """A name of OpenTelemetry's semantic conventions, of today or of old."""
    return Alias(name, CONVENTIONS, implies=implies, only=only)


def reader(source: str, resource: Mapping[str, str], entity: str) -> str:
    """Which collector read a figure: the one that uses this metric's name; where several do, the resource decides.

    ``resource``: the attributes of the resource that the figure belongs to. "" if the collector is not known.
    """
    if AGENT_SAYS in resource:
        return AGENT
    if source != CONVENTIONS:
        return source
    if entity == "container":
        if "k8s.pod.uid" in resource or "k8s.pod.name" in resource:
            return KUBELETSTATS
        return DOCKER_STATS if "container.runtime" in resource else ""
    return HOSTMETRICS if entity == "host" and "service.name" not in resource else ""


def _told_by(name: str) -> str:
    return "s" if "_seconds" in name else ""


READ, WRITE = ("disk.io.direction", "read"), ("disk.io.direction", "write")
RECEIVE, TRANSMIT = ("network.io.direction", "receive"), ("network.io.direction", "transmit")
VOLUME_OPERATIONS, VOLUME_BYTES = ("disk.limit", "volume operations"), ("disk.limit", "volume bytes")
MACHINE_OPERATIONS, MACHINE_BYTES = ("disk.limit", "machine operations"), ("disk.limit", "machine bytes")
SOME, FULL = ("pressure.kind", "some"), ("pressure.kind", "full")

#: Which of our attributes another's may stand for: the one of them that the signal is told apart by.
RENAMED: dict[str, tuple[str, ...]] = {
    "state": ("cpu.mode", "db.client.connection.state"),  # hostmetrics; pools, until 1.26
    "pool.name": ("db.client.connection.pool.name",),  # until 1.26
    "mode": ("cpu.mode",),  # node_exporter
    "system.cpu.state": ("cpu.mode",),  # conventions until 1.27
    "container.cpu.state": ("cpu.mode",),
    "device": ("system.device", "network.interface.name"),  # hostmetrics, node_exporter, cAdvisor
    "system.device": ("system.device", "network.interface.name"),  # conventions until 1.30 for interfaces too
    "interface": ("network.interface.name",),  # docker_stats, kubeletstats, cAdvisor
    "operation": ("disk.io.direction",),  # docker_stats
    "direction": ("disk.io.direction", "network.io.direction", "system.paging.direction"),  # hostmetrics, kubeletstats
    "system.disk.direction": ("disk.io.direction",),  # conventions of old
    "system.network.direction": ("network.io.direction",),
    "system.pressure.stall_type": ("pressure.kind",),  # hostmetrics
}
#: The number of a CPU. Such a point is one CPU's share of what is meant; the shares are added up when read.
CPU_NUMBER = "cpu.logical_number"
CPU_NUMBERS = frozenset({"cpu", "core", "system.cpu.logical_number", CPU_NUMBER})
#: What stands there where it is not one CPU's share (cAdvisor where the kernel has no figure per CPU; gopsutil).
ALL_CPUS = frozenset({"total", "cpu-total"})

#: Values that mean one of ours.
SAME = {
    "cpu.mode": {"wait": "iowait", "irq": "interrupt"},
    "system.paging.direction": {"page_in": "in", "page_out": "out"},
}
#: All values there are. A point with another one says something else: ``total``, ``sync``, ``async``, ``discard`` …
VALUES = {
    "disk.io.direction": frozenset({"read", "write"}),
    "network.io.direction": frozenset({"receive", "transmit"}),
    "pressure.kind": frozenset({"some", "full"}),
    "system.paging.direction": frozenset({"in", "out"}),
}

#: Memory-backed devices and partitions, as node_exporter leaves them out: a partition's figures are within its disk's.
DISKS_LEFT_OUT = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]+|nvme\d+n\d+p|mmcblk\d+p)\d+")
#: Loopback, the host's ends of containers' cables, and the tunnels that every namespace has from the start, unused.
INTERFACES_LEFT_OUT = re.compile(r"lo|veth.*|tunl0|sit0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6tnl0|ip6gre0")


def in_our_words(alias: Alias, dimensions: tuple[str, ...], attributes: Attributes) -> dict[str, str] | None:
    """A point's attributes in the catalogue's words; None where the point says something else than the signal.

    What the signal is not told apart by stays as it is: such points are shares of one figure (of a CPU, of a mode).
    """
    given = dict(attributes)
    if any(given.pop(key, "") != value for key, value in alias.only):
        return None
    if (major := given.pop("device_major", None)) is not None and (
        minor := given.pop("device_minor", None)
    ) is not None:
        given["device"] = f"{major}:{minor}"  # docker_stats
    ours = dict(alias.implies)
    for key, value in given.items():
        if key in CPU_NUMBERS:
            if value not in ALL_CPUS:
                ours[CPU_NUMBER] = value.removeprefix("cpu")
            continue
        name = next((candidate for candidate in RENAMED.get(key, ()) if candidate in dimensions), key)
        value = SAME.get(name, {}).get(value, value)
        if name in VALUES and name in dimensions and value not in VALUES[name]:
            return None
        ours[name] = value.removeprefix("/dev/") if name == "system.device" else value
    return ours


def left_out(signal: str, attributes: dict[str, str]) -> bool:
    """Whether it tells of a device or an interface that the signal does not count."""
    if signal.startswith("system.disk."):
        return bool(DISKS_LEFT_OUT.fullmatch(attributes.get("system.device", "")))
    if signal.startswith(("system.network.", "container.network.")):
        return bool(INTERFACES_LEFT_OUT.fullmatch(attributes.get("network.interface.name", "")))
    return False
