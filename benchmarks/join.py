"""What the time join costs alone: how much two counters of its container grew during each of a million visits.

    python benchmarks/join.py [--visits 1000000] [--batch 2000] [--batches 20]

50 containers, read once a second for an hour (360,000 readings). The ledger's own steps are asked, two ASOF joins in
DuckDB, and, where polars is installed (`pip install 'layerline[bench]'`), two of its `join_asof`: all visits at
once, and in batches as the correlator works, each with the readings of 130 s before and after. Nobody is charged for
handing those in, and each looks only at the readings that its visits touch. Ours gives an estimate with bounds; the
others do the estimate alone, then the same as ours. Ends with an error where sums differ. Prints machine, versions and
visits per CPU second; of batches that of the median one, as a thread pool that wakes up makes single ones dear.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import duckdb
import pyarrow as pa

from layerline_correlator.ledger.work import FILES
from layerline_correlator.store.graph import steps_in
from layerline_correlator.store.signals import write_catalogue
from layerline_correlator.store.statements import execute, parsed, run

MS, S = 1_000_000, 1_000_000_000
ZERO_NS = 1_790_000_000 * S
#: Both sum over CPUs: in an interval each grows by at most that, times so many CPUs.
SIGNALS = ("container.cpu.time", "container.cpu.throttled")
CPUS = 2.0
CONTAINERS, SECONDS = 50, 3600
#: The steps of the ledger that join.
STEPS = ("reading_second", "seen")
#: The correlator reads this much before and after a batch.
AROUND_NS = 130 * S
#: How far two sums of doubles may differ.
SAME = 1e-6

#: How many figures, and their sums: of the estimates, and of the lower and upper bounds where those are asked for.
Sums = tuple[int, tuple[float, ...]]

# Where a visit began and where it ended, in running sums of each line. `rise_before` is what it had grown by before.
ASOF = """
CREATE OR REPLACE TEMP TABLE found AS
WITH
sums AS (
    SELECT *, sum(rise) OVER (PARTITION BY line ORDER BY to_ns) - rise AS rise_before
    FROM reading
    WHERE to_ns > (SELECT min(from_ns) FROM stretch) AND from_ns < (SELECT max(to_ns) FROM stretch)
),
asked AS (SELECT stretch_no, container_id, from_ns, to_ns, signal FROM stretch, (SELECT DISTINCT signal FROM reading)),
began AS (
    SELECT
        asked.*,
        rise_before + rise * least(1, (asked.from_ns - sums.from_ns) / (sums.to_ns - sums.from_ns)) AS at_first
    FROM asked ASOF JOIN sums
        ON sums.entity_id = asked.container_id AND sums.signal = asked.signal AND sums.from_ns <= asked.from_ns
)
SELECT
    stretch_no, began.signal,
    rise_before + rise * least(1, (began.to_ns - sums.from_ns) / (sums.to_ns - sums.from_ns)) - at_first AS estimate
FROM began ASOF JOIN sums
    ON sums.entity_id = began.container_id AND sums.signal = began.signal AND sums.from_ns <= began.to_ns
