"""OTLP bodies that cost next to nothing to make, and a server of its own to send them to.

A trace is eight spans of three services, about twelve attributes each, as plain SDKs send them; two of them differ from
span to span. A body is serialized once; ids, times and these attributes lie at known offsets and are written anew for
each body. One request in a hundred is slow.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

US, MS, S = 1_000, 1_000_000, 1_000_000_000
SERVICES = ("web", "stock", "prices")
SERVER, CLIENT, INTERNAL = 2, 3, 1
CUMULATIVE = 2
#: The parent's place, whose span it is, its kind, its name, and when it begins and ends, in milliseconds of its trace.
SHAPE = (
    (None, 0, SERVER, "GET /cart", 0, 42),
    (0, 0, CLIENT, "GET", 2, 20),
    (1, 1, SERVER, "GET /stock", 3, 19),
    (2, 1, CLIENT, "SELECT stock", 4, 12),
    (0, 0, CLIENT, "GET", 21, 40),
    (4, 2, SERVER, "GET /price", 22, 39),
    (5, 2, INTERNAL, "reckon", 23, 30),
    (5, 2, CLIENT, "GET", 30, 38),
)
#: From this place on a slow trace is late: the call of "price" is.
LATE_FROM, LATE_NS, ONE_IN = 4, 700 * MS, 100
LENGTH_NS = 42 * MS


def attributes(**values: str | int) -> list[KeyValue]:
    """``http__route="/cart"`` is the attribute ``http.route``."""
    return [
        KeyValue(
            key=key.replace("__", "."),
            value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value),
        )
        for key, value in values.items()
    ]


def container_id(number: int) -> str:
    return f"{number + 1:064x}"


#: What stands for ids and times until a body is made (``Traces._mark``), and for the texts that only one span has.
_MARKS = re.compile(rb"\x1f([TSPBE])\x1e(.{4})\x1d", re.DOTALL)
_OWN_TEXTS = re.compile(rb"~[01]\d{7}~")


def own_text(which: int, number: int) -> str:
    """Where a text stands that only this span has."""
    return f"~{which}{number:07d}~"


def of_span(kind: int, name: str, span: int) -> list[KeyValue]:
    """Twelve attributes, as instrumentation of that kind sets them; two of them are this span's own."""
    first, second = own_text(0, span), own_text(1, span)
    if kind == INTERNAL:
        fields = {f"app__field_{number}": f"value {number}" for number in range(10)}
        return attributes(**fields, app__user=first, app__order=second)
    if name.startswith("SELECT"):
        return attributes(
            db__system__name="postgresql",
            db__namespace=first,
            db__query__text="SELECT id, amount, place FROM stock WHERE sku = $1 AND place = ANY($2)",
            db__operation__name="SELECT",
            db__collection__name="stock",
            db__query__summary="SELECT stock",
            db__response__returned_rows=3,
            server__address="db.shop.internal",
            server__port=5432,
            network__peer__address=second,
            network__peer__port=5432,
            network__transport="tcp",
        )
    side = {"http__route": name[4:]} if kind == SERVER else {"url__full": "http://stock:8000/stock?sku=17"}
    return attributes(
        http__request__method="GET",
        http__response__status_code=200,
        url__scheme="http",
        url__path="/cart",
        server__address="shop.internal",
        server__port=8000,
        client__address=first,
        network__protocol__version="1.1",
        network__peer__address=second,
        network__peer__port=51234,
        user_agent__original="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        **side,
    )


