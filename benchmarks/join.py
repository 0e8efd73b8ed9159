"""What the time join costs alone: how much two counters of its container grew during each of a million visits.

    python benchmarks/join.py [--visits 1000000] [--batch 2000] [--batches 20]

50 containers, read once a second for an hour (360,000 readings). The ledger's own steps are asked, two ASOF joins in
DuckDB, and, where polars is installed (`pip install 'layerline[bench]'`), two of its `join_asof`: all visits at
once, and in batches as the correlator works. Ours gives bounds too, the others the estimate only. Ends with an error
where the sums differ. Prints machine, versions and visits per CPU second.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa

from layerline_correlator.ledger.work import FILES
from layerline_correlator.store.graph import steps_in
from layerline_correlator.store.signals import write_catalogue
from layerline_correlator.store.statements import run

MS, S = 1_000_000, 1_000_000_000
ZERO_NS = 1_790_000_000 * S
SIGNALS = ("container.cpu.time", "container.cpu.throttled")
CONTAINERS, SECONDS = 50, 3600
#: The steps of the ledger that join.
STEPS = ("stretch_second", "reading_second", "seen")
#: The correlator reads this much before and after a batch.
AROUND_NS = 130 * S
#: How far two sums of doubles may differ.
SAME = 1e-6

ASOF = """
WITH
sums AS (
    SELECT *, sum(rise) OVER (PARTITION BY line ORDER BY to_ns) - rise AS sum_before FROM reading
),
asked AS (SELECT stretch_no, container_id, from_ns, to_ns, signal FROM stretch, (SELECT DISTINCT signal FROM reading)),
began AS (
    SELECT
        asked.*,
        sum_before + rise * least(1, (asked.from_ns - sums.from_ns) / (sums.to_ns - sums.from_ns)) AS at_first
    FROM asked ASOF JOIN sums
        ON sums.entity_id = asked.container_id AND sums.signal = asked.signal AND sums.from_ns <= asked.from_ns
)
SELECT
    count(*),
    sum(sum_before + rise * least(1, (began.to_ns - sums.from_ns) / (sums.to_ns - sums.from_ns)) - at_first)
FROM began ASOF JOIN sums
    ON sums.entity_id = began.container_id AND sums.signal = began.signal AND sums.from_ns <= began.to_ns
"""


def drawn(visits: int) -> tuple[pa.Table, pa.Table]:
    """Visits of 5 to 60 ms, in order of time, and readings: what the ledger knows as ``stretch`` and ``reading``."""
    draw = random.Random(3)  # noqa: S311 - nobody guesses these
    starts = sorted(ZERO_NS + 2 * S + draw.randrange((SECONDS - 4) * S) for _ in range(visits))
    names = [f"{number:064x}" for number in range(CONTAINERS)]
    numbers = list(range(visits))
    stretch = pa.table(
        {
            "stretch_no": numbers,
            "request_no": numbers,
            "visit_no": numbers,
            "piece_no": pa.nulls(visits, pa.int64()),
            "peer": [False] * visits,
            "container_id": [names[draw.randrange(CONTAINERS)] for _ in numbers],
            "host": ["vm"] * visits,
            "from_ns": starts,
            "to_ns": [start + draw.randrange(5 * MS, 60 * MS) for start in starts],
            "of_disks": [True] * visits,
            "of_network": [True] * visits,
        }
    )
    series = [(signal, number) for signal in SIGNALS for number in range(CONTAINERS)]
    ends = [ZERO_NS + second * S + number * 1_000_003 for _, number in series for second in range(1, SECONDS + 1)]
    of = [each for each in series for _ in range(SECONDS)]
    reading = pa.table(
        {
            "line": [f"{signal} {number}" for signal, number in of],
            "signal": [signal for signal, _ in of],
            "entity_type": ["container"] * len(of),
            "entity_id": [names[number] for _, number in of],
            "host": ["vm"] * len(of),
            "attributes": pa.array([[]] * len(of), pa.map_(pa.string(), pa.string())),
            "from_ns": [end - S for end in ends],
            "to_ns": ends,
            "rise": [float(draw.randrange(300 * MS)) for _ in of],
        }
    )
    return stretch, reading


class DuckDB:
    """Both joins in one database, on the tables that the ledger's steps read."""

    def __init__(self, stretch: pa.Table, reading: pa.Table) -> None:
        """Everything in memory, as temporary tables are."""
        self._connection = duckdb.connect()
        run(self._connection, "store/schema.sql")
        run(self._connection, "facts/words.sql")
        write_catalogue(self._connection)
        self._connection.execute("SET asof_loop_join_threshold = 0").fetchall()
        self._connection.register("stretches", stretch)
        self._connection.register("readings", reading)
        for statement in (
            "CREATE TEMP TABLE every_stretch AS FROM stretches",
            "CREATE TEMP TABLE every_reading AS FROM readings",
            "CREATE TEMP TABLE cpu_count AS SELECT 'vm' AS host, 2.0::DOUBLE AS cpus",
        ):
            self._connection.execute(statement).fetchall()
        self._steps = [step.sql for step in steps_in(FILES) if step.makes in STEPS]

    def hand_in(self, first: int, after: int) -> None:
        """The stretches of these numbers, and the readings around them."""
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE stretch AS FROM every_stretch"
            " WHERE stretch_no >= $first AND stretch_no < $after",
            {"first": first, "after": after},
        ).fetchall()
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE reading AS SELECT every_reading.* FROM every_reading,"
            " (SELECT min(from_ns) AS first_ns, max(to_ns) AS last_ns FROM stretch)"
            " WHERE to_ns > first_ns - $around_ns AND from_ns < last_ns + $around_ns",
            {"around_ns": AROUND_NS},
        ).fetchall()

    def ours(self) -> tuple[int, float]:
        """How many figures the ledger's steps make, and the sum of their estimates."""
        for step in self._steps:
            self._connection.execute(step).fetchall()
        return self._figures("SELECT count(*), sum(estimate) FROM seen")

    def asof(self) -> tuple[int, float]:
        """The same of two ASOF joins over running sums."""
        return self._figures(ASOF)

    def _figures(self, query: str) -> tuple[int, float]:
        count, total = self._connection.execute(query).fetchone() or (0, 0.0)
        return int(count), float(total)


