"""The store: one DuckDB database, one writer that groups what arrives, a cursor for everyone who reads.

``append`` returns when its rows are on disk. Transactions begin ``Settings.group_ns`` apart, unless much is waiting:
what arrives meanwhile becomes one, and what arrives after a pause is written at once. A few readings alone wait
somewhat longer for something to share a transaction with: who sends them once a second can wait for the answer.
A point that is delivered twice is written once. So is a span, which is more than its id: caller and callee may share
one (Zipkin, B3, Envoy), and a span may be sent again when it has ended. Of what one sender sends under one id and kind,
the longest stays.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet

import duckdb
import pyarrow as pa

from layerline.attributes import BOOT_ID, VERSION
from layerline.container import reported
from layerline.signals import find
from layerline_correlator.settings import Settings
from layerline_correlator.store import checkpoint
from layerline_correlator.store.caps import Active, Caps, Exceeded, Note
from layerline_correlator.store.checkpoint import Checkpoints
from layerline_correlator.store.columns import LEFT_OUT, TEXT_MAP, SpanColumns
from layerline_correlator.store.cores import Cores
from layerline_correlator.store.disk import Disk
from layerline_correlator.store.generation import Generation
from layerline_correlator.store.handles import Handle, handles, is_sandbox, machine, machine_name, stand_in
from layerline_correlator.store.memory import default_bytes
from layerline_correlator.store.model import (
    ERROR,
    STATUS_OK,
    Batch,
    LogRow,
    ResourceRow,
    SeriesRow,
    SpanRow,
)
from layerline_correlator.store.private import make_private
from layerline_correlator.store.recent import Known, LastPoints, Recent
from layerline_correlator.store.sealed import (
    HOT_POINT,
    LOG,
    POINT,
    SPAN,
    Unnamed,
    remove_unnamed,
    renew_views,
    sealed_bytes,
    within,
)
from layerline_correlator.store.signals import write_catalogue
from layerline_correlator.store.sizes import StoreSize
from layerline_correlator.store.stale import mark, mark_all, mark_each
from layerline_correlator.store.statements import first_row, run
from layerline_correlator.store.torn import connected
from layerline_correlator.store.version import (
    DATABASE,
    SEALED_SINCE,
    SPANS_SEALED_SINCE,
    SPOTS_SINCE,
    SUMMED_SINCE,
    found_version,
    has_our_shape,
    has_table,
    opened,
    stamp,
    stamp_shape,
)
from layerline_correlator.threads import Threads

_log = logging.getLogger("layerline.store")

_RESOURCE = pa.schema(
    [
        *((name, pa.string()) for name in ("resource", "service", "instance", "container_id", "host")),
        ("in_container", pa.bool_()),
        ("cpus", pa.int64()),
        ("attributes", TEXT_MAP),
        ("seen_ns", pa.int64()),
        ("host_by", pa.string()),
        ("handles", pa.list_(pa.struct([(name, pa.string()) for name in Handle._fields]))),
        ("sandbox", pa.bool_()),
        ("stand_in", pa.string()),
    ]
)
_SERIES = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("series", "resource", "signal", "unit", "kind", "entity_type", "entity_id", "host")
        ),
        ("attributes", TEXT_MAP),
        ("part_of", TEXT_MAP),
        ("source", pa.string()),
    ]
)
_POINT = pa.schema(
    [("series", pa.string()), ("start_ns", pa.int64()), ("time_ns", pa.int64()), ("value", pa.float64())]
)
_EVENT = pa.schema(
    [
        ("resource", pa.string()),
        ("time_ns", pa.int64()),
        ("name", pa.string()),
        ("body", pa.string()),
        ("attributes", TEXT_MAP),
    ]
)
_LOG = pa.schema(
    [
        ("resource", pa.string()),
        ("time_ns", pa.int64()),
        ("trace_id", pa.string()),
        ("span_id", pa.string()),
        ("severity", pa.int8()),
        ("severity_text", pa.string()),
        ("body", pa.string()),
        ("attributes", TEXT_MAP),
        ("left_out", LEFT_OUT),
    ]
)
_EXCEEDED = pa.schema(
    [
        *((name, pa.string()) for name in ("kind", "name", "sender")),
        *((name, pa.int64()) for name in ("first_ns", "last_ns", "items")),
    ]
)
_RECORDING = pa.schema(
    [
        ("source", pa.string()),
        *((name, pa.int64()) for name in ("bytes", "modified_ns", "offset", "line")),
        ("inside", pa.string()),
        *((name, pa.int64()) for name in ("rejected", "left_out")),
        ("finished", pa.bool_()),
    ]
)

#: Boot id, id, name and address of a machine as somebody told them, and how many different ones are remembered.
_Place = tuple[str | None, str | None, str | None, str | None]
_PLACES = 10_000
#: Where DuckDB puts what does not fit into its memory, and how many times as much as fits that may be.
_SPILL, _SPILL_TIMES = "spill", 8
#: How many batches may wait to be written before senders are asked to come again.
_WAITING = 256
#: From this weight on nothing more is waited for, and from this one on nothing more is taken into the same transaction.
_ENOUGH, _MOST = 500, 20_000
#: How many times as long a few points wait for something else to be written with.
_POINTS_WAIT = 5
#: How many points cost as much as a span does.
_POINTS = 4
#: A span that is sent again is looked for this long around its start: it may have been corrected. What is not found is
#: left out when the ledger is worked out (``ledger/path.sql``).
_CORRECTED_NS = 10 * 10**9

#: A request of which an error is logged began at most so long before.
_TOLD_LATER_NS = 15 * 60 * 10**9

#: Spans in the store that a sender now sends again, and which of the two lasted longer.
_SENT_BEFORE = """
SELECT old.received_no, new.place, new.end_ns - new.start_ns > old.end_ns - old.start_ns AS is_longer
FROM span AS old
JOIN arriving_span AS new ON new.trace_id = old.trace_id AND new.span_id = old.span_id AND new.kind = old.kind
JOIN resource AS earlier ON earlier.resource = old.resource
JOIN resource AS sender ON sender.resource = new.resource
WHERE old.start_ns BETWEEN $from_ns AND $to_ns
  AND sender_of(earlier.resource, earlier.service, earlier.instance)
      = sender_of(sender.resource, sender.service, sender.instance)
