"""The correlator: keeps the ledgers up to date while data arrives, and answers questions about them.

A trace is worked out when its spans arrive, again 3 s after its requests ended (the agent's readings are there by
then), and once more when they are settled. Whatever is asked for is worked out first if it is not up to date.
"""

from __future__ import annotations

import base64
import heapq
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb

from layerline_correlator.facts.names import Names, tag_condition
from layerline_correlator.incidents.model import IncidentQuery
from layerline_correlator.incidents.questions import Incidents
from layerline_correlator.incidents.slo import read_file
from layerline_correlator.incidents.watch import Reworked, Watch
from layerline_correlator.ledger import work as ledger
from layerline_correlator.ledger.causes import all_causes
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.sources import of_incidents, of_query, of_slo
from layerline_correlator.questions.coverage import Coverage, read_coverage
from layerline_correlator.questions.entities import read_entities
from layerline_correlator.questions.events import read_events
from layerline_correlator.questions.lives import Life, entities
from layerline_correlator.questions.model import (
    BadCursor,
    EntityItem,
    EntityQuery,
    EventItem,
    EventQuery,
    Health,
    Page,
    RequestItem,
    RequestQuery,
    ServiceMap,
    Table,
    TooHeavy,
    Verdict,
)
from layerline_correlator.questions.services import read_service_map
from layerline_correlator.questions.sql import ask
from layerline_correlator.questions.timeline import IncidentMark, Timeline, TimelineQuery, read_timeline
from layerline_correlator.questions.trace import read_trace
from layerline_correlator.settings import Settings
from layerline_correlator.store.backlog import Backlog
from layerline_correlator.store.model import Batch
from layerline_correlator.store.statements import run
from layerline_correlator.store.store import Arrived, Store
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.complete import TagKey, TagValue, tag_keys, tag_values
from layerline_correlator.tagquery.evaluate import evaluate
from layerline_correlator.tagquery.model import Query
from layerline_correlator.verdict.judge import is_slow, judge
from layerline_correlator.verdict.ledgers import (
    Request,
    around,
    as_item,
    read_ledgers,
    select_requests,
    usual_durations,
)
from layerline_correlator.verdict.sides import with_sides
from layerline_correlator.verdict.suspects import with_suspects

_log = logging.getLogger("layerline.correlator")

#: The agent's readings of a request are there this long after its end.
READINGS_NS = 3_000_000_000
#: The shortest time between two passes of the correlator, in seconds.
_PAUSE_S = 0.5
#: Traces worked out together, at most.
_TOGETHER = 2_000
#: How far apart in time they may have begun.
_ALONGSIDE_NS = 5 * 60 * 10**9
#: How long a tag query may take, in seconds.
_PATIENCE_S = 30.0
#: Slow requests of one operation that a verdict over a window adds up, at most; the newest.
_WINDOW_LEDGERS = 500


class _Span(NamedTuple):
    """When the spans of a trace started, as far as known, and since when it waits to be worked out."""

    from_ns: int
    to_ns: int
    waits_ns: int


