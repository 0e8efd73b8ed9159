"""A correlator made of lists, and the things that tests of the API send and receive."""

from __future__ import annotations

import builtins
from base64 import b64decode
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from layerline_correlator.entity import Entity
from layerline_correlator.incidents.model import Share
from layerline_correlator.incidents.slo import Slo, SloState
from layerline_correlator.questions.coverage import Coverage, Lives
from layerline_correlator.questions.entities import EntityItem, EntityQuery
from layerline_correlator.questions.events import EventItem, EventQuery
from layerline_correlator.questions.health import Health
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.overview import LayerTime, Overview, ServiceOverview, SlowExample, SlowGroup
from layerline_correlator.questions.paging import BadCursor, Page
from layerline_correlator.questions.requests import RequestItem, RequestQuery
from layerline_correlator.questions.service import ErrorKind, Heatmap, Service, ServicePart
from layerline_correlator.questions.services import ServiceItem, ServiceMap
from layerline_correlator.questions.shares import Picked, PickedRequest, Shares
from layerline_correlator.questions.sql import Table
from layerline_correlator.questions.waterfall import Waterfall
from layerline_correlator.store.caps import Exceeded
from layerline_correlator.store.model import Batch
from layerline_correlator.store.sizes import SealedSize, StoreSize
from layerline_correlator.store.store import Overloaded
from layerline_correlator.verdict.model import Blind, Culprit, Join, Neighbour, Part, Verdict

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOKEN = "s3cret"  # noqa: S105 - a token of tests
SPAN = "00f067aa0ba902b7"
START = "2026-11-23T10:00:00.123456789Z"
START_NS = 1_795_428_000_123_456_789
MS = 1_000_000

STOCK = Entity("container", "4f2a" + "0" * 60, "stock-1")
WEB = Entity("container", "77aa" + "0" * 60, "web-1")

CAUSES: list[dict[str, Any]] = [
    {
        "cause": "container.cpu_throttled",
        "layer": "container",
        "title": "held back by its CPU limit",
        "means": "The container had used up its CPU quota for the period.",
        "needs": ["layerline.account", "layerline.container.throttled_ns"],
        "mistaken_for": "A busy neighbour (host.cpu_contended): there the throttled counter does not grow.",
        "try": "Raise the CPU limit (`docker update --cpus N NAME`), or use fewer threads.",
        "source": "cpu.stat throttled_time",
    },
    {
        "cause": "app.cpu_busy",
        "layer": "app",
        "title": "its own code computed",
        "means": "The thread was on a CPU.",
        "needs": ["layerline.account"],
        "mistaken_for": "A CPU limit.",
        "try": "Profile this operation.",
        "source": "clock_gettime(2)",
    },
    {
        "cause": "host.cpu_contended",
        "layer": "host",
        "title": "waited for a CPU behind a neighbour",
        "means": "The thread stood ready without a CPU while others on the machine ran.",
        "needs": ["layerline.account", "system.cpu.time"],
        "mistaken_for": "A CPU limit (container.cpu_throttled): there the throttled counter grew.",
        "try": "Move the neighbour away.",
        "source": "schedstat field 2",
    },
    {
        "cause": "host.io_saturated",
        "layer": "host",
        "title": "waited for a busy disk",
        "means": "The disk was busy.",
        "needs": [],
        "mistaken_for": "A device limit.",
        "try": "Look for who writes.",
        "source": "/proc/diskstats",
    },
]


def part(
    cause: str = "container.cpu_throttled",
    lost: float = 400.0,
    usual: float | None = 0.0,
    *,
    low: float | None = None,
    high: float | None = None,
    service: str = "stock",
    entity: Entity = STOCK,
    evidence: str = "measured",
    by: list[Neighbour] | None = None,
    where: dict[str, Any] | None = None,
) -> Part:
    """A part, in milliseconds."""
    lost_ns = round(lost * MS)
    usual_ns = None if usual is None else round(usual * MS)
    return Part(
        cause=cause,
        layer=cause.partition(".")[0],
        service=service,
        entity=entity,
        lost_ns=lost_ns,
        low_ns=lost_ns if low is None else round(low * MS),
        high_ns=lost_ns if high is None else round(high * MS),
        usual_ns=usual_ns,
        usual_low_ns=usual_ns,
        usual_high_ns=usual_ns,
        excess_ns=None if usual_ns is None else lost_ns - usual_ns,
        evidence=evidence,
        by=by or [],
        where=where,
        because=f"{cause} happened",
        try_="Raise the CPU limit of stock-1.",
    )