"""


#: New points that the store does not have.
_UNLESS_WRITTEN = (
    "WHERE NOT EXISTS (FROM point AS old WHERE old.time_ns BETWEEN $from_ns AND $to_ns"
    " AND old.series = new.series AND old.time_ns = new.time_ns)"
)


class StoreInUse(RuntimeError):
    """Another process has this store open."""


class Overloaded(RuntimeError):
    """The store cannot take more now; the sender shall try again later."""


class Extent(NamedTuple):
    """What is known of the spans of a trace that wait: the earliest and latest start, and how many they are."""

    from_ns: int
    to_ns: int
    spans: int = 1


#: What a commit brought, by trace. Each has its own times: one late trace must not date the others back.
Arrived = Mapping[str, Extent]


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    durable: Future[tuple[Exceeded, ...]]


class Store:
    """One DuckDB database in a folder, owned by this process."""

    def __init__(
        self,
        settings: Settings,
        arrived: Callable[[Arrived], None] = lambda _: None,
        threads: Threads | None = None,
    ) -> None:
        """Open or create the store. ``StoreInUse`` when another process has it; OSError when it cannot be made."""
        folder = settings.store
        make_private(folder)
        self._lock_file = lock(folder)
        self._settings = settings
        self._arrived = arrived
        self.threads = threads or Threads()
        self.disk = Disk(folder)
        self.folder = folder
        #: What everything takes, as it was last measured; None until then (keeping.py).
        self.measured: StoreSize | None = None
        #: Files that are to be removed when no question reads them any more (sealed.py).
        self.unnamed = Unnamed()
        self.generation = Generation(folder)
        self._checkpoints = Checkpoints(folder)
        self._cursors: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        self._cursors_lock = threading.Lock()
        self._caps = Caps(settings.series, settings.tag_values)
        self._caps_recorded = Caps(settings.series, settings.tag_values, recorded=True)
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(maxsize=_WAITING)
        shutil.rmtree(folder / _SPILL, ignore_errors=True)  # of a process that was killed

        def reconnect() -> duckdb.DuckDBPyConnection:
            return connect(folder, settings.memory_bytes or default_bytes())

        try:
            self._database = opened(folder, reconnect)
            try:
                _bring_to_shape(self._database, folder)
                remove_unnamed(self._database, folder)
            except Exception as problem:
                if not self.disk.failed(problem):
                    raise
                self._database = _as_it_is(reconnect, problem)
                _log.error("the store in %s takes nothing until there is room: %s", folder, self.disk.problem())
        except BaseException:
            os.close(self._lock_file)
            raise
        self.cores = Cores(self._database)
        #: Resources and series that are written.
        self._known = _known(self._database, 2 * settings.series)
        #: Whether containers are known without their ids: then any description of one may bring it.
        self._stand_ins = bool(self._database.execute("FROM resource WHERE stand_in IS NOT NULL LIMIT 1").fetchall())
        #: What was said of machines, and is known to everybody.
        self._settled: set[_Place] = set()
        self._recent = _recent(self._database)
        self._last_points = _last_points(self._database, 2 * settings.series)
        #: Held while a group of batches is written, and by who deletes what the writer knows.
        self._writing = threading.Lock()
        self._used: set[str] | None = None  # senders and series that were written since these are noted
        self._began_s = -inf  # when the last transaction began
        self._closed = False
        self._invalid: str | None = None
        self._writer = self.threads.start("layerline-writer", self._write_forever)

    def append(self, batch: Batch, patience_s: float = 30.0) -> tuple[Exceeded, ...]:
        """Return when the batch is durable; what of it is not kept, because it is beyond a cap.

        ``Overloaded`` when there is no room, or it took longer than allowed.
        """
        if self._closed:
            raise Overloaded("the store is closing")
        if (full := self.disk.problem()) is not None:
            raise Overloaded(full)
        waiting = _Waiting(batch, Future())
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Overloaded("too much is waiting to be written") from None
        try:
            return waiting.durable.result(timeout=patience_s)
        except TimeoutError:
            raise Overloaded("writing took too long") from None
        except (duckdb.Error, OSError) as problem:
            raise Overloaded(self.disk.problem() or f"could not write: {problem}") from problem

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same database. ``Overloaded`` when the store is closing."""
        with self._cursors_lock:
            if self._closed:
                raise Overloaded("the store is closing")
            cursor = self._database.cursor()
            self._cursors.add(cursor)
        return cursor

    def interrupt(self) -> None:
        """Cut off whatever runs on a cursor that was given out; what is being written goes on."""
        with self._cursors_lock:
            given_out = list(self._cursors)
        for cursor in given_out:
            with suppress(duckdb.Error):  # closed meanwhile
                cursor.interrupt()

    def problems(self) -> tuple[str, ...]:
        """What keeps it from taking data or from working it out."""
        return (*filter(None, (self._invalid, self.disk.problem())), *self.threads.problems())

    @contextmanager
    def noting_used(self) -> Iterator[None]:
        """Note the senders and series of what is written within the block: ``delete_unused`` leaves them alone."""
        with self._writing:
            self._used = set()
        try:
            yield
        finally:
            with self._writing:
                self._used = None

    def delete_unused(self, cursor: duckdb.DuckDBPyConnection, table: str, keys: Iterable[str]) -> int:
        """Delete these rows of ``series`` or ``resource``, less those that were used meanwhile; how many those were."""
        with self._writing:
            if self._used is None:
                raise RuntimeError("what is used has to be noted while rows are deleted that are not")
            unused = [key for key in keys if key not in self._used]
            ((deleted,),) = cursor.execute(
                f"DELETE FROM {table} WHERE {table} IN (SELECT unnest($keys::VARCHAR[]))", {"keys": unused}
            ).fetchall()
            self._known.forget(unused)
            return int(deleted)

    def waiting(self) -> tuple[int, int]:
        """How many batches wait to be written, and how many may."""
        return self._queue.qsize(), _WAITING

    def active(self) -> Active:
        """How many series and senders there are, how many may be, and what was beyond that."""
        return self._caps.active()

    def used_bytes(self) -> int:
        """How much is in use, of the database file and of sealed hours.

        What was deleted in the file is used again before it grows.
        """
        with self.cursor() as cursor:
            ((used,),) = cursor.execute("SELECT sum(used_blocks * block_size) FROM pragma_database_size()").fetchall()
            return int(used or 0) + sealed_bytes(cursor)

    def is_recording(self) -> bool:
        """Whether recorded data was imported into this store."""
        with self.cursor() as cursor:
            found = first_row(cursor.execute("SELECT count(*) > 0 FROM recording"))
        return bool(found and found[0])

    def close(self) -> None:
        """Write what waits, then close. Afterwards the folder can be opened by another process."""
        with self._cursors_lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._writer.join()
        self.threads.end()
        try:
            self._database.close()
        except duckdb.Error as problem:  # what was acknowledged is in the log and is read when the store is opened
            _log.warning("the store in %s was not closed tidily: %s", self._settings.store, problem)
        os.close(self._lock_file)

    def _write_forever(self) -> None:
        cursor = self._database.cursor()
        while True:
            self._checkpoints.make(cursor)
            for caps in (self._caps, self._caps_recorded):
                self._note_exceeded(cursor, caps, caps.due())
            try:
                first = self._queue.get(timeout=checkpoint.LOOK_S)
            except queue.Empty:
                continue
            if first is None:
                break
            group, last = self._gather(first)
            self._write(cursor, group)
            if last:
                break
        for caps in (self._caps, self._caps_recorded):
            self._note_exceeded(cursor, caps, caps.undone())
        self._checkpoints.before_close(cursor)
        cursor.close()

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """What becomes durable together with the first; True when the store is to close after it.

        Waiting for more pays where little is there: a transaction costs as much as 200 spans or so do.
        """
        group, rows = [first], _weight(first.batch)
        apart_s, only_points = self._settings.group_ns / 1e9, _has_only_points(first.batch)
        while rows < _MOST:
            until_s = self._began_s + apart_s * (_POINTS_WAIT if only_points else 1)
            left = 0.0 if rows >= _ENOUGH or self._closed else until_s - time.monotonic()
            try:
                more = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return group, True
            group.append(more)
            rows += _weight(more.batch)
            only_points = only_points and _has_only_points(more.batch)
        self._began_s = time.monotonic()
        return group, False

    def _write(self, cursor: duckdb.DuckDBPyConnection, group: list[_Waiting]) -> None:
        try:
            admitted = [self._caps_of(waiting.batch).admit(waiting.batch) for waiting in group]
            with self._writing:
                written, arrived = self._insert(cursor, [batch for batch, _ in admitted])
                self._known.add(written)
        except Exception as problem:  # the sender is told, whatever it was; the writer must live
            self.disk.failed(problem)
            if isinstance(problem, duckdb.FatalException):
                self._invalid = f"the database has to be opened again, restart the server: {problem}"[:500]
                _log.critical(self._invalid)
            for waiting in group:
                waiting.durable.set_exception(problem)
            return
        self.disk.worked()
        # Before the senders hear of it: who asks right after that is answered with what was sent.
        try:
            if arrived is not None:
                self._arrived(arrived)
        finally:
            for waiting, (_, exceeded) in zip(group, admitted, strict=True):
                waiting.durable.set_result(exceeded)

    def _caps_of(self, batch: Batch) -> Caps:
        return self._caps_recorded if batch.recordings else self._caps

    def _note_exceeded(self, cursor: duckdb.DuckDBPyConnection, caps: Caps, notes: list[Note]) -> None:
        """Write down what was beyond a cap. Where that is not possible now it will be tried again."""
        if notes and self.disk.problem() is None:
            try:
                _insert(cursor, "exceeded", _EXCEEDED, notes)
            except duckdb.Error as problem:
                self.disk.failed(problem)
                return
            caps.noted()

    def _insert(self, cursor: duckdb.DuckDBPyConnection, batches: list[Batch]) -> tuple[set[str], Arrived | None]:
        resources = {row.resource: row for batch in batches for row in batch.resources}
        known = self._known
        series = {row.series: row for batch in batches for row in batch.series if row.series not in known}
        fresh = [row for key, row in resources.items() if key not in known]
        if known.has_forgotten and (fresh or series):
            known.add(_found(cursor, "resource", [row.resource for row in fresh]))
            known.add(_found(cursor, "series", series))
            fresh = [row for row in fresh if row.resource not in known]
            series = {key: row for key, row in series.items() if key not in known}
        spans = _longest(_together(batches), resources)
        points = {(row.series, row.time_ns): row for batch in batches for row in batch.points}
        events = {(row.resource, row.time_ns, row.name, row.body): row for batch in batches for row in batch.events}
        logs = {row[:7]: row for batch in batches for row in batch.logs}
        recordings = {row.source: row for batch in batches for row in batch.recordings}
        if self._used is not None:
            self._used.update(resources, spans.resource, (key for key, _ in points))
            for batch in batches:
                self._used.update(row.resource for row in batch.series)
                self._used.update(row.resource for row in batch.events)
                self._used.update(row.resource for row in batch.logs)
        arrived: Arrived | None = None
        cursor.execute("BEGIN")
        try:
            now = time.time_ns()
            _insert(cursor, "resource", _RESOURCE, (_resource_row(row, now) for row in fresh))
            _insert(cursor, "series", _SERIES, (_series_row(row, resources) for row in series.values()))
            senders = (*fresh, *(resources[one.resource] for one in series.values()))
            self._stand_ins |= any(_stand_in(row.attributes) for row in senders)
            places = {place for row in senders if (place := _place(row)) is not None}
            if not places <= self._settled or (self._stand_ins and senders):
                run(cursor, "store/settle.sql")
            if spans:
                arrived = _extents(spans)
                from_ns, to_ns = min(spans.start_ns) - _CORRECTED_NS, max(spans.start_ns) + _CORRECTED_NS
                fresh_spans = spans
                if self._recent.may_hold(spans.span_id, from_ns, to_ns):
                    fresh_spans = _without_known(cursor, spans, from_ns, to_ns)
                _insert_table(cursor, SPAN.table, fresh_spans.table())
            if points:
                if self._last_points.may_hold(points):
                    bounds = {"from_ns": min(at for _, at in points), "to_ns": max(at for _, at in points)}
                    with within(cursor, bounds["from_ns"], bounds["to_ns"] + 1, POINT):
                        _insert(cursor, HOT_POINT, _POINT, points.values(), _UNLESS_WRITTEN, bounds)
                else:
                    _insert(cursor, HOT_POINT, _POINT, points.values())
            mark_each(cursor, {"span": spans.start_ns, "point": (at for _, at in points)})
            if events:
                _insert(
                    cursor,
                    "event",
                    _EVENT,
                    ((*row[:4], list(row.attributes.items())) for row in events.values()),
                    "WHERE NOT EXISTS (FROM event AS old WHERE old.time_ns = new.time_ns AND old.name = new.name"
                    " AND old.resource = new.resource AND old.body = new.body)",
                )
            if logs:
                _insert_logs(cursor, list(logs.values()))
                arrived = _also(arrived, cursor, [row for row in logs.values() if row.severity >= ERROR])
            if recordings:
                cursor.execute(
                    "DELETE FROM recording WHERE source IN (SELECT unnest($sources))", {"sources": list(recordings)}
                ).fetchall()
                _insert(cursor, "recording", _RECORDING, recordings.values())
            cursor.execute("COMMIT")
        except Exception:
            with suppress(duckdb.Error):  # a commit that failed has rolled back
                cursor.execute("ROLLBACK")
            raise
        if len(self._settled) > _PLACES:
            self._settled.clear()
        self._settled |= {place for place in places if place[0] is not None}
        self._last_points.add(points)
        if spans:
            self._recent.add(spans.span_id, spans.start_ns)
        return {row.resource for row in fresh} | set(series), arrived