class Correlator:
    """The heart over one store. Implements ``layerline_correlator.questions.model.Questions``."""

    def __init__(self, settings: Settings) -> None:
        """Open the store and begin to correlate. Raises what ``Store`` raises."""
        self._settings = settings
        self._wake = threading.Condition()
        self._fresh: dict[str, _Span] = {}  # traces whose spans arrived since they were worked out
        self._due: list[tuple[int, str, _Span]] = []  # heap: when to work a trace out again
        self._closed = False
        self._at_work: dict[str, _Span] = {}  # traces that are being worked out
        self._passes = self._worked_traces = self._failed_traces = self._deleted_rows = 0
        slos = read_file(settings.slos) if settings.slos else []
        self._store = Store(settings, self._arrived)
        self._work_lock = threading.Lock()
        self._cursor = self._store.cursor()
        self._names = Names(self._store.cursor())
        self._backlog = Backlog(self._cursor, settings.settle_ns)
        #: What was found without being asked.
        self.incidents = Incidents(self._reading, self._names, settings.settle_ns)
        self.monitors = Monitors(
            self._store.cursor(),
            {
                "query": of_query(self.containers),
                "slo": of_slo(self._reading),
                "incidents": of_incidents(self.incidents.list),
            },
        )
        self._watch = Watch(self._store.cursor(), Names(self._store.cursor()), settings.settle_ns, self._work_again)
        for promised in slos:
            self.incidents.set_slo(promised)
        self._thread = threading.Thread(target=self._correlate_forever, name="layerline-correlator", daemon=True)
        self._thread.start()
        self._watch.start()

    @classmethod
    def open(cls, settings: Settings) -> Correlator:
        """Open the store of these settings, or create it."""
        return cls(settings)

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
            used_bytes=self._store.used_bytes(),
            deleted_rows=self._deleted_rows,
        )

    def close(self) -> None:
        """Write what waits and close the store."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()
        self._watch.stop()
        with self._work_lock:
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

    # ---- questions

    def verdict(self, trace_id: str, span_id: str | None = None, *, absolute: bool = False) -> Verdict | None:
        """The verdict of the trace's root request (the longest, if several), or of the entry span ``span_id``."""
        self._bring_up_to_date(trace_id)
        with self._reading() as cursor:
            rows = select_requests(
                cursor,
                "trace_id = $trace_id AND (span_id = $span_id OR ($span_id IS NULL AND root))"
                " ORDER BY end_ns - start_ns DESC, start_ns LIMIT 1",
                {"trace_id": trace_id, "span_id": span_id},
            )
            if not rows:
                return None
            ledgers, usuals = read_ledgers(cursor, rows, self._settings.settle_ns)
            verdict = judge(ledgers, usuals, self._names.entity, absolute=absolute)
            return self._told(verdict, cursor, rows[:1])

    def requests(self, query: RequestQuery) -> Page[RequestItem]:
        """Slow requests of the window (or those of at least ``min_duration_ns``). ``BadCursor``."""
        self._bring_up_to_date()
        where, values = self._where(query)
        order = {
            "excess": "coalesce(end_ns - start_ns - usual_ns, end_ns - start_ns)",
            "duration": "end_ns - start_ns",
            "start": "start_ns",
        }[query.order]
        after = ""
        if query.cursor is not None:
            values["after_value"], values["after_id"] = _read_cursor(query.cursor, query.order)
            after = f" AND ({order}, span_id) < ($after_value, $after_id)"
        with self._reading() as cursor:
            rows = select_requests(
                cursor,
                f"{where} AND {_chosen(query)}{after} ORDER BY {order} DESC, span_id DESC LIMIT $limit",
                {**values, "limit": query.limit + 1},
            )
            reason = None if rows else self._why_empty(cursor, query)
        items = [as_item(row) for row in rows[: query.limit]]
        following = None
        if len(rows) > query.limit:
            last = rows[query.limit - 1]
            value = {"excess": last.excess_or_duration, "duration": last.duration_ns, "start": last.start_ns}[
                query.order
            ]
            following = _write_cursor(query.order, value, last.span_id)
        return Page(items, following, reason)

    def verdicts(self, query: RequestQuery) -> Page[Verdict]:
        """One verdict per service and operation that was slow in the window, most excess first."""
        self._bring_up_to_date()
        where, values = self._where(query)
        with self._reading() as cursor:
            received = {
                (service, operation): (count, slow)
                for service, operation, count, slow in cursor.execute(
                    f"SELECT service, operation, count(*), count(*) FILTER ({_chosen(query)}) FROM request"
                    f" WHERE {where} GROUP BY ALL",
                    _used(values, f"{where} {_chosen(query)}"),
                ).fetchall()
            }
            rows = select_requests(
                cursor,
                f"{where} AND {_chosen(query)} QUALIFY row_number() OVER"
                f" (PARTITION BY service, operation ORDER BY start_ns DESC) <= {_WINDOW_LEDGERS}",
                values,
            )
            ledgers, usuals = read_ledgers(cursor, rows, self._settings.settle_ns)
            reason = None if rows else self._why_empty(cursor, query)
            groups: dict[tuple[str, str], list[int]] = defaultdict(list)
            for number, one in enumerate(ledgers):
                groups[one.service, one.operation].append(number)
            verdicts = []
            for key, numbers in groups.items():
                verdict = judge(
                    [ledgers[number] for number in numbers],
                    [usuals[number] for number in numbers],
                    self._names.entity,
                    window=True,
                    absolute=query.absolute,
                    received=received[key][0],
                    slow=received[key][1],
                )
                verdicts.append(self._told(verdict, cursor, [rows[number] for number in numbers]))
        verdicts.sort(
            key=lambda verdict: -(verdict.duration_ns if query.absolute else verdict.excess_ns or verdict.duration_ns)
        )
        first = 0 if query.cursor is None else _read_cursor(query.cursor, "verdicts")[0]
        last = first + query.limit
        following = _write_cursor("verdicts", last, "") if last < len(verdicts) else None
        return Page(verdicts[max(0, first) : last], following, reason)

    def _told(self, verdict: Verdict, cursor: duckdb.DuckDBPyConnection, rows: Sequence[Request]) -> Verdict:
        """With suspects for what nobody measured, and the side on which time between two services passed."""
        verdict = with_suspects(verdict, cursor, rows, self._names.entity)
        return with_sides(verdict, cursor, around(rows), self._names.entity)

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """``{"trace_id", "spans": […], "segments": […]}``: segments of its root request."""
        with self._reading() as cursor:
            return read_trace(cursor, trace_id)

    def entities(
        self, from_ns: int, to_ns: int, type: str = "container", tags: Sequence[tuple[str, str]] = ()
    ) -> list[Life]:
        """Who lived in the window, how long, and what each used (``layerline_correlator.questions.lives``)."""
        with self._reading() as cursor:
            return entities(cursor, from_ns, to_ns, type, tags)

    def causes(self) -> list[dict[str, Any]]:
        """Every cause with its documentation, in the order in which they take."""
        return [
            {
                "cause": cause.name,
                "layer": cause.layer,
                "title": cause.title,
                "means": cause.means,
                "needs": [" or ".join(need) for need in cause.needs],
                "mistaken_for": cause.mistaken_for,
                "try": cause.try_,
                "enable": cause.enable,
                "source": cause.source,
            }
            for cause in all_causes()
        ]

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Coverage:
        """What was seen in the window and what was not; with ``service``, of its spans and requests."""
        self._bring_up_to_date()
        with self._reading() as cursor:
            return read_coverage(cursor, self._names.entity, from_ns, to_ns, service)

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        """What every layer did in a window; None for an unknown request. ``StepTooFine``, ``TooHeavy``."""
        if query.trace_id is not None:
            self._bring_up_to_date(query.trace_id)
        self._bring_up_to_date()
        with self._reading() as cursor, _cut_off(cursor, _PATIENCE_S):
            return read_timeline(cursor, query, self._names.entity, self._marks)

    def _marks(self, from_ns: int, to_ns: int, service: str | None, operation: str | None) -> list[IncidentMark]:
        found = self.incidents.list(IncidentQuery(from_ns, to_ns, service=service, operation=operation))
        return [
            IncidentMark(one["id"], one["start"], one["end"], one["services"], one["cause"], one["summary"])
            for one in found.items
        ]

    def services(self) -> list[str]:
        """The services a span was received from."""
        with self._reading() as cursor:
            return [
                name
                for (name,) in cursor.execute(
                    "SELECT DISTINCT service FROM resource WHERE service IS NOT NULL ORDER BY service"
                ).fetchall()
            ]

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        """The services that answered requests in the window, and who called whom."""
        self._bring_up_to_date()
        with self._reading() as cursor:
            return read_service_map(cursor, from_ns, to_ns)

    def inventory(self, query: EntityQuery) -> Page[EntityItem]:
        """What lived in the window. ``BadCursor``."""
        with self._reading() as cursor:
            return read_entities(cursor, query)

    def events(self, query: EventQuery) -> Page[EventItem]:
        """What happened in the window, newest first. ``BadCursor``."""
        with self._reading() as cursor:
            return read_events(cursor, query, self._names.entity)

    def sql(self, text: str, limit: int) -> Table:
        """One SELECT over the documented views. ``BadSql``, ``TooHeavy``."""
        self._bring_up_to_date()
        with self._reading() as cursor:
            return ask(cursor, text, limit)

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        """What a tag query holds for, in the window that ends at ``to_ns``. ``BadCursor``, ``TooHeavy``.

        A cursor stays with the window of the page that handed it out.
        """
        first = 0
        if cursor is not None:
            first, until = _read_cursor(cursor, "containers")
            if first < 0 or not until.isdecimal():
                raise BadCursor("expected a cursor from this list's `next`")
            to_ns = min(int(until), to_ns)
        self._bring_up_to_date()
        with self._reading() as reading, _cut_off(reading, _PATIENCE_S):
            answer = evaluate(reading, query, to_ns, self._names.entity, first, limit)
        if answer.next is None:
            return answer
        return replace(answer, next=_write_cursor("containers", int(answer.next), str(to_ns)))

    def tag_keys(self, prefix: str, limit: int) -> list[TagKey]:
        """The keys of tags that begin so: what a query can ask by."""
        with self._reading() as cursor:
            return tag_keys(cursor, prefix, limit)

    def tag_values(self, key: str, prefix: str, limit: int) -> list[TagValue]:
        """The values of a key that begin so."""
        with self._reading() as cursor:
            return tag_values(cursor, key, prefix, limit)

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
            worked_s = time.monotonic() - began
            if time.monotonic() - retained > 60:
                retained = time.monotonic()
                self._retain()
            # A pass costs nearly the same for one trace as for hundreds, so it is made worth its while: at most a
            # tenth of a core while little arrives. Who asks does not wait for it (_bring_up_to_date).
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

    def _work(self, due: dict[str, _Span]) -> None:
        """Called with the work lock held."""
        from_ns, to_ns = min(span.from_ns for span in due.values()), max(span.to_ns for span in due.values())
        try:
            ledger.work_out(self._cursor, due, from_ns, to_ns)
            rows = self._rate(due)
        except duckdb.Error:
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

    def _rate(self, trace_ids: Iterable[str]) -> list[Request]:
        """Usual, slow and first culprit of the requests just worked out."""
        cursor = self._cursor
        rows = select_requests(cursor, "trace_id IN (SELECT unnest($ids))", {"ids": list(trace_ids)})
        if not rows:
            return []
        usuals = usual_durations(cursor, rows)
        slow = [
            (number, row)
            for number, row in enumerate(rows)
            if is_slow(row.duration_ns, usuals.get(number), self._settings.slow_ns)
        ]
        ledgers, usual_ledgers = (
            read_ledgers(cursor, [row for _, row in slow], self._settings.settle_ns) if slow else ([], [])
        )
        causes = {
            number: next((culprit.cause for culprit in judge([one], [usual], self._names.entity).culprits), None)
            for (number, _), one, usual in zip(slow, ledgers, usual_ledgers, strict=True)
        }
        cursor.execute(
            "UPDATE request SET usual_ns = rated.usual_ns, slow = rated.slow, cause = rated.cause FROM"
            " (SELECT unnest($traces) AS trace_id, unnest($spans) AS span_id, unnest($usual::BIGINT[]) AS usual_ns,"
            "  unnest($slow) AS slow, unnest($causes::VARCHAR[]) AS cause) AS rated"
            " WHERE rated.trace_id = request.trace_id AND rated.span_id = request.span_id",
            {
                "traces": [row.trace_id for row in rows],
                "spans": [row.span_id for row in rows],
                "usual": [usuals.get(number) for number in range(len(rows))],
                "slow": [number in causes for number in range(len(rows))],
                "causes": [causes.get(number) for number in range(len(rows))],
            },
        ).fetchall()
        return rows

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

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._store.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    # ---- windows

    def _where(self, query: RequestQuery) -> tuple[str, dict[str, Any]]:
        conditions = ["start_ns >= $from_ns AND start_ns < $to_ns"]
        values: dict[str, Any] = {"from_ns": query.from_ns, "to_ns": query.to_ns}
        if query.service is not None:
            conditions.append("service = $service")
            values["service"] = query.service
        if query.operation is not None:
            conditions.append("operation = $operation")
            values["operation"] = query.operation
        for number, selection in enumerate(query.tags):
            condition, bound = tag_condition(number, selection)
            conditions.append(condition)
            values |= bound
        if query.min_duration_ns is not None:
            values["min_duration_ns"] = query.min_duration_ns
        return " AND ".join(conditions), values

    def _why_empty(self, cursor: duckdb.DuckDBPyConnection, query: RequestQuery) -> str:
        where, values = self._where(query)
        found = cursor.execute(
            "SELECT count(*) FROM request WHERE start_ns >= $from_ns AND start_ns < $to_ns",
            {"from_ns": query.from_ns, "to_ns": query.to_ns},
        ).fetchone()
        matching = cursor.execute(f"SELECT count(*) FROM request WHERE {where}", _used(values, where)).fetchone()
        if self._backlog.left:
            return f"{self._backlog.left} traces are still being worked out; ask again in a moment"
        if not found or not found[0]:
            return "no request was received in this window"
        if not matching or not matching[0]:
            return f"none of the {found[0]} requests received in this window matches the filters"
        if query.min_duration_ns is not None:
            return f"none of the {matching[0]} requests in this window took that long"
        return f"none of the {matching[0]} requests in this window was slow"


