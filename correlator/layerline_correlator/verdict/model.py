"""A verdict: a ledger and what it blames. The fields are, name for name, the JSON of the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from layerline_correlator.entity import Entity
from layerline_correlator.plain import LEFT_OUT


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entity that ran meanwhile, and its share of what ran."""

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
    before_ns: int | None = field(default=None, metadata=LEFT_OUT)
    """Of a mean request of the time that a window is compared with; this and the next of a window only."""
    change_ns: int | None = field(default=None, metadata=LEFT_OUT)
    """How much more a mean request of the window lost to it."""


@dataclass(frozen=True, slots=True)
class Blind:
    """A cause that could not be seen here, why, and the one thing to enable."""

    cause: str
    reason: str
    enable: str


@dataclass(frozen=True, slots=True)
class CauseChange:
    """One cause's share of what somebody takes more of a mean request than before. ``unexplained`` is no cause."""

    cause: str
    entity: Entity
    before_ns: int
    change_ns: int


@dataclass(frozen=True, slots=True)
class Culprit:
    """A cause and an entity that took at least a tenth of what is ranked, over all services that lost time to them.

    ``without_ns`` is the duration without it, at least. Where some parts took less time than usual, ``share_of_excess``
    is a share of all that the others added; shares sum to 1 at most.

    Where a window is compared with the time before (``ranked_by`` is ``change``), it is an entity that takes more of a
    mean request than before, over all causes and callers and what is unexplained there: ``cause`` is the largest of
    ``causes``, which may be ``unexplained``; shares are of the change.
    """

    cause: str
    entity: Entity
    share_of_excess: float
    without_ns: int
    before_ns: int | None = field(default=None, metadata=LEFT_OUT)
    """What it took of a mean request before; this and the next ones of a window that is compared only."""
    change_ns: int | None = field(default=None, metadata=LEFT_OUT)
    causes: list[CauseChange] | None = field(default=None, metadata=LEFT_OUT)
    layer: str | None = field(default=None, metadata=LEFT_OUT)
    """Who would mend it, also where it is ``unexplained``; this and the next of a window that is compared only."""
    because: str | None = field(default=None, metadata=LEFT_OUT)
    """What else speaks for it: calls between services that got slower, a neighbour that rose; empty where nothing."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is large in a mean request, and was before: who takes it, mostly by which cause, over all causes."""

    cause: str
    entity: Entity
    now_ns: int
    before_ns: int
    share: float
    """Of a mean request."""


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
    """Own time in it above usual that nothing explains; None for a neighbour, whose own time it is not."""
    readings: list[SuspectReading]
    because: str
    enable: str = ""
    """What to enable to decide."""


@dataclass(frozen=True, slots=True)
class Join:
    """How the request was tied to its container: the weakest join on the critical path."""

    container: str | None  # by which attribute: "container.id", "host.name" …; null where it is in none, or unknown
    confidence: float
    skew_adjusted_ns: int
    reason: str | None = None  # why it is not surer


@dataclass(frozen=True, slots=True)
class Failure:
    """Why requests failed, as the deepest failing span on the way down says it; alike ones are one."""

    type: str | None
    """Of the exception, else ``error.type``."""
    message: str | None
    """Of the exception, else of the error that was logged, else of the status; of the newest request."""
    status_code: str | None
    """``HTTP 500``, ``gRPC UNAVAILABLE``: of the span that failed, else of the next above it that has one."""
    status_of: str | None
    """The service whose span has that code."""
    service: str
    """In which it failed."""
    span: str
    """The name of the span that failed."""
    span_id: str | None
    dependency: bool
    """Whether it was a call, and ``entity`` is whom it called."""
    entity: Entity
    """The dependency that was called, else the container (outside of one the service) that it failed in."""
    services: list[str]
    """From the request's own to the one in which it failed."""
    said_by: str
    """``exception``, ``log`` or ``status``: where type and message are from."""
    because: str
    """All of this in one line."""
    requests: int
    before: int | None = None
    """How many requests failed so in the time before (``against``); None for a request's own."""
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Against:
    """The time that a window is compared with, without what was inside of incidents."""

    from_: str  # "from" in JSON
    to: str
    requests: int
    errors: int
    p50_ns: int | None
    p95_ns: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """How all requests of a window differ from those of the time before (``against``)."""

    state: str
    """``changed``, ``nothing``, ``quicker``, ``too_few`` requests to compare, ``no_before``: none before."""
    because: str
    requests_per_second: float
    requests_per_second_before: float
    p50_ns: int | None
    p95_ns: int | None
    mean_ns: int | None = None
    """Of a request, by the ledgers of both times; null where they cannot be compared."""
    mean_before_ns: int | None = None
    change_ns: int | None = None
    versions: list[str] = field(default_factory=list)
    """``service version`` of what was not there before."""


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
    requests: int | None = field(default=None, metadata=LEFT_OUT)  # these four: of a verdict over a window only
    slow: int | None = field(default=None, metadata=LEFT_OUT)
    judged: int | None = field(default=None, metadata=LEFT_OUT)
    """How many of the slow requests the sums are of: not those beyond the newest 500, nor those without a usual."""
    examples: list[str] | None = field(default=None, metadata=LEFT_OUT)
    suspects: list[Suspect] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    """Why it failed, the most frequent first; empty where nothing did."""
    errors: int | None = field(default=None, metadata=LEFT_OUT)
    """How many of ``requests`` failed; of a verdict over a window only."""
    against: Against | None = field(default=None, metadata=LEFT_OUT)
    """Of a verdict over a window, and of a request that failed."""
    change: Change | None = field(default=None, metadata=LEFT_OUT)
    """What changed; these four of a verdict over a window only."""
    standing: list[Standing] | None = field(default=None, metadata=LEFT_OUT)
    """What is large and did not change."""
    unexplained_before_ns: int | None = field(default=None, metadata=LEFT_OUT)
    """Of a mean request."""
    unexplained_change_ns: int | None = field(default=None, metadata=LEFT_OUT)
