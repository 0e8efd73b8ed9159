"""What the wrapper costs: one app under one load, bare, with others' instrumentation and with ours.

    python benchmarks/wrapper.py [--rounds 15] [--requests 1000] [--spans 10] [--work 100] [--threads 1,8]
                                 [--servers waitress,gunicorn,asyncio] [--ddtrace FOLDER]

The variants, interleaved, each round in another order: nothing; ``opentelemetry-instrument``; ``layerline run``, with
its C extension and without (``LAYERLINE_FAST=off``); and ddtrace, without an agent to send to, if FOLDER has it
(``pip install --target FOLDER ddtrace``).

The app is Flask's, served by waitress in one process or by one worker of gunicorn's (gthread), or FastAPI's, served by
uvicorn: there each span is opened in a coroutine that gives the loop away once. A request makes ``--spans`` spans by
hand, and one by the framework's instrumentation (FastAPI's makes three; the figures are for each of 1 + ``--spans``).

Two routes: ``/spans`` does next to nothing in them, so that the cost of a span stands out; ``/cart`` computes for
``--work`` µs in each, as an app would. Spans go every second to a sink that answers 200. Where there are two cores or
more the app has one of its own, and the sink and the client share another. Each figure is the median of the rounds' own
differences or ratios, with its 95 % bootstrap interval.

*CPU* is the app's process's, sending included; *app* is the part of it on the threads that serve requests. Both say
what was spent, whatever else the machine did. *Requests per second* and *p99* are what a caller sees; on a busy machine
they are noisy.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BARE, PLAIN, DDTRACE = "bare", "opentelemetry-instrument", "ddtrace-run"
FAST, PURE = "layerline run", "… LAYERLINE_FAST=off"
OURS = (FAST, PURE)
#: How long the app may take to start, on a machine that does other things, in seconds.
START_S = 300

WAITRESS, GUNICORN, ASYNCIO = "waitress", "gunicorn", "asyncio"
#: What each server runs.
SCRIPTS = {WAITRESS: "shop", GUNICORN: "shop", ASYNCIO: "shop_asyncio"}

#: What both apps begin with: their own variables, and how a span is opened.
SHARED = """
import os, threading
port, spans, turns, threads = map(int, os.environ["SHOP"].split(",")[:4])
api = os.environ["SHOP"].split(",")[4]

if api == "ddtrace":
    from ddtrace.trace import tracer

    def step(i):
        span = tracer.trace("step")
        span.set_tag("step", i)
        span.set_tag("kind", "work")
        return span
else:
    from opentelemetry import trace
    tracer = trace.get_tracer("shop")

    def step(i):
        return tracer.start_as_current_span("step", attributes={"step": i, "kind": "work"})

def serving():
    names = ("waitress", "ThreadPoolExecutor")
    each = [thread.native_id for thread in threading.enumerate() if thread.name.startswith(names)]
    return " ".join(map(str, [os.getpid(), *each]))  # the main thread's number is the process's
"""

APPS = {
    "shop": SHARED
    + """
from flask import Flask
app = Flask("shop")

def steps(turns):
    for i in range(spans):
        with step(i):
            for _ in range(turns):
                pass
    return "ok"

app.add_url_rule("/spans/<int:number>", "spans", lambda number: steps(0))
app.add_url_rule("/cart/<int:number>", "cart", lambda number: steps(turns))
app.add_url_rule("/threads/<int:number>", "threads", lambda number: serving())

if __name__ == "__main__":
    import waitress
    waitress.serve(app, host="127.0.0.1", port=port, threads=threads, _quiet=True)
""",
    "shop_asyncio": SHARED
    + """
import asyncio
import fastapi
from fastapi.responses import PlainTextResponse
app = fastapi.FastAPI(default_response_class=PlainTextResponse)

async def steps(turns):
    for i in range(spans):
        with step(i):
            await asyncio.sleep(0)
            for _ in range(turns):
                pass
    return "ok"

@app.get("/spans/{number}")
async def spans_only(number: int):
    return await steps(0)

@app.get("/cart/{number}")
async def cart(number: int):
    return await steps(turns)

@app.get("/threads/{number}")
async def these_threads(number: int):
    return serving()

if __name__ == "__main__":
    import uvicorn
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
""",
}


@dataclass(frozen=True)
class Run:
    """One variant under load once."""

    requests_per_s: float  # of /cart
    p99_ms: float  # of /cart
    cpu_us: float  # of the process, per request of /spans
    app_us: float  # of it, on the threads that serve
    memory_mb: float  # the most that was resident


class Sink(BaseHTTPRequestHandler):
    """Takes whatever is posted and says 200."""

    protocol_version = "HTTP/1.1"
    received_bytes = 0

    def do_POST(self) -> None:
        Sink.received_bytes += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: it would cost more than the answer."""


