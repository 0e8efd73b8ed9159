"""Sums up the minutes that were written to, once nobody writes to them any more, and then the quarters of an hour.

It knows which those are (``store.stale``): late data, spans that were replaced, ledgers that were worked out again,
retention and imports all leave a note. A minute is summed up anew as a whole, never corrected. A quarter is made of its
minutes when it is over and none of them waits; until then questions read the minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import duckdb

from layerline_correlator.store.disk import Disk
from layerline_correlator.store.sealed import POINT, SPAN, coarsest_ns, within
from layerline_correlator.store.stale import MINUTE_NS, QUARTER, forget_quarters
from layerline_correlator.store.statements import run
from layerline_correlator.threads import Threads

_log = logging.getLogger("layerline.summaries")

#: A minute is summed up when nobody wrote to it for so long, or when it has waited for so long all the same.
QUIET_NS, LONGEST_NS = 15 * 10**9, 300 * 10**9
#: How many minutes are summed up in one transaction: neighbours, the newest first.
TOGETHER = 5
#: How many quarters are.
QUARTERS_TOGETHER = 8
#: How often it looks for work, in seconds.
_LOOK_S = 10.0

#: The tables that are made of each kind of rows, each by a file of its name.
TABLES = {
    "point": ("point_minute",),
    "span": ("span_minute",),
    "request": ("request_minute", "part_minute", "stay_minute", "blind_minute"),
}

#: And those that are made of quarters, from these.
QUARTERS = {
    kind: tuple(name.replace("_minute", "_quarter") for name in (*names, *(("edge_minute",) if kind == "span" else ())))
    for kind, names in TABLES.items()
}

#: What is read of each kind that is sealed.
_READ = {"point": POINT, "span": SPAN, "request": SPAN}

_DUE = """
SELECT kind, minute FROM stale_minute
GROUP BY ALL HAVING max(marked_ns) <= $quiet_ns OR min(marked_ns) <= $long_ns
ORDER BY minute DESC
"""

#: Quarters of which there are minutes, and that are not summed up.
_OPEN = """
SELECT DISTINCT quarter_of(minute) AS quarter FROM {table}
ANTI JOIN (FROM summed_quarter WHERE kind = $kind) AS summed ON summed.quarter = quarter_of(minute)
"""
#: Of some quarters those that have minutes that are to be summed up first.
_WAITING = """
SELECT DISTINCT quarter_of(minute) FROM stale_minute
WHERE kind = $kind AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))
"""


class Summing:
    """Keeps the summaries of a store up to date, on a cursor and a thread of its own."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, disk: Disk, threads: Threads) -> None:
        """Of the store that the cursor belongs to; ``start`` begins."""
        self._cursor, self._disk, self._threads = cursor, disk, threads
        self._one_at_a_time = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: Quarters that are not summed up, of each kind; not known before the first look.
        self._open: dict[str, set[int]] = {}
        #: Minutes of each kind that could not be summed up.
        self._odd: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Sum up from now on."""
        self._thread = self._threads.start("layerline-summaries", self._run)

    def stop(self) -> None:
        """Begin nothing more; what is being summed up is cut off, and summed up after the next start."""
        self._stopped.set()

    @property
    def alive(self) -> bool:
        """Whether its thread still runs."""
        return self._thread is not None and self._thread.is_alive()

    def catch_up(self) -> int:
        """Sum up everything that waits, now. Returns how many minutes that were, each kind for itself."""
        done = 0
        while found := self._some(time.time_ns() + LONGEST_NS):
            done += found
        while self._quarters(time.time_ns()):
            pass
        return done

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            try:
                while not self._stopped.is_set() and self._disk.problem() is None and self._some(time.time_ns()):
                    self._stopped.wait(0.01)
                while not self._stopped.is_set() and self._disk.problem() is None and self._quarters(time.time_ns()):
                    self._stopped.wait(0.01)
            except duckdb.Error as problem:
                if self._stopped.is_set():
                    return
                if not isinstance(problem, duckdb.TransactionException) and not self._disk.failed(problem):
                    self._threads.failed("layerline-summaries", problem)

    def _some(self, now_ns: int) -> int:
        """Sum up some neighbouring minutes of each kind. How many there were."""
        with self._one_at_a_time:
            kinds = {kind for kind, _ in self._due(now_ns)}
            return sum(self._of_kind(kind, now_ns) for kind in TABLES if kind in kinds)

    def _due(self, now_ns: int) -> list[tuple[str, int]]:
        """Kinds and minutes that are to be summed up now, the newest first."""
        bounds = {"quiet_ns": now_ns - QUIET_NS, "long_ns": now_ns - LONGEST_NS}
        return [due for due in self._cursor.execute(_DUE, bounds).fetchall() if due not in self._odd]

    def _of_kind(self, kind: str, now_ns: int, most: int = TOGETHER) -> int:
        self._cursor.execute("BEGIN").fetchall()
        try:
            due = [minute for of, minute in self._due(now_ns) if of == kind]
            together = [minute for minute in due if minute > due[0] - most]
            if together:
                self._sum_up(kind, together)
            self._cursor.execute("COMMIT").fetchall()
        except BaseException as problem:
            with suppress(duckdb.Error):  # a commit that failed has rolled back
                self._cursor.execute("ROLLBACK").fetchall()
            if not isinstance(problem, duckdb.DataError):
                raise
            if len(together) > 1:  # no minute waits for what a sender wrote into another
                return sum(self._of_kind(kind, now_ns, most=1) for _ in together)
            self._odd.add((kind, together[0]))
            when = datetime.fromtimestamp(together[0] * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")
            _log.error("the minute %s of %ss cannot be summed up, questions read its rows: %s", when, kind, problem)
        return len(together)

    def _quarters(self, now_ns: int) -> int:
        """Sum up some quarters of each kind that are over. How many there were."""
        with self._one_at_a_time:
            return sum(self._quarters_of(kind, now_ns) for kind in TABLES)

    def _quarters_of(self, kind: str, now_ns: int) -> int:
        if kind not in self._open:
            found = self._cursor.execute(_OPEN.format(table=TABLES[kind][0]), {"kind": kind}).fetchall()
            self._open[kind] = {quarter for (quarter,) in found}
        over = [one for one in self._open[kind] if (one + QUARTER) * MINUTE_NS <= now_ns]
        if not over:
            return 0
        self._cursor.execute("BEGIN").fetchall()
        try:
            waiting = self._cursor.execute(_WAITING, {"kind": kind, "quarters": over}).fetchall()
            due = sorted(set(over) - {quarter for (quarter,) in waiting}, reverse=True)[:QUARTERS_TOGETHER]
            if due:
                bounds = {"first": min(due), "last": max(due) + QUARTER - 1, "quarters": due}
                for table in QUARTERS[kind]:
                    self._cursor.execute(
                        f"DELETE FROM {table} WHERE minute BETWEEN $first AND $last"
                        " AND quarter_of(minute) IN (SELECT unnest($quarters::BIGINT[]))",
                        bounds,
                    ).fetchall()
                run(self._cursor, f"summaries/{kind}_quarter.sql", bounds)
                forget_quarters(self._cursor, kind, due)
                self._cursor.execute(
                    "INSERT INTO summed_quarter SELECT $kind, unnest($quarters::BIGINT[])",
                    {"kind": kind, "quarters": due},
                ).fetchall()
            self._cursor.execute("COMMIT").fetchall()
        except BaseException:
            with suppress(duckdb.Error):  # a commit that failed has rolled back
                self._cursor.execute("ROLLBACK").fetchall()
            raise
        self._open[kind] -= set(due)
        return len(due)

    def _sum_up(self, kind: str, minutes: list[int]) -> None:
        for table in TABLES[kind]:
            self._forget(table, minutes)
        with within(self._cursor, min(minutes) * MINUTE_NS, (max(minutes) + 1) * MINUTE_NS, _READ[kind]):
            bounds = _bounds(minutes)
            coarse_ns = coarsest_ns(self._cursor, min(minutes) * MINUTE_NS, (max(minutes) + 1) * MINUTE_NS)
            run(self._cursor, f"summaries/{kind}_minute.sql", {**bounds, "coarse_ns": coarse_ns})
            callers = run(self._cursor, "summaries/callers.sql", _bounds(minutes))[0] if kind == "span" else []
        edges = minutes
        if kind == "span":
            edges = sorted({*minutes, *(minute for (minute,) in callers)})
            self._forget("edge_minute", edges)
            with within(self._cursor, min(edges) * MINUTE_NS, (max(edges) + 1) * MINUTE_NS, SPAN):
                run(self._cursor, "summaries/edge_minute.sql", _bounds(edges))
        quarters = forget_quarters(self._cursor, kind, {*minutes, *edges})
        if kind in self._open:
            self._open[kind] |= quarters
        self._cursor.execute(
            "DELETE FROM stale_minute WHERE kind = $kind AND minute IN (SELECT unnest($minutes))",
            {"kind": kind, "minutes": minutes},
        ).fetchall()

    def _forget(self, table: str, minutes: list[int]) -> None:
        self._cursor.execute(
            f"DELETE FROM {table} WHERE minute BETWEEN $first AND $last AND minute IN (SELECT unnest($minutes))",
            {"first": min(minutes), "last": max(minutes), "minutes": minutes},
        ).fetchall()


def _bounds(minutes: list[int]) -> dict[str, int | list[int]]:
    return {"from_ns": min(minutes) * MINUTE_NS, "to_ns": (max(minutes) + 1) * MINUTE_NS, "minutes": minutes}