def _weight(batch: Batch) -> int:
    """How much it is to write, in spans."""
    return len(batch.spans) + len(batch.logs) + len(batch.events) + len(batch.points) // _POINTS


def _has_only_points(batch: Batch) -> bool:
    return bool(batch.points) and not (batch.spans or batch.logs or batch.events or batch.recordings)


def _insert(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    schema: pa.Schema,
    rows: Iterable[tuple[Any, ...]],
    unless: str = "",
    parameters: dict[str, Any] | None = None,
) -> None:
    columns = list(zip(*rows, strict=True))
    if not columns:
        return
    arrow = pa.Table.from_arrays(
        [pa.array(values, type=item.type) for values, item in zip(columns, schema, strict=True)], schema=schema
    )
    _insert_table(cursor, table, arrow, unless, parameters)


def _insert_table(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    arrow: pa.Table,
    unless: str = "",
    parameters: dict[str, Any] | None = None,
) -> None:
    """Columns that are not in ``arrow`` are null."""
    if not arrow.num_rows:
        return
    cursor.register("arriving", arrow)
    try:
        cursor.execute(
            f"INSERT INTO {table} BY NAME SELECT * FROM arriving AS new {unless}", parameters or {}
        ).fetchall()
    finally:
        cursor.unregister("arriving")