@contextmanager
def _cut_off(cursor: duckdb.DuckDBPyConnection, patience_s: float) -> Iterator[None]:
    """Interrupt what runs on the cursor when it takes longer. ``TooHeavy``."""
    done = threading.Event()

    def watch() -> None:
        waited = done.wait(patience_s)
        while not waited:  # again and again: it may be between two statements
            cursor.interrupt()
            waited = done.wait(0.05)

    watcher = threading.Thread(target=watch, name="layerline-patience", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException:
        raise TooHeavy(f"it took longer than {patience_s:g} s") from None
    finally:
        done.set()
        watcher.join()


def _chosen(query: RequestQuery) -> str:
    return "slow" if query.min_duration_ns is None else "end_ns - start_ns >= $min_duration_ns"


def _used(values: dict[str, Any], text: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if f"${key}" in text}


def _write_cursor(order: str, value: int, span_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, value, span_id]).encode()).decode().rstrip("=")


def _read_cursor(text: str, order: str) -> tuple[int, str]:
    try:
        found, value, span_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError):
        raise BadCursor("expected a cursor from this list's `next`") from None
    if found != order or type(value) is not int or abs(value) >= 2**63 or not isinstance(span_id, str):
        raise BadCursor(f"expected a cursor of the order {order!r}")
    return value, span_id
