"""The correlator: keeps the ledgers of a store up to date while data arrives, and finds incidents in them.

The rows of requests are made soon after their spans arrived. A ledger is worked out once, when the readings of its
request are there; of what arrives beyond the budget only what is slow, failed or drawn (``verdict/triage.py``). One
thread does that, the worker. Questions (``questions/answers.py``) read what is there: they give the worker a moment to
finish what is due. A question about one trace works out the spans of it that are in no ledger yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Mapping

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.incidents.slo import read_file
from layerline_correlator.incidents.watch import Watch
from layerline_correlator.ledger import rest
from layerline_correlator.ledger import work as ledger
from layerline_correlator.ledger.budget import Budget
from layerline_correlator.ledger.careful import NOT_THEIRS, Careful
from layerline_correlator.ledger.rest import FEW
from layerline_correlator.ledger.waiting import ALONGSIDE_NS, FEWEST, TOGETHER, Waiting
from layerline_correlator.questions.answers import Answers
from layerline_correlator.questions.health import Health
from layerline_correlator.settings import Settings
from layerline_correlator.store.backlog import Backlog
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.keeping import Keeping
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sealed import forget
from layerline_correlator.store.stale import KINDS, mark
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Arrived, Extent, Store
from layerline_correlator.summaries.summing import Summing
from layerline_correlator.threads import Threads
from layerline_correlator.verdict.ledgers import Request
from layerline_correlator.verdict.rate import rate
from layerline_correlator.verdict.triage import Drawn, Triage

_log = logging.getLogger("layerline.correlator")

#: A request is due so long after its readings are complete: they are written in groups.
_AFTER_NS = 500_000_000
#: How long the worker waits after a failure, in seconds.
_PAUSE_S = 0.5
#: What is older than its readings need is no live traffic: so many traces of it may wait before some are left out.
_PAST = 20_000
#: A question waits so long, in seconds, for what had arrived before it to be worked out; then it reads what is there.
#: It is more patient where few traces wait, as when somebody sends one and asks for it: those are there in a moment.
FRESH_S, QUIET_S = 0.1, 5.0
#: If no more traces than this wait, a question has them worked out first, even before their readings are there.
_EARLY = 500
#: A pass should take no longer than that, in seconds: if one does, the next has fewer traces. Meanwhile nobody looks at
#: what arrives, so the first one, of which nobody knows how long it takes, has few.
_LONG_S, _SHORT_S, _AT_FIRST = 15.0, 5.0, 500
#: A pass over more traces than that is worked out on all cores, because what arrives has to be kept up with. One core
#: takes longer for it and costs a quarter less.
_MANY = 1_000
#: Old data is looked for this often, in seconds.
_RETAIN_S = 60.0


class Correlator(Answers):
    """Keeps one store: takes data in, works traces out, looks for incidents, deletes what is old."""

    def __init__(self, settings: Settings, threads: Threads | None = None) -> None:
        """Open the store and begin to correlate. Raises what ``Store`` raises."""
        self._wake = threading.Condition()
        self._waiting = Waiting()  # shared: with the lock of ``_wake``
        self._began_s: float | None = None  # when the pass under way began
        self._hurry = False  # somebody waits for what arrived
        self._closed = self._ended = False
        self._passes = self._worked_traces = self._refused_ledgers = 0
        self._deleted_rows = 0
        slos = read_file(settings.slos) if settings.slos else []
        super().__init__(Store(settings, self._arrived, threads), settings)
        self._work_lock = threading.Lock()  # of the worker: no question waits for it
        self._cursor = self._store.cursor()
        self._backlog = Backlog(self._cursor, settings.settle_ns)
        self._careful = Careful(self._cursor, settings.store, self._attempt)
        self._triage = Triage(self._cursor, settings.slow_ns)
        self._budget = Budget(settings.budget_ratio)
        self._is_recording = self._store.is_recording()
        self._together = _AT_FIRST
        self._watch = Watch(
            self._store.cursor(),
            Names(self._store.cursor()),
            settings.settle_ns,
            self._arrived,
            threads=self._store.threads,
        )
        try:
            for slo in slos:
                self.incidents.set_slo(slo)
        except duckdb.Error as problem:
            if not self._store.disk.failed(problem):
                raise
            _log.error("SLOs of %s are those of the last start: %s", settings.slos, self._store.disk.problem())
        self._thread = self._store.threads.start("layerline-correlator", self._correlate_forever)
        self._watch.start()
        self.summing = Summing(self._store.cursor(), self._store.disk, self._store.threads)
        self.summing.start()
        self.keeping = Keeping(self._store, settings.hot_ns, settings.settle_ns, settings.rollup)
        self.keeping.start()

    def change(self, settings: Settings) -> None:
        """Keep and work by other settings from now on: ages, sizes and the budget. All others hold from a start on."""
        self._settings = settings
        self._budget.change(settings.budget_ratio)
        self.keeping.change(settings.hot_ns, settings.rollup)

    @classmethod
    def open(cls, settings: Settings, threads: Threads | None = None) -> Correlator:
        """Open the store of these settings, or create it."""
        return cls(settings, threads)

    # ---- data in

    def append(self, batch: Batch) -> tuple[Exceeded, ...]:
        """Return when the batch is durable, and what of it is beyond a cap. ``Overloaded``: there is no room now."""
        self._is_recording = self._is_recording or bool(batch.recordings)
        return self._store.append(batch)

    def ready(self) -> bool:
        """True when data can be taken and questions answered."""
        return not self._closed and self._thread.is_alive()

    def health(self) -> Health:
        """How the store and the correlator are; answered while traces are being worked out."""
        waiting_batches, waiting_limit = self._store.waiting()
        with self._wake:
            waiting_traces, lag_ns = len(self._waiting), self._waiting.lag_ns(time.time_ns())
        return Health(
            waiting_batches=waiting_batches,
            waiting_limit=waiting_limit,
            waiting_traces=waiting_traces,
            lag_ns=max(0, lag_ns),
            passes=self._passes,
            worked_traces=self._worked_traces,
            left_out_traces=self._triage.left_out,
            failed_traces=self._careful.without_ledger,
            unread_traces=self._careful.without_readings,
            refused_ledgers=self._refused_ledgers,
            used_bytes=self._store.used_bytes(),
            deleted_rows=self._deleted_rows + self.keeping.deleted_rows,
            size=self._store.measured,
            active=self._store.active(),
            problems=self._store.problems(),
        )

    def interrupt(self) -> None:
        """Take no more questions, and cut off those that are being answered and what is being worked out."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._watch.stop(wait=False)
        self.summing.stop()
        self.keeping.stop()
        self._store.interrupt()

    def close(self) -> None:
        """Write what waits and close the store. What is being worked out is cut off: a start works it out again.

        Closed again it stays closed.
        """
        with self._wake:
            if self._ended:
                return
            self._ended = True
        self.interrupt()
        while self._thread.is_alive() or self._watch.alive or self.summing.alive or self.keeping.alive:
            self._store.interrupt()  # again and again: it may be between two statements
            self._thread.join(0.05)
        self._watch.stop()
        while not self._work_lock.acquire(timeout=0.05):  # somebody looks for incidents
            self._store.interrupt()
        self._store.close()

    def behind(self) -> int:
        """How many traces have yet to be worked out."""
        with self._wake:
            return self._backlog.left + len(self._waiting)

    def look_for_incidents(self) -> None:
        """Work out what arrived and look for incidents in it now, instead of within seconds."""
        while self._pass(early=True):
            pass
        self._watch.look()

    # ---- keeping up

    def _arrived(self, arrived: Arrived) -> None:
        """Something is in the store, or has to be worked out once more because what is usual was not known before."""
        with self._wake:
            self._waiting.arrived(arrived, time.time_ns())
            self._wake.notify_all()

    def _correlate_forever(self) -> None:
        retained = time.monotonic()
        while True:
            with self._wake:
                if not self._closed and not self._backlog.left and not self._hurry:
                    self._wake.wait_for(self._has_work, timeout=self._idle_s(retained))
                if self._closed:
                    return
            began, began_ns = time.monotonic(), time.time_ns()
            try:
                self._pass()
                if time.monotonic() - retained > _RETAIN_S:
                    retained = time.monotonic()
                    self._retain()
            except Exception as problem:  # the worker must live: what it could not do is still to be done
                if self._closed:
                    return
                if not self._store.disk.failed(problem):
                    self._store.threads.failed("layerline-correlator", problem)
                self._pause(1.0)
                continue
            if self._store.disk.problem() is not None:
                self._pause(_PAUSE_S)
            self._rest(time.monotonic() - began, began_ns)

    def _has_work(self) -> bool:
        """Whether the worker has something to do. Called with the lock held."""
        return self._closed or self._hurry or self._waiting.is_due(time.time_ns())

    def _idle_s(self, retained: float) -> float:
        """How long nothing will be due unless something arrives. Called with the lock held."""
        due_ns = self._waiting.due_ns()
        next_s = _RETAIN_S if due_ns is None else (due_ns - time.time_ns()) / 1e9
        return max(0.0, min(next_s, retained + _RETAIN_S - time.monotonic()))

    def _rest(self, worked_s: float, began_ns: int) -> None:
        """Wait until the next pass is worth its while; not for a question, nor with what was too much for one pass."""
        with self._wake:
            if self._waiting.is_left_over(began_ns) or self._backlog.left:
                return
            ended_s, longest_s = time.monotonic(), self._settings.rest_ns / 1e9
            while not (self._closed or self._hurry) and self._waiting.fresh < self._together:
                now_s, due_ns = time.monotonic(), self._waiting.due_ns()
                due_s = None if due_ns is None else now_s + (due_ns - time.time_ns()) / 1e9
                left_s = rest.until_s(ended_s, worked_s, longest_s, due_s) - now_s
                if left_s <= 0:
                    return
                self._wake.wait(timeout=left_s)

    def _pause(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._hurry, timeout=seconds)

    def _pass(self, *, early: bool = False) -> bool:
        """Make rows of what arrived, and work out what is due. False when there was nothing to do.

        ``early``, and where somebody asks while little waits: also what is not due yet.
        """
        if self._closed or self._store.disk.problem() is not None:  # answers are of what was worked out before
            return False
        with self._work_lock:
            with self._wake:
                asked, self._hurry = self._hurry, False
                early = early or (asked and self._is_quiet(_EARLY))
                if self._waiting.is_to_look() and not self._backlog.left:
                    self._waiting.has_forgotten = False
                    self._backlog = Backlog(self._cursor, self._settings.settle_ns)
                if self._waiting.ready(time.time_ns()) < self._together and self._backlog.left:
                    self._waiting.arrived(self._backlog.next(self._together, ALONGSIDE_NS), time.time_ns())
                fresh = self._waiting.take_fresh()
                self._began_s = time.monotonic()
            due: dict[str, Extent] = {}
            cpu_s, took_s = time.process_time(), 0.0
            try:
                self._sort(fresh, early=early)
                with self._wake:
                    self._waiting.all_sorted()
                    due = self._waiting.take(time.time_ns(), self._together, early=early, urgent=asked)
                if due:
                    if len(due) > _MANY:
                        self._store.cores.want()
                    self._careful.work_out(due)
                    self._passes += 1
                    self._worked_traces += len(due)
            except BaseException:
                with self._wake:
                    self._waiting.give_back()
                raise
            finally:
                with self._wake:
                    took_s, self._began_s = time.monotonic() - self._began_s, None
                    self._waiting.done()
                    self._wake.notify_all()
                self._budget.spent(len(due), time.process_time() - cpu_s, took_s)
            if took_s > _LONG_S:
                self._together = max(FEWEST, min(self._together, len(due)) // 2)
            elif took_s < _SHORT_S:
                self._together = min(TOGETHER, 2 * self._together)
            return bool(fresh or due)

    def _sort(self, fresh: Mapping[str, Extent], *, early: bool) -> None:
        """Make the rows of what arrived, and choose whose ledgers are to be worked out, and when."""
        if not fresh:
            return
        now_ns = time.time_ns()
        settle_ns = self._settings.settle_ns
        with self._wake:
            waiting = self._waiting.chosen
        room = self._budget.room(waiting)
        past = all(extent.to_ns + settle_ns <= now_ns for extent in fresh.values())
        if self._is_recording or past:
            room = max(room, len(fresh) if self._is_recording else _PAST - waiting)
        # Their ledgers bring their rows; but one that may have been left out before must not be counted twice.
        if (past or early) and len(fresh) <= room and not self._triage.has_left_out:
            chosen = {trace_id: (extent, now_ns, now_ns, False) for trace_id, extent in fresh.items()}
        else:
            try:
                drawn = self._triage.sort(fresh, room)
            except NOT_THEIRS:
                raise
            except duckdb.Error as problem:  # their ledgers will show which of them it is
                _log.warning("%d traces could not be sorted, and all are worked out: %s", len(fresh), problem)
                drawn = dict.fromkeys(fresh, Drawn(None, is_urgent=False))
            chosen = {}
            for trace_id, one in drawn.items():
                extent = fresh[trace_id]
                end_ns = extent.to_ns if one.end_ns is None else one.end_ns
                ready_ns = max(now_ns, min(end_ns, now_ns) + settle_ns + _AFTER_NS)
                due_ns = rest.due_ns(ready_ns, waiting + len(drawn), is_urgent=one.is_urgent)
                chosen[trace_id] = extent, due_ns, ready_ns, one.is_urgent
        with self._wake:
            for trace_id, (extent, due_ns, ready_ns, is_urgent) in chosen.items():
                self._waiting.choose(trace_id, due_ns, extent, ready_ns=ready_ns, is_urgent=is_urgent)

    def _attempt(self, traces: Mapping[str, Extent], readings: bool) -> None:
        """Called by the worker. A trace's ledger and its rating are kept together or not at all. ``duckdb.Error``."""
        rows: list[Request] = []

        def rated() -> None:
            rows.extend(
                rate(self._cursor, traces, self._names.entity, self._settings.slow_ns, self._settings.settle_ns)
            )

        self._refused_ledgers += ledger.work_out(
            self._cursor,
            traces,
            min(extent.from_ns for extent in traces.values()),
            max(extent.to_ns for extent in traces.values()),
            readings=readings,
            before_commit=rated,
        )
        if not readings:
            return  # without them there is nothing to wait for
        now = time.time_ns()
        ends: dict[str, int] = defaultdict(int)
        for row in rows:
            ends[row.trace_id] = max(ends[row.trace_id], row.start_ns + row.duration_ns)
        with self._wake:  # somebody asked before their readings were there, or they lasted longer than was known
            for trace_id, end_ns in ends.items():
                again_ns = min(end_ns, now) + self._settings.settle_ns + _AFTER_NS
                if end_ns + self._settings.settle_ns > now:
                    self._waiting.choose(trace_id, again_ns, traces[trace_id])

    # ---- what questions may wait for

    def _catch_up(self) -> None:
        with self._wake:
            news, now_ns, patience_s = self._waiting.news, time.time_ns(), self._patience_s()
            until_s = time.monotonic() + patience_s
            early = self._is_quiet(_EARLY)
            while (self._waiting.is_behind(news, now_ns, early=early) or self._backlog.left) and not self._closed:
                # Where much waits, or a pass takes long, a moment more would change nothing.
                ready = self._waiting.ready(now_ns) + self._backlog.left
                if ready > self._together or self._has_worked_s() > patience_s:
                    return
                self._hurry = True
                self._wake.notify_all()
                if not self._wake.wait(timeout=until_s - time.monotonic()):
                    return

    def _catch_up_with(self, trace_id: str) -> Extent | None:
        if self._unfinished() <= _EARLY:  # what is usual is made of other traces, which may still wait
            self._catch_up()
        with self._wake:
            patience_s = self._patience_s()
            until_s = time.monotonic() + patience_s
            while not self._closed:
                extent = self._waiting.extent_of(trace_id)
                if extent is None and not 0 < self._backlog.left <= self._together:
                    return None
                others = self._waiting.at_work and trace_id not in self._waiting.at_work
                early = extent is not None and not self._waiting.is_ready(trace_id, time.time_ns())
                if others or early or self._has_worked_s() > patience_s:
                    return extent
                self._hurry = True
                self._wake.notify_all()
                if not self._wake.wait(timeout=until_s - time.monotonic()):
                    break
            return self._waiting.extent_of(trace_id)

    def _is_quiet(self, most: int = FEW) -> bool:
        """Whether little waits. Called with the lock held."""
        return self._backlog.left + len(self._waiting) <= most

    def _patience_s(self) -> float:
        """How long to wait for what has arrived. Called with the lock held."""
        return QUIET_S if self._is_quiet() else FRESH_S

    def _has_worked_s(self) -> float:
        """How long the pass under way has taken so far. Called with the lock held."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def _unfinished(self) -> int:
        with self._wake:
            return self._backlog.left + len(self._waiting)

    # ---- old data out

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
                    ((oldest_ns,),) = self._cursor.execute(
                        "SELECT min(first) FROM (SELECT min(start_ns) AS first FROM hot_span"
                        " UNION ALL SELECT min(time_ns) FROM hot_point UNION ALL SELECT min(from_ns) FROM sealed_file"
                        " UNION ALL SELECT min(time_ns) FROM hot_log)"
                    ).fetchall()
                    if oldest_ns is not None:
                        self._delete(oldest_ns + 3600 * 10**9)
        except duckdb.Error:
            _log.exception("old data could not be deleted; it will be tried again in a minute")

    def _delete(self, before_ns: int) -> None:
        deleted = run(self._cursor, "store/retain.sql", {"before_ns": before_ns})
        files, sealed = forget(self._cursor, self._store.folder, before_ns)
        self._store.unnamed.add(files)
        rows = sum(count for ((count,),) in deleted) + sealed
        for kind in KINDS if rows else ():  # the minute of which some was deleted
            mark(self._cursor, kind, [before_ns])
        self._deleted_rows += rows
        if rows:
            self.keeping.retained(before_ns)
