"""What can be asked of the correlator, and the shape of what it answers.

The answers are dataclasses whose fields are, name for name, the JSON of the API (design, section 7). ``plain`` turns
one into what ``json.dumps`` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from typing_extensions import TypedDict

from layerline_correlator.store.model import Batch
from layerline_correlator.tagquery.model import Query, Selection

if TYPE_CHECKING:
    from layerline_correlator.monitors.keeper import Monitors
    from layerline_correlator.questions.timeline import Timeline, TimelineQuery
    from layerline_correlator.tagquery.answer import Containers
    from layerline_correlator.tagquery.complete import TagKey, TagValue

if TYPE_CHECKING:  # it is made of what stands here
    from layerline_correlator.incidents.model import IncidentQuestions

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Which requests: a half-open window on their start, and filters."""

    from_ns: int
    to_ns: int
    service: str | None = None
    operation: str | None = None
    tags: tuple[Selection, ...] = ()  # all of them
    min_duration_ns: int | None = None  # replaces "slow"
    order: str = "excess"  # "excess" | "duration" | "start", descending
    limit: int = 50
    cursor: str | None = None
    absolute: bool = False  # rank without usual


@dataclass(frozen=True, slots=True)
class Entity:
    """A process, container, host or service (a dependency), as a verdict names it; an alert's may be an operation or
    an incident."""

    type: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who ran meanwhile, and its share of what ran."""

    entity: Entity
    share: float


@dataclass(frozen=True, slots=True)
class Part:
    """One cause's share of a ledger. Parts are disjoint, one per cause, service and entity.

    The usual is a mean of such shares, and as uncertain as they are: the excess lies between ``low_ns - usual_high_ns``
    and ``high_ns - usual_low_ns``.
    """

    cause: str
    layer: str
    service: str
    entity: Entity
    lost_ns: int
    low_ns: int
    high_ns: int
    usual_ns: int | None
    usual_low_ns: int | None
    usual_high_ns: int | None
    excess_ns: int | None
    evidence: str
    by: list[Neighbour]
    where: dict[str, Any] | None
    because: str
    try_: str  # "try" in JSON


@dataclass(frozen=True, slots=True)
class Blind:
    """A cause that could not be seen here, why, and the one thing to enable."""

    cause: str
    reason: str
    enable: str


@dataclass(frozen=True, slots=True)
class Culprit:
    """A part with at least a tenth of what is ranked; ``without_ns`` is the duration without it, at least."""

    cause: str
    entity: Entity
    share_of_excess: float
    without_ns: int


@dataclass(frozen=True, slots=True)
class SuspectReading:
    """A reading beside the requests and what it usually is: cores (``{cpu}``) or bytes per second (``By/s``)."""

    signal: str
    unit: str
    value: float
    usual: float


@dataclass(frozen=True, slots=True)
class Suspect:
    """Who may be behind time that nobody measured: named, and charged nothing."""

    entity: Entity
    cause: str | None
    """What it may have been: a cause that is blind here. None where every cause that fits was measured."""
    excess_ns: int | None
    """Own time in it above usual that nothing explains; None for company, whose own time it is not."""
    readings: list[SuspectReading]
    because: str
    enable: str = ""
    """What to enable to decide."""


@dataclass(frozen=True, slots=True)
class Join:
    """How the request was tied to its container: the weakest join on the critical path."""

    container: (
        str | None
    )  # the attribute that told it: "container.id", "host.name" …; null where it is in none, or unknown
    confidence: float
    skew_adjusted_ns: int
    reason: str | None = None  # why it is not surer


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ledger and what it blames. ``sum(parts.lost_ns) + unexplained_ns == duration_ns``, exactly."""

    trace_id: str | None
    span_id: str | None
    service: str
    operation: str
    start: str
    duration_ns: int
    usual_ns: int | None
    excess_ns: int | None
    ranked_by: str
    parts: list[Part]
    unexplained_ns: int
    unexplained_usual_ns: int | None
    blind: list[Blind]
    culprits: list[Culprit]
    conclusive: bool
    settled: bool
    join: Join
    requests: int | None = None  # these three: of a verdict over a window only
    slow: int | None = None
    examples: list[str] | None = None
    suspects: list[Suspect] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RequestItem:
    """A request in a list."""

    trace_id: str
    span_id: str
    service: str
    operation: str
    start: str
    duration_ns: int
    usual_ns: int | None
    excess_ns: int | None
    slow: bool
    status: str  # "unset" | "ok" | "error"
    cause: str | None  # first culprit


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A list, where it goes on, and why it is empty."""

    items: list[Item] = field(default_factory=list)
    next: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class EntityQuery:
    """Which entities: those that lived in a half-open window, of a type, with tags."""

    from_ns: int
    to_ns: int
    type: str | None = None  # "process" | "container" | "host" | "service"
    tags: tuple[Selection, ...] = ()  # all of them
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """What was used in a life, in the unit of its signal. Not measured is not zero."""

    low: int | None
    """At least: what was read last, and what the wrapper told; None where nothing is known."""
    high: int | None
    """At most: what can have been used between the last reading and the end besides; None where there is no bound."""
    value: int | None
    """The figure itself, where both are the same."""
    evidence: str
    """``measured``, ``range`` or ``not measured``."""

    @classmethod
    def of(cls, low: int | None, high: int | None) -> Total:
        """The total between these bounds."""
        if low is None:
            return cls(None, None, None, "not measured")
        if low == high:
            return cls(low, high, low, "measured")
        return cls(low, high, None, "range")


@dataclass(frozen=True, slots=True)
class EntityItem:
    """An entity with its tags (its own, and those of what it runs in) and its lifetime."""

    type: str  # "process" | "container" | "host" | "service"
    id: str
    name: str
    tags: dict[str, str]
    first_seen: str  # when its first data came
    last_seen: str  # its last data in the window
    started: str | None  # as the agent saw; null where nobody looked
    ended: str | None
    host: Entity | None
    runs_on: Entity | None  # a process's container or host, a container's host
    exit_code: int | None = None  # these three: of a container
    runs: int | None = None  # how often it was started, as far as was seen
    totals: dict[str, Total] | None = None  # what it used in its life


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """A service and the requests it answered in the window; quantiles of their durations."""

    service: str
    requests: int
    errors: int
    p50_ns: int
    p95_ns: int


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from one service to another, or to a dependency; quantiles of the caller's spans."""

    caller: str
    callee_type: str  # "service" | "dependency" (seen only from outside)
    callee: str  # the service's name; server.address:server.port of a dependency
    calls: int
    errors: int
    p50_ns: int
    p95_ns: int


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """A list of services, and the calls between them."""

    items: list[ServiceItem] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    next: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events: those of a half-open window, newest first."""

    from_ns: int
    to_ns: int
    name: str | None = None  # with * for anything
    service: str | None = None
    tags: tuple[Selection, ...] = ()  # all of them
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class EventItem:
    """Something that happened: to a container, or told from outside (a deploy)."""

    time: str
    name: str
    body: str
    attributes: dict[str, str]
    entity: Entity | None  # what it happened to, where that is known


@dataclass(frozen=True, slots=True)
class Table:
    """What a SQL query found. ``cut`` when there was more than was asked for."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    cut: bool


