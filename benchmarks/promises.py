"""What the wrapper promises about time, measured here: no span waits for a server, and looks come when they should.

The tests hold that it behaves so on any machine; how fast it is depends on the machine, so it is measured here.
Exits with 1 where a goal was missed. ``python benchmarks/promises.py``
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from layerline.account import Account
from layerline.attributes import SAMPLES
from layerline.settings import Settings
from layerline.watcher import EVERY_NS
from layerline.wiring import Destination, batches

SPANS = 5_000
EXIT_S = 0.5
WATCH_NS = 60_000_000
WORK_S = 1.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One promise: what was found, and the bound that it should keep."""

    what: str
    found: float
    least: float
    most: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.least <= self.found <= self.most


def hanging() -> str:
    """The URL of a server that takes requests and never answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            threading.Event().wait()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def provider(url: str) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    settings = Settings.read({}, exit_timeout=str(EXIT_S))
    made.add_span_processor(batches(Destination(f"{url}/v1/traces", ours=True), settings))
    return made


def ending_spans(url: str) -> Figure:
    """Five thousand spans into a queue of a hundred, whose server hangs."""
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"], os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = "100", "50"
    made = provider(url)
    del os.environ["OTEL_BSP_MAX_QUEUE_SIZE"], os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]
    tracer = made.get_tracer("benchmark")
    begun = time.perf_counter()
    for _ in range(SPANS):
        tracer.start_span("span").end()
    took_us = (time.perf_counter() - begun) / SPANS * 1e6
    made.shutdown()
    return Figure("a span, while the server hangs and the queue is full", took_us, 0, 300, "µs")


def shutting_down(url: str, how: str) -> Figure:
    """With a span in the queue."""
    made = provider(url)
    made.get_tracer("benchmark").start_span("span").end()
    begun = time.perf_counter()
    made.shutdown()
    return Figure(f"the exit, which may wait {EXIT_S} s, with a {how} server", time.perf_counter() - begun, 0, 1.5, "s")


def sleeping() -> None:
    time.sleep(WORK_S)


def hashing() -> None:
    end = time.monotonic() + WORK_S
    while time.monotonic() < end:
        hashlib.sha256(bytes(1 << 20)).digest()


def locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=WORK_S)


def looks(work: Callable[[], None], kind: str) -> list[Figure]:
    """How many looks a request of a second got, and how many of them were right."""
    made, kept = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    made.add_span_processor(Account(watch_ns=WATCH_NS))
    made.add_span_processor(SimpleSpanProcessor(kept))
    with made.get_tracer("benchmark").start_as_current_span("slow"):
        work()
    made.shutdown()
    (span,) = kept.get_finished_spans()
    lines = [str(line).split(" ", 2) for line in (span.attributes or {}).get(SAMPLES, ())]  # type: ignore[union-attr]
    seen = sum(int(number) for number, *_ in lines)
    right = sum(int(number) for number, found, *_ in lines if found == kind)
    due = ((span.end_time or 0) - (span.start_time or 0) - WATCH_NS) / EVERY_NS
    return [
        Figure(f"looks at a thread in {work.__name__}, of those due", 100 * seen / due, 75, 125, "%"),
        Figure(f"of them right ({kind})", 100 * right / max(seen, 1), 90, 100, "%"),
    ]


def main() -> int:
    """Print each figure beside its goal."""
    url = hanging()
    found = [ending_spans(url), shutting_down(url, "hanging"), shutting_down("http://127.0.0.1:1", "dead")]
    for work, kind in ((sleeping, "sleep"), (hashing, "cpu"), (locked, "lock")):
        found += looks(work, kind)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for one in found:
        goal = f"at most {one.most:g}" if one.least == 0 else f"{one.least:g} to {one.most:g}"
        print(f"{one.what:<58}{one.found:9.2f} {one.unit:<3} goal {goal}{'' if one.kept else ': MISSED'}")
    return 0 if all(one.kept for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
