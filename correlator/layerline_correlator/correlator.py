"""The correlator: keeps the ledgers of a store up to date while data arrives, and finds incidents in them.

A trace is worked out when its spans arrive, again 3 s after its requests ended (the agent's readings are there by
then), and once more when they are settled. Questions (``questions/answers.py``) first work out what they are about.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.slo import read_file
from layerline_correlator.incidents.watch import Reworked, Watch
from layerline_correlator.ledger import work as ledger
from layerline_correlator.questions.answers import Answers
from layerline_correlator.questions.health import Health
from layerline_correlator.settings import Settings
from layerline_correlator.store.backlog import Backlog
from layerline_correlator.store.model import Batch
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Arrived, Store
from layerline_correlator.threads import Threads
from layerline_correlator.verdict.rate import rate

_log = logging.getLogger("layerline.correlator")

#: The agent's readings of a request are there this long after its end.
READINGS_NS = 3_000_000_000
#: The shortest time between two passes of the correlator, in seconds.
_PAUSE_S = 0.5
#: Traces worked out together, at most.
_TOGETHER = 2_000
#: How far apart in time they may have begun.
_ALONGSIDE_NS = 5 * 60 * 10**9


class _Span(NamedTuple):
    """When the spans of a trace started, as far as known, and since when it waits to be worked out."""

    from_ns: int
    to_ns: int
    waits_ns: int


class Correlator(Answers):
    """Keeps one store: takes data in, works traces out, looks for incidents, deletes what is old."""

    def __init__(self, settings: Settings, threads: Threads | None = None) -> None:
        """Open the store and begin to correlate. Raises what ``Store`` raises."""
        self._wake = threading.Condition()
        self._fresh: dict[str, _Span] = {}  # traces whose spans arrived since they were worked out
        self._due: list[tuple[int, str, _Span]] = []  # heap: when to work a trace out again
        self._at_work: dict[str, _Span] = {}  # traces that are being worked out
        self._closed = False
        self._passes = self._worked_traces = self._failed_traces = self._refused_ledgers = 0
        self._deleted_rows = 0
        slos = read_file(settings.slos) if settings.slos else []
        super().__init__(Store(settings, self._arrived, threads), settings)
        self._work_lock = threading.Lock()
        self._cursor = self._store.cursor()
        self._backlog = Backlog(self._cursor, settings.settle_ns)
        self._watch = Watch(
            self._store.cursor(),
            Names(self._store.cursor()),
            settings.settle_ns,
            self._work_again,
            threads=self._store.threads,
        )
        for slo in slos:
            self.incidents.set_slo(slo)
        self._thread = self._store.threads.start("layerline-correlator", self._correlate_forever)
        self._watch.start()

    @classmethod
    def open(cls, settings: Settings, threads: Threads | None = None) -> Correlator:
        """Open the store of these settings, or create it."""
        return cls(settings, threads)

    # ---- data in

    def append(self, batch: Batch) -> None:
        """Return when the batch is durable. ``Overloaded`` when there is no room for it now."""
        self._store.append(batch)

    def ready(self) -> bool:
        """True when data can be taken and questions answered."""
        return not self._closed and self._thread.is_alive()

    def health(self) -> Health:
        """How the store and the correlator are; answered while traces are being worked out."""
        waiting_batches, waiting_limit = self._store.waiting()
        with self._wake:
            waits_ns = [span.waits_ns for traces in (self._fresh, self._at_work) for span in traces.values()]
        return Health(
            waiting_batches=waiting_batches,
            waiting_limit=waiting_limit,
            waiting_traces=len(waits_ns),
            lag_ns=max(0, time.time_ns() - min(waits_ns)) if waits_ns else 0,
            passes=self._passes,
            worked_traces=self._worked_traces,
            failed_traces=self._failed_traces,
            refused_ledgers=self._refused_ledgers,
            used_bytes=self._store.used_bytes(),
            deleted_rows=self._deleted_rows,
            problems=self._store.problems(),
        )

    def interrupt(self) -> None:
        """Take no more questions, and cut off those that are being answered and what is being worked out."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._watch.stop(wait=False)
        self._store.interrupt()

    def close(self) -> None:
        """Write what waits and close the store. What is being worked out is cut off: a start works it out again."""
        self.interrupt()
        while self._thread.is_alive() or self._watch.alive:
            self._store.interrupt()  # again and again: it may be between two statements
            self._thread.join(0.05)
        self._watch.stop()
        while not self._work_lock.acquire(timeout=0.05):  # a question works something out
            self._store.interrupt()
        self._store.close()

    def behind(self) -> int:
        """How many traces have yet to be worked out."""
        with self._wake:
            return self._backlog.left + len(self._fresh) + len(self._at_work)

    def look_for_incidents(self) -> None:
        """Work out what arrived and look for incidents in it now, instead of within seconds."""
        while self._bring_up_to_date():
            pass
        self._watch.look()

    # ---- keeping up

    def _arrived(self, arrived: Arrived) -> None:
        with self._wake:
            self._touch(dict.fromkeys(arrived.trace_ids, (arrived.from_ns, arrived.to_ns)))
            self._wake.notify_all()

    def _touch(self, traces: Mapping[str, tuple[int, int]]) -> None:
        """These traces, with the first and last start of their spans, must be worked out. Called with the lock held."""
        for trace_id, (from_ns, to_ns) in traces.items():
            known = self._fresh.get(trace_id)
            self._fresh[trace_id] = _Span(
                min(from_ns, known.from_ns) if known else from_ns,
                max(to_ns, known.to_ns) if known else to_ns,
                known.waits_ns if known else time.time_ns(),
            )

    def _work_again(self, reworked: Reworked) -> None:
        """What is usual for these was not known when they were worked out."""
        self._arrived(Arrived(frozenset(reworked.trace_ids), reworked.from_ns, reworked.to_ns))

    def _correlate_forever(self) -> None:
        retained = time.monotonic()
        while True:
            with self._wake:
                if not self._fresh and not self._backlog.left and not self._closed:
                    self._wake.wait(timeout=0.5)
                if self._closed:
                    return
            began = time.monotonic()
            self._bring_up_to_date()
            if self._store.disk.problem() is not None:
                self._pause(_PAUSE_S)
            worked_s = time.monotonic() - began
            if time.monotonic() - retained > 60:
                retained = time.monotonic()
                self._retain()
            # A pass costs nearly the same for one trace as for hundreds, so it is made worth its while: at most a
            # tenth of a core while little arrives. A question does not wait for it.
            if len(self._fresh) < _TOGETHER and not self._backlog.left:
                self._pause(min(2.0, max(_PAUSE_S, 9 * worked_s)))

    def _pause(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._closed, timeout=seconds)

    def _take_due(self) -> dict[str, _Span]:
        """What to work out now: what arrived, and what is to be looked at again. Called with the lock held."""
        due: dict[str, _Span] = {}
        if self._fresh:
            # Neighbours in time: their readings are looked up together. The oldest first, when there is much to do.
            waiting = heapq.nsmallest(_TOGETHER, self._fresh.items(), key=lambda item: item[1].from_ns)
            until_ns = waiting[0][1].from_ns + _ALONGSIDE_NS
            for trace_id, span in waiting:
                if span.from_ns <= until_ns:
                    due[trace_id] = span
                    del self._fresh[trace_id]
        now = time.time_ns()
        while self._due and self._due[0][0] <= now and len(due) < 2 * _TOGETHER:
            _, trace_id, span = heapq.heappop(self._due)
            due.setdefault(trace_id, span)
        return due

    def _bring_up_to_date(self, trace_id: str | None = None) -> bool:
        """Work out what arrived of this trace (None: of all traces) and wait for what is being worked out.

        False when there was nothing to do.
        """
        if self._closed or self._store.disk.problem() is not None:  # answers are of what was worked out before
            return False
        with self._work_lock:
            with self._wake:
                if trace_id is None:
                    if len(self._fresh) < _TOGETHER:
                        self._touch(self._backlog.next(_TOGETHER, _ALONGSIDE_NS))
                    due = self._take_due()
                else:
                    self._touch(self._backlog.find(trace_id))
                    due = {trace_id: self._fresh.pop(trace_id)} if trace_id in self._fresh else {}
                self._at_work = due
            if due:
                self._work(due)
                self._at_work = {}
                self._passes += 1
                self._worked_traces += len(due)
            return bool(due)

    def _unfinished(self) -> int:
        return self._backlog.left

    def _work(self, due: dict[str, _Span]) -> None:
        """Called with the work lock held."""
        from_ns, to_ns = min(span.from_ns for span in due.values()), max(span.to_ns for span in due.values())
        try:
            self._refused_ledgers += ledger.work_out(self._cursor, due, from_ns, to_ns)
            rows = rate(self._cursor, due, self._names.entity, self._settings.slow_ns, self._settings.settle_ns)
        except duckdb.Error as problem:
            if self._closed or self._store.disk.failed(problem):  # not the fault of any trace
                with self._wake:
                    self._fresh = due | self._fresh
                return
            if len(due) == 1:
                _log.exception("trace %s could not be worked out", next(iter(due)))
                self._failed_traces += 1
                return
            # One trace must not cost the others their ledgers.
            half = len(due) // 2
            self._work(dict(list(due.items())[:half]))
            self._work(dict(list(due.items())[half:]))
            return
        now = time.time_ns()
        ends: dict[str, int] = defaultdict(int)
        for row in rows:
            ends[row.trace_id] = max(ends[row.trace_id], row.start_ns + row.duration_ns)
        with self._wake:
            for trace_id, end_ns in ends.items():
                for again_ns in (end_ns + READINGS_NS, end_ns + self._settings.settle_ns + 500_000_000):
                    if again_ns > now:
                        heapq.heappush(self._due, (again_ns, trace_id, due[trace_id]._replace(waits_ns=again_ns)))
                        break

    def _retain(self) -> None:
        """Delete what is older than ``Settings.retain_ns``, and the oldest hour of a store that is too large.

        Nothing is deleted from a recording: it is old by its nature.
        """
        before = time.time_ns() - self._settings.retain_ns
        try:
            with self._work_lock:
                if self._store.is_recording():
                    return
                self._delete(before)
                if self._store.used_bytes() > self._settings.retain_bytes:
                    oldest = self._cursor.execute(
                        "SELECT min(first) FROM (SELECT min(start_ns) AS first FROM span"
                        " UNION ALL SELECT min(time_ns) FROM point)"
                    ).fetchone()
                    if oldest and oldest[0] is not None:
                        self._delete(oldest[0] + 3600 * 10**9)
        except duckdb.Error:
            _log.exception("old data could not be deleted; it will be tried again in a minute")

    def _delete(self, before_ns: int) -> None:
        deleted = run(self._cursor, "store/retain.sql", {"before_ns": before_ns})
        self._deleted_rows += sum(count for ((count,),) in deleted)
