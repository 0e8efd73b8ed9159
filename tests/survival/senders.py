"""Senders that go on whatever happens to the server, and remember what it acknowledged.

Like any exporter they send again what was not acknowledged; and now and then what was, which must not count twice.
"""

from __future__ import annotations

import gzip
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from real_server import AUTHORIZED, Ports

MS = 1_000_000
METRIC = "container.cpu.time"
GRPC_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_ANSWERS: dict[str, Any] = {
    "traces": ExportTraceServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "logs": ExportLogsServiceResponse,
}


@dataclass
class Acknowledged:
    """What the server took responsibility for, and how its answers were."""

    spans: dict[tuple[str, str], int] = field(default_factory=dict)
    """Trace and span to start."""
    points: dict[tuple[str, int], float] = field(default_factory=dict)
    """Container and time to value."""
    events: dict[tuple[str, int], None] = field(default_factory=dict)
    """Name and time."""
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that no sender of valid data may get."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def so_far(self) -> Acknowledged:
        """A copy that no sender adds to."""
        with self.lock:
            return Acknowledged(
                dict(self.spans), dict(self.points), dict(self.events), Counter(self.answers), list(self.wrong)
            )

    def __str__(self) -> str:
        return f"{len(self.spans)} spans, {len(self.points)} points, {len(self.events)} events"


class HttpDoor:
    """OTLP over HTTP, one connection that is made again when it breaks."""

    def __init__(self, ports: Ports, draw: random.Random) -> None:
        self._ports, self._draw = ports, draw
        self._connection: http.client.HTTPConnection | None = None

    def send(self, signal: str, body: bytes) -> tuple[str, bytes]:
        """The status in words and the answer. OSError or HTTPException where there is none."""
        headers = {"Content-Type": "application/x-protobuf", **AUTHORIZED}
        if self._draw.random() < 0.5:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._ports.http, timeout=40)
        try:
            self._connection.request("POST", f"/v1/{signal}", body, headers)
            answer = self._connection.getresponse()
            return str(answer.status), answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class GrpcDoor:
    """OTLP over gRPC; a call that fails makes a new channel, so that none waits for the old one's patience."""

    def __init__(self, ports: Ports, draw: random.Random) -> None:
        self._ports, self._draw = ports, draw
        self._channel: grpc.Channel | None = None

    def send(self, signal: str, body: bytes) -> tuple[str, bytes]:
        if self._channel is None:
            self._channel = grpc.insecure_channel(
                f"127.0.0.1:{self._ports.grpc}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
        compression = self._draw.choice([grpc.Compression.NoCompression, grpc.Compression.Gzip])
        metadata = [("authorization", AUTHORIZED["Authorization"])]
        try:
            call: Any = self._channel.unary_unary(GRPC_METHODS[signal])
            return "200", call(body, timeout=40, metadata=metadata, compression=compression)
        except grpc.RpcError as problem:
            self.close()
            if problem.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise OSError(str(problem)) from None
            return problem.code().name, str(problem.details()).encode()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


Door = HttpDoor | GrpcDoor
#: A signal, its body, and what is to be remembered when it was acknowledged.
Parcel = tuple[str, bytes, Callable[[Acknowledged], None]]


def attribute(key: str, text: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=text))


def traces(draw: random.Random, name: str) -> Parcel:
    """A few to a few hundred traces of requests with calls, as applications send them."""
    request, now_ns = ExportTraceServiceRequest(), time.time_ns()
    sent = request.resource_spans.add()
    identity = (("service.name", f"s-{name}"), ("service.instance.id", name), ("container.id", container_of(name)))
    sent.resource.attributes.extend(attribute(key, text) for key, text in identity)
    spans = sent.scope_spans.add().spans
    for _ in range(draw.choice([1, 3, 20, 20, 60, 200])):
        trace_id, root = draw.randbytes(16), draw.randbytes(8)
        start_ns = now_ns - draw.randrange(MS, 1000 * MS)
        end_ns = start_ns + draw.randrange(MS, 800 * MS)
        spans.add(
            trace_id=trace_id, span_id=root, name=f"GET /{draw.randrange(20)}", kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=start_ns, end_time_unix_nano=end_ns,
            attributes=[attribute("http.route", "x" * draw.randrange(200))],
        )  # fmt: skip
        for _ in range(draw.randrange(5)):
            begun_ns = draw.randrange(start_ns, end_ns)
            spans.add(
                trace_id=trace_id, span_id=draw.randbytes(8), parent_span_id=root, name="SELECT",
                kind=Span.SPAN_KIND_CLIENT, start_time_unix_nano=begun_ns,
                end_time_unix_nano=draw.randint(begun_ns, end_ns), attributes=[attribute("server.address", "db")],
            )  # fmt: skip
    sent_spans = {(span.trace_id.hex(), span.span_id.hex()): span.start_time_unix_nano for span in spans}
    return "traces", request.SerializeToString(), lambda known: known.spans.update(sent_spans)