def _extents(spans: SpanColumns) -> dict[str, Extent]:
    starts: dict[str, list[int]] = {}
    for trace_id, start_ns in zip(spans.trace_id, spans.start_ns, strict=True):
        starts.setdefault(trace_id, []).append(start_ns)
    return {trace_id: Extent(min(found), max(found), len(found)) for trace_id, found in starts.items()}


def _together(batches: list[Batch]) -> SpanColumns:
    """The spans of all batches, which stay as they are."""
    first = batches[0].spans
    if len(batches) == 1 and isinstance(first, SpanColumns):
        return first
    spans = SpanColumns()
    for batch in batches:
        spans.extend(batch.spans)
    return spans


def _insert_logs(cursor: duckdb.DuckDBPyConnection, logs: list[LogRow]) -> None:
    """Write these log records, those that are there already left out."""
    bounds = {"from_ns": min(row.time_ns for row in logs), "to_ns": max(row.time_ns for row in logs)}
    with within(cursor, bounds["from_ns"], bounds["to_ns"] + 1, LOG):
        _insert(
            cursor,
            LOG.table,
            _LOG,
            ((*row[:7], list(row.attributes.items()), row.left_out and row.left_out._asdict()) for row in logs),
            "WHERE NOT EXISTS (FROM log AS old WHERE old.time_ns BETWEEN $from_ns AND $to_ns"
            " AND old.time_ns = new.time_ns AND old.resource = new.resource AND old.body = new.body"
            " AND old.severity = new.severity AND old.trace_id IS NOT DISTINCT FROM new.trace_id"
            " AND old.span_id IS NOT DISTINCT FROM new.span_id)",
            bounds,
        )


