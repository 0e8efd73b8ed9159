"""What an import of recorded data costs: a million spans in Jaeger's JSON, killed in the middle and run again.

    python benchmarks/importing.py [--spans 1000000] [--folder DIR]

Writes the file, imports it until half of it is read, kills the import with SIGKILL, runs the same command again, and
asserts that every span is in the store once and every request has its row, slow ones with their ledger. Prints machine,
times and peak memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil

from layerline_api.commands.recorded import main as import_command

#: Spans of a trace, and how many of them are requests.
SPANS, REQUESTS = 8, 3
#: 2025-10-09T08:53:20Z; fifty traces a second from there on.
ZERO_US, EVERY_US = 1_760_000_000_000_000, 20_000
#: Parent, process, kind, name, and when it began and ended, in microseconds of its trace.
SHAPE = (
    (None, "p1", "server", "GET /cart", 0, 42_000),
    (1, "p1", "client", "GET /stock", 2_000, 20_000),
    (2, "p2", "server", "GET /stock", 3_000, 19_000),
    (3, "p2", "client", "SELECT stock", 4_000, 12_000),
    (1, "p1", "client", "GET /price", 21_000, 40_000),
    (5, "p3", "server", "GET /price", 22_000, 39_000),
    (6, "p3", "internal", "reckon", 23_000, 30_000),
    (6, "p3", "client", "GET rates", 30_000, 38_000),
)
PROCESSES = {
    f"p{number}": {
        "serviceName": name,
        "tags": [
            {"key": "host.name", "type": "string", "value": f"{name}-7c9f"},
            {"key": "telemetry.sdk.language", "type": "string", "value": "java"},
        ],
    }
    for number, name in enumerate(("web", "stock", "prices"), 1)
}


def trace(number: int) -> dict[str, Any]:
    """One trace; every hundredth has a database that takes 700 ms."""
    trace_id = f"{number + 1:032x}"
    begin = ZERO_US + number * EVERY_US
    late = 700_000 if number % 100 == 99 else number % 7 * 300
    spans = []
    for place, (parent, process, kind, name, start, end) in enumerate(SHAPE, 1):
        moved = late if place > 4 else 0
        called = f"{number * SPANS + parent:016x}" if parent else None
        tags = [
            {"key": "span.kind", "type": "string", "value": kind},
            {"key": "http.request.method", "type": "string", "value": "GET"},
            {"key": "http.response.status_code", "type": "int64", "value": 200},
            {"key": "server.address", "type": "string", "value": f"{process}.shop.internal"},
            {"key": "internal.span.format", "type": "string", "value": "otlp"},
        ]
        spans.append(
            {
                "traceID": trace_id,
                "spanID": f"{number * SPANS + place:016x}",
                "flags": 1,
                "operationName": name,
                "references": [{"refType": "CHILD_OF", "traceID": trace_id, "spanID": called}] if called else [],
                "startTime": begin + start + moved,
                "duration": end + late - start - moved,
                "tags": tags,
                "logs": [],
                "processID": process,
                "warnings": None,
            }
        )
    return {"traceID": trace_id, "spans": spans, "processes": PROCESSES, "warnings": None}


def write(path: Path, traces: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"data": [')
        for number in range(traces):
            file.write(("," if number else "") + json.dumps(trace(number)))
        file.write('], "total": 0, "limit": 0, "offset": 0, "errors": null}')


class Import:
    """``layerline import`` in a process of its own."""

    def __init__(self, path: Path, store: Path) -> None:
        command = [sys.executable, "-m", import_command.__module__, "--store", str(store), str(path)]
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.peak_bytes = 0

    def lines(self) -> Iterator[str]:
        """What it says of its progress; its memory is read meanwhile."""
        assert self.process.stderr is not None
        status = Path(f"/proc/{self.process.pid}/status")
        for line in self.process.stderr:
            try:
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            except OSError:
                found = None
            if found:
                self.peak_bytes = max(self.peak_bytes, int(found[1]) * 1024)
            print("   ", line, end="", flush=True)
            yield line

    def took_s(self) -> float:
        return time.monotonic() - self.began


def count(store: Path, query: str) -> int:
    with duckdb.connect(str(store / "hot.duckdb"), read_only=True) as database:
        found = database.execute(query).fetchone()
    assert found is not None
    return int(found[0])


def measure(folder: Path, spans: int) -> None:
    traces = spans // SPANS
    spans, path, store = traces * SPANS, folder / "traces.json", folder / "store"
    print(f"writing {spans:,} spans …", flush=True)
    write(path, traces)

    first = Import(path, store)
    for line in first.lines():
        share = re.search(r": (\d+) %", line)
        if share and 40 <= int(share[1]) < 100 and "ledgers" not in line:
            break
    assert first.process.poll() is None, "it was over before it could be killed; take more spans"
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate()
    killed_s = first.took_s()

    second = Import(path, store)
    read_s = 0.0
    for line in second.lines():
        if "✓ traces.json" in line:
            read_s = second.took_s()
    out, _ = second.process.communicate()
    assert second.process.returncode == 0, second.process.returncode
    whole_s = second.took_s()
    print(out)

    held = count(store, "SELECT count(*) FROM span")
    distinct = count(store, "SELECT count(*) FROM (SELECT DISTINCT trace_id, span_id FROM span)")
    assert held == distinct == spans, (held, distinct, spans)
    ledgers = count(store, "SELECT count(*) FROM request WHERE weight > 0")
    assert not count(store, "SELECT count(*) FROM request WHERE slow AND weight = 0")
    requests = count(store, "SELECT count(*) FROM request")
    once = count(store, "SELECT count(*) FROM (SELECT DISTINCT trace_id, span_id FROM request)")
    assert requests == once == traces * REQUESTS, (requests, once, traces * REQUESTS)

    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    disk = sum(file.stat().st_size for file in store.iterdir())
    print(f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, {platform.release()}, ", end="")
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}; load {psutil.getloadavg()[0]:.1f}")
    print(f"python {' '.join(sys.argv)}")
    print(f"file                    {path.stat().st_size / 1e6:8,.0f} MB, {spans:,} spans, {requests:,} requests")
    print(f"with a ledger           {ledgers:8,}")
    print(f"killed after            {killed_s:8.1f} s")
    print(f"run again: the rest     {read_s:8.1f} s")
    print(f"           ledgers      {whole_s - read_s:8.1f} s")
    print(f"both together           {killed_s + whole_s:8.1f} s, CPU {cpu.ru_utime + cpu.ru_stime:.1f} s")
    print(f"peak memory             {max(first.peak_bytes, second.peak_bytes) / 2**20:8,.0f} MiB")
    print(f"store                   {disk / 1e6:8,.0f} MB")
    print("duplicates                     0")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where file and store are made and stay (default: nowhere)")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options.folder, options.spans)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.spans)


if __name__ == "__main__":
    main()