def metrics(draw: random.Random, name: str) -> Parcel:
    """Some readings of a container, as an agent sends them."""
    request, now_ns, container_id = ExportMetricsServiceRequest(), time.time_ns(), container_of(name)
    sent = request.resource_metrics.add()
    sent.resource.attributes.extend([attribute("container.id", container_id), attribute("host.name", "survival")])
    metric = sent.scope_metrics.add().metrics.add(name=METRIC, unit="s")
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = True
    for back in range(draw.randint(1, 20)):
        metric.sum.data_points.add(start_time_unix_nano=1, time_unix_nano=now_ns - back * MS, as_double=now_ns / 1e15)
    points = {(container_id, point.time_unix_nano): point.as_double for point in metric.sum.data_points}
    return "metrics", request.SerializeToString(), lambda known: known.points.update(points)


def events(draw: random.Random, name: str) -> Parcel:
    """Some deploys."""
    request, now_ns = ExportLogsServiceRequest(), time.time_ns()
    sent = request.resource_logs.add()
    sent.resource.attributes.append(attribute("service.name", f"s-{name}"))
    records = sent.scope_logs.add().log_records
    for number in range(draw.randint(1, 5)):
        records.add(
            time_unix_nano=now_ns + number, event_name=f"survival.{name}", body=AnyValue(string_value="deployed")
        )
    told = {(record.event_name, record.time_unix_nano): None for record in records}
    return "logs", request.SerializeToString(), lambda known: known.events.update(told)


def container_of(name: str) -> str:
    """The id of the container that a sender runs in."""
    return name.encode().hex().ljust(64, "0")[:64]


#: By which door each sender goes, and what it sends.
SENDERS: dict[str, tuple[type[HttpDoor] | type[GrpcDoor], list[Callable[[random.Random, str], Parcel]]]] = {
    "http-traces": (HttpDoor, [traces]),
    "grpc-traces": (GrpcDoor, [traces]),
    "http-all": (HttpDoor, [metrics, events, traces]),
    "grpc-all": (GrpcDoor, [metrics, events, traces]),
}


@contextmanager
def sending(ports: Ports, seed: str, known: Acknowledged) -> Iterator[None]:
    """All senders at work for as long as the block lasts; what they were not answered by then is not acknowledged."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_send_on, args=(name, ports, seed, known, stop), daemon=True) for name in SENDERS
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads), "a sender waits for an answer that never comes"


def _send_on(name: str, ports: Ports, seed: str, known: Acknowledged, stop: threading.Event) -> None:
    draw = random.Random(f"{seed} {name}")  # noqa: S311 - what is sent, not a secret
    kind, makers = SENDERS[name]
    door = kind(ports, draw)
    parcel: Parcel | None = None
    while not stop.is_set():
        signal, body, remember = parcel = parcel or draw.choice(makers)(draw, name)
        try:
            status, answer = door.send(signal, body)
        except (OSError, http.client.HTTPException):
            with known.lock:
                known.answers["none"] += 1
            stop.wait(0.05)
            continue
        with known.lock:
            known.answers[status] += 1
            if status == "200":
                if problem := _rejected(signal, answer):
                    known.wrong.append(f"{name}: {problem}")
                else:
                    remember(known)
            elif status != "503":
                known.wrong.append(f"{name}: {status} {answer[:200]!r}")
        if status == "200":
            parcel = None
            if draw.random() < 0.1:  # the answer was lost on the way, so to speak
                with suppress(OSError, http.client.HTTPException):
                    door.send(signal, body)
        else:
            stop.wait(0.1)
    door.close()


def _rejected(signal: str, answer: bytes) -> str:
    """What a partial success says of data that is valid."""
    success = _ANSWERS[signal].FromString(answer).partial_success
    return str(success).strip().replace("\n", ", ")