def _also(arrived: Arrived | None, cursor: duckdb.DuckDBPyConnection, errors: list[LogRow]) -> Arrived | None:
    """The traces of these log records, where their spans are there already: what failed in them may be said here."""
    told = {row.trace_id for row in errors if row.trace_id is not None} - set(arrived or ())
    if not told:
        return arrived
    from_ns = max(0, min(row.time_ns for row in errors) - _TOLD_LATER_NS)
    to_ns = max(row.time_ns for row in errors) + _CORRECTED_NS
    with within(cursor, from_ns, to_ns + 1, SPAN):
        found = cursor.execute(
            "SELECT trace_id, min(start_ns), max(start_ns), count(*) FROM span"
            " WHERE trace_id IN (SELECT unnest($traces)) AND status <> $ok AND start_ns BETWEEN $from_ns AND $to_ns"
            " GROUP BY trace_id",
            {"traces": list(told), "ok": STATUS_OK, "from_ns": from_ns, "to_ns": to_ns},
        ).fetchall()
    if not found:
        return arrived
    return {trace_id: Extent(from_ns, to_ns, spans) for trace_id, from_ns, to_ns, spans in found} | dict(arrived or {})


def _longest(spans: SpanColumns, resources: Mapping[str, ResourceRow]) -> SpanColumns:
    """Without what one sender sent several times: the longest stays, of equals the first."""
    if len(set(zip(spans.span_id, spans.trace_id, spans.kind, strict=True))) == len(spans):
        return spans
    senders = {key: _sender(row) for key, row in resources.items()}
    kept: dict[tuple[str, str, int, str], SpanRow] = {}
    for row in spans:
        key = row.trace_id, row.span_id, row.kind, senders.get(row.resource, row.resource)
        other = kept.setdefault(key, row)
        if other is not row and row.end_ns - row.start_ns > other.end_ns - other.start_ns:
            kept[key] = row
    return SpanColumns(kept.values())


