"""What intake costs: durable spans per CPU-second of the server over HTTP, gRPC and JSON, beside its parts alone.

    python benchmarks/ingest.py [--bodies 60] [--traces 64] [--ways http,grpc,json]

Every body is 512 spans of plain SDKs with twelve attributes each, acknowledged when it is durable. The server works
ledgers out meanwhile, as it always does. Beside it, in this process: *parsed* is protobuf's own parser alone, *decoded*
the product's decoder, *stored* decoder and store, durable, without a server and without ledgers.
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
from pathlib import Path
from typing import Any

import duckdb
import grpc
import psutil
from google.protobuf.json_format import MessageToDict
from load import S, Served, Traces, served
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline_api.doors.otlp.decode import decode
from layerline_correlator.settings import Settings
from layerline_correlator.store.store import Store

#: Durable spans of twelve attributes per CPU-second: the goal.
GOAL = 40_000
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def as_json(body: bytes) -> bytes:
    """OTLP/JSON writes ids in hexadecimal."""
    request: dict[str, Any] = MessageToDict(ExportTraceServiceRequest.FromString(body))
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
        try:
            ways: dict[str, Callable[[bytes], object]] = {
                "parsed": parse,
                "decoded": lambda body: decode("traces", body, is_json=False),
                "stored": lambda body: store.append(decode("traces", body, is_json=False).batch),
            }
            for name, work in ways.items():
                best_s = float("inf")
                for _ in range(min(bodies, 12)):
                    body = traces.body(time.time_ns(), S // 4)
                    began_s = time.process_time()
                    work(body)
                    best_s = min(best_s, time.process_time() - began_s)
                verdict = ""
                if name == "stored":
                    verdict = f"{'':10} goal {GOAL:,}: {'reached' if traces.spans / best_s >= GOAL else 'MISSED'}"
                print(f"{name:10} {traces.spans / best_s:12,.0f} {verdict}", flush=True)
        finally:
            store.close()
    return traces.spans / best_s >= GOAL


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bodies", type=int, default=60)
    parser.add_argument("--traces", type=int, default=64, help="of eight spans, in a body")
    parser.add_argument("--ways", default="http,grpc,json")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    print(f"python {' '.join(sys.argv)}; load {psutil.getloadavg()[0]:.1f}")
    print("           spans/CPU-s     ack ms", flush=True)
    traces = Traces(options.traces)
    is_reached = alone(traces, options.bodies)
    for way in options.ways.split(","):
        measure(way, options.bodies, traces)
    sys.exit(0 if is_reached else 1)


if __name__ == "__main__":
    main()