def verdict() -> Verdict:
    """The design's example: 700 ms, usually 150, of which 400 were the CPU limit of stock-1."""
    return Verdict(
        trace_id=TRACE,
        span_id=SPAN,
        service="web",
        operation="GET /cart",
        start=START,
        duration_ns=700 * MS,
        usual_ns=150 * MS,
        excess_ns=550 * MS,
        ranked_by="excess",
        parts=[
            part(low=390.0),
            part("app.cpu_busy", 160.0, 140.0, service="web", entity=WEB),
            part(
                "host.cpu_contended",
                125.0,
                4.0,
                low=60.0,
                high=180.0,
                service="web",
                entity=WEB,
                evidence="inferred",
                by=[Neighbour(Entity("container", "9" * 64, "batch-7"), 0.8)],
            ),
            part("app.cpu_busy", 3.0, 3.0),
        ],
        unexplained_ns=12 * MS,
        unexplained_usual_ns=3 * MS,
        blind=[Blind("host.io_saturated", "no readings of the host's disks", "run `layerline agent` on the machine")],
        culprits=[
            Culprit("container.cpu_throttled", STOCK, 400 / 550, 300 * MS),
            Culprit("host.cpu_contended", WEB, 121 / 550, 579 * MS),
        ],
        conclusive=True,
        settled=True,
        join=Join("container.id", 1.0, 0),
    )


def window_verdict() -> Verdict:
    """The same over twelve requests of which three were slow."""
    one = verdict()
    return replace(one, trace_id=None, span_id=None, requests=12, slow=3, examples=[TRACE, "a" * 32, "b" * 32])


def item() -> RequestItem:
    """The design's example in a list."""
    one = verdict()
    return RequestItem(
        TRACE,
        SPAN,
        one.service,
        one.operation,
        one.start,
        one.duration_ns,
        one.usual_ns,
        one.excess_ns,
        True,
        "ok",
        "container.cpu_throttled",
    )