class Traces:
    """A body of so many traces, which can be made again and again with other ids and times."""

    def __init__(self, traces: int, seed: int = 1) -> None:
        """Serialize it once, and find where ids and times lie."""
        self._traces, self._random = traces, random.Random(seed)  # noqa: S311 - nobody guesses these
        self.spans = traces * len(SHAPE)
        request = ExportTraceServiceRequest()
        for service, name in enumerate(SERVICES):
            group = request.resource_spans.add()
            group.resource.attributes.extend(
                attributes(
                    service__name=name,
                    service__version="1.4.2",
                    container__id=container_id(service),
                    host__name=f"{name}-7c9f",
                    telemetry__sdk__language="python",
                    telemetry__sdk__name="opentelemetry",
                )
            )
            spans = group.scope_spans.add().spans
            for trace in range(traces):
                for place, (parent, owner, kind, text, _, _) in enumerate(SHAPE):
                    if owner != service:
                        continue
                    number = trace * len(SHAPE) + place
                    spans.add(
                        name=text,
                        kind=kind,  # type: ignore[arg-type]
                        trace_id=self._mark(b"T", number, 16),
                        span_id=self._mark(b"S", number, 8),
                        parent_span_id=b"" if parent is None else self._mark(b"P", number, 8),
                        start_time_unix_nano=int.from_bytes(self._mark(b"B", number, 8), "little"),
                        end_time_unix_nano=int.from_bytes(self._mark(b"E", number, 8), "little"),
                        attributes=of_span(kind, text, number),
                    )
        raw = request.SerializeToString()
        self._raw = bytearray(raw)
        self._at: dict[tuple[bytes, int], int] = {}
        for found in _MARKS.finditer(raw):
            self._at.setdefault((found[1], int.from_bytes(found[2], "big")), found.start())
        self._own_at = [found.start() for found in _OWN_TEXTS.finditer(raw)]

    @staticmethod
    def _mark(letter: bytes, number: int, length: int) -> bytes:
        return (b"\x1f" + letter + b"\x1e" + number.to_bytes(4, "big") + b"\x1d").ljust(length, b"\x1c")

    def body(self, now_ns: int, spread_ns: int) -> bytes:
        """Fresh traces which ended within ``spread_ns`` before now."""
        raw, at = self._raw, self._at
        for where in self._own_at:
            raw[where : where + 10] = b"10.%07d" % self._random.randrange(10_000_000)
        for trace in range(self._traces):
            trace_id = self._random.randbytes(16)
            first = int.from_bytes(trace_id[:8], "big") & ~0xFF
            late = LATE_NS if self._random.randrange(ONE_IN) == 0 else self._random.randrange(8 * MS)
            begin = now_ns - LENGTH_NS - late - self._random.randrange(spread_ns)
            for place, (parent, _, _, _, start, end) in enumerate(SHAPE):
                number = trace * len(SHAPE) + place
                where = at[b"T", number]
                raw[where : where + 16] = trace_id
                struct.pack_into(">Q", raw, at[b"S", number], first + place + 1)
                if parent is not None:
                    struct.pack_into(">Q", raw, at[b"P", number], first + parent + 1)
                moved = late if place > LATE_FROM else 0
                struct.pack_into("<Q", raw, at[b"B", number], begin + start * MS + moved)
                lasts = late if place >= LATE_FROM or place == 0 else 0
                struct.pack_into("<Q", raw, at[b"E", number], begin + end * MS + lasts)
        return bytes(raw)


