"""What a server costs that is sent so many spans a second, and whether it keeps up.

    python benchmarks/steady.py [--rates 8,500,2000,5000] [--seconds 180] [--containers 50]

For each rate a fresh server; three services of plain SDKs send to it, and an agent the readings that it takes each
second of the containers. Eight spans a second, one trace, is a machine at rest. Prints for the second half of the time:
cores that the server used, how long the oldest trace had to wait for its ledger at the end, the largest resident
memory, and how long a body of spans took to be acknowledged. The goals stand beside it.
"""

from __future__ import annotations

import argparse
import http.client
import platform
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field

import duckdb
import psutil
from load import SHAPE, S, Served, Traces, readings, served, together

HEADERS = {"Content-Type": "application/x-protobuf"}
#: Spans a second: cores, seconds of lag, and MiB of memory, at most.
GOALS = {8: (0.03, 15.0, 1024.0), 500: (0.2, 15.0, 1024.0), 5000: (0.8, 15.0, 1024.0), 20000: (2.0, 30.0, 1024.0)}


#: What a sender sends at most, in spans a second.
OF_ONE = 2_500


@dataclass(slots=True)
class Sent:
    """What the senders saw."""

    spans: int = 0
    refused: int = 0
    took_s: list[float] = field(default_factory=list)


def send_spans(server: Served, rate: int, sent: Sent, stop: threading.Event, seed: int = 1) -> None:
    """Traces at this rate, about four bodies a second, each sent again until it is taken."""
    traces = Traces(max(1, rate // len(SHAPE) // 4), seed)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    due_s = time.monotonic()
    while not stop.is_set():
        body = traces.body(time.time_ns(), spread_ns=S // 4)
        began_s = time.monotonic()
        while post(connection, "/v1/traces", body) != 200 and not stop.wait(0.2):
            sent.refused += 1
        sent.took_s.append(time.monotonic() - began_s)
        sent.spans += traces.spans
        due_s += traces.spans / rate
        stop.wait(max(0.0, due_s - time.monotonic()))


def span_senders(server: Served, rate: int, sent: Sent, stop: threading.Event) -> list[threading.Thread]:
    """As many senders as a fleet needs for this rate: what waits for its answer sends nothing meanwhile."""
    count = -(-rate // OF_ONE)
    return [
        threading.Thread(target=send_spans, args=(server, rate // count, sent, stop, number + 1), daemon=True)
        for number in range(count)
    ]


def send_readings(server: Served, containers: int, stop: threading.Event) -> None:
    """As an agent does: those of each second, or where the server says that it is enough, of several at once."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    second, due_s, every, waiting = 0, time.monotonic(), 1, list[bytes]()
    while not stop.is_set():
        waiting.append(readings(containers, time.time_ns(), second)[0])
        if len(waiting) >= every:
            connection.request("POST", "/v1/metrics", together(waiting), HEADERS)
            answer = connection.getresponse()
            answer.read()
            every, waiting = int(answer.headers.get("Layerline-Send-Every", "1")), []
        second += 1
        due_s += 1
        stop.wait(max(0.0, due_s - time.monotonic()))


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    connection.request("POST", path, body, HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def measure(rate: int, seconds: float, containers: int) -> bool:
    """Print a line. Whether its goal was reached, if it has one."""
    sent, stop = Sent(), threading.Event()
    with served() as server:
        senders = [
            *span_senders(server, rate, sent, stop),
            threading.Thread(target=send_readings, args=(server, containers, stop), daemon=True),
        ]
        for sender in senders:
            sender.start()
        time.sleep(seconds / 2)
        began_s, cpu_s, spans, highest = time.monotonic(), server.cpu_s(), sent.spans, 0
        while time.monotonic() - began_s < seconds / 2:
            highest = max(highest, server.rss_bytes())
            time.sleep(0.5)
        lasted_s = time.monotonic() - began_s
        cores = (server.cpu_s() - cpu_s) / lasted_s
        came = (sent.spans - spans) / lasted_s
        said = server.metrics()
        lag_s = said["layerline_correlator_lag_seconds"]
        stop.set()
        for sender in senders:
            sender.join(timeout=120)
    memory = highest / 2**20
    goal = GOALS.get(rate)
    is_reached = goal is None or (cores <= goal[0] and lag_s <= goal[1] and memory <= goal[2] and came >= 0.95 * rate)
    verdict = (
        "" if goal is None else f"goal {goal[0]:.2f} cores, {goal[1]:.0f} s: {'reached' if is_reached else 'MISSED'}"
    )
    acknowledged_ms = statistics.median(sent.took_s) * 1e3
    figures = f"{rate:8,} {came:9,.0f} {cores:7.2f} {lag_s:7.1f} {memory:8.0f} {acknowledged_ms:8.0f} {sent.refused:8}"
    print(f"{figures} {verdict}", flush=True)
    return is_reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rates", default="8,500,2000,5000", help="spans a second, one after the other")
    parser.add_argument("--seconds", type=float, default=180, help="for each rate")
    parser.add_argument("--containers", type=int, default=50)
    options = parser.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}")
    print("spans/s      came   cores   lag s  RSS MiB   ack ms  refused", flush=True)
    reached = [measure(int(rate), options.seconds, options.containers) for rate in options.rates.split(",")]
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
