"""Answers to ``Questions`` over a store: each from a file of its own, named after what is asked."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb

from layerline_correlator.facts.names import Names
from layerline_correlator.ledger.work import work_out_here
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.sources import IncidentFilter, of_incidents, of_query, of_slo
from layerline_correlator.questions.causes import CauseItem, read_causes
from layerline_correlator.questions.containers import read_containers
from layerline_correlator.questions.coverage import Coverage, read_coverage, stored
from layerline_correlator.questions.entities import EntityItem, EntityQuery, read_entities
from layerline_correlator.questions.events import EventItem, EventQuery, read_events
from layerline_correlator.questions.incidents import IncidentQuery, Incidents
from layerline_correlator.questions.lives import Life, read_lives
from layerline_correlator.questions.overview import Overview, read_overview
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.requests import RequestItem, RequestQuery, read_requests
from layerline_correlator.questions.service import Service, read_service
from layerline_correlator.questions.services import ServiceMap, read_service_map, read_services
from layerline_correlator.questions.shares import Picked, Shares, read_shares
from layerline_correlator.questions.sql import Table, read_arrow, read_sql
from layerline_correlator.questions.tags import TagKey, TagValue, read_tag_keys, read_tag_values
from layerline_correlator.questions.timeline import IncidentMark, Timeline, TimelineQuery, read_timeline
from layerline_correlator.questions.trace import read_trace
from layerline_correlator.questions.verdicts import read_verdict, read_verdicts
from layerline_correlator.questions.waterfall import Waterfall, read_waterfall
from layerline_correlator.settings import Settings
from layerline_correlator.store.patience import TooBusy, cut_off
from layerline_correlator.store.sealed import narrow_to_traces, widen
from layerline_correlator.store.sizes import StoreSize, read_sizes
from layerline_correlator.store.statements import begin, begin_anew, first_row
from layerline_correlator.store.store import Extent, Store
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import Query
from layerline_correlator.verdict.model import Verdict

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

#: How long a question may take, in seconds, and how long it may wait for its turn.
PATIENCE_S, TURN_S = 30.0, 5.0
#: Questions that are answered at a time, each with a cursor of its own.
AT_ONCE = 8
#: Who asked something is taken to ask again for so long, in seconds.
ASKING_S = 60.0


class Answers(ABC):
    """All answers but those about the correlator itself. A subclass keeps the store's ledgers up to date.

    A question reads what was committed when it began, on a cursor of its own, and waits for no pass. What arrived just
    before it is given a moment to be worked out. A trace that is asked for and has no ledger yet is worked out for this
    answer alone.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        """Answer from this store."""
        self._store = store
        self._settings = settings
        self._names = Names(store.cursor())
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._asked_s = -inf  # when something was asked last, on the monotonic clock
        #: The incidents that were found, and SLOs.
        self.incidents = Incidents(self._reading, self._writing, self._names, settings.settle_ns)
        self.monitors = Monitors(
            store.cursor(),
            {
                "query": of_query(self.containers),
                "slo": of_slo(self._reading),
                "incidents": of_incidents(self._incidents_at),
            },
        )

    def generation(self) -> str | None:
        """A word for what is stored, which changes with it; None where something was written just now."""
        return self._store.generation.word()

    def is_asked(self) -> bool:
        """Whether somebody asked lately: then it is worth having the newest readings a few seconds earlier."""
        return time.monotonic() - self._asked_s < ASKING_S

    @abstractmethod
    def _catch_up(self) -> None:
        """Give what has just arrived a moment to be worked out."""

    @abstractmethod
    def _catch_up_with(self, trace_id: str) -> Extent | None:
        """Give this trace a moment to be worked out. What is in no ledger after that; None where everything is."""

    @abstractmethod
    def _unfinished(self) -> int:
        """How many traces have yet to be worked out."""

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for one question that is cut off when it takes too long. ``TooHeavy``, ``TooBusy``."""
        if not self._room.acquire(timeout=TURN_S):
            raise TooBusy(f"{AT_ONCE} questions are being answered, and none of them ended within {TURN_S:g} s")
        try:
            self._asked_s = time.monotonic()
            self._store.cores.want()
            with self._store.cursor() as cursor, cut_off(cursor, PATIENCE_S):
                yield cursor
        except duckdb.OutOfMemoryException as problem:  # others may have what it lacked
            raise TooBusy(
                "it needs more memory than was left of what the database may use (LAYERLINE_MEMORY);"
                " a shorter window needs less"
            ) from problem
        finally:
            self._room.release()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor that sees the store as it is now, whatever is committed while the question is answered."""
        with self._writing() as cursor:
            begin(cursor)
            yield cursor

    @contextmanager
    def _reading_with(self, trace_id: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, tuple[int, int] | None]]:
        """A cursor that sees this trace worked out, and when the first and the last of its requests began.

        That is None where it was worked out for this cursor. Finding a trace takes a look at all requests.
        """
        extent, began = self._catch_up_with(trace_id), None
        with self._reading() as cursor:
            if extent is None:
                began, has_ledger = _requests_of(cursor, trace_id)
                extent = None if has_ledger else _spans_of(cursor, trace_id)
            if extent is not None:
                began = None
                try:
                    _work_out(cursor, trace_id, extent)
                except duckdb.InterruptException:  # the worker has more time for it than a question
                    known = f"trace {trace_id} ({extent.spans:,} spans)" if extent.spans > 1 else f"trace {trace_id}"
                    raise TooBusy(f"{known} is still being worked out") from None
            yield cursor, began

    def ask(
        self,
        read: Callable[Concatenate[duckdb.DuckDBPyConnection, Asked], Answer],
        *args: Asked.args,
        **kwargs: Asked.kwargs,
    ) -> Answer:
        """What ``read`` reads of the store as it is now: for a question that needs a cursor and nothing else."""
        self._catch_up()
        with self._reading() as cursor:
            return read(cursor, *args, **kwargs)

    # ---- requests and what was slow in them

    def requests(self, query: RequestQuery) -> Page[RequestItem]:
        """Slow requests of the window (or those of at least ``min_duration_ns``). ``BadCursor``."""
        self._catch_up()
        with self._reading() as cursor:
            return read_requests(cursor, query, self._unfinished())

    def verdict(self, trace_id: str, span_id: str | None = None, *, absolute: bool = False) -> Verdict | None:
        """The verdict of the trace's root request (the longest, if several), or of the entry span ``span_id``."""
        with self._reading_with(trace_id) as (cursor, began):
            return read_verdict(
                cursor, trace_id, span_id, self._names.entity, self._settings.settle_ns, absolute, began=began
            )

    def verdicts(self, query: RequestQuery) -> Page[Verdict]:
        """One verdict per service and operation that changed, failed or had slow requests. ``BadCursor``."""
        self._catch_up()
        with self._reading() as cursor:
            return read_verdicts(cursor, query, self._names.entity, self._settings.settle_ns, self._unfinished())

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """A trace as it was received, and its root request's critical path, as ``Trace`` in JSON."""
        with self._reading() as cursor:
            return read_trace(cursor, trace_id)

    def waterfall(self, trace_id: str, span_id: str | None = None, under: str | None = None) -> Waterfall | None:
        """Where the time of one request of a trace went, span by span; None where there is no such request or span."""
        self._catch_up_with(trace_id)
        with self._reading() as cursor:
            try:
                return read_waterfall(cursor, trace_id, span_id, under, self._names.entity)
            except duckdb.InterruptException:
                raise TooBusy(f"the spans of trace {trace_id} could not be worked out in {PATIENCE_S:g} s") from None

    def causes(self) -> list[CauseItem]:
        """Every cause with its documentation, in the order in which they take time."""
        return read_causes()

    # ---- all layers over a window

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        """What every layer did in a window; None for an unknown request. ``StepTooFine``, ``TooHeavy``."""
        self._catch_up()
        if query.trace_id is None:
            with self._reading() as cursor:
                return read_timeline(cursor, query, self._names.entity, self._marks)
        with self._reading_with(query.trace_id) as (cursor, _):
            return read_timeline(cursor, query, self._names.entity, self._marks)

    def _incidents_at(self, which: IncidentFilter, at_ns: int, most: int) -> list[dict[str, Any]]:
        """The incidents of one moment, for monitors."""
        query = IncidentQuery(at_ns, at_ns + 1, service=which.service, cause=which.cause, limit=most)
        return self.incidents.list(query).items

    def _marks(self, from_ns: int, to_ns: int, service: str | None, operation: str | None) -> list[IncidentMark]:
        """The incidents to mark on a timeline."""
        found = self.incidents.list(IncidentQuery(from_ns, to_ns, service=service, operation=operation))
        return [
            IncidentMark(item["id"], item["start"], item["end"], item["services"], item["cause"], item["summary"])
            for item in found.items
        ]

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Coverage:
        """What was seen in the window and what was not; with ``service``, of its spans and requests."""
        self._catch_up()
        with self._reading() as cursor:
            found = read_coverage(cursor, self._names.entity, from_ns, to_ns, service)
        return replace(found, stored=stored(self._store.measured))

    def services(self) -> list[str]:
        """The services a span was received from."""
        with self._reading() as cursor:
            return read_services(cursor)

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        """The services that answered requests in the window, and who called whom."""
        self._catch_up()
        with self._reading() as cursor:
            return read_service_map(cursor, from_ns, to_ns)

    def overview(self, query: RequestQuery, search: str = "") -> Overview:
        """A row per service of the window, and its slow requests in groups."""
        self._catch_up()
        with self._reading() as cursor:
            return read_overview(cursor, query, search, self._unfinished())

    def service(self, query: RequestQuery) -> Service:
        """One service (``query.service``), or one operation of it, over the window."""
        self._catch_up()
        with self._reading() as cursor:
            return read_service(cursor, query, self._names.entity, self._unfinished())

    def shares(self, query: RequestQuery, picked: Picked) -> Shares:
        """What the picked requests of the window have in common, against the others."""
        self._catch_up()
        with self._reading() as cursor:
            return read_shares(cursor, query, picked, self._unfinished())

    # ---- what there is, and what happened to it

    def inventory(self, query: EntityQuery) -> Page[EntityItem]:
        """What lived in the window. ``BadCursor``."""
        with self._reading() as cursor:
            return read_entities(cursor, query)

    def entities(
        self, from_ns: int, to_ns: int, type: str = "container", tags: Sequence[tuple[str, str]] = ()
    ) -> list[Life]:
        """The containers that lived in the window, how long, and what each used. ValueError for another type."""
        with self._reading() as cursor:
            return read_lives(cursor, from_ns, to_ns, type, tags)

    def events(self, query: EventQuery) -> Page[EventItem]:
        """What happened in the window, newest first. ``BadCursor``."""
        with self._reading() as cursor:
            return read_events(cursor, query, self._names.entity)

    def sizes(self) -> StoreSize:
        """How many rows and bytes each table of the store has."""
        with self._reading() as cursor:
            return read_sizes(cursor, self._settings.store)

    # ---- questions in a language of their own

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        """What a tag query holds for, in the window that ends at ``to_ns``. ``BadCursor``, ``TooHeavy``."""
        self._catch_up()
        with self._reading() as reading:
            return read_containers(reading, query, to_ns, self._names.entity, limit, cursor)

    def tag_keys(self, prefix: str, limit: int) -> list[TagKey]:
        """The keys of tags with this prefix: what a query can ask by."""
        with self._reading() as cursor:
            return read_tag_keys(cursor, prefix, limit)

    def tag_values(self, key: str, prefix: str, limit: int) -> list[TagValue]:
        """The values of a key with this prefix."""
        with self._reading() as cursor:
            return read_tag_values(cursor, key, prefix, limit)

    def sql(self, text: str, limit: int) -> Table:
        """One SELECT over the documented views. ``BadSql``, ``TooHeavy``."""
        self._catch_up()
        with self._writing() as cursor:
            return read_sql(cursor, text, limit)

    def arrow(self, text: str, limit: int) -> bytes:
        """The same as an Arrow IPC stream. ``BadSql``, ``TooHeavy``."""
        self._catch_up()
        with self._writing() as cursor:
            return read_arrow(cursor, text, limit)


