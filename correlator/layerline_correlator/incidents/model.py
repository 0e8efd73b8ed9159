"""What is said of an incident. The fields are, name for name, the JSON of the API; times are RFC 3339, UTC."""

from __future__ import annotations

from dataclasses import dataclass, field

from layerline_correlator.entity import Entity
from layerline_correlator.verdict.edges import EdgeChange
from layerline_correlator.verdict.model import Blind, Failure, Verdict


@dataclass(frozen=True, slots=True)
class Hit:
    """An operation that was hit. ``base_ns`` and ``usual_p95_ns`` are of the hour before."""

    service: str
    operation: str
    start: str
    end: str | None
    signs: list[str]  # "slow" | "tail" | "error" | "cause" | "late_calls" | "failed_calls" | "slo"
    requests: int
    affected: int
    errors: int
    base_ns: int
    p50_ns: int
    p95_ns: int
    usual_p50_ns: int | None
    usual_p95_ns: int | None


@dataclass(frozen=True, slots=True)
class ExcessSeries:
    """How much one cause cost beyond its usual, summed over the requests of each step; null where there were none."""

    cause: str  # or "unexplained"
    layer: str | None
    service: str
    entity: Entity | None
    excess_ns: list[int | None]


@dataclass(frozen=True, slots=True)
class Excess:
    """Excess by cause and entity over time, over the outermost operations. ``start`` is that of the first step."""

    start: str
    step_ns: int
    requests: list[int]
    series: list[ExcessSeries]


@dataclass(frozen=True, slots=True)
class FirstSign:
    """When a layer first cost time beyond the usual, in which cause, and by whom."""

    layer: str
    at: str
    offset_ns: int  # from the incident's start
    cause: str
    entity: Entity


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed near the start. ``likely``: it fits the first culprit."""

    at: str
    offset_ns: int  # from the incident's start; negative is before
    kind: str  # the event's name, or "version", "limit", "neighbour"
    entity: Entity | None
    what: str
    likely: bool
    why: str


@dataclass(frozen=True, slots=True)
class Share:
    """How often a tag or attribute has this value among affected requests, and among others."""

    key: str
    value: str
    affected: int
    others: int
    affected_ratio: float
    others_ratio: float
    lift: float | None  # affected_ratio / others_ratio; null where no other request has it


@dataclass(frozen=True, slots=True)
class Radius:
    """Blast radius: which tags tell affected requests from others of the same operations at the same time."""

    sentence: str
    tags: list[Share]


@dataclass(frozen=True, slots=True)
class Explained:
    """Of the excess of one service's operations, how much was spent in which service."""

    service: str
    by: str
    excess_ns: int
    share: float


@dataclass(frozen=True, slots=True)
class Without:
    """The requests of the outermost operations, timed again without what one culprit cost beyond its usual.

    ``p95_without_low_ns`` and ``_high_ns``: if it cost as much, or as little, as its evidence allows. ``at_least``:
    another cause can take over, so this is the least that would remain.
    """

    cause: str
    entity: Entity
    p50_ns: int
    p95_ns: int
    p50_without_ns: int
    p95_without_ns: int
    p95_without_low_ns: int
    p95_without_high_ns: int
    at_least: bool
    takes_over: list[str]


@dataclass(frozen=True, slots=True)
class IncidentItem:
    """An incident in a list."""

    id: str
    state: str  # "open" | "ended"
    start: str
    end: str | None
    noticed: str
    duration_ns: int | None
    services: list[str]
    operations: list[list[str]]  # [service, operation]
    requests: int
    affected: int
    cause: str | None
    entity: Entity | None
    conclusive: bool
    summary: str
    kind: str = "time"  # "errors": at least half of the affected requests failed, and no time is to blame


@dataclass(frozen=True, slots=True)
class Incident(IncidentItem):
    """Everything that is known of an incident."""

    settled: bool = False
    hit: list[Hit] = field(default_factory=list)
    verdict: Verdict | None = None
    excess: Excess | None = None
    first_signs: list[FirstSign] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    radius: Radius = field(default_factory=lambda: Radius("", []))
    common: list[Share] = field(default_factory=list)
    propagation: list[Explained] = field(default_factory=list)
    without: list[Without] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    try_: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    """How requests of the first operation failed, the most frequent first."""
    edges: list[EdgeChange] = field(default_factory=list)
    """Calls between services that are slower or fail more often than in the time before, what adds most time first."""
