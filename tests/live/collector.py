"""What a team has that collects already: readings of this machine as an OpenTelemetry Collector would send them.

``Collector`` reads the Docker stats API and ``/proc`` and sends OTLP/HTTP under the names, attributes, units and types
of the Collector's receivers ``docker_stats`` and ``hostmetrics`` (opentelemetry-collector-contrib). No agent and no
wrapper of ours is needed, and nothing of ours is used here.

Taken field by field from ``receiver/dockerstatsreceiver``: ``documentation.md`` (names, units, types, defaults),
``receiver.go`` (which field of the stats goes where; ``op`` in lower case; pids only where counted) and
``metric_helper.go`` (CPU limit: nano CPUs, else the size of the cpuset, else the quota; memory without inactive file
pages):

* resource: ``container.id``, ``.name``, ``.image.name``, ``.runtime``, ``.hostname``; nothing that names the machine
* by default: ``container.cpu.usage.total``, ``.usermode``, ``.kernelmode``, ``container.cpu.utilization``,
  ``container.memory.usage.total``, ``.limit``, ``container.memory.percent``, ``.total_cache`` (cgroup v1), ``.file``
  (v2), ``container.blockio.io_service_bytes_recursive``, ``container.network.io.usage.{rx,tx}_{bytes,dropped}``
* optional: ``container.cpu.throttling_data.{periods,throttled_periods,throttled_time}``, ``container.cpu.limit``,
  ``.logical.count``, ``.shares``, ``.usage.system``, ``.usage.percpu`` (v1), ``container.memory.fails``,
  ``.usage.max``, ``.pgmajfault``, ``.total_pgmajfault`` (v1), ``container.blockio.io_serviced_recursive``,
  ``container.network.io.usage.{rx,tx}_{errors,packets}``, ``container.pids.count``, ``.limit``,
  ``container.restarts``, ``container.uptime``

Sums carry the start of the receiver, as the real one does, though the counters are older.

From ``receiver/hostmetricsreceiver/internal/scraper/{cpu,disk,load,memory,network}scraper/documentation.md``; sums
carry the time of boot. The resource has what a ``resourcedetection`` processor adds: ``host.name`` and ``os.type``.

* by default: ``system.cpu.time`` (per CPU and state), ``system.cpu.load_average.{1m,5m,15m}``, ``system.memory.usage``,
  ``system.disk.{io,io_time,merged,operation_time,operations,pending_operations,weighted_io_time}`` (partitions too),
  ``system.network.{dropped,errors,io,packets}`` (loopback and veth too); not ``system.network.connections``
* optional: ``system.cpu.logical.count``, ``system.cpu.utilization``, ``system.linux.memory.available``,
  ``system.memory.limit``

Left out: the memory figures of cgroup v1 and v2 beyond these, ``container.blockio`` beyond bytes and operations, and
``container.status``. The stats are asked for "one-shot", which the real receiver does not: otherwise the Engine takes a
second to answer.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
import requests
from docker.errors import DockerException
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, ResourceMetrics

from waiting import PATIENCE_S, eventually

CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver"
SUM, LEVEL, GAUGE = "sum", "level", "gauge"  # monotonic cumulative sum; cumulative sum that may fall; gauge

#: A value with its attributes.
Points = Iterable[tuple[int | float, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Field:
    """One metric, and how its points follow from what was read; without points it is not sent."""

    name: str
    unit: str
    type: str
    points: Callable[[Any], Points]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """One container's stats and description, as the Engine gives them, and its stats before."""

    now: dict[str, Any]
    before: dict[str, Any] | None
    container: dict[str, Any]


def one(read: Callable[[Any], int | float | None]) -> Callable[[Any], Points]:
    """A metric of a single point; None where there is no figure."""

    def points(of: Any) -> Points:
        value = read(of)
        return [] if value is None else [(value, {})]

    return points


# ---- docker_stats


def _memory(name: str) -> Callable[[Any], Points]:
    return one(lambda stats: stats.now["memory_stats"].get("stats", {}).get(name))


def _throttling(name: str) -> Callable[[Any], Points]:
    return one(lambda stats: stats.now["cpu_stats"]["throttling_data"][name])


def _network(name: str) -> Callable[[Any], Points]:
    return lambda stats: [
        (figures[name], {"interface": interface}) for interface, figures in (stats.now.get("networks") or {}).items()
    ]


