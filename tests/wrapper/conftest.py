"""What the wrapper's tests share: a tracer whose spans can be looked at, and a server that takes OTLP and keeps it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

import layerline.account as account_module
from layerline import fast
from layerline.account import Account
from layerline.attributes import CPU_NS
from waiting import PATIENCE_S

MS = 1_000_000
#: What no test of the wrapper uses, and development has installed. A test that wants them sets the variable anew.
NOT_USED = "celery,httpx,psycopg,psycopg2,redis"


@dataclass
class Used:
    """CPU time of a thread over a block, in nanoseconds; set when the block has ended."""

    ns: int = 0


@contextmanager
def used_by_this_thread() -> Iterator[Used]:
    used, begun = Used(), time.thread_time_ns()
    yield used
    used.ns = time.thread_time_ns() - begun


@dataclass
class Traced:
    """A tracer with our account, and the spans that have ended."""

    account: Account
    tracer: Tracer
    exporter: InMemorySpanExporter

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def figures(self, name: str) -> dict[str, Any]:
        return dict(self.spans()[name].attributes or {})

    def assert_charged(self, used: Used, burnt_ms: dict[str, float], elsewhere_ms: float = 0) -> None:
        """Each span is charged what it burnt, and beyond that at most what the thread used beside all burning.

        ``used`` is the thread's own clock around all of it, so that this holds on any machine under any load.
        ``elsewhere_ms`` was burnt in no span, or in one that is not named.
        """
        beside_ns = used.ns - round((sum(burnt_ms.values()) + elsewhere_ms) * MS)
        beside_ns += MS // 10  # within 50 µs of a reading the account takes the time that passed for time on a CPU
        for name, ms in burnt_ms.items():
            assert ms * MS <= self.figures(name)[CPU_NS] <= ms * MS + beside_ns, (name, used.ns)


@pytest.fixture(scope="session", params=["python", "extension"])
def extension(request: pytest.FixtureRequest) -> Any:
    """What an Account and an Encoder are made with: the same tests hold for both."""
    if request.param == "python":
        return None
    if fast.MODULE is None:
        pytest.skip("layerline._fast is not built here, or LAYERLINE_FAST=off")
    return fast.MODULE


@contextmanager
def tracing(account: Account) -> Iterator[Traced]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(account)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traced(account, provider.get_tracer("tests"), exporter)
    provider.shutdown()


@pytest.fixture
def traced() -> Iterator[Traced]:
    with tracing(Account()) as traced:
        yield traced


@pytest.fixture
def never_late(monkeypatch: pytest.MonkeyPatch, traced: Traced) -> None:
    """As if no reading were ever late: each stands for the time stamp that goes with it."""
    monkeypatch.setattr(account_module, "_AT_ONCE_NS", 60_000 * MS)
    if traced.account._hooks is not None:
        traced.account._hooks.at_once_ns = 60_000 * MS


def burn(seconds: float) -> None:
    """Keep this thread on a CPU for that much CPU time, or a little more."""
    end = time.thread_time_ns() + round(seconds * 1e9)
    while time.thread_time_ns() < end:
        pass


def plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [plain(each) for each in value.array_value.values]
        case None:
            return None
        case kind:
            return getattr(value, kind)


@dataclass(frozen=True)
class Received:
    """A span as it came in over OTLP."""

    name: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    kind: int
    start_ns: int
    length_ns: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.length_ns


@dataclass
class Sink:
    """A server that answers 200 (or what it is told) to OTLP over HTTP; none while the gate is shut."""

    url: str
    status: int = 200
    most_bytes: int = 10**9
    """Of a body of spans; 413 to more."""
    refused: int = 0
    """How many were larger."""
    content: bytes = b""
    """Of its answers."""
    gate: threading.Event = field(default_factory=threading.Event)
    bodies: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def headers(self) -> list[dict[str, str]]:
        return [headers for _, headers, _ in self.bodies]

    @property
    def spans(self) -> list[Received]:
        found = []
        for path, _, body in list(self.bodies):
            if path != "/v1/traces":
                continue
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {each.key: plain(each.value) for each in resource.resource.attributes}
                found += [
                    Received(
                        span.name,
                        {each.key: plain(each.value) for each in span.attributes},
                        about,
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        span.kind,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano - span.start_time_unix_nano,
                    )
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
        return found

    @property
    def metrics(self) -> list[ExportMetricsServiceRequest]:
        return [
            ExportMetricsServiceRequest.FromString(body) for path, _, body in list(self.bodies) if path == "/v1/metrics"
        ]

    def named(self, name: str) -> Received:
        return next(span for span in self.spans if span.name == name)


@pytest.fixture
def sink() -> Iterator[Sink]:
    kept: Sink

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.gate.wait(60)
            status = kept.status if len(body) <= kept.most_bytes or self.path != "/v1/traces" else 413
            kept.refused += status == 413
            if status == 200:
                kept.bodies.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{kept.url}/elsewhere")
            self.send_header("content-length", str(len(kept.content)))
            self.end_headers()
            self.wfile.write(kept.content)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None: ...  # a client that went away is the test's own doing

    server = Server(("127.0.0.1", 0), Handler)
    kept = Sink(f"http://127.0.0.1:{server.server_port}")
    kept.gate.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield kept
    kept.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's variables without any that steer OpenTelemetry or Layerline."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LAYERLINE_", "COV_"))}
    kept.pop("PYTHONPATH", None)
    # What else is installed here is not the matter of most tests, and importing it takes half of a start.
    return {**kept, "LAYERLINE_HINTS": "off", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": NOT_USED, **changes}


def layerline_run(
    script: str, folder: Path, *, timeout: float = PATIENCE_S, python: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """``layerline run -- python script.py`` in a process of its own."""
    file = folder / "script.py"
    file.write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "layerline.command", "run", "--", sys.executable, str(file)]
    return subprocess.run(
        command if python else command[:5],
        env=clean_environment(**variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def watched() -> Iterator[Traced]:
    """An account whose watcher looks at spans that are open for longer than 60 ms."""
    provider, account = TracerProvider(shutdown_on_exit=False), Account(watch_ns=60_000_000)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(account)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traced(account, provider.get_tracer("tests"), exporter)
    provider.shutdown()
