"""Works traces out together, whatever is among them: what cannot be worked out is found, set aside and remembered.

A pass that fails is halved until the trace that made it fail stands alone, in a number of tries that grows with the
logarithm of the traces. That trace is judged by its spans alone, without any reading; where that fails too it is kept
without parts, all of its time unexplained. Where many traces fail, as they do when a reading of their machine is at
fault, they are not looked for one by one: what is left when the tries are used up is judged without readings.

A try that takes too long, or more memory than DuckDB may have, has failed like any other. One that ends the whole
process is known to the next one: the traces at work stand in a file beside the database.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

import duckdb

from layerline_correlator.ledger.work import AROUND_NS
from layerline_correlator.store.patience import TooHeavy, cut_off
from layerline_correlator.store.stale import mark_requests
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Extent

_log = logging.getLogger("layerline.correlator")

#: How long one try may take, and all tries of a pass beyond the first together, in seconds.
TRY_S, PASS_S = 60.0, 120.0
#: How long one try may take where it has to wait for a CPU: the machine's doing must not cost traces their readings.
LONGEST_TRY_S = 600.0
#: How often a trace is tried again because new spans of it arrived.
TRIES = 3
#: Traces that failed and are remembered, at most: one that is forgotten is tried again when new spans of it arrive.
REMEMBERED = 100_000
#: A process that ends while it works out one trace alone, so often in a row, is ended by that trace.
ENDS = 3
#: What says nothing of the traces: the disk is full, the database is closed, somebody else wrote the same rows, or the
#: server ends and interrupts what it is at.
NOT_THEIRS = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.ConnectionException,
    duckdb.TransactionException,
    duckdb.InterruptException,
)
#: The bounds that find every request.
_ALWAYS_NS = 2**63 - 1

#: Bad traces that a pass looks for, one by one: where there are more, something else is at fault.
_BAD = 3

Traces = Mapping[str, Extent]
#: Works these traces out, with what was measured or without, and keeps their ledgers. ``duckdb.Error``.
Try = Callable[[Traces, bool], None]


@dataclass(slots=True)
class _Budget:
    """What the search for bad traces among others may cost."""

    halvings: int
    bad: int
    until_s: float

    @classmethod
    def of(cls, traces: Traces) -> _Budget:
        return cls(2 * ceil(log2(len(traces) + 1)) + 2, _BAD, time.monotonic() + PASS_S)

    def is_left(self) -> bool:
        return self.halvings > 0 and self.bad > 0 and time.monotonic() < self.until_s


class Careful:
    """Works out whatever can be. Owns the file of the traces at work; the cursor is the worker's."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, folder: Path, attempt: Try) -> None:
        """Read what is remembered of the traces that failed, and of those at work when the last process ended."""
        self._cursor, self._attempt = cursor, attempt
        known = cursor.execute(
            "SELECT trace_id, max(tries) FROM failed GROUP BY trace_id ORDER BY max(failed_ns) DESC LIMIT $most",
            {"most": REMEMBERED},
        ).fetchall()
        self._tries: dict[str, int] = dict(reversed(known))  # those that failed last stand last
        self._file = folder / "at-work.json"
        self._ended, self._suspects = _read(self._file)
        self._at_once = max(1, len(self._suspects) // 8)
        #: Since the process began: traces that are judged by their spans alone, and those that are kept without parts.
        self.without_readings = self.without_ledger = 0

    def is_given_up(self, trace_id: str) -> bool:
        """Whether it failed so often that it is not tried again, whatever arrives of it."""
        return self._tries.get(trace_id, 0) >= TRIES

    def work_out(self, traces: Traces) -> None:
        """Work these out; afterwards each has its ledger or is remembered in the table ``failed``."""
        wanted = {trace_id: extent for trace_id, extent in traces.items() if not self.is_given_up(trace_id)}
        for group in self._groups(wanted):
            self._halve(group, _Budget.of(group), readings=True)
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _groups(self, traces: Traces) -> Iterator[Traces]:
        """All together; but those at work when the last process ended are worked out in small groups."""
        suspects = {trace_id: extent for trace_id, extent in traces.items() if trace_id in self._suspects}
        rest = {trace_id: extent for trace_id, extent in traces.items() if trace_id not in suspects}
        if rest:
            self._note(rest, 0)
            yield rest
        waiting = list(suspects.items())
        while waiting:
            group, waiting = dict(waiting[: self._at_once]), waiting[self._at_once :]
            self._suspects -= group.keys()
            if self._ended >= ENDS:
                why = f"the server ended {self._ended} times while it worked this trace out"
                self._set_aside(group, why, gives_up=True)
                continue
            self._note(group, self._ended)
            yield group

    def _note(self, traces: Traces, ended: int) -> None:
        """Write down what is at work. It need not survive the machine: it is the process that may end."""
        with suppress(OSError):  # without it a process that ends learns less from that
            self._file.write_text(json.dumps({"ended": ended, "traces": list(traces)}), encoding="utf-8")

    def _halve(self, traces: Traces, budget: _Budget, *, readings: bool) -> None:
        try:
            with cut_off(self._cursor, TRY_S, longest_s=LONGEST_TRY_S):
                self._attempt(traces, readings)
        except NOT_THEIRS:
            self._roll_back()
            raise
        except Exception as problem:  # whatever it is, it must not cost the others
            self._roll_back()  # an interrupt may have hit the one of the attempt itself
            why = str(problem).partition("\n")[0][:500]
            if not isinstance(problem, duckdb.Error | TooHeavy):
                why = f"{type(problem).__name__}: {why}"
                _log.error("a fault of ours, please report it", exc_info=problem)
        else:
            self._succeeded(traces, readings=readings)
            return
        if len(traces) > 1 and budget.is_left():
            budget.halvings -= 1
            listed = list(traces.items())
            half = len(listed) // 2
            self._halve(dict(listed[:half]), budget, readings=readings)
            self._halve(dict(listed[half:]), budget, readings=readings)
        elif readings:
            _log.error("%s could not be worked out with what was measured: %s", _named(traces), why)
            budget.bad -= 1
            self._remember(traces, why, "readings", again=True)
            self._halve(traces, _Budget.of(traces), readings=False)
        else:
            budget.bad -= 1
            _log.error("%s could not be worked out, and is kept without parts: %s", _named(traces), why)
            self._set_aside(traces, why)

    def _roll_back(self) -> None:
        with suppress(duckdb.Error):
            self._cursor.execute("ROLLBACK").fetchall()

    def _succeeded(self, traces: Traces, *, readings: bool) -> None:
        if not readings:
            self.without_readings += len(traces)
            return
        healed = [trace_id for trace_id in traces if trace_id in self._tries]
        if healed:
            self._cursor.execute(
                "DELETE FROM failed WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))", {"ids": healed}
            ).fetchall()
            for trace_id in healed:
                del self._tries[trace_id]

    def _set_aside(self, traces: Traces, why: str, *, gives_up: bool = False) -> None:
        """Remember that they failed, and keep their requests without parts."""
        self.without_ledger += len(traces)
        self._remember(traces, why, "ledger", again=gives_up, tries=TRIES if gives_up else 1)
        extents = traces.values()
        bounds = {
            "from_ns": max(0, min(extent.from_ns for extent in extents) - AROUND_NS),
            "to_ns": min(_ALWAYS_NS, max(extent.to_ns for extent in extents) + AROUND_NS),
        }
        parameters = {"ids": list(traces), "why": why, "now_ns": time.time_ns(), **bounds}
        self._in_transaction(
            "ledger/bare.sql", parameters, lambda: mark_requests(self._cursor, **bounds, traces=traces)
        )

    def _remember(self, traces: Traces, why: str, lacks: str, *, again: bool, tries: int = 1) -> None:
        """``again``: they were tried once more (or so many ``tries`` more) than is known."""
        counted = {trace_id: self._tries.get(trace_id, 0) + (tries if again else 0) for trace_id in traces}
        self._in_transaction(
            "ledger/failed.sql",
            {
                "ids": list(traces),
                "to_ns": [extent.to_ns for extent in traces.values()],
                "tries": list(counted.values()),
                "lacks": lacks,
                "why": why,
                "now_ns": time.time_ns(),
            },
        )
        self._tries |= counted
        for trace_id in list(self._tries)[: max(0, len(self._tries) - REMEMBERED)]:
            del self._tries[trace_id]

    def _in_transaction(
        self, file: str, parameters: Mapping[str, object], then: Callable[[], None] = lambda: None
    ) -> None:
        self._cursor.execute("BEGIN").fetchall()
        try:
            run(self._cursor, file, parameters)
            then()
            self._cursor.execute("COMMIT").fetchall()
        except BaseException:
            self._cursor.execute("ROLLBACK").fetchall()
            raise


def _read(file: Path) -> tuple[int, set[str]]:
    """The traces at work when the last process ended, and how often in a row one did while the only one was."""
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        traces = set(map(str, noted["traces"]))
        return (int(noted["ended"]) + 1 if len(traces) == 1 else 0), traces
    except (OSError, ValueError, KeyError, TypeError):
        return 0, set()


def _named(traces: Traces) -> str:
    first = next(iter(traces))
    return f"trace {first}" if len(traces) == 1 else f"{len(traces)} traces ({first} and others)"