@dataclass
class FakeIncidents:
    """Incidents from a list of documents, and what it was asked."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    asked: list[IncidentQuery] = field(default_factory=list)
    kept: list[Slo] = field(default_factory=list)

    def list(self, query: IncidentQuery) -> Page[dict[str, Any]]:
        self.asked.append(query)
        if query.cursor is not None:
            raise BadCursor(query.cursor)
        return Page(self.documents, reason=None if self.documents else "no operation was in trouble")

    def one(self, incident: str) -> dict[str, Any] | None:
        return next((document for document in self.documents if document["id"] == incident), None)

    def slos(self) -> builtins.list[SloState]:
        return [self._state(slo) for slo in self.kept]

    def set_slo(self, slo: Slo) -> SloState:
        self.kept.append(slo)
        return self._state(slo)

    def remove_slo(self, slo: str) -> bool:
        found = [one for one in self.kept if one.id == slo]
        self.kept = [one for one in self.kept if one not in found]
        return bool(found)

    def _state(self, slo: Slo) -> SloState:
        return SloState(slo.id, slo.service, slo.operation, slo.objective, slo.threshold_ns, 0, 0, None, False, [])

    def bundle(self, incident: str) -> bytes | None:
        return b"bundle" if self.one(incident) else None


@dataclass
class FakeCorrelator:
    """Answers from lists, remembers what it was asked and given."""

    items: list[RequestItem] = field(default_factory=list)
    known: dict[tuple[str, str | None], Verdict] = field(default_factory=dict)
    over_window: list[Verdict] = field(default_factory=list)
    traces: dict[str, dict[str, Any]] = field(default_factory=dict)
    waterfalls: dict[str, Waterfall] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    asked: list[RequestQuery] = field(default_factory=list)
    picked: list[Picked] = field(default_factory=list)
    incidents: FakeIncidents = field(default_factory=FakeIncidents)
    overloaded: bool = False
    broken: bool = False
    is_ready: bool = True
    somebody_asks: bool = False

    def append(self, batch: Batch) -> tuple[Exceeded, ...]:
        if self.overloaded:
            raise Overloaded("64 MiB are waiting")
        if self.broken:
            raise OSError("no space left on device")
        self.batches.append(batch)
        return ()

    def requests(self, query: RequestQuery) -> Page[RequestItem]:
        self.asked.append(query)
        if query.cursor not in (None, "2"):
            raise BadCursor(query.cursor)
        return Page(self.items[: query.limit], reason=None if self.items else "no request was slow in the window")

    def verdict(self, trace_id: str, span_id: str | None = None, *, absolute: bool = False) -> Verdict | None:
        known = self.known.get((trace_id, span_id))
        return replace(known, ranked_by="lost") if known and absolute else known

    def verdicts(self, query: RequestQuery) -> Page[Verdict]:
        self.asked.append(query)
        if query.cursor not in (None, "2"):
            raise BadCursor(query.cursor)
        return Page(self.over_window, reason=None if self.over_window else "no request was slow in the window")

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        return self.traces.get(trace_id)

    def waterfall(self, trace_id: str, span_id: str | None = None, under: str | None = None) -> Waterfall | None:
        return self.waterfalls.get(trace_id)

    def causes(self) -> list[dict[str, Any]]:
        return CAUSES

    def services(self) -> list[str]:
        return sorted({one.service for one in self.items})

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        items = [ServiceItem(one, 1, 0, 700 * MS, 700 * MS) for one in self.services()]
        return ServiceMap(items, reason=None if items else "no request was received in this window")

    def overview(self, query: RequestQuery, search: str = "") -> Overview:
        self.asked.append(query)
        if not self.items:
            return Overview(
                START,
                START,
                START,
                60 * 10**9,
                1,
                reason="no request was received in this window",
                slow_reason="no request was slow in the window",
            )
        one = self.items[0]
        example = SlowExample(one.trace_id, one.span_id, one.start, one.duration_ns, one.usual_ns)
        layers = [LayerTime("container", 400 * MS, 0), LayerTime("app", 150 * MS, 140 * MS)]
        row = ServiceOverview(
            one.service,
            12,
            1,
            3,
            150 * MS,
            700 * MS,
            710 * MS,
            [5, 0, 7],
            [0, 0, 1],
            [140 * MS, None, 150 * MS],
            [500 * MS, None, 700 * MS],
            [500 * MS, None, 710 * MS],
            layers,
        )
        group = SlowGroup(one.service, one.operation, one.cause, 3, 1650 * MS, one.duration_ns, [example])
        return Overview(START, START, START, 60 * 10**9, 3, [row], 0, [group])

    def service(self, query: RequestQuery) -> Service:
        self.asked.append(query)
        known = [one for one in self.items if one.service == query.service]
        head = (START, START, START, 60 * 10**9, 3, query.service or "", query.operation)
        if not known:
            return Service(*head, 0, 0, Heatmap(), reason="no request was received in this window")
        heatmap = Heatmap([100 * MS, 300 * MS, 900 * MS], [[5, 0, 4], [0, 0, 3]])
        part = ServicePart(known[0].operation, None, 12, 1, 3, 150 * MS, 700 * MS, START)
        held = replace(part, name=WEB.name, entity=WEB)
        kind = ErrorKind(known[0].operation, None, known[0].service, 1, TRACE, known[0].operation)
        return Service(*head, 12, 1, heatmap, [part], [held], [replace(part, name="1.5")], [kind])

    def shares(self, query: RequestQuery, picked: Picked) -> Shares:
        self.picked.append(picked)
        if not self.items:
            return Shares(0, 0, reason="no request was received in this window")
        one = self.items[0]
        example = PickedRequest(TRACE, SPAN, one.operation, START, 700 * MS, one.cause, "ok")
        return Shares(3, 9, [Share("version", one.operation, 3, 0, 1.0, 0.0, None)], [example])

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Coverage:
        lives = Lives(0, 0, 0, [], None)
        reason = None if self.items else "no span was received in this window"
        return Coverage(START, START, len(self.items), [], [], [], lives, [], [], [], [], reason)

    def inventory(self, query: EntityQuery) -> Page[EntityItem]:
        return Page(reason="nothing of that kind sent anything in this window")

    def events(self, query: EventQuery) -> Page[EventItem]:
        return Page(reason="no such event was received in this window")

    def sql(self, text: str, limit: int) -> Table:
        return Table(["one"], ["INTEGER"], [[1]], cut=False)

    def sizes(self) -> StoreSize:
        packed = SealedSize("point", 2, 1000, 3300, 3.3, "2026-09-21T10:00:00Z", "2026-09-21T12:00:00Z")
        return StoreSize("/store", 4, 4096, 4096, 0, None, None, 190.5, 9e6, [], [packed])

    def generation(self) -> str | None:
        return None

    def is_asked(self) -> bool:
        return self.somebody_asks

    def ready(self) -> bool:
        return self.is_ready

    def health(self) -> Health:
        return Health(3, 256, 20, 1_500_000_000, 7, 140, 600, 1, 5, 2, 4096, 12, self.sizes())

    def close(self) -> None:
        self.is_ready = False


def full() -> FakeCorrelator:
    """One slow request, its verdict and its trace."""
    return FakeCorrelator(
        items=[item()],
        known={(TRACE, None): verdict(), (TRACE, SPAN): verdict()},
        over_window=[window_verdict()],
        traces={TRACE: {"trace_id": TRACE, "spans": [], "segments": []}},
    )


def one_span(**fields: Any) -> ExportTraceServiceRequest:
    """A request with one good span, or what ``fields`` makes of it."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "web"
    values: dict[str, Any] = {
        "trace_id": bytes.fromhex(TRACE),
        "span_id": bytes.fromhex(SPAN),
        "name": "GET /cart",
        "kind": 2,
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 700 * MS,
    }
    group.scope_spans.add().spans.add(**{**values, **fields})
    return request


def otlp_json(message: Message) -> Any:
    """The message as OTLP/JSON has it: protobuf's mapping, but ids in hex."""

    def with_hex(value: Any) -> Any:
        if isinstance(value, list):
            return [with_hex(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: b64decode(one).hex() if key in ("traceId", "spanId", "parentSpanId") else with_hex(one)
            for key, one in value.items()
        }

    return with_hex(MessageToDict(message))
