"""What ledgers cost: CPU time of a pass over one trace, and of batches, on a machine with 25 containers.

    python benchmarks/ledger.py [--against CHECKOUT] [--rounds 5]

With ``--against`` another checkout (``git worktree add /tmp/before v0.1.0``) does the same work in turn, in processes
of its own, and the ratio is printed: these machines are noisy, and figures of different runs cannot be compared. Prints
machine, versions, and CPU milliseconds: the median over the rounds, lowest and highest.

A trace is eight spans of three services. *ordinary*: nothing is withheld, waits are short. *throttled*: with our
account, and a CPU limit that binds. *inferred*: spans of another SDK, so that readings are all there is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MS, ZERO_NS = 1_000_000, 1_790_000_000_000_000_000
#: Traces of a batch; the server works out up to 2,000 together (ledger/waiting.py).
BATCHES, PASSES = (400, 2_000), 8
KINDS = ("ordinary", "throttled", "inferred")
#: How much less a pass may cost than before the ledger was declared, as a share: the goal.
GOAL = 0.5


def trace(number: int, kind: str) -> list[dict[str, Any]]:
    """The spans of a trace as the tests of the correlator draw them (tests/correlator/spans.py)."""
    account = kind != "inferred"
    meters = {
        "cpu": 5,
        "wait": 3,
        "throttled": 2 if kind == "throttled" else 0,
        "usage": 9,
        "runnable": 12,
        "switches": 3,
    }
    of_entry = meters if account else {}
    of_call = {"cpu": 0.1, "switches": 1} if account else {}
    db = {"attributes": {"server.address": "db", "server.port": "5432"}}
    web, stock, prices = ({"service": name, "container": f"{name}-1"} for name in ("web", "stock", "prices"))
    return [
        {"id": "a", "kind": "server", "name": "GET /cart", "ms": [0, 42], **web, **of_entry},
        {"id": "b", "parent": "a", "kind": "client", "ms": [2, 20], **web, **of_call},
        {"id": "c", "parent": "b", "kind": "server", "ms": [3, 19], **stock, **of_entry},
        {"id": "d", "parent": "c", "kind": "client", "ms": [4, 12], **stock, **of_call, **db},
        {"id": "e", "parent": "a", "kind": "client", "ms": [21, 40], **web, **of_call},
        {"id": "f", "parent": "e", "kind": "server", "ms": [22, 39], **prices, **of_entry},
        {"id": "g", "parent": "f", "ms": [23, 30], **prices, **({"cpu": 6, "wait": 0.5} if account else {})},
        {"id": "h", "parent": "f", "kind": "client", "ms": [30, 38], **prices, **of_call, **db},
    ]


def readings() -> list[dict[str, Any]]:
    """Counters of 25 containers and their machine, each second for five minutes."""
    at = list(range(-140_000, 160_000, 1000))

    def counter(signal: str, each: float, **more: Any) -> dict[str, Any]:
        return {"signal": signal, "at": at, "values": [each * n for n in range(len(at))], **more}

    drawn = [counter("system.cpu.time", 300, tags={"cpu.mode": mode}) for mode in ("user", "system", "idle", "iowait")]
    drawn += [counter("system.disk.io_time", 1, tags={"system.device": "vda"})]
    drawn += [{"signal": "system.cpu.logical.count", "at": at[::10], "values": [2] * len(at[::10])}]
    for name in ("web-1", "stock-1", "prices-1", *(f"other-{n}" for n in range(22))):
        some = {"tags": {"pressure.kind": "some"}, "container": name}
        drawn += [
            counter("container.cpu.time", 100, container=name),
            counter("container.cpu.throttled", 3, container=name),
            counter("container.cpu.throttled_periods", 1e-5, container=name),
            counter("container.cpu.pressure", 20, **some),
            counter("container.io.pressure", 1, **some),
            counter("container.memory.pressure", 1, **some),
            counter("container.memory.refaults", 0, container=name),
            counter("container.network.tcp.retransmits", 0, container=name),
            counter("container.disk.io", 1000, container=name, tags={"disk.io.direction": "read"}),
            counter("container.disk.io", 1000, container=name, tags={"disk.io.direction": "write"}),
            {"signal": "container.cpu.limit", "container": name, "at": at[::10], "values": [0.5] * len(at[::10])},
        ]
    return drawn


def work() -> None:
    """In a checkout's own process: do the passes, print CPU milliseconds by kind."""
    from spans import batch, series_rows, span_row

    try:
        from layerline_correlator.ledger.work import work_out
        from layerline_correlator.store.store import Store
    except ImportError:  # before the modules were sorted into rooms
        from layerline_correlator.ledger import work_out  # type: ignore[attr-defined,no-redef]
        from layerline_correlator.store import Store  # type: ignore[attr-defined,no-redef]
    from layerline_correlator.settings import Settings

    found = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Settings(store=Path(folder), group_ns=0))
            spans = [
                span_row(span, f"{number:032x}", ZERO_NS + number * 37 * MS)
                for number in range(1, max(BATCHES) + 1)
                for span in trace(number, kind)
            ]
            store.append(batch(spans, [series_rows(series, ZERO_NS) for series in readings()]))
            cursor = store.cursor()

            def spent_ms(ids: list[int], cursor: Any = cursor) -> float:
                began = time.process_time()
                work_out(cursor, [f"{one:032x}" for one in ids], ZERO_NS - 1_000 * MS, ZERO_NS + 100_000 * MS)
                return (time.process_time() - began) * 1e3

            spent_ms([1])
            found[f"{kind}, one trace"] = statistics.median(spent_ms([one]) for one in range(2, PASSES + 2))
            for traces in BATCHES:
                found[f"{kind}, {traces} traces"] = spent_ms(list(range(1, traces + 1)))
            cursor.close()
            store.close()
    print(json.dumps(found))


def measured(checkout: Path) -> dict[str, float]:
    """One process of that checkout. CalledProcessError where it fails."""
    paths = [str(checkout / part) for part in ("instrument", "correlator", "api", "tests/correlator", "tests")]
    answer = subprocess.run(
        [sys.executable, __file__, "--work"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        check=True,
        text=True,
    )
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to do the same work in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    import duckdb

    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        if options.against:
            theirs.append(measured(options.against))
        ours.append(measured(ROOT))
    print(f"{'CPU ms':26s}{'now':>8s}{'(range)':>14s}" + (f"{'before':>9s}{'ratio':>8s}" if theirs else ""))
    missed = []
    for name in ours[0]:
        now = [run[name] for run in ours]
        line = f"{name:26s}{statistics.median(now):8.0f}{f'({min(now):.0f}–{max(now):.0f})':>14s}"
        if theirs:
            ratio = statistics.median(run[name] / other[name] for run, other in zip(ours, theirs, strict=True))
            line += f"{statistics.median(run[name] for run in theirs):9.0f}{ratio:8.2f}"
            if name.endswith("one trace") and ratio > GOAL:
                missed.append(f"{name}: × {ratio:.2f}, the goal is × {GOAL}")
        print(line)
    for each in missed:
        print(f"MISSED {each}")


if __name__ == "__main__":
    main()