def _without_known(cursor: duckdb.DuckDBPyConnection, spans: SpanColumns, from_ns: int, to_ns: int) -> SpanColumns:
    """Those that are to be written: where the store has one already, the longer of the two stays.

    Shorter ones are deleted from the store, unless they are sealed: the ledger leaves those out (``ledger/path.sql``).
    Bounds are those of starts.
    """
    ids = {
        "place": pa.array(range(len(spans)), pa.int64()),
        "trace_id": pa.array(spans.trace_id, pa.string()),
        "span_id": pa.array(spans.span_id, pa.string()),
        "kind": pa.array(spans.kind, pa.int8()),
        "resource": pa.array(spans.resource, pa.string()),
        "start_ns": pa.array(spans.start_ns, pa.int64()),
        "end_ns": pa.array(spans.end_ns, pa.int64()),
    }
    cursor.register("arriving_span", pa.table(ids))
    try:
        with within(cursor, from_ns, to_ns + 1, SPAN):
            before = cursor.execute(_SENT_BEFORE, {"from_ns": from_ns, "to_ns": to_ns}).fetchall()
    finally:
        cursor.unregister("arriving_span")
    known = {place for _, place, is_longer in before if not is_longer}
    shorter = [row for row, place, is_longer in before if row >= 0 and is_longer and place not in known]
    if shorter:
        deleted = cursor.execute(
            "DELETE FROM hot_span WHERE rowid IN (SELECT unnest($rows)) RETURNING start_ns", {"rows": shorter}
        ).fetchall()
        mark(cursor, "span", (start_ns for (start_ns,) in deleted))
    return SpanColumns(row for place, row in enumerate(spans) if place not in known) if known else spans