"""

# The same with bounds: of the reading in which it began and of that in which it ended at least what cannot have been
# outside the visit, at most what fits into it; of those between all, and at most what fits into them.
ASOF_BOUNDS = f"""
CREATE OR REPLACE TEMP TABLE found AS
WITH
near AS (
    SELECT *, to_ns - from_ns AS long_ns, least(rise, long_ns * {CPUS}) AS fitting
    FROM reading
    WHERE to_ns > (SELECT min(from_ns) FROM stretch) AND from_ns < (SELECT max(to_ns) FROM stretch)
),
sums AS (
    SELECT *, sum(rise) OVER so_far - rise AS rise_before, sum(fitting) OVER so_far - fitting AS fitting_before
    FROM near
    WINDOW so_far AS (PARTITION BY line ORDER BY to_ns)
),
asked AS (SELECT stretch_no, container_id, from_ns, to_ns, signal FROM stretch, (SELECT DISTINCT signal FROM reading)),
began AS (
    SELECT
        asked.*, sums.from_ns AS first_ns, long_ns, rise, fitting, rise_before, fitting_before,
        least(asked.to_ns, sums.to_ns) - asked.from_ns AS shared_ns
    FROM asked ASOF JOIN sums
        ON sums.entity_id = asked.container_id AND sums.signal = asked.signal AND sums.from_ns <= asked.from_ns
),
ended AS (
    SELECT
        stretch_no, began.signal, sums.from_ns > first_ns AS is_longer,
        began.rise, began.shared_ns, began.long_ns,
        sums.rise AS last_rise, began.to_ns - sums.from_ns AS last_shared_ns, sums.long_ns AS last_long_ns,
        sums.rise_before - began.rise_before - began.rise AS rise_between,
        sums.fitting_before - began.fitting_before - began.fitting AS fitting_between
    FROM began ASOF JOIN sums
        ON sums.entity_id = began.container_id AND sums.signal = began.signal AND sums.from_ns < began.to_ns
)
SELECT
    stretch_no, signal,
    rise * (shared_ns / long_ns)
        + CASE WHEN is_longer THEN rise_between + last_rise * (last_shared_ns / last_long_ns) ELSE 0 END AS estimate,
    greatest(0, rise - (long_ns - shared_ns) * {CPUS})
        + CASE WHEN is_longer THEN rise_between + greatest(0, last_rise - (last_long_ns - last_shared_ns) * {CPUS})
               ELSE 0 END AS low,
    least(rise, shared_ns * {CPUS})
        + CASE WHEN is_longer THEN fitting_between + least(last_rise, last_shared_ns * {CPUS}) ELSE 0 END AS high
FROM ended
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
            "line_no": [place for place in range(len(series)) for _ in range(SECONDS)],
            "signal": [signal for signal, _ in of],
            "entity_type": ["container"] * len(of),
            "entity_id": [names[number] for _, number in of],
            "host": ["vm"] * len(of),
            "attributes": pa.array([[]] * len(of), pa.map_(pa.string(), pa.string())),
            "from_ns": [end - S for end in ends],
            "to_ns": ends,
            "rise": [float(draw.randrange(int(CPUS * S))) for _ in of],
        }
    )
    return stretch, reading


class InDuckDB:
    """What is asked in SQL, in one database, on the tables that the ledger's steps read."""

    def __init__(self, stretch: pa.Table, reading: pa.Table) -> None:
        """Everything in memory, as temporary tables are."""
        self._connection = duckdb.connect()
        run(self._connection, "store/schema.sql")
        run(self._connection, "facts/words.sql")
        run(self._connection, "facts/readings.sql")
        write_catalogue(self._connection)
        self._connection.execute("SET asof_loop_join_threshold = 0").fetchall()
        self._connection.register("stretches", stretch)
        self._connection.register("readings", reading)
        for statement in (
            "CREATE TEMP TABLE every_stretch AS FROM stretches",
            "CREATE TEMP TABLE every_reading AS FROM readings",
            f"CREATE TEMP TABLE cpu_count AS SELECT 'vm' AS host, {CPUS}::DOUBLE AS cpus",
        ):
            self._connection.execute(statement).fetchall()
        self._steps = [step for step in steps_in(FILES) if step.makes in STEPS]

    def hand_in(self, first: int, after: int) -> None:
        """The stretches of these numbers, and the readings around them."""
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE stretch AS FROM every_stretch"
            " WHERE stretch_no >= $first AND stretch_no < $after",
            {"first": first, "after": after},
        ).fetchall()
        row = self._connection.execute("SELECT min(from_ns), max(to_ns) FROM stretch").fetchone() or (0, 0)
        self._around = {"since_ns": row[0] - AROUND_NS, "until_ns": row[1] + AROUND_NS}
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE reading AS FROM every_reading"
            " WHERE to_ns > $since_ns AND from_ns < $until_ns",
            self._around,
        ).fetchall()

    def ours(self) -> str:
        """The ledger's steps. Returns the table that they leave."""
        for step in self._steps:
            execute(self._connection, parsed(step.sql), self._around)
        return "seen"

    def asof(self, query: str) -> str:
        """Two ASOF joins over running sums, likewise."""
        self._connection.execute(query).fetchall()
        return "found"

    def sums(self, table: str) -> Sums:
        """What such a table says in all; a table without bounds has none."""
        columns = [name for (name, *_) in self._connection.execute(f"DESCRIBE {table}").fetchall()]
        asked = ", ".join(f"sum({name})" for name in ("estimate", "low", "high") if name in columns)
        count, *totals = self._connection.execute(f"SELECT count(*), {asked} FROM {table}").fetchone() or (0,)
        return int(count), tuple(totals)


