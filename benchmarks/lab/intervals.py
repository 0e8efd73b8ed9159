"""What coarser readings would have said: the same run, judged again without our account, interval by interval.

A kept run's store is copied; of each counter only the last point of every interval is left, and no span carries what
its thread did. Everything else is as it was recorded, so that only the interval differs.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from benchmarks.lab.folder import Folder
from benchmarks.lab.record import Record
from benchmarks.lab.score import HEALTHY_KINDS, Blame, median, score, share
from layerline.attributes import SPAN_FIGURES, column
from layerline_correlator.correlator import Correlator
from layerline_correlator.plain import plain
from layerline_correlator.settings import Settings

#: From what a Collector does unless told otherwise to what our agent does for stall counters.
INTERVALS_NS = (15_000_000_000, 5_000_000_000, 1_000_000_000, 200_000_000)
#: What containers' readings alone can charge: the causes whose ranges are compared.
CAUSES = ("container.cpu_throttled", "app.cpu_busy", "container.io_throttled", "host.io_saturated")
STORE, DATABASE = "layerline", "hot.duckdb"


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one interval."""

    interval_ns: int
    blames: tuple[Blame, ...]
    """Of single faults whose cause was not blind."""
    blind: int
    """How many more faults could not be seen at this interval."""

    @property
    def inside(self) -> float | None:
        """Share of truths inside their range."""
        return share([blame.inside for blame in self.blames])

    @property
    def width(self) -> float | None:
        """Median width of the range, as a share of the injected time."""
        return median([blame.width_ratio for blame in self.blames])


def compare(folder: Folder, records: Sequence[Record]) -> list[Row]:
    """A row for each interval, over the pieces whose store was kept; none if there is no such piece. The stores are not
    changed.
    """
    wanted = [
        record
        for record in records
        if record.kind not in HEALTHY_KINDS
        and record.failure is None
        and not record.disturbed
        and record.blind is None
        and len(record.truths) == 1
        and record.truths[0].cause in CAUSES
    ]
    pieces = {
        store: [record for record in wanted if record.piece == piece.number]
        for piece in folder.pieces()
        if ((store := folder.store_of(piece.number) / STORE) / DATABASE).exists()
    }
    if not pieces:
        return []
    return [
        together([at_interval(store, own, interval_ns) for store, own in pieces.items()])
        for interval_ns in INTERVALS_NS
    ]


def together(rows: Sequence[Row]) -> Row:
    """The same interval of several pieces."""
    return Row(
        rows[0].interval_ns, tuple(blame for row in rows for blame in row.blames), sum(row.blind for row in rows)
    )


def at_interval(store: Path, records: Sequence[Record], interval_ns: int) -> Row:
    """The same requests, judged by readings of this interval alone."""
    with tempfile.TemporaryDirectory(prefix="layerline-intervals-") as name:
        folder = Path(name)
        shutil.copy(store / DATABASE, folder / DATABASE)
        thin(folder / DATABASE, interval_ns)
        # The data is old by now: it must not be deleted for that.
        correlator = Correlator.open(Settings(store=folder, retain_ns=100 * 365 * 86_400 * 10**9))
        try:
            judged = [replace(record, verdict=verdict_of(correlator, record.trace_id)) for record in records]
        finally:
            correlator.close()
    seen = [within(record) for record in judged if record.truths[0].cause not in blind(record)]
    blames = tuple(blame for record in seen for blame in score(record).blames)
    return Row(interval_ns, blames, len(judged) - len(seen))


def within(record: Record) -> Record:
    """The truth, as far as it lies in the request's spans: what the client waited before them no reading shows."""
    assert record.verdict is not None
    longest_ns = record.verdict["duration_ns"]
    return replace(
        record, truths=tuple(replace(truth, truth_ns=min(truth.truth_ns, longest_ns)) for truth in record.truths)
    )


def verdict_of(correlator: Correlator, trace_id: str) -> dict[str, object] | None:
    """As the API would say it."""
    verdict = correlator.verdict(trace_id)
    return None if verdict is None else plain(verdict)


def blind(record: Record) -> set[str]:
    """The causes that the verdict calls blind; all, where there is none."""
    if record.verdict is None:
        return set(CAUSES)
    return {one["cause"] for one in record.verdict["blind"]}


def thin(database: Path, interval_ns: int) -> None:
    """Leave the last point of each series in each interval, and spans without what their threads did."""
    figures = ", ".join(f"{column(name)} = NULL" for name in SPAN_FIGURES)
    others = (
        "map_from_entries(list_filter(map_entries(attributes), lambda one: NOT starts_with(one.key, 'layerline.')))"
    )
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "CREATE OR REPLACE TABLE hot_point AS SELECT * FROM point QUALIFY row_number() OVER"
            f" (PARTITION BY series, time_ns // {int(interval_ns)} ORDER BY time_ns DESC) = 1"
        ).fetchall()
        connection.execute(
            f"UPDATE hot_span SET account = NULL, account_reason = NULL, slices = NULL, {figures},"
            f" attributes = {others}"
        ).fetchall()
        for table in ("request", "part", "blind_spot", "stay"):
            connection.execute(f"DELETE FROM {table}").fetchall()