def cores() -> tuple[set[int], set[int]]:
    """``(the app's, everybody else's)``."""
    ours = sorted(os.sched_getaffinity(0))
    return ({ours[0]}, set(ours[1:])) if len(ours) > 1 else (set(ours), set(ours))


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_threads_s(pid: int, tids: list[int]) -> float:
    """CPU time of some threads of a process so far: field 1 of schedstat (ns)."""
    return sum(int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0]) for tid in tids) / 1e9


def memory_mb(pid: int) -> float:
    """The most memory that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def turns_per_us() -> float:
    """How often this machine turns an empty loop in a microsecond."""
    begun = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return 1 / (time.perf_counter() - begun)


def command(variant: str, server: str, folder: Path, port: int, threads: int) -> list[str]:
    app = [sys.executable, str(folder / f"{SCRIPTS[server]}.py")]
    if server == GUNICORN:
        bound = ["--bind", f"127.0.0.1:{port}", "--chdir", str(folder), "--log-level", "error"]
        worker = ["--worker-class", "gthread", "--threads", str(threads)]
        app = [sys.executable, "-m", "gunicorn", *worker, *bound, "shop:app"]
    beside = Path(sys.executable).parent
    if variant == PLAIN:
        return [str(beside / "opentelemetry-instrument"), *app]
    if variant in OURS:
        return [sys.executable, "-m", "layerline.command", "run", "--", *app]
    if variant == DDTRACE:
        return [sys.executable, "-m", "ddtrace.commands.ddtrace_run", *app]
    return app


def environment(variant: str, sink: str, options: argparse.Namespace) -> dict[str, str]:
    """The same for all: what each sends, it sends over OTLP/HTTP, every second, to the sink. ddtrace finds no agent."""
    theirs = ("OTEL_", "LAYERLINE_", "DD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    if variant == DDTRACE:
        quiet = {"DD_TRACE_AGENT_URL": "http://127.0.0.1:9", "DD_TRACE_STARTUP_LOGS": "0", "DD_SERVICE": "shop"}
        off = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "0", "DD_REMOTE_CONFIGURATION_ENABLED": "0"}
        return {**kept, **quiet, **off, "PYTHONPATH": options.ddtrace}
    return {
        **kept,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_SERVICE_NAME": "shop",
        "LAYERLINE_FAST": "off" if variant == PURE else "on",
        "LAYERLINE_HINTS": "off",
    }


def load(port: int, route: str, requests: int, clients: int) -> tuple[float, list[float]]:
    """Send that many requests over kept connections; the seconds it took, and how long each took (s)."""
    lengths: list[float] = []

    def client(count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for i in range(count):
            sent = time.perf_counter()
            connection.request("GET", f"/{route}/{i}?token=x")
            response = connection.getresponse()
            response.read()
            lengths.append(time.perf_counter() - sent)
            if response.status != 200:
                raise RuntimeError(f"the app answered {response.status}")
        connection.close()

    threads = [threading.Thread(target=client, args=(requests // clients,)) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, lengths


def measure(variant: str, server: str, folder: Path, sink: str, options: argparse.Namespace, threads: int) -> Run:
    port, received = free_port(), Sink.received_bytes
    api = "ddtrace" if variant == DDTRACE else "opentelemetry"
    shop = ",".join(map(str, (port, options.spans, options.turns, threads, api)))
    process = subprocess.Popen(
        command(variant, server, folder, port, threads),
        env={**environment(variant, sink, options), "SHOP": shop},
        stderr=subprocess.DEVNULL,
    )
    try:
        os.sched_setaffinity(process.pid, cores()[0])
        end = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{variant}: the app did not start") from None
                time.sleep(0.05)
        load(port, "spans", max(200, options.requests // 10), threads)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/threads/0") as answer:
            serving = [int(number) for number in answer.read().split()]
        pid = serving[0]  # of gunicorn's worker, which is a child
        time.sleep(1.5)  # what the warm-up made is sent
        before, before_app = cpu_s(pid), on_threads_s(pid, serving)
        load(port, "spans", options.requests, threads)
        time.sleep(1.5)
        used, used_app = cpu_s(pid) - before, on_threads_s(pid, serving) - before_app
        took, lengths = load(port, "cart", options.requests, threads)
        memory = memory_mb(pid)
    finally:
        process.terminate()
        process.wait()
    if variant != DDTRACE and (Sink.received_bytes > received) != (variant != BARE):
        raise RuntimeError(f"{variant}: its spans came to {Sink.received_bytes - received} bytes; it measures nothing")
    each = 1e6 / options.requests
    return Run(options.requests / took, percentile(lengths, 0.99) * 1e3, used * each, used_app * each, memory)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval."""
    dice = random.Random(0)  # noqa: S311 - the same answer for the same runs
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(4_000))
    return statistics.median(values), medians[100], medians[-101]


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"


