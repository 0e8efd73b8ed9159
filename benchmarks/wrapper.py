"""What the wrapper costs: one Flask app under one load, bare, with ``opentelemetry-instrument``, and with ours.

    python benchmarks/wrapper.py [--pairs 15] [--requests 2000] [--spans 10] [--work 300]

The app is served by waitress in one process. A request makes one span by Flask's instrumentation, ``--spans`` by hand.
Two routes: ``/spans`` does next to nothing in them, so that the cost of a span stands out; ``/cart`` computes for
``--work`` µs in each, as an app would. Spans go every second to a sink that answers 200. Where there are two cores or
more the app has one of its own, and the sink and the client share another. Runs are interleaved, each round in another
order, and each figure is the median of the rounds' own differences or ratios, with its 95 % bootstrap interval.

*CPU* is the app's own, sending included: it says what was spent whatever else the machine did. *Requests per second* is
what a caller sees; on a busy machine it is noisy.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BARE, PLAIN, OURS = "bare", "opentelemetry-instrument", "layerline run"
GOAL_US_PER_SPAN, GOAL_RATIO = 10.0, 0.97

APP = """
import sys
from flask import Flask
from opentelemetry import trace
app, tracer = Flask("shop"), trace.get_tracer("shop")
spans, turns = int(sys.argv[2]), int(sys.argv[3])

def steps(turns):
    for i in range(spans):
        with tracer.start_as_current_span("step", attributes={"step": i, "kind": "work"}):
            for _ in range(turns):
                pass
    return "ok"

app.add_url_rule("/spans/<int:number>", "spans", lambda number: steps(0))
app.add_url_rule("/cart/<int:number>", "cart", lambda number: steps(turns))

import waitress
waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=4, _quiet=True)
"""


@dataclass(frozen=True)
class Run:
    """One variant under load once."""

    requests_per_s: float  # of /cart
    cpu_us: float  # of the app, per request of /spans


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


def turns_per_us() -> float:
    """How often this machine turns an empty loop in a microsecond."""
    begun = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return 1 / (time.perf_counter() - begun)


def command(variant: str, script: Path, port: int, spans: int, turns: int) -> list[str]:
    app = [sys.executable, str(script), str(port), str(spans), str(turns)]
    beside = Path(sys.executable).parent
    if variant == PLAIN:
        return [str(beside / "opentelemetry-instrument"), *app]
    if variant == OURS:
        return [sys.executable, "-m", "layerline.command", "run", "--", *app]
    return app


def environment(sink: str) -> dict[str, str]:
    """The same for all: what each sends, it sends over OTLP/HTTP, every second, to the sink."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LAYERLINE_"))}
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
    }


def load(port: int, route: str, requests: int, clients: int) -> float:
    """Send that many requests over kept connections; returns the seconds it took."""

    def client(count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for i in range(count):
            connection.request("GET", f"/{route}/{i}?token=x")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"the app answered {response.status}")
        connection.close()

    threads = [threading.Thread(target=client, args=(requests // clients,)) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def measure(variant: str, script: Path, sink: str, options: argparse.Namespace) -> Run:
    port, received = free_port(), Sink.received_bytes
    process = subprocess.Popen(
        command(variant, script, port, options.spans, options.turns), env=environment(sink), stderr=subprocess.DEVNULL
    )
    try:
        os.sched_setaffinity(process.pid, cores()[0])
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"{variant}: the app did not start") from None
                time.sleep(0.05)
        load(port, "spans", max(200, options.requests // 10), options.clients)
        time.sleep(1.5)  # what the warm-up made is sent
        before = cpu_s(process.pid)
        load(port, "spans", options.requests, options.clients)
        time.sleep(1.5)
        used = cpu_s(process.pid) - before
        took = load(port, "cart", options.requests, options.clients)
    finally:
        process.terminate()
        process.wait()
    if (Sink.received_bytes > received) != (variant != BARE):
        raise RuntimeError(f"{variant}: its spans came to {Sink.received_bytes - received} bytes; it measures nothing")
    return Run(options.requests / took, used / options.requests * 1e6)


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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5, help="rounds; 15 for a figure to be quoted")
    parser.add_argument("--requests", type=int, default=2_000, help="a run and route")
    parser.add_argument("--spans", type=int, default=10, help="made by hand in each request")
    parser.add_argument("--work", type=int, default=300, help="µs of computing in each span of /cart")
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    options.turns = int(options.work * turns_per_us())
    options.requests -= options.requests % options.clients

    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    sink.daemon_threads = True
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    os.sched_setaffinity(0, cores()[1])
    url = f"http://127.0.0.1:{sink.server_port}"

    rounds: list[dict[str, Run]] = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "shop.py")
        script.write_text(APP, encoding="utf-8")
        for number in range(options.pairs):
            order = [BARE, PLAIN, OURS]
            random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
            runs = {}
            for variant in order:
                print(f"\rround {number + 1} of {options.pairs}: {variant:<26}", end="", file=sys.stderr, flush=True)
                runs[variant] = measure(variant, script, url, options)
            rounds.append(runs)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)

    print(f"{machine()}\npython {' '.join(sys.argv)}")
    print(
        f"medians of {options.pairs} rounds: {options.requests} requests a route, {1 + options.spans} spans a request\n"
    )
    spans = 1 + options.spans

    def cpu_above(this: str, other: str) -> Callable[[dict[str, Run]], float]:
        return lambda runs: (runs[this].cpu_us - runs[other].cpu_us) / spans

    print(f"{'':<26}{'/cart':>16}{'/spans':>18}{'above bare':>16}")
    print(f"{'':<26}{'requests/s':>16}{'CPU µs/request':>18}{'CPU µs/span':>16}")
    for variant in (BARE, PLAIN, OURS):
        rate = statistics.median(runs[variant].requests_per_s for runs in rounds)
        cpu = statistics.median(runs[variant].cpu_us for runs in rounds)
        above = "" if variant == BARE else f"{statistics.median(map(cpu_above(variant, BARE), rounds)):.1f}"
        print(f"{variant:<26}{rate:>16.1f}{cpu:>18.0f}{above:>16}")

    cost, cost_low, cost_high = interval([cpu_above(OURS, PLAIN)(runs) for runs in rounds])
    ratio, ratio_low, ratio_high = interval([runs[OURS].requests_per_s / runs[PLAIN].requests_per_s for runs in rounds])
    print(f"\n{OURS} beside {PLAIN}:")
    for what, value, low, high, met, goal in (
        ("CPU per span", f"{cost:+.1f} µs", cost_low, cost_high, cost <= GOAL_US_PER_SPAN, "at most +10 µs"),
        ("requests/s", f"× {ratio:.3f}", ratio_low, ratio_high, ratio >= GOAL_RATIO, "at least × 0.970"),
    ):
        verdict = "met" if met else "MISSED"
        print(f"  {what:<14}{value:>10}   95 % interval [{low:.3f}, {high:.3f}]   goal {goal}: {verdict}")
    if options.pairs < 15:
        print("  (fewer than 15 rounds: a first look, not a figure to be quoted)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