class InPolars:
    """The same with ``join_asof``, on data frames."""

    def __init__(self, polars: Any, stretch: pa.Table, reading: pa.Table) -> None:
        self._polars = polars
        self._stretches = polars.from_arrow(stretch.select(["stretch_no", "container_id", "from_ns", "to_ns"]))
        self._readings = polars.from_arrow(reading.drop_columns(["attributes"]))

    def hand_in(self, first: int, after: int) -> None:
        """The stretches of these numbers, and the readings around them."""
        col = self._polars.col
        self._visits = self._stretches[first:after]
        since_ns, until_ns = self._visits["from_ns"].min() - AROUND_NS, self._visits["to_ns"].max() + AROUND_NS
        self._around = self._readings.filter((col("to_ns") > since_ns) & (col("from_ns") < until_ns))

    def sums(self, found: Any) -> Sums:
        """What such a frame says in all."""
        return len(found), tuple(found[name].sum() for name in ("estimate", "low", "high") if name in found.columns)

    def found(self, *, bounds: bool, apart: bool) -> Any:
        """One row for each visit and line. ``apart``: signal by signal, else all lines in one join."""
        polars, col = self._polars, self._polars.col
        long_ns = col("to_ns") - col("from_ns")
        running = ("rise", "fitting") if bounds else ("rise",)
        near = (
            self._around.filter(
                (col("to_ns") > self._visits["from_ns"].min()) & (col("from_ns") < self._visits["to_ns"].max())
            )
            .sort("from_ns")
            .select(
                "line",
                "signal",
                "rise",
                container_id="entity_id",
                begin_ns="from_ns",
                long_ns=long_ns,
                fitting=polars.min_horizontal("rise", long_ns * CPUS),
            )
            .with_columns(**{f"{name}_before": col(name).cum_sum().over("line") - col(name) for name in running})
        )
        if apart:
            visits = self._visits.sort("from_ns")
            parts = near.drop("line").partition_by("signal")
            return polars.concat(self._joined(visits, part, "container_id", bounds) for part in parts)
        lines = near.select("container_id", "line").unique()
        visits = self._visits.join(lines, on="container_id").sort("from_ns")
        return self._joined(visits, near.drop("container_id"), "line", bounds)

    def _joined(self, visits: Any, sums: Any, by: str, bounds: bool) -> Any:
        """The reading in which each visit began, that in which it ended, and what the two say."""
        polars, col = self._polars, self._polars.col
        joined = visits.join_asof(
            sums, left_on="from_ns", right_on="begin_ns", by=by, coalesce=False, check_sortedness=False
        )
        joined = joined.sort("to_ns").join_asof(
            sums, left_on="to_ns", right_on="begin_ns", by=by, coalesce=False, check_sortedness=False, suffix="_last"
        )
        shared_ns = polars.min_horizontal("to_ns", col("begin_ns") + col("long_ns")) - col("from_ns")
        last_shared_ns = col("to_ns") - col("begin_ns_last")
        longer = polars.when(col("begin_ns_last") > col("begin_ns"))
        between = col("rise_before_last") - col("rise_before") - col("rise")
        figures = {
            "estimate": col("rise") * (shared_ns / col("long_ns"))
            + longer.then(between + col("rise_last") * (last_shared_ns / col("long_ns_last"))).otherwise(0)
        }
        if bounds:
            outside_ns, last_outside_ns = col("long_ns") - shared_ns, col("long_ns_last") - last_shared_ns
            fitting_between = col("fitting_before_last") - col("fitting_before") - col("fitting")
            figures["low"] = (col("rise") - outside_ns * CPUS).clip(0) + longer.then(
                between + (col("rise_last") - last_outside_ns * CPUS).clip(0)
            ).otherwise(0)
            figures["high"] = polars.min_horizontal("rise", shared_ns * CPUS) + longer.then(
                fitting_between + polars.min_horizontal("rise_last", last_shared_ns * CPUS)
            ).otherwise(0)
        return joined.select("stretch_no", "signal", **figures)


