"""What a tag query is answered with. The fields are, name for name, the JSON of ``/api/v1/containers``."""

from __future__ import annotations

from dataclasses import dataclass, field

from layerline_correlator.entity import Entity


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison of one container. ``group_value`` and ``ratio`` only where a group's aggregate was asked for."""

    signal: str  # without the leading "container."
    unit: str
    operator: str
    value: float | None  # None: not measured
    bound: float | None
    group_value: float | None  # of the first aggregate in the bound
    ratio: float | None  # value / group_value


@dataclass(frozen=True, slots=True)
class Served:
    """How a container's own requests went in the window."""

    count: int
    errors: int
    slow: int
    slow_ratio: float | None
    p50_ns: int | None
    p95_ns: int | None


@dataclass(frozen=True, slots=True)
class ContainerItem:
    """A container for which the query holds. ``value``, ``group_value`` and ``ratio`` are the first comparison's."""

    entity: Entity
    host: Entity | None
    image: str | None
    services: list[str]
    from_: str  # the part of the window in which it lived
    to: str
    gone: bool | None  # None: nobody looked
    value: float | None
    group_value: float | None
    ratio: float | None
    comparisons: list[Compared]
    requests: Served | None  # None: no spans come from it


@dataclass(frozen=True, slots=True)
class NotMeasuredItem:
    """A container that the tags select and of which it cannot be said whether the comparison holds."""

    entity: Entity
    gone: bool | None
    signal: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """All of them, and the first few."""

    count: int = 0
    items: list[NotMeasuredItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Containers:
    """The answer: a list as any other, what could not be judged beside it, and the window it is about."""

    items: list[ContainerItem]
    next: str | None
    reason: str | None
    not_measured: NotMeasured
    from_: str
    to: str
