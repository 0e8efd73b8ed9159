"""Makes the rows of requests as they arrive, and says which of them get a ledger.

A row costs little: duration, status, and slow or not against the usual of its operation. Every slow or failed request
gets a ledger, and of the others all, or where there is too little time for that (``ledger/budget.py``) a fair sample of
each operation. Whether an ordinary trace is drawn follows from its id. Its weight, how many it stands for, is the
inverse of the chance that it had: sums over weighted ledgers are right in the mean (Horvitz and Thompson, 1952).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import duckdb

from layerline_correlator.ledger.budget import ANYWAY, chances
from layerline_correlator.ledger.work import AROUND_NS
from layerline_correlator.store.graph import Graph, Rows, graph
from layerline_correlator.store.sealed import SPAN, within
from layerline_correlator.store.stale import mark_requests
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Extent
from layerline_correlator.verdict.rate import usual_now

FILES = ("verdict/triage.sql",)
GIVEN = ("batch", "operation_usual", "operation_chance")

#: What is usual for an operation is looked up so often, in seconds; one that had no requests for longer is forgotten.
_USUAL_S, _FORGOTTEN_S = 10.0, 600.0
#: Of how many operations the usual is remembered. Where there are more, their names have ids in them.
_MOST_USUALS = 50_000
#: Slow and failed requests are drawn too where there are more of them than so many times what there is time for: an
#: outage must not leave the worker behind without end.
_URGENT_TIMES = 4
_END_OF_TIME = 2**63 - 1

Operation = tuple[str, str]


class Drawn(NamedTuple):
    """A trace that gets a ledger: when its last request ended (None where no row tells), and whether it is urgent."""

    end_ns: int | None
    is_urgent: bool


class Triage:
    """Keeps what is usual now. The cursor is the worker's."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, slow_ns: int) -> None:
        """``slow_ns``: from which duration on a request without a usual is slow."""
        self._cursor, self._slow_ns = cursor, slow_ns
        self._usual: dict[Operation, tuple[float, int | None]] = {}  # when it was looked up
        self.left_out = 0  # traces that were not drawn, since the process began
        self.has_left_out = bool(cursor.execute("FROM request WHERE planned = 0 LIMIT 1").fetchall())  # also before

    def sort(
        self, traces: Mapping[str, Extent], room: int, *, as_of_ns: int | None = None, now_ns: int | None = None
    ) -> dict[str, Drawn]:
        """Write the rows of these traces. Those that get a ledger, about ``room`` and all that is urgent.

        ``as_of_ns``: by what was usual then, instead of now; ``now_ns``: when they are said to be written.
        ``duckdb.Error``; then nothing is written.
        """
        cursor, whole = self._cursor, graph(FILES, GIVEN)
        bounds: dict[str, Any] = {
            "from_ns": max(0, min(extent.from_ns for extent in traces.values()) - AROUND_NS),
            "to_ns": min(_END_OF_TIME, max(extent.to_ns for extent in traces.values()) + AROUND_NS),
            "slow_ns": self._slow_ns,
        }
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE batch AS SELECT unnest($ids::VARCHAR[]) AS trace_id", {"ids": list(traces)}
        ).fetchall()
        rows = Rows()
        with within(cursor, bounds["from_ns"], bounds["to_ns"] + 1, SPAN):
            self._run(whole, ["early_request"], bounds, rows)
        found = cursor.execute("SELECT DISTINCT service, name FROM early_request").fetchall()
        self._hand_over("operation_usual", "usual_ns", "BIGINT", self._usual_of(found, as_of_ns))
        self._run(whole, ["early_trace"], bounds, rows)
        urgent, counts = 0, {}
        for service, operation, number, of_urgent in cursor.execute(
            "SELECT service, operation, count(*), count(*) FILTER (urgent) FROM early_trace"
            " WHERE NOT worked_out AND planned IS NULL GROUP BY ALL"
        ).fetchall():
            counts[service, operation] = number
            urgent += of_urgent
        self._hand_over("operation_chance", "chance", "DOUBLE", chances(counts, max(ANYWAY, room - urgent)))
        most = _URGENT_TIMES * max(ANYWAY, room)
        self._run(whole, ["drawn_trace"], {**bounds, "urgent_chance": min(1.0, most / max(1, urgent))}, rows)
        cursor.execute("BEGIN").fetchall()
        try:
            run(cursor, "verdict/drawn.sql", {**bounds, "now_ns": time.time_ns() if now_ns is None else now_ns})
            mark_requests(cursor, bounds["from_ns"], bounds["to_ns"])
            cursor.execute("COMMIT").fetchall()
        except BaseException:
            cursor.execute("ROLLBACK").fetchall()
            raise
        ((left_out,),) = cursor.execute("SELECT count(*) FROM drawn_trace WHERE planned = 0 AND is_new").fetchall()
        self.left_out += left_out
        self.has_left_out = self.has_left_out or self.left_out > 0
        return {
            trace_id: Drawn(end_ns, urgent)
            for trace_id, end_ns, urgent in cursor.execute(
                "SELECT trace_id, end_ns, urgent AND NOT worked_out FROM drawn_trace WHERE planned > 0"
            ).fetchall()
        }

    def _run(self, whole: Graph, wanted: Iterable[str], parameters: Mapping[str, Any], rows: Rows) -> None:
        steps = whole.for_the_sake_of(wanted).steps
        Graph(tuple(step for step in steps if step.makes not in rows), whole.given).run(self._cursor, parameters, rows)

    def _hand_over(self, table: str, name: str, kind: str, values: Mapping[Operation, float | None]) -> None:
        """Make a table of one figure for each operation."""
        self._cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT unnest($services::VARCHAR[]) AS service,"
            f" unnest($operations::VARCHAR[]) AS operation, unnest($values::{kind}[]) AS {name}",
            {
                "services": [service for service, _ in values],
                "operations": [operation for _, operation in values],
                "values": list(values.values()),
            },
        ).fetchall()

    def _usual_of(self, operations: Iterable[Operation], as_of_ns: int | None) -> dict[Operation, int | None]:
        """What was usual for each of them then, or is now, as of a few seconds ago at most."""
        now_s = time.monotonic()
        wanted = [(service, operation) for service, operation in operations]
        if as_of_ns is not None:
            then = usual_now(self._cursor, wanted, as_of_ns)
            return {one: then.get(one) for one in wanted}
        old = [one for one in wanted if one not in self._usual or self._usual[one][0] < now_s - _USUAL_S]
        if old:
            found = usual_now(self._cursor, old, time.time_ns())
            self._usual = {one: known for one, known in self._usual.items() if known[0] > now_s - _FORGOTTEN_S}
            usual = self._usual if len(self._usual) + len(old) <= _MOST_USUALS else {}
            known = {one: self._usual[one] for one in wanted if one in self._usual}
            self._usual = {**usual, **known, **{one: (now_s, found.get(one)) for one in old}}
        return {one: self._usual[one][1] for one in wanted}