@dataclass(frozen=True)
class Way:
    """One way to do it: what hands in, what answers, and what the answer adds up to."""

    name: str
    hand_in: Callable[[int, int], None]
    answer: Callable[[], Any]
    sums: Callable[[Any], Sums]


def ways(stretch: pa.Table, reading: pa.Table) -> Iterator[Way]:
    """Ours first."""
    database = InDuckDB(stretch, reading)
    yield Way("ours, with bounds", database.hand_in, database.ours, database.sums)
    for name, query in (("DuckDB ASOF", ASOF), ("DuckDB ASOF, with bounds", ASOF_BOUNDS)):
        yield Way(name, database.hand_in, partial(database.asof, query), database.sums)
    try:
        polars = importlib.import_module("polars")
    except ImportError:
        print("polars is not installed")
        return
    frames = InPolars(polars, stretch, reading)
    for bounds, apart in ((False, False), (False, True), (True, False), (True, True)):
        name = f"polars{' by signal' if apart else ''}{', with bounds' if bounds else ''}"
        yield Way(name, frames.hand_in, partial(frames.found, bounds=bounds, apart=apart), frames.sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=2_000, help="visits of a batch")
    parser.add_argument("--batches", type=int, default=20, help="how many of them")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, {versions()}")
    print(f"python {' '.join(sys.argv)}; load {os.getloadavg()[0]:.1f}")
    print("visits per CPU second           at once   in batches", flush=True)
    batches = [(n * options.batch, (n + 1) * options.batch) for n in range(options.batches)]
    every = (0, options.visits)
    expected: dict[tuple[int, int], Sums] = {}
    for way in ways(*drawn(options.visits)):
        took_s: list[float] = []
        for extent in (every, *batches):
            way.hand_in(*extent)
            began_s = time.process_time()
            found = way.answer()
            took_s.append(time.process_time() - began_s)
            sums = way.sums(found)
            if not agree(sums, expected.setdefault(extent, sums)):
                sys.exit(f"{way.name} found {sums} for the visits {extent}, and ours {expected[extent]}")
        at_once, in_batches = options.visits / took_s[0], options.batch / statistics.median(took_s[1:])
        print(f"{way.name:26s} {at_once:12,.0f} {in_batches:12,.0f}", flush=True)


def versions() -> str:
    """Of what is compared."""
    return f"DuckDB {duckdb.__version__}, polars {version('polars') if find_spec('polars') else 'not installed'}"


def agree(sums: Sums, others: Sums) -> bool:
    """Whether two ways found as many figures, and the same of what both work out."""
    return sums[0] == others[0] and all(
        abs(one - other) <= SAME * max(abs(other), 1) for one, other in zip(sums[1], others[1], strict=False)
    )


if __name__ == "__main__":
    main()