CauseItem = TypedDict(
    "CauseItem",
    {
        "cause": str,
        "layer": str,
        "title": str,
        "means": str,
        "needs": list[str],
        "mistaken_for": str,
        "try": str,
        "enable": str,
        "source": str,
    },
)


class TraceSpan(TypedDict):
    """A span of a trace, its start where clocks agree."""

    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str  # "unspecified" | "internal" | "server" | "client" | "producer" | "consumer"
    start: str
    duration_ns: int
    status: str  # "unset" | "ok" | "error"
    container_id: str | None
    account: str  # "thread" | "task" | "none"
    account_reason: str | None
    skew_adjusted_ns: int
    thread_id: int | None


class TraceSegment(TypedDict):
    """A piece of the critical path: the offset is from the root request's start."""

    span_id: str
    offset_ns: int
    length_ns: int


class Trace(TypedDict):
    """A trace as it was received, and its root request's critical path."""

    trace_id: str
    spans: list[TraceSpan]
    segments: list[TraceSegment]


@dataclass(frozen=True, slots=True)
class Health:
    """How the store and the correlator are; counts are since the process began."""

    waiting_batches: int  # to be written
    waiting_limit: int  # how many may
    waiting_traces: int  # with spans that are not worked out yet
    lag_ns: int  # how long the oldest of them has been waiting, 0 when none does
    passes: int
    worked_traces: int
    failed_traces: int
    used_bytes: int  # of the database file
    deleted_rows: int  # by retention