def _recent(connection: duckdb.DuckDBPyConnection) -> Recent:
    """What was written last, and whatever lies ahead of this machine's clock."""
    since_ns = time.time_ns() - 2 * _CORRECTED_NS
    written = connection.execute(
        "SELECT start_ns, span_id FROM hot_span WHERE start_ns >= $since_ns", {"since_ns": since_ns}
    ).fetchall()
    return Recent(since_ns, written)


def _last_points(connection: duckdb.DuckDBPyConnection, most: int) -> LastPoints:
    ((last_ns,),) = connection.execute(
        f"SELECT max(last) FROM (SELECT max(time_ns) AS last FROM {HOT_POINT}"
        " UNION ALL SELECT max(to_ns) FROM sealed_file WHERE kind = 'point')"
    ).fetchall()
    return LastPoints(last_ns or 0, most)


def _known(connection: duckdb.DuckDBPyConnection, most: int) -> Known:
    """Resources and series that are in the store; of very many only some."""
    known, half = Known(most), most // 2
    found = connection.execute(
        "SELECT resource FROM resource UNION ALL SELECT series FROM series LIMIT $most", {"most": half + 1}
    ).fetchall()
    known.add(key for (key,) in found[:half])
    known.has_forgotten = len(found) > half
    return known


def _found(cursor: duckdb.DuckDBPyConnection, table: str, keys: Iterable[str]) -> list[str]:
    """Those of these keys that the store has."""
    rows = cursor.execute(
        f"SELECT {table} FROM {table} WHERE {table} IN (SELECT unnest($keys::VARCHAR[]))", {"keys": list(keys)}
    ).fetchall()
    return [key for (key,) in rows]


def _place(row: ResourceRow) -> _Place | None:
    """What it says of its machine, where others may know better on which one it is, or may learn it from this.

    Who carries a boot id and says what others of that machine have said is where they are, and teaches nobody: where
    containers come and go every second, machines are not looked for again each time.
    """
    attributes = row.attributes
    boot_id = attributes.get(BOOT_ID) or None  # an empty one is none (whereabouts.sql)
    if boot_id is not None and "host.name" not in attributes:
        return None
    return boot_id, attributes.get("host.id"), machine_name(attributes)[0], attributes.get("server.address")


def _renew_resources(connection: duckdb.DuckDBPyConnection) -> None:
    """Resources that an earlier version wrote are read again: it knew neither handles nor stand-ins."""
    old = (
        "handles IS NULL OR (service IS NULL AND container_id IS NULL AND"
        " (attributes['k8s.container.name'] IS NOT NULL OR attributes['container.name'] IS NOT NULL))"
    )
    rows = [
        _resource_row(ResourceRow(resource, dict(attributes)), seen_ns)
        for resource, attributes, seen_ns in connection.execute(
            f"SELECT resource, attributes, seen_ns FROM resource WHERE {old}"
        ).fetchall()
    ]
    connection.execute(f"DELETE FROM resource WHERE {old}").fetchall()
    _insert(connection, "resource", _RESOURCE, rows)


def _stand_in(attributes: dict[str, str]) -> str | None:
    """What stands for the container's id where this describes one without it."""
    if "service.name" in attributes or reported(attributes.get("container.id", "")):
        return None
    return stand_in(attributes)


def _container(attributes: dict[str, str]) -> str | None:
    """The container's id, or what stands for it."""
    return reported(attributes.get("container.id", "")) or _stand_in(attributes)


def _process(attributes: Mapping[str, str]) -> str | None:
    """One process in one word, where the resource names it."""
    boot_id, pid = attributes.get(BOOT_ID), attributes.get("process.pid")
    if boot_id and pid:
        return f"{boot_id}:{reported(attributes.get('container.id', '')) or ''}:{pid}"
    return attributes.get("service.instance.id") or None


def _sender(row: ResourceRow) -> str:
    """Who sent a span, as far as sending it again goes: the macro ``sender_of``."""
    return _process(row.attributes) or row.attributes.get("service.name") or row.resource