def readings(containers: int, time_ns: int, second: int) -> tuple[bytes, int]:
    """A second's readings of so many containers and their machine, as the agent sends them; and how many points."""
    request = ExportMetricsServiceRequest()
    began_ns = time_ns - (second + 600) * S

    def metric(name: str, unit: str, value: int, gauge: bool = False, **dimensions: str) -> Metric:
        point = NumberDataPoint(time_unix_nano=time_ns, as_int=value, attributes=attributes(**dimensions))
        made = Metric(name=name, unit=unit)
        if gauge:
            made.gauge.data_points.append(point)
            return made
        point.start_time_unix_nano = began_ns
        made.sum.is_monotonic, made.sum.aggregation_temporality = True, CUMULATIVE
        made.sum.data_points.append(point)
        return made

    machine = attributes(host__id="f" * 32, host__name="vm", layerline__boot_id="5f0c9a51-2b1e-4c0d-9a35-0d5f4e0b7a11")
    points = 0
    for number in range(containers):
        group = request.resource_metrics.add()
        name = SERVICES[number] if number < len(SERVICES) else f"c{number}"
        group.resource.attributes.extend(attributes(container__id=container_id(number), container__name=name))
        group.resource.attributes.extend(machine)
        metrics = [
            metric("container.cpu.time", "ns", second * 150 * MS + number),
            metric("container.cpu.throttled", "ns", 0),
            metric("container.cpu.periods", "{period}", 0),
            metric("container.cpu.throttled_periods", "{period}", 0),
            metric("container.memory.usage", "By", 150_000_000 + second * 4096 % 10_000_000, gauge=True),
            metric("container.memory.working_set", "By", 100_000_000 + second * 4096 % 9_000_000, gauge=True),
            metric("container.memory.refaults", "{page}", 0),
            metric("container.memory.major_faults", "{fault}", 12),
            metric("container.memory.limit_hits", "{hit}", 0),
            metric("container.network.tcp.retransmits", "{segment}", 0),
            metric("container.pids", "{process}", 7, gauge=True),
        ]
        for kind in ("some", "full"):
            metrics += [
                metric(f"container.{of}.pressure", "ns", second * 1000 if of == "cpu" else 0, pressure__kind=kind)
                for of in ("cpu", "memory", "io")
            ]
        for direction in ("read", "write"):
            metrics.append(metric("container.disk.io", "By", 4096 * (second // 10), disk__io__direction=direction))
        for direction in ("receive", "transmit"):
            for of, grows in (("io", 2000), ("packets", 12), ("errors", 0), ("dropped", 0)):
                unit = "By" if of == "io" else "{packet}"
                metrics.append(
                    metric(f"container.network.{of}", unit, second * grows, network__io__direction=direction)
                )
        group.scope_metrics.add().metrics.extend(metrics)
        points += len(metrics)
    group = request.resource_metrics.add()
    group.resource.attributes.extend(machine)
    metrics = [metric("system.cpu.logical.count", "{cpu}", 2, gauge=True)]
    for mode in ("user", "system", "idle", "iowait", "steal", "irq", "softirq", "nice"):
        metrics.append(metric("system.cpu.time", "ns", second * 250 * MS, cpu__mode=mode))
    for of in ("cpu", "memory", "io"):
        metrics.append(metric(f"system.{of}.pressure", "ns", second * 1000, pressure__kind="some"))
    metrics.append(metric("system.disk.io_time", "ns", second * MS, system__device="vda"))
    group.scope_metrics.add().metrics.extend(metrics)
    return request.SerializeToString(), points + len(metrics)


def together(bodies: Sequence[bytes]) -> bytes:
    """The readings of several seconds as one request, in which the points of a series follow each other."""
    first, *others = map(ExportMetricsServiceRequest.FromString, bodies)
    for other in others:
        for group, more in zip(first.resource_metrics, other.resource_metrics, strict=True):
            for metric, also in zip(group.scope_metrics[0].metrics, more.scope_metrics[0].metrics, strict=True):
                which = "sum" if metric.HasField("sum") else "gauge"
                getattr(metric, which).data_points.extend(getattr(also, which).data_points)
    return first.SerializeToString()


@dataclass(frozen=True, slots=True)
class Served:
    """A server in a process of its own."""

    process: psutil.Process
    port: int
    grpc_port: int
    store: Path

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        return int(self.process.memory_info().rss)

    def metrics(self) -> dict[str, float]:
        """What ``/metrics`` says, by name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def served() -> Iterator[Served]:
    """Start ``layerline serve`` with an empty store on this machine's own address; end it, and delete the store."""
    with tempfile.TemporaryDirectory() as folder, served_from(Path(folder) / "store") as server:
        yield server


@contextlib.contextmanager
def served_from(store: Path) -> Iterator[Served]:
    """Start ``layerline serve`` with this store on this machine's own address; end it."""
    port, grpc_port = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("layerline")), "serve", "--listen", f"127.0.0.1:{port}"]
    command += ["--grpc-listen", f"127.0.0.1:{grpc_port}", "--store", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 300  # an older store is copied first
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until_s:
                    raise SystemExit(f"the server did not start: {' '.join(command)}") from None
                time.sleep(0.05)
        yield Served(psutil.Process(process.pid), port, grpc_port, store)
    finally:
        process.terminate()
        process.wait(60)
