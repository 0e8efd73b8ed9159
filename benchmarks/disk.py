"""What a store takes on the disk: bytes a span with its ledger, and bytes a point, hot and sealed.

    python benchmarks/disk.py [--hours 3] [--containers 20] [--every 1]

Hours of readings as an agent sends them, written to the table as the server writes them, then sealed; and a shop's
requests with their ledgers, of which spans are sealed. It prints a table and asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "correlator"))

from shop import carts
from spans import batch

from layerline_correlator.correlator import Correlator
from layerline_correlator.settings import Settings
from layerline_correlator.store import maintenance
from layerline_correlator.store.sealed import HOUR_NS, due, seal
from layerline_correlator.store.sizes import SPAN_TABLES
from layerline_correlator.store.store import connect

S = 10**9
#: A container's series: counters that rise with every reading, those that hardly ever do, and levels.
BUSY, IDLE, LEVELS = 12, 14, 8
#: How many of them one sensor reads at once.
SERIES = 8


def points(draw: random.Random, hour_ns: int, seconds: int, containers: int, every: int) -> pa.Table:
    """An hour of readings in the order in which they arrive: every container in each beat."""
    kinds = ["busy"] * BUSY + ["idle"] * IDLE + ["level"] * LEVELS
    names = random.Random(1)  # noqa: S311 - the same each hour
    series = [(f"{names.getrandbits(96):024x}", kind) for _ in range(containers) for kind in kinds]
    levels = [draw.randrange(10**9) for _ in series]
    columns: dict[str, list[object]] = {name: [] for name in ("resource", "series", "start_ns", "time_ns", "value")}
    at_ns = hour_ns
    for second in range(0, seconds, every):
        for place, (name, kind) in enumerate(series):
            if kind == "busy":
                levels[place] += round(draw.lognormvariate(14, 1)) * 1_000  # microseconds of the kernel
            elif kind == "level":
                levels[place] = max(0, levels[place] + 4096 * draw.randrange(-20, 21))
            if place % SERIES == 0:  # all that one sensor reads of a container has one time
                at_ns = hour_ns + second * S + place * 20_000 + draw.randrange(10**6)
            row = (f"container {place // len(kinds)}", name, hour_ns - HOUR_NS, at_ns, float(levels[place]))
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    return pa.table(columns)


def main() -> None:
    """Fill a store, and print what it takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=int, default=3)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="seconds between two readings")
    parser.add_argument("--requests", type=int, default=4_000)
    options = parser.parse_args()
    draw = random.Random(1)  # noqa: S311 - reproducible
    now_ns = time.time_ns()
    first_ns = (now_ns // HOUR_NS - 3 - options.hours) * HOUR_NS
    with tempfile.TemporaryDirectory(prefix="layerline-disk-") as place:
        folder = Path(place) / "store"
        correlator = Correlator.open(Settings(store=folder))
        rows = list(carts(first_ns, options.requests / 4))
        for start in range(0, len(rows), 200):
            correlator.append(batch([span for request in rows[start : start + 200] for span in request]))
        correlator.look_for_incidents()
        correlator.close()
        database = connect(folder, 2**30)
        for hour in range(options.hours):
            arriving = points(draw, first_ns + hour * HOUR_NS, 3600, options.containers, options.every)
            database.register("arriving", arriving)
            if not hour:
                database.execute("INSERT INTO series BY NAME SELECT DISTINCT series, resource FROM arriving").fetchall()
            database.execute("INSERT INTO hot_point BY NAME SELECT * EXCLUDE (resource) FROM arriving").fetchall()
            database.unregister("arriving")
        database.execute("CHECKPOINT").fetchall()
        database.close()
        hot = maintenance.sizes(folder)
        database = connect(folder, 2**30)
        began_s, cpu_s, longest_s = time.perf_counter(), time.process_time(), 0.0
        hours = due(database, 0, now_ns)
        for each in hours:
            each_s = time.perf_counter()
            seal(database, folder, each)
            longest_s = max(longest_s, time.perf_counter() - each_s)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        database.close()
        cold = maintenance.sizes(folder)
        packed = {one.kind: one for one in cold.sealed}
        rows = sum(one.rows for one in cold.sealed)
        tables = {one.table: one for one in hot.tables}
        spans = tables["hot_span"].rows
        print(f"{os.cpu_count()} cores, Linux {platform.release()}, DuckDB {duckdb.__version__}")
        print(f"{'':34}{'goal':>8}{'found':>10}")
        for kind in ("point", "span"):
            table = tables[f"hot_{kind}"]
            goal = "4" if kind == "point" else ""
            print(f"{f'bytes a {kind}, hot':34}{'':>8}{table.row_bytes or 0:>10.2f}   of {table.rows:,}")
            print(f"{f'bytes a {kind}, sealed':34}{goal:>8}{packed[kind].row_bytes:>10.2f}"
                  f"   in {packed[kind].files} files")  # fmt: skip
        for name in SPAN_TABLES[1:]:
            print(f"{f'bytes a span in {name}':34}{'':>8}{tables[name].bytes / spans:>10.1f}")
        ledger_bytes = sum(tables[name].bytes for name in SPAN_TABLES[1:])
        for how, each in (("hot", tables["hot_span"].bytes / spans), ("sealed", packed["span"].row_bytes)):
            print(f"{f'bytes a span with its ledger, {how}':34}{'150':>8}{each + ledger_bytes / spans:>10.1f}")
        print(f"{'rows sealed per CPU-second':34}{'':>8}{rows / cpu_s:>10,.0f}   longest hour {longest_s:.1f} s")
        print(f"{'seconds to seal':34}{'':>8}{took_s:>10.1f}")


if __name__ == "__main__":
    main()