def _resource_row(row: ResourceRow, now_ns: int) -> tuple[Any, ...]:
    attributes = row.attributes
    service = attributes.get("service.name")
    boot_id = attributes.get(BOOT_ID)
    container_id = _container(attributes)
    host, host_by = machine(attributes)
    instance = _process(attributes) or row.resource
    # Our wrapper names the machine unless it is inside a container, be it one whose id it could not find out.
    nameless = VERSION in attributes and "host.name" not in attributes
    in_container = True if container_id or nameless else (False if boot_id else None)
    return (
        row.resource,
        service,
        instance,
        container_id,
        host,
        in_container,
        int(cpus) if (cpus := attributes.get("layerline.cpus", "")).isdecimal() and 0 < len(cpus) < 6 else None,
        list(attributes.items()),
        now_ns,
        host_by,
        [handle._asdict() for handle in handles(attributes)],
        is_sandbox(attributes),
        _stand_in(attributes),
    )


def _series_row(row: SeriesRow, resources: dict[str, ResourceRow]) -> tuple[Any, ...]:
    attributes = resources[row.resource].attributes
    signal = find(row.signal)
    host, _ = machine(attributes)
    container_id = _container(attributes)
    wanted = (
        signal.entity
        if signal
        else ("container" if container_id else "service" if "service.name" in attributes else "host")
    )
    entity_id = {"container": container_id, "host": host, "service": attributes.get("service.name")}[wanted]
    # What is told apart further than the signal is (by CPU, by mode) is a part of one figure.
    dimensions = signal.dimensions if signal else tuple(row.attributes)
    whole = {key: value for key, value in row.attributes.items() if key in dimensions}
    part_of = list(whole.items()) if len(whole) < len(row.attributes) else None
    return (*row[:5], wanted, entity_id, host, list(row.attributes.items()), part_of, row.source or None)


def connect(folder: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """The folder's database, as all of this program open it."""
    return connected(folder, lambda: _connect(folder, memory_bytes))


def _connect(folder: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        str(folder / DATABASE),
        config={
            "checkpoint_threshold": "1000TB",  # the writer does it, when there is room (checkpoint.py)
            "memory_limit": f"{memory_bytes}B",
            "temp_directory": str(folder / _SPILL),
            "max_temp_directory_size": f"{_SPILL_TIMES * memory_bytes}B",
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,  # a table's name never finds a variable of this process
        },
    )
    connection.execute("SET asof_loop_join_threshold = 0").fetchall()
    connection.execute("SET parquet_metadata_cache = true").fetchall()  # files of a name never change (sealed.py)
    return connection


def _bring_to_shape(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Tables, views and macros as this version has them, all of it or nothing."""
    connection.execute("BEGIN").fetchall()
    try:
        version = found_version(connection)
        for since, kinds in ((SEALED_SINCE, (POINT,)), (SPANS_SEALED_SINCE, (SPAN, LOG))):
            for kind in kinds if version is not None and version < since else ():
                if has_table(connection, kind.name):
                    connection.execute(f"ALTER TABLE {kind.name} RENAME TO {kind.table}").fetchall()
        has_blind_rows = version is not None and version < SPOTS_SINCE and has_table(connection, "blind")
        if has_blind_rows:
            connection.execute("ALTER TABLE blind RENAME TO old_blind").fetchall()
        run(connection, "store/schema.sql")
        if has_blind_rows:
            run(connection, "store/older_blind.sql")
        renew_views(connection, folder)
        if version is not None and version < SUMMED_SINCE:
            mark_all(connection)
        run(connection, "facts/words.sql")
        write_catalogue(connection)
        run(connection, "facts/readings.sql")
        _renew_resources(connection)
        run(connection, "facts/who.sql")
        run(connection, "facts/whereabouts.sql")
        run(connection, "summaries/schema.sql")
        if not has_our_shape(connection):  # it may have summed minutes up, and known no quarters
            connection.execute("DELETE FROM summed_quarter").fetchall()
        run(connection, "summaries/calls.sql")
        run(connection, "store/settle.sql")
        run(connection, "incidents/schema.sql")
        run(connection, "questions/views.sql")
        stamp(connection)
        stamp_shape(connection)
        connection.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has rolled back
            connection.execute("ROLLBACK").fetchall()
        connection.close()
        raise


def _as_it_is(connect: Callable[[], duckdb.DuckDBPyConnection], problem: Exception) -> duckdb.DuckDBPyConnection:
    """The database of which nothing can be written now, where this program wrote it last; else raises ``problem``."""
    connection = connect()
    if not has_our_shape(connection):
        connection.close()
        raise problem
    return connection


def lock(folder: Path) -> int:
    """An advisory lock, so that a second server says why it cannot start before DuckDB does."""
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreInUse(f"the store {folder} is in use by another process") from None
    return handle
