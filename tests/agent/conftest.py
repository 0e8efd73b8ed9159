"""Captured machines, a clock of ours, and an OTLP sink that answers as it is told."""

from __future__ import annotations

import gzip
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

from docker_engine import docker_engine  # noqa: F401 - a fixture
from waiting import PATIENCE_S

CAPTURED = Path(__file__).parent / "captured"
HYBRID = CAPTURED / "cgroup-hybrid-kernel-6.18"
V2 = CAPTURED / "cgroup-v2-kernel-6.1"

#: The containers of those machines: one throttled on each, and one without limits.
HYBRID_ID = "05387d400547ce9b00e7646fd40636edf59567afb7ceabf3bfb7b838230b118e"
V2_ID = "4f2a9c1d7be35f60812e94ab3c6d5f7e8091a2b3c4d5e6f708192a3b4c5d6e7f"
V2_UNLIMITED_ID = "99887766554433221100ffeeddccbbaa99887766554433221100ffeeddccbbaa"


class Clock:
    """Moves when it is told to."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A captured machine, copied to where files may be changed."""

    def copy(captured: Path) -> Path:
        return Path(shutil.copytree(captured, tmp_path / "machine"))

    return copy


@dataclass(frozen=True)
class Received:
    """One request as the sink got it."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Sink:
    """An OTLP server that keeps what it gets. ``answers`` are given in turn, then 200s."""

    url: str = ""
    answers: deque[tuple[int, dict[str, str], bytes]] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, enough: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        """Wait until what was received is enough; False where it never was."""
        with self.arrived:
            return self.arrived.wait_for(enough, timeout=timeout_s)

    @property
    def metrics(self) -> list[ExportMetricsServiceRequest]:
        return [ExportMetricsServiceRequest.FromString(r.body) for r in self.received if r.path == "/v1/metrics"]

    @property
    def logs(self) -> list[ExportLogsServiceRequest]:
        return [ExportLogsServiceRequest.FromString(r.body) for r in self.received if r.path == "/v1/logs"]


@pytest.fixture
def sink() -> Iterator[Sink]:
    kept = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            with kept.arrived:
                status, headers, content = kept.answers.popleft() if kept.answers else (200, {}, b"")
                if status == 200:
                    kept.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content)
                kept.arrived.notify_all()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


def attributes_of(kept: object) -> dict[str, object]:
    """OTLP attributes as plain Python."""
    plain: dict[str, object] = {}
    for item in kept.attributes:  # type: ignore[attr-defined]
        which = item.value.WhichOneof("value")
        value = getattr(item.value, which)
        plain[item.key] = [entry.string_value for entry in value.values] if which == "array_value" else value
    return plain


def points_of(metric: Metric) -> list[NumberDataPoint]:
    """A metric's points, be it a sum or a gauge."""
    return list(getattr(metric, metric.WhichOneof("data") or "gauge").data_points)