def rounds_of(
    variants: list[str], server: str, threads: int, folder: Path, sink: str, options: argparse.Namespace
) -> list[dict[str, Run]]:
    """All variants, as often as was asked for."""
    rounds = []
    for number in range(options.rounds):
        order = list(variants)
        random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
        runs = {}
        for variant in order:
            said = f"{server}, {threads} threads, round {number + 1} of {options.rounds}: {variant:<26}"
            print(f"\r{said}", end="", file=sys.stderr, flush=True)
            runs[variant] = measure(variant, server, folder, sink, options, threads)
        rounds.append(runs)
    print("\r" + " " * 80 + "\r", end="", file=sys.stderr)
    return rounds


def report(variants: list[str], rounds: list[dict[str, Run]], spans: int) -> None:
    """The table, and what became of the goals."""

    def above(variant: str, figure: str) -> list[float]:
        """Above bare, µs a span, in each round."""
        return [(getattr(runs[variant], figure) - getattr(runs[BARE], figure)) / spans for runs in rounds]

    def median(variant: str, figure: str) -> float:
        return statistics.median(getattr(runs[variant], figure) for runs in rounds)

    print(f"{'':<26}{'CPU a span, above bare':>24}{'of it, app':>12}{'requests/s':>12}{'p99':>10}{'memory':>10}")
    for variant in variants:
        cpu, app = (statistics.median(above(variant, figure)) for figure in ("cpu_us", "app_us"))
        cost = f"{'':>24}{'':>12}" if variant == BARE else f"{cpu:>21.1f} µs{app:>9.1f} µs"
        added = median(variant, "p99_ms") - median(BARE, "p99_ms")
        late = f"{median(variant, 'p99_ms'):.2f} ms" if variant == BARE else f"{added:+.2f} ms"
        size = f"{median(variant, 'memory_mb'):.0f} MB"
        print(f"{variant:<26}{cost}{median(variant, 'requests_per_s'):>12.1f}{late:>10}{size:>10}")

    def ratios(this: str, figure: str) -> list[float]:
        return [ours / plain for ours, plain in zip(above(this, figure), above(PLAIN, figure), strict=True)]

    faster = [runs[FAST].requests_per_s / runs[PLAIN].requests_per_s for runs in rounds]
    print(f"\nbeside {PLAIN}, × and 95 % interval:")
    for what, values, goal, least in (
        ("CPU a span", ratios(FAST, "cpu_us"), 0.75, False),
        ("of it, app", ratios(FAST, "app_us"), 1.0, False),
        ("requests/s", faster, 0.99, True),
        ("CPU a span, without the extension", ratios(PURE, "cpu_us"), 1.0, False),
    ):
        value, low, high = interval(values)
        met = value >= goal if least else value <= goal
        words = f"{'at least' if least else 'at most'} {goal}: {'met' if met else 'MISSED'}"
        print(f"  {what:<36}{value:>6.3f}   [{low:.3f}, {high:.3f}]   {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="15 for a figure to be quoted")
    parser.add_argument("--requests", type=int, default=1_000, help="a run and route")
    parser.add_argument("--spans", type=int, default=10, help="made by hand in each request")
    parser.add_argument("--work", type=int, default=100, help="µs of computing in each span of /cart")
    parser.add_argument("--threads", default="1,8", help="of the server, each with a client")
    parser.add_argument("--servers", default=WAITRESS, help=f"of {', '.join(SCRIPTS)}; asyncio has one thread")
    parser.add_argument("--ddtrace", default="", help="a folder that has ddtrace")
    options = parser.parse_args()
    options.turns = int(options.work * turns_per_us())

    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sink.daemon_threads = True
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    os.sched_setaffinity(0, cores()[1])
    url = f"http://127.0.0.1:{sink.server_port}"
    variants = [BARE, PLAIN, *([DDTRACE] if options.ddtrace else []), PURE, FAST]

    print(f"{machine()}\npython {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in APPS.items():
            Path(folder, f"{name}.py").write_text(text, encoding="utf-8")
        for server in options.servers.split(","):
            if server not in SCRIPTS:
                parser.error(f"--servers: expected some of {', '.join(SCRIPTS)}, found {server!r}")
            for threads in map(int, options.threads.split(",")):
                options.requests -= options.requests % threads
                rounds = rounds_of(variants, server, threads, Path(folder), url, options)
                what = f"{threads} clients" if server == ASYNCIO else f"{threads} thread{'s' * (threads > 1)}"
                print(
                    f"\n{server}, {what}: medians of {options.rounds} rounds, "
                    f"{options.requests} requests a route, {1 + options.spans} spans a request\n"
                )
                report(variants, rounds, 1 + options.spans)
    if options.rounds < 15:
        print("\nfewer than 15 rounds: a first look, not a figure to be quoted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