def _work_out(cursor: duckdb.DuckDBPyConnection, trace_id: str, extent: Extent) -> None:
    """Work a trace out for this cursor: with what was measured, else by its spans, else not at all."""
    for readings in (True, False):
        try:
            work_out_here(cursor, trace_id, extent.from_ns, extent.to_ns, readings=readings)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:  # the worker will find and report it; whoever asks gets what there is
            begin_anew(cursor)
        else:
            return


def _requests_of(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> tuple[tuple[int, int] | None, bool]:
    """When the first and the last request of a trace began, and whether any has a ledger."""
    row = first_row(
        cursor.execute(
            "SELECT min(start_ns), max(start_ns), coalesce(bool_or(weight > 0), FALSE) FROM request"
            " WHERE trace_id = $trace_id",
            {"trace_id": trace_id},
        )
    )
    if row is None or row[0] is None:
        return None, False
    return (row[0], row[1]), row[2]


def _spans_of(cursor: duckdb.DuckDBPyConnection, trace_id: str) -> Extent | None:
    """The spans of a trace that was not worked out; None where it is unknown."""
    narrow_to_traces(cursor, [trace_id])
    row = first_row(
        cursor.execute(
            "SELECT min(start_ns), max(start_ns), count(*) FROM span WHERE trace_id = $trace_id", {"trace_id": trace_id}
        )
    )
    widen(cursor)
    return Extent(*row) if row and row[2] else None
