"""What the API may ask, as a protocol: ``answers.Answers`` answers over a store, tests answer from lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import duckdb

from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.questions.causes import CauseItem
from layerline_correlator.questions.coverage import Coverage
from layerline_correlator.questions.entities import EntityItem, EntityQuery
from layerline_correlator.questions.events import EventItem, EventQuery
from layerline_correlator.questions.health import Health
from layerline_correlator.questions.incidents import IncidentQuestions
from layerline_correlator.questions.overview import Overview
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.requests import RequestItem, RequestQuery
from layerline_correlator.questions.service import Service
from layerline_correlator.questions.services import ServiceMap
from layerline_correlator.questions.shares import Picked, Shares
from layerline_correlator.questions.sql import Table
from layerline_correlator.questions.tags import TagKey, TagValue
from layerline_correlator.questions.timeline import Timeline, TimelineQuery
from layerline_correlator.questions.waterfall import Waterfall
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sizes import StoreSize
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import Query
from layerline_correlator.verdict.model import Verdict

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class Questions(Protocol):
    """What the API may ask; and what it may give to be kept (``append``)."""

    monitors: Monitors

    def append(self, batch: Batch) -> tuple[Exceeded, ...]:
        """Return when the batch is durable, and what of it is beyond a cap. ``Overloaded``: there is no room now."""

    def ask(
        self,
        read: Callable[Concatenate[duckdb.DuckDBPyConnection, Asked], Answer],
        *args: Asked.args,
        **kwargs: Asked.kwargs,
    ) -> Answer:
        """What ``read`` reads of the store as it is now: for a question that needs a cursor and nothing else."""

    def requests(self, query: RequestQuery) -> Page[RequestItem]:
        """Slow requests of the window (or those of at least ``min_duration_ns``). ``BadCursor``."""

    def verdict(self, trace_id: str, span_id: str | None = None, *, absolute: bool = False) -> Verdict | None:
        """The verdict of the trace's root request, or of the request whose entry span is ``span_id``."""

    def verdicts(self, query: RequestQuery) -> Page[Verdict]:
        """One verdict per service and operation that changed, failed or had slow requests."""

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """The ``Trace``; None when no span of it was received."""

    def waterfall(self, trace_id: str, span_id: str | None = None, under: str | None = None) -> Waterfall | None:
        """Where the time of one request went, span by span; None where there is no such request or span."""

    def causes(self) -> list[CauseItem]:
        """Every cause with its documentation, in the order in which they take time."""

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Coverage:
        """What was seen in the window and what was not; with ``service``, of its spans and requests."""

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        """What every layer did in a window; None for an unknown request. ``StepTooFine``, ``TooHeavy``."""

    def services(self) -> list[str]:
        """The services a span was received from."""

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        """The services that answered requests in the window, and who called whom."""

    def overview(self, query: RequestQuery, search: str = "") -> Overview:
        """A row per service of the window, and its slow requests in groups."""

    def service(self, query: RequestQuery) -> Service:
        """One service (``query.service``), or one operation of it, over the window."""

    def shares(self, query: RequestQuery, picked: Picked) -> Shares:
        """What the picked requests of the window have in common, against the others."""

    def inventory(self, query: EntityQuery) -> Page[EntityItem]:
        """What lived in the window. ``BadCursor``."""

    def events(self, query: EventQuery) -> Page[EventItem]:
        """What happened in the window. ``BadCursor``."""

    def sql(self, text: str, limit: int) -> Table:
        """One SELECT over the documented views. ``BadSql``, ``TooHeavy``."""

    def arrow(self, text: str, limit: int) -> bytes:
        """The same as an Arrow IPC stream. ``BadSql``, ``TooHeavy``."""

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        """What a tag query holds for, in the window that ends at ``to_ns``. ``BadCursor``, ``TooHeavy``."""

    def tag_keys(self, prefix: str, limit: int) -> list[TagKey]:
        """The keys of tags that begin so: what a query can ask by."""

    def tag_values(self, key: str, prefix: str, limit: int) -> list[TagValue]:
        """The values of a key that begin so."""

    @property
    def incidents(self) -> IncidentQuestions:
        """What was found without being asked."""

    def sizes(self) -> StoreSize:
        """How many rows and bytes each table of the store has."""

    def generation(self) -> str | None:
        """A word for what is stored, which changes with it; None where something was written just now."""

    def is_asked(self) -> bool:
        """Whether somebody asked something within the last minute."""

    def ready(self) -> bool:
        """True when data can be taken and questions answered."""

    def health(self) -> Health:
        """How the store and the correlator are."""
