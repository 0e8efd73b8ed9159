"""What a Collector would have sent of the same containers: our agent's readings in others' words, every 15 or 60 s.

``cadvisor`` is cAdvisor and node_exporter behind the Prometheus receiver, ``docker_stats`` that receiver and
``hostmetrics`` behind a resourcedetection processor, as ``tests/sources`` has them. Counters of throttling, pressure
and retransmits, fine readings and all that only our agent reads are left out. At each scrape every entity that was
read within the last ``ALIVE_NS`` reports what was read of it last; a limit that was lifted meanwhile is not reported.
Limits are told by both (``container.cpu.limit`` of docker_stats is optional there).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, NumberDataPoint

from benchmarks.lab.coarse.each_cpu import Look

VOCABULARIES = ("cadvisor", "docker_stats")
INTERVALS_S = (15, 60)
ALIVE_NS = 5 * 10**9
PERIOD_US = 100_000
Words = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of our agent's, in its words."""

    signal: str
    attributes: Words
    unit: str
    is_counter: bool
    start_ns: int
    time_ns: int
    value: float


@dataclass(frozen=True, slots=True)
class Said:
    """One value as somebody publishes it."""

    name: str
    value: float
    labels: Words = field(default_factory=dict)
    unit: str = ""


@dataclass(slots=True)
class _Entity:
    resource: Words
    read_ns: int = 0
    latest: dict[tuple[str, tuple[tuple[str, str], ...]], Reading] = field(default_factory=dict)