class BadCursor(ValueError):
    """A cursor that this list did not hand out."""


class BadSql(ValueError):
    """A query that may not be asked, or that makes no sense; the message says why."""


class Overloaded(RuntimeError):
    """The store cannot take more now; the sender shall try again later."""


class TooHeavy(RuntimeError):
    """A question that took too long to answer; the message says how long."""


class Questions(Protocol):
    """What the API may ask; ``layerline_correlator.correlator.Correlator`` answers."""

    monitors: Monitors

    def append(self, batch: Batch) -> None:
        """Return when the batch is durable. ``Overloaded`` when there is no room for it now."""

    def requests(self, query: RequestQuery) -> Page[RequestItem]:
        """Slow requests of the window (or those of at least ``min_duration_ns``). ``BadCursor``."""

    def verdict(self, trace_id: str, span_id: str | None = None, *, absolute: bool = False) -> Verdict | None:
        """The verdict of the trace's root request, or of the request whose entry span is ``span_id``."""

    def verdicts(self, query: RequestQuery) -> Page[Verdict]:
        """One verdict per service and operation that was slow in the window, most excess first."""

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """The ``Trace``; None when no span of it was received."""

    def causes(self) -> list[dict[str, Any]]:
        """Every cause, each a ``CauseItem``."""

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Any:
        """What was seen in the window and what was not: ``layerline_correlator.questions.coverage.Coverage``."""

    def timeline(self, query: TimelineQuery) -> Timeline | None:
        """What every layer did in a window; None for an unknown request. ``StepTooFine``, ``TooHeavy``."""

    def services(self) -> list[str]:
        """The services a span was received from."""

    def service_map(self, from_ns: int, to_ns: int) -> ServiceMap:
        """The services that answered requests in the window, and who called whom."""

    def inventory(self, query: EntityQuery) -> Page[EntityItem]:
        """What lived in the window. ``BadCursor``."""

    def events(self, query: EventQuery) -> Page[EventItem]:
        """What happened in the window. ``BadCursor``."""

    def sql(self, text: str, limit: int) -> Table:
        """One SELECT over the documented views. ``BadSql``, ``TooHeavy``."""

    def containers(self, query: Query, to_ns: int, limit: int, cursor: str | None = None) -> Containers:
        """What a tag query holds for, in the window that ends at ``to_ns``. ``BadCursor``, ``TooHeavy``."""

    def tag_keys(self, prefix: str, limit: int) -> list[TagKey]:
        """The keys of tags that begin so: what a query can ask by."""

    def tag_values(self, key: str, prefix: str, limit: int) -> list[TagValue]:
        """The values of a key that begin so."""

    @property
    def incidents(self) -> IncidentQuestions:
        """What was found without being asked."""

    def ready(self) -> bool:
        """True when data can be taken and questions answered."""

    def health(self) -> Health:
        """How the store and the correlator are."""


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries with JSON's names, ready for ``json.dumps``; None fields of windows are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name.rstrip("_"): plain(getattr(value, item.name))
            for item in fields(value)
            if not (isinstance(value, Verdict) and item.name in WINDOW_ONLY and getattr(value, item.name) is None)
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


#: The fields of a ``Verdict`` that only one over a window has.
WINDOW_ONLY = ("requests", "slow", "examples")