def with_polars(polars: Any, stretch: pa.Table, reading: pa.Table) -> Callable[[int, int], tuple[int, float]]:
    """A function that answers the same for the stretches of these numbers."""
    stretches = polars.from_arrow(stretch.select(["container_id", "from_ns", "to_ns"]))
    readings = polars.from_arrow(reading.drop_columns(["attributes"]))
    col = polars.col

    def at(visits: Any, sums: Any, moment: str) -> Any:
        share = ((col(moment) - col("begin_ns")) / (col("end_ns") - col("begin_ns"))).clip(0, 1)
        joined = visits.sort(moment).join_asof(
            sums,
            left_on=moment,
            right_on="begin_ns",
            by_left="container_id",
            by_right="entity_id",
            coalesce=False,
            check_sortedness=False,
        )
        return joined.with_columns((col("before") + col("rise") * share).alias(f"sum_{moment}")).select(
            "container_id", "from_ns", "to_ns", *(name for name in visits.columns if name.startswith("sum_")),
            f"sum_{moment}",
        )  # fmt: skip

    def answer(first: int, after: int) -> tuple[int, float]:
        visits, count, total = stretches[first:after], 0, 0.0
        since, until = visits["from_ns"].min() - AROUND_NS, visits["to_ns"].max() + AROUND_NS
        near = readings.filter((col("to_ns") > since) & (col("from_ns") < until))
        for signal in SIGNALS:
            sums = (
                near.filter(col("signal") == signal)
                .sort("from_ns")
                .select(
                    "entity_id",
                    col("from_ns").alias("begin_ns"),
                    col("to_ns").alias("end_ns"),
                    "rise",
                    before=col("rise").cum_sum().over("line") - col("rise"),
                )
            )
            found = at(at(visits, sums, "from_ns"), sums, "to_ns")
            count, total = count + len(found), total + (found["sum_to_ns"] - found["sum_from_ns"]).sum()
        return count, total

    return answer


def measured(answer: Callable[[], tuple[int, float]]) -> tuple[float, tuple[int, float]]:
    """CPU seconds, and what it answered."""
    began_s = time.process_time()
    found = answer()
    return time.process_time() - began_s, found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=2_000, help="visits of a batch")
    parser.add_argument("--batches", type=int, default=20, help="how many of them")
    options = parser.parse_args()
    try:
        polars = importlib.import_module("polars")
    except ImportError:
        polars = None
    versions = f"DuckDB {duckdb.__version__}, polars {polars.__version__ if polars else 'is not installed'}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, {versions}")
    print(f"python {' '.join(sys.argv)}; load {os.getloadavg()[0]:.1f}")
    print("visits per CPU second     at once   in batches", flush=True)
    stretch, reading = drawn(options.visits)
    database = DuckDB(stretch, reading)
    batches = [(n * options.batch, (n + 1) * options.batch) for n in range(options.batches)]
    every = (0, options.visits)
    ways: dict[str, Callable[[], tuple[int, float]]] = {"ours": database.ours, "DuckDB ASOF": database.asof}
    answer = with_polars(polars, stretch, reading) if polars else None
    sums: dict[tuple[int, int], tuple[int, float]] = {}
    for name in (*ways, *(["polars join_asof"] if answer else [])):
        spent: dict[bool, float] = {True: 0.0, False: 0.0}
        for bounds in (every, *batches):
            if name in ways:
                database.hand_in(*bounds)  # which all of them would have to do
                took_s, found = measured(ways[name])
            else:
                assert answer is not None
                first, after = bounds
                took_s, found = measured(lambda first=first, after=after: answer(first, after))  # type: ignore[misc]
            spent[bounds == every] += took_s
            count, total = sums.setdefault(bounds, found)
            if found[0] != count or abs(found[1] - total) > SAME * total:
                sys.exit(f"{name} found {found} for the visits {bounds}, and ours {(count, total)}")
        rates = options.visits / spent[True], options.batch * options.batches / spent[False]
        print(f"{name:20s} {rates[0]:12,.0f} {rates[1]:12,.0f}", flush=True)


if __name__ == "__main__":
    main()
