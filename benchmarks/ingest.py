"""What intake costs: durable spans per CPU-second of the server over HTTP, gRPC and JSON, beside its parts alone.

    python benchmarks/ingest.py [--bodies 60] [--traces 64] [--ways http,grpc,json]

Every body is 512 spans of plain SDKs with twelve attributes each, acknowledged when it is durable. The server works
ledgers out meanwhile, as it always does; they cost most of what is shown for it. Beside it, in this process, without a
server and without ledgers: *parsed* is protobuf's own parser alone, *decoded* and *JSON* the product's decoder,
*stored* decoder and store with a transaction for each body, *together* the same from eight senders at a time, whose
bodies share transactions. *points* are those of 50 containers, decoded and stored, a transaction for each second.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import grpc
import psutil
from google.protobuf.json_format import MessageToDict
from load import S, Served, Traces, readings, served
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline_api.doors.otlp.decode import decode
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Store

#: Durable spans of twelve attributes per CPU-second: the goal.
GOAL = 40_000
#: How many send at a time for *together*.
SENDERS = 8
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def as_json(body: bytes) -> bytes:
    """OTLP/JSON writes ids in hexadecimal, and enums as numbers."""
    request: dict[str, Any] = MessageToDict(ExportTraceServiceRequest.FromString(body), use_integers_for_enums=True)
    for group in request["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(request, separators=(",", ":")).encode()


def over_http(server: Served, content_type: str) -> Callable[[bytes], bool]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    def post(body: bytes) -> bool:
        connection.request("POST", "/v1/traces", body, {"Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    return post


def over_grpc(server: Served) -> Callable[[bytes], bool]:
    call = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}").unary_unary(EXPORT)

    def export(body: bytes) -> bool:
        try:
            call(body, timeout=120)
        except grpc.RpcError as refusal:
            if refusal.code() != grpc.StatusCode.UNAVAILABLE:  # type: ignore[attr-defined]
                raise
            return False
        return True

    return export


def measure(way: str, bodies: int, traces: Traces) -> None:
    """Print a line."""
    with served() as server:
        send = {
            "http": lambda: over_http(server, "application/x-protobuf"),
            "json": lambda: over_http(server, "application/json"),
            "grpc": lambda: over_grpc(server),
        }[way]()
        made = (traces.body(time.time_ns(), S // 4) for _ in range(bodies + 2))
        prepared = [as_json(body) if way == "json" else body for body in made]
        for body in prepared[:2]:
            send(body)
        cpu_s, took_s = server.cpu_s(), []
        for body in prepared[2:]:
            began_s = time.monotonic()
            while not send(body):
                time.sleep(0.1)
            took_s.append(time.monotonic() - began_s)
        cpu_s = server.cpu_s() - cpu_s
    print(f"{way:10} {bodies * traces.spans / cpu_s:12,.0f} {statistics.median(took_s) * 1e3:10.0f}", flush=True)


def alone(traces: Traces, bodies: int) -> bool:
    """Print what the parts do alone: the best of several bodies. Whether the goal was reached."""
    parse: Callable[[bytes], object] = ExportTraceServiceRequest.FromString
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Settings(store=Path(folder), group_ns=0), lambda arrived: None)

        def stored(body: bytes) -> None:
            store.append(decode("traces", body, is_json=False).batch)

        def fresh() -> bytes:
            return traces.body(time.time_ns(), S // 4)

        try:
            count = min(bodies, 12)
            best("parsed", traces.spans, parse, [fresh() for _ in range(count)])
            best("decoded", traces.spans, lambda body: decode("traces", body, is_json=False), [fresh()] * count)
            best("JSON", traces.spans, lambda body: decode("traces", body, is_json=True), [as_json(fresh())] * count)
            best("stored", traces.spans, stored, [fresh() for _ in range(count)], GOAL)
            with ThreadPoolExecutor(SENDERS) as senders:

                def at_once(sent: list[bytes]) -> None:
                    list(senders.map(stored, sent))

                groups = [[fresh() for _ in range(4 * SENDERS)] for _ in range(count // 3 + 1)]
                reached = best("together", 4 * SENDERS * traces.spans, at_once, groups, GOAL)
            seconds = [readings(50, time.time_ns() + number * S, number) for number in range(count)]
            for name, work in (
                ("points", lambda body: store.append(decode("metrics", body, is_json=False).batch)),
                ("… decoded", lambda body: decode("metrics", body, is_json=False)),
            ):
                best(name, seconds[0][1], work, [body for body, _ in seconds])
        finally:
            store.close()
    return reached


def best(name: str, items: int, work: Callable[[Any], object], given: list[Any], goal: int = 0) -> bool:
    """Print how many items per CPU-second the best of these took. Whether that is the goal."""
    best_s = float("inf")
    for each in given:
        began_s = time.process_time()
        work(each)
        best_s = min(best_s, time.process_time() - began_s)
    is_reached = items / best_s >= goal
    verdict = f"{'':10} goal {goal:,}: {'reached' if is_reached else 'MISSED'}" if goal else ""
    print(f"{name:10} {items / best_s:12,.0f} {verdict}", flush=True)
    return is_reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=60)
    parser.add_argument("--traces", type=int, default=64, help="of eight spans, in a body")
    parser.add_argument("--ways", default="http,grpc,json")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}")
    print("                 /CPU-s     ack ms", flush=True)
    traces = Traces(options.traces)
    is_reached = alone(traces, options.bodies)
    for way in filter(None, options.ways.split(",")):
        measure(way, options.bodies, traces)
    sys.exit(0 if is_reached else 1)


if __name__ == "__main__":
    main()