def published(
    sent: Iterable[ExportMetricsServiceRequest], vocabulary: str, interval_s: int, each_cpu: Sequence[Look] = ()
) -> Iterator[ExportMetricsServiceRequest]:
    """The messages of this vocabulary and interval, from our agent's in the order in which they came.

    Our agent reads the sum of all CPUs, theirs tell them apart: ``each_cpu`` is what was read of each meanwhile. Where
    that was not recorded, the sum is published, without the number of a CPU.
    """
    entities: dict[tuple[tuple[str, str], ...], _Entity] = {}
    interval_ns = interval_s * 10**9
    due_ns: int | None = None
    for resource, readings in _readings(sent):
        now_ns = max(one.time_ns for one in readings)
        due_ns = now_ns + interval_ns if due_ns is None else due_ns
        if now_ns >= due_ns:
            yield from _scrape(entities.values(), due_ns, vocabulary, each_cpu)
            due_ns += -(-(now_ns - due_ns + 1) // interval_ns) * interval_ns
        key = tuple((name, resource[name]) for name in ("container.id", "host.name") if name in resource)
        entity = entities.setdefault(key, _Entity(resource))
        entity.resource, entity.read_ns = resource, now_ns
        for one in readings:
            entity.latest[one.signal, tuple(sorted(one.attributes.items()))] = one


def _readings(sent: Iterable[ExportMetricsServiceRequest]) -> Iterator[tuple[Words, list[Reading]]]:
    for request in sent:
        for group in request.resource_metrics:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            found = [
                Reading(
                    metric.name,
                    {one.key: one.value.string_value for one in point.attributes},
                    metric.unit,
                    metric.HasField("sum"),
                    point.start_time_unix_nano,
                    point.time_unix_nano,
                    float(point.as_int if point.HasField("as_int") else point.as_double),
                )
                for scope in group.scope_metrics
                for metric in scope.metrics
                for point in (metric.sum if metric.HasField("sum") else metric.gauge).data_points
            ]
            if found:
                yield resource, found


def _of_each_cpu(one: Reading, each_cpu: Sequence[Look]) -> list[Reading]:
    """The reading of a host's CPU time, told apart by CPU where that is known."""
    before = bisect_right(each_cpu, one.time_ns, key=lambda look: look.time_ns)
    if one.signal != "system.cpu.time" or not before:
        return [one]
    mode = one.attributes.get("cpu.mode", "user")
    return [
        replace(one, attributes=one.attributes | {"cpu.logical_number": cpu}, unit="ns", value=float(times[mode]))
        for cpu, times in each_cpu[before - 1].cpus.items()
        if mode in times
    ]


def _scrape(
    entities: Iterable[_Entity], now_ns: int, vocabulary: str, each_cpu: Sequence[Look]
) -> Iterator[ExportMetricsServiceRequest]:
    for entity in entities:
        if entity.read_ns < now_ns - ALIVE_NS:
            continue
        is_container = "container.id" in entity.resource
        words = {
            ("cadvisor", True): _cadvisor,
            ("cadvisor", False): _node_exporter,
            ("docker_stats", True): _docker_stats,
            ("docker_stats", False): _hostmetrics,
        }[vocabulary, is_container]
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        for key, value in _resource(vocabulary, entity.resource, is_container).items():
            group.resource.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
        metrics: dict[str, Any] = {}
        scope = group.scope_metrics.add()
        latest = (one for one in entity.latest.values() if one.time_ns >= entity.read_ns - ALIVE_NS)
        for one in (told for read in latest for told in _of_each_cpu(read, each_cpu)):
            for said in words(one, entity.resource):
                if said.name not in metrics:
                    metrics[said.name] = scope.metrics.add(name=said.name, unit=said.unit)
                metric = metrics[said.name]
                if one.is_counter:
                    metric.sum.is_monotonic = True
                    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                points = metric.sum.data_points if one.is_counter else metric.gauge.data_points
                points.append(_point(said, one, entity.read_ns))
        if metrics:
            yield request


def _point(said: Said, one: Reading, time_ns: int) -> NumberDataPoint:
    attributes = [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in said.labels.items()]
    start_ns = one.start_ns if one.is_counter else 0
    return NumberDataPoint(
        attributes=attributes, start_time_unix_nano=start_ns, time_unix_nano=time_ns, as_double=said.value
    )


def _resource(vocabulary: str, ours: Words, is_container: bool) -> Words:
    host = ours.get("host.name", "machine")
    if vocabulary == "cadvisor":
        job, port = ("cadvisor", "8080") if is_container else ("node", "9100")
        target = {"service.instance.id": f"{host}:{port}", "server.address": host, "server.port": port}
        return {"service.name": job, "url.scheme": "http"} | target
    if not is_container:
        return {"host.name": host, "os.type": "linux"}
    kept = ("container.id", "container.name", "container.image.name", "container.hostname", "container.runtime")
    return {"host.name": host} | {name: ours[name] for name in kept if ours.get(name)}


# ---- words: of one reading, what is published of it


def _seconds(one: Reading) -> float:
    return one.value if one.unit == "s" else one.value / 1e9


def _turned(one: Reading, direction: str, words: Words) -> str | None:
    return words.get(one.attributes.get(direction, ""))


#: Ours, and what cAdvisor calls it where nothing but the name differs.
_CADVISOR = {
    "container.memory.usage": "container_memory_usage_bytes",
    "container.memory.working_set": "container_memory_working_set_bytes",
    "container.memory.limit": "container_spec_memory_limit_bytes",
    "container.pids": "container_threads",
}
_TURNED = {
    "container.disk.io": (
        "disk.io.direction",
        {"read": "container_fs_reads_bytes_total", "write": "container_fs_writes_bytes_total"},
    ),
    "container.disk.operations": (
        "disk.io.direction",
        {"read": "container_fs_reads_total", "write": "container_fs_writes_total"},
    ),
    "container.network.io": (
        "network.io.direction",
        {"receive": "container_network_receive_bytes_total", "transmit": "container_network_transmit_bytes_total"},
    ),
}


def _cadvisor(one: Reading, resource: Words) -> Iterator[Said]:
    container = resource["container.id"]
    labels = {"id": f"/docker/{container}", "name": resource.get("container.name", "")}
    if image := resource.get("container.image.name"):
        labels["image"] = image
    if one.signal == "container.cpu.time":
        yield Said("container_cpu_usage_seconds_total", _seconds(one), labels | {"cpu": "total"})
    elif one.signal == "container.cpu.limit":
        yield Said("container_spec_cpu_quota", one.value * PERIOD_US, labels)
        yield Said("container_spec_cpu_period", PERIOD_US, labels)
    elif one.signal in _CADVISOR:
        yield Said(_CADVISOR[one.signal], one.value, labels)
    elif one.signal in _TURNED:
        direction, names = _TURNED[one.signal]
        if (name := _turned(one, direction, names)) is not None:
            yield Said(name, one.value, labels | _device(one))


def _device(one: Reading) -> Words:
    if device := one.attributes.get("system.device"):
        return {"device": f"/dev/{device}"}
    return {"interface": one.attributes.get("network.interface.name", "eth0")}


def _docker_stats(one: Reading, resource: Words) -> Iterator[Said]:
    if one.signal == "container.cpu.time":
        yield Said("container.cpu.usage.total", _seconds(one) * 1e9, unit="ns")
    elif one.signal == "container.cpu.limit":
        yield Said("container.cpu.limit", one.value, unit="{cpus}")
    elif one.signal == "container.memory.working_set":
        yield Said("container.memory.usage.total", one.value, unit="By")
    elif one.signal == "container.memory.limit":
        yield Said("container.memory.usage.limit", one.value, unit="By")
    elif one.signal == "container.pids":
        yield Said("container.pids.count", one.value, unit="{pids}")
    elif one.signal == "container.disk.io":
        labels = {"operation": one.attributes.get("disk.io.direction", ""), "device_major": "254", "device_minor": "0"}
        yield Said("container.blockio.io_service_bytes_recursive", one.value, labels, "By")
    elif one.signal == "container.network.io":
        names = {"receive": "container.network.io.usage.rx_bytes", "transmit": "container.network.io.usage.tx_bytes"}
        if (name := _turned(one, "network.io.direction", names)) is not None:
            yield Said(name, one.value, {"interface": one.attributes.get("network.interface.name", "eth0")}, "By")


def _node_exporter(one: Reading, resource: Words) -> Iterator[Said]:
    if one.signal == "system.cpu.time":
        cpu = one.attributes.get("cpu.logical_number")
        labels = {"cpu": cpu} if cpu is not None else {}
        yield Said("node_cpu_seconds_total", _seconds(one), labels | {"mode": one.attributes.get("cpu.mode", "user")})
    elif one.signal == "system.cpu.logical.count":
        yield Said("node_uname_info", 1, {"nodename": resource.get("host.name", "machine"), "sysname": "Linux"})
        yield Said("machine_cpu_cores", one.value)
    elif one.signal == "system.memory.available":
        yield Said("node_memory_MemAvailable_bytes", one.value)
    elif one.signal == "system.memory.limit":
        yield Said("node_memory_MemTotal_bytes", one.value)
    elif one.signal == "system.disk.io_time":
        yield Said("node_disk_io_time_seconds_total", _seconds(one), {"device": one.attributes["system.device"]})
    elif one.signal == "system.disk.io":
        names = {"read": "node_disk_read_bytes_total", "write": "node_disk_written_bytes_total"}
        if (name := _turned(one, "disk.io.direction", names)) is not None:
            yield Said(name, one.value, {"device": one.attributes["system.device"]})


def _hostmetrics(one: Reading, resource: Words) -> Iterator[Said]:
    if one.signal == "system.cpu.time":
        cpu = one.attributes.get("cpu.logical_number")
        labels = {"cpu": f"cpu{cpu}"} if cpu is not None else {}
        yield Said("system.cpu.time", _seconds(one), labels | {"state": one.attributes.get("cpu.mode", "user")}, "s")
    elif one.signal == "system.cpu.logical.count":
        yield Said("system.cpu.logical.count", one.value, unit="{cpu}")
    elif one.signal in ("system.disk.io", "system.disk.io_time"):
        labels = {"device": one.attributes["system.device"]}
        if one.signal == "system.disk.io":
            yield Said(one.signal, one.value, labels | {"direction": one.attributes["disk.io.direction"]}, "By")
        else:
            yield Said(one.signal, _seconds(one), labels, "s")