def _blocks(name: str) -> Callable[[Any], Points]:
    return lambda stats: [
        (
            entry["value"],
            {
                "device_major": str(entry["major"]),
                "device_minor": str(entry["minor"]),
                "operation": entry["op"].lower(),
            },
        )
        for entry in stats.now["blkio_stats"].get(name) or []
    ]


def _cpu(name: str) -> Callable[[Any], Points]:
    return one(lambda stats: stats.now["cpu_stats"]["cpu_usage"][name])


def _per_cpu(stats: Stats) -> Points:
    used = stats.now["cpu_stats"]["cpu_usage"].get("percpu_usage") or []
    return [(value, {"core": f"cpu{number}"}) for number, value in enumerate(used)]


def _used(stats: Stats) -> int:
    memory = stats.now["memory_stats"]
    figures = memory.get("stats", {})
    inactive = figures.get("total_inactive_file", figures.get("inactive_file", 0))
    usage: int = memory.get("usage", 0)
    return usage - inactive if inactive < usage else usage


def _percent(stats: Stats) -> float:
    limit = stats.now["memory_stats"].get("limit", 0)
    return _used(stats) / limit * 100 if limit else 0.0


def _utilization(stats: Stats) -> float:
    """Percent of one CPU since the stats before (the Engine's own figures before are empty in a one-shot)."""
    if stats.before is None:
        return 0.0
    now, before = stats.now["cpu_stats"], stats.before["cpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before["system_cpu_usage"]
    return used / passed * now["online_cpus"] * 100.0 if used > 0 and passed > 0 else 0.0


def _cpu_limit(stats: Stats) -> float | None:
    host: dict[str, Any] = stats.container["HostConfig"]
    if host["NanoCpus"]:
        return float(host["NanoCpus"]) / 1e9
    if host["CpusetCpus"]:
        ends = [part.split("-") for part in host["CpusetCpus"].split(",")]
        return float(sum(int(part[-1]) - int(part[0]) + 1 for part in ends))
    return host["CpuQuota"] / (host["CpuPeriod"] or 100_000) if host["CpuQuota"] > 0 else None


def _uptime(stats: Stats) -> float:
    started = datetime.fromisoformat(stats.container["State"]["StartedAt"][:19] + "+00:00")
    return time.time() - started.timestamp()


DOCKER_STATS = (
    Field("container.blockio.io_service_bytes_recursive", "By", SUM, _blocks("io_service_bytes_recursive")),
    Field("container.cpu.usage.kernelmode", "ns", SUM, _cpu("usage_in_kernelmode")),
    Field("container.cpu.usage.total", "ns", SUM, _cpu("total_usage")),
    Field("container.cpu.usage.usermode", "ns", SUM, _cpu("usage_in_usermode")),
    Field("container.cpu.utilization", "1", GAUGE, one(_utilization)),
    Field("container.memory.file", "By", LEVEL, _memory("file")),
    Field("container.memory.percent", "1", GAUGE, one(_percent)),
    Field("container.memory.total_cache", "By", LEVEL, _memory("total_cache")),
    Field("container.memory.usage.limit", "By", LEVEL, one(lambda s: s.now["memory_stats"].get("limit", 0))),
    Field("container.memory.usage.total", "By", LEVEL, one(_used)),
    Field("container.network.io.usage.rx_bytes", "By", SUM, _network("rx_bytes")),
    Field("container.network.io.usage.rx_dropped", "{packets}", SUM, _network("rx_dropped")),
    Field("container.network.io.usage.tx_bytes", "By", SUM, _network("tx_bytes")),
    Field("container.network.io.usage.tx_dropped", "{packets}", SUM, _network("tx_dropped")),
    Field("container.blockio.io_serviced_recursive", "{operations}", SUM, _blocks("io_serviced_recursive"), True),
    Field("container.cpu.limit", "{cpus}", GAUGE, one(_cpu_limit), True),
    Field("container.cpu.logical.count", "{cpus}", GAUGE, one(lambda s: s.now["cpu_stats"]["online_cpus"]), True),
    Field("container.cpu.shares", "1", GAUGE, one(lambda s: s.container["HostConfig"]["CpuShares"]), True),
    Field("container.cpu.throttling_data.periods", "{periods}", SUM, _throttling("periods"), True),
    Field("container.cpu.throttling_data.throttled_periods", "{periods}", SUM, _throttling("throttled_periods"), True),
    Field("container.cpu.throttling_data.throttled_time", "ns", SUM, _throttling("throttled_time"), True),
    Field("container.cpu.usage.percpu", "ns", SUM, _per_cpu, True),
    Field("container.cpu.usage.system", "ns", SUM, one(lambda s: s.now["cpu_stats"]["system_cpu_usage"]), True),
    Field("container.memory.fails", "{fails}", SUM, one(lambda s: s.now["memory_stats"].get("failcnt", 0)), True),
    Field("container.memory.pgmajfault", "{faults}", SUM, _memory("pgmajfault"), True),
    Field("container.memory.total_pgmajfault", "{faults}", SUM, _memory("total_pgmajfault"), True),
    Field("container.memory.usage.max", "By", LEVEL, one(lambda s: s.now["memory_stats"].get("max_usage", 0)), True),
    Field("container.network.io.usage.rx_errors", "{errors}", SUM, _network("rx_errors"), True),
    Field("container.network.io.usage.rx_packets", "{packets}", SUM, _network("rx_packets"), True),
    Field("container.network.io.usage.tx_errors", "{errors}", SUM, _network("tx_errors"), True),
    Field("container.network.io.usage.tx_packets", "{packets}", SUM, _network("tx_packets"), True),
    Field("container.pids.count", "{pids}", LEVEL, one(lambda s: s.now["pids_stats"].get("current") or None), True),
    Field("container.pids.limit", "{pids}", LEVEL, one(lambda s: s.now["pids_stats"].get("limit") or None), True),
    Field("container.restarts", "{restarts}", SUM, one(lambda s: s.container["RestartCount"]), True),
    Field("container.uptime", "s", GAUGE, one(_uptime), True),
)

# ---- hostmetrics

TICKS = os.sysconf("SC_CLK_TCK")
STATES = ("user", "nice", "system", "idle", "wait", "interrupt", "softirq", "steal")  # the order of /proc/stat


@dataclass(frozen=True, slots=True)
class Proc:
    """What the scrapers read of ``/proc``, each file once."""

    stat: list[list[str]]
    before: list[list[str]]
    disks: list[tuple[str, list[int]]]
    interfaces: list[tuple[str, list[int]]]
    memory: dict[str, int]
    load: list[float]

    @classmethod
    def read(cls, before: Proc | None) -> Proc:
        stat = [line.split() for line in _lines("stat")]
        meminfo = (line.split() for line in _lines("meminfo"))
        return cls(
            stat=stat,
            before=before.stat if before else stat,
            disks=[(words[2], [int(word) for word in words[3:14]]) for words in map(str.split, _lines("diskstats"))],
            interfaces=[
                (name.strip(), [int(word) for word in figures.split()])
                for name, _, figures in (line.rpartition(":") for line in _lines("net/dev")[2:])
            ],
            memory={words[0].rstrip(":"): int(words[1]) * 1024 for words in meminfo},
            load=[float(word) for word in _lines("loadavg")[0].split()[:3]],
        )

    @property
    def cpus(self) -> int:
        return sum(1 for name, *_ in self.stat if name.startswith("cpu") and name != "cpu")


def _lines(name: str) -> list[str]:
    return Path("/proc", name).read_text(encoding="ascii").splitlines()


def _seconds(stat: list[list[str]]) -> Iterator[tuple[str, str, float]]:
    for name, *ticks in stat:
        if name.startswith("cpu") and name != "cpu":
            for state, value in zip(STATES, ticks, strict=False):
                yield name, state, int(value) / TICKS


def _cpu_time(proc: Proc) -> Points:
    return [(seconds, {"cpu": cpu, "state": state}) for cpu, state, seconds in _seconds(proc.stat)]


def _cpu_utilization(proc: Proc) -> Points:
    before = {(cpu, state): seconds for cpu, state, seconds in _seconds(proc.before)}
    grown = {(cpu, state): seconds - before[cpu, state] for cpu, state, seconds in _seconds(proc.stat)}
    for (cpu, state), seconds in grown.items():
        passed = sum(more for (other, _), more in grown.items() if other == cpu)
        if passed > 0:
            yield seconds / passed, {"cpu": cpu, "state": state}


def _disk(column: int, factor: float = 1) -> Callable[[Any], Points]:
    """A figure per device; ``column`` of ``/proc/diskstats`` after the name, from 0."""
    return lambda proc: [(figures[column] * factor, {"device": device}) for device, figures in proc.disks]


def _disk_ways(read: int, write: int, factor: float = 1) -> Callable[[Any], Points]:
    return lambda proc: [
        (figures[column] * factor, {"device": device, "direction": direction})
        for device, figures in proc.disks
        for direction, column in (("read", read), ("write", write))
    ]


def _interface(column: int) -> Callable[[Any], Points]:
    """A figure per interface and direction; ``column`` of ``/proc/net/dev`` for what was received, from 0."""
    return lambda proc: [
        (figures[first + column], {"device": device, "direction": direction})
        for device, figures in proc.interfaces
        for direction, first in (("transmit", 8), ("receive", 0))
    ]


def _memory_usage(proc: Proc) -> Points:
    held = proc.memory
    cached = held["Cached"] + held["SReclaimable"]  # gopsutil counts these as cached
    return [
        (held["MemTotal"] - held["MemFree"] - held["Buffers"] - cached, {"state": "used"}),
        (held["MemFree"], {"state": "free"}),
        (held["Buffers"], {"state": "buffered"}),
        (cached, {"state": "cached"}),
        (held["SReclaimable"], {"state": "slab_reclaimable"}),
        (held["SUnreclaim"], {"state": "slab_unreclaimable"}),
    ]


HOSTMETRICS = {
    "cpu": (
        Field("system.cpu.time", "s", SUM, _cpu_time),
        Field("system.cpu.logical.count", "{cpu}", LEVEL, one(lambda proc: proc.cpus), True),
        Field("system.cpu.utilization", "1", GAUGE, _cpu_utilization, True),
    ),
    "load": (
        Field("system.cpu.load_average.1m", "{thread}", GAUGE, one(lambda proc: proc.load[0])),
        Field("system.cpu.load_average.5m", "{thread}", GAUGE, one(lambda proc: proc.load[1])),
        Field("system.cpu.load_average.15m", "{thread}", GAUGE, one(lambda proc: proc.load[2])),
    ),
    "memory": (
        Field("system.memory.usage", "By", LEVEL, _memory_usage),
        Field("system.linux.memory.available", "By", LEVEL, one(lambda proc: proc.memory["MemAvailable"]), True),
        Field("system.memory.limit", "By", LEVEL, one(lambda proc: proc.memory["MemTotal"]), True),
    ),
    "disk": (
        Field("system.disk.io", "By", SUM, _disk_ways(2, 6, 512)),
        Field("system.disk.io_time", "s", SUM, _disk(9, 0.001)),
        Field("system.disk.merged", "{operations}", SUM, _disk_ways(1, 5)),
        Field("system.disk.operation_time", "s", SUM, _disk_ways(3, 7, 0.001)),
        Field("system.disk.operations", "{operations}", SUM, _disk_ways(0, 4)),
        Field("system.disk.pending_operations", "{operations}", LEVEL, _disk(8)),
        Field("system.disk.weighted_io_time", "s", SUM, _disk(10, 0.001)),
    ),
    "network": (
        Field("system.network.dropped", "{packets}", SUM, _interface(3)),
        Field("system.network.errors", "{errors}", SUM, _interface(2)),
        Field("system.network.io", "By", SUM, _interface(0)),
        Field("system.network.packets", "{packets}", SUM, _interface(1)),
    ),
}


class Collector:
    """Scrapes and sends when it is told to (``scrape``); with an ``interval_s`` from a thread of its own as well.

    ``endpoint`` is the server's URL (``/v1/metrics`` is added); ``enabled`` names the optional metrics that are
    switched on. ``problems`` holds what went wrong in the thread.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        interval_s: float | None,
        enabled: frozenset[str] = frozenset(),
    ) -> None:
        every = (*DOCKER_STATS, *(field for fields in HOSTMETRICS.values() for field in fields))
        unknown = enabled - {field.name for field in every if field.optional}
        if unknown:
            raise ValueError(f"not an optional metric: {', '.join(sorted(unknown))}")
        self.problems: list[str] = []
        self._url = endpoint.rstrip("/") + "/v1/metrics"
        self._enabled = enabled
        self._http = requests.Session()
        self._http.headers.update({**headers, "Content-Type": "application/x-protobuf"})
        self._engine = docker.from_env(timeout=PATIENCE_S)
        self._before: dict[str, dict[str, Any]] = {}
        self._proc: Proc | None = None
        self._started_ns = time.time_ns()
        self._booted_ns = next(int(line.split()[1]) * 10**9 for line in _lines("stat") if line.startswith("btime "))
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(8)
        self._thread = None if interval_s is None else threading.Thread(target=self._run, args=[interval_s])

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown()
        self._engine.close()
        self._http.close()

    def _run(self, interval_s: float) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + interval_s, time.monotonic())
            try:
                self.scrape()
            except (requests.RequestException, DockerException, OSError) as problem:
                self.problems.append(repr(problem))

    def scrape(self) -> None:
        """Read everybody and send it; the server has it when this returns.

        A busy Engine takes seconds to answer, and the points are stamped when it has. Where it must be certain that
        something lies between two readings, scrape before it and after it.
        """
        body = self.collect()
        eventually(lambda: self._taken(body), "a server that takes a scrape", every_s=0.5)

    def _taken(self, body: bytes) -> bool:
        """False where it has to be sent again: the server is busy."""
        answer = self._http.post(self._url, data=body, timeout=PATIENCE_S)
        if answer.status_code in (429, 503):
            return False
        answer.raise_for_status()
        return True

    def collect(self) -> bytes:
        """One scrape of both receivers, as one request."""
        request = ExportMetricsServiceRequest()
        found = [stats for stats in self._pool.map(self._stats, self._engine.api.containers()) if stats is not None]
        now_ns = time.time_ns()  # the receiver stamps them together, after the last has answered
        for stats in found:
            container = stats.container
            group = _group(request, {
                "container.runtime": "docker",
                "container.hostname": container["Config"]["Hostname"],
                "container.id": container["Id"],
                "container.image.name": container["Config"]["Image"],
                "container.name": container["Name"].lstrip("/"),
            })  # fmt: skip
            self._fill(group, f"{CONTRIB}/dockerstatsreceiver", DOCKER_STATS, stats, self._started_ns, now_ns)
        self._before = {stats.container["Id"]: stats.now for stats in found}
        self._proc = Proc.read(self._proc)
        group = _group(request, {"host.name": socket.gethostname(), "os.type": "linux"})
        for scraper, fields in HOSTMETRICS.items():
            scope = f"{CONTRIB}/hostmetricsreceiver/internal/scraper/{scraper}scraper"
            self._fill(group, scope, fields, self._proc, self._booted_ns, time.time_ns())
        return request.SerializeToString()

    def _stats(self, listed: dict[str, Any]) -> Stats | None:
        """None for a container that is gone meanwhile."""
        try:
            container = self._engine.api.inspect_container(listed["Id"])
            now = self._engine.api.stats(listed["Id"], stream=False, one_shot=True)
        except (DockerException, requests.RequestException):
            return None
        if not now["cpu_stats"].get("system_cpu_usage"):
            return None  # it ended: all its figures are empty
        return Stats(now, self._before.get(container["Id"]), container)

    def _fill(
        self, group: ResourceMetrics, scope: str, fields: Iterable[Field], of: Any, start_ns: int, now_ns: int
    ) -> None:
        metrics = group.scope_metrics.add()
        metrics.scope.name = scope
        for field in fields:
            points = list(field.points(of)) if not field.optional or field.name in self._enabled else []
            if not points:
                continue
            metric = metrics.metrics.add(name=field.name, unit=field.unit)
            into = metric.gauge.data_points if field.type == GAUGE else metric.sum.data_points
            if field.type != GAUGE:
                metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                metric.sum.is_monotonic = field.type == SUM
            for value, attributes in points:
                point = into.add(time_unix_nano=now_ns, attributes=_pairs(attributes))
                if field.type != GAUGE:
                    point.start_time_unix_nano = start_ns
                if isinstance(value, int):
                    point.as_int = value
                else:
                    point.as_double = value


def _group(request: ExportMetricsServiceRequest, attributes: Mapping[str, str]) -> ResourceMetrics:
    group = request.resource_metrics.add()
    group.resource.attributes.extend(_pairs(attributes))
    return group


def _pairs(attributes: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()]
