"""What can be asked of the correlator, and the shape of what it answers.

The answers are dataclasses whose fields are, name for name, the JSON of the API (design, section 7). ``plain`` turns
one into what ``json.dumps`` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from layerline_correlator.model import Batch
from layerline_correlator.tagquery.model import Query, Selection

if TYPE_CHECKING:
    from layerline_correlator.monitors.keeper import Monitors
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
    """A process, container, host or service (a dependency), as a verdict names it."""

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
    """One cause's share of a ledger. Parts are disjoint, one per cause, service and entity."""

    cause: str
    layer: str
    service: str
    entity: Entity
    lost_ns: int
    low_ns: int
    high_ns: int
    usual_ns: int | None
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
        """``{"trace_id", "spans": […], "segments": […]}``."""

    def causes(self) -> list[dict[str, Any]]:
        """Every cause with ``cause, layer, title, means, needs, mistaken_for, try, source``."""

    def coverage(self, from_ns: int, to_ns: int, service: str | None = None) -> Any:
        """What was seen in the window and what was not: ``layerline_correlator.coverage.Coverage``."""

    def services(self) -> list[str]:
        """The services a span was received from."""

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
            if not (isinstance(value, Verdict) and item.name in _WINDOW and getattr(value, item.name) is None)
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


_WINDOW = ("requests", "slow", "examples")
