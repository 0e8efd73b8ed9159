"""A monitor, what one evaluation of it found, and the alerts that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from layerline_correlator.entity import Entity


class Group(NamedTuple):
    """Whom an alert is about: of one monitor and one group there is one open alert at most."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Somebody for whom a monitor's question holds."""

    entity: Entity
    figures: dict[str, Any] = field(default_factory=dict)  # what is known of it, ready for JSON

    @property
    def group(self) -> Group:
        return Group(self.entity.type, self.entity.id)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found: for whom it holds, and of whom that cannot be said. All others are well."""

    findings: tuple[Finding, ...] = ()
    unknown: frozenset[Group] = frozenset()
    blind: bool = False  # it cannot be said of anybody else either


#: A question's text and a moment, and what was found then. Raises ``CannotEvaluate``. Has no clock of its own.
Source = Callable[[str, int], Evaluation]


class CannotEvaluate(RuntimeError):
    """The question could not be asked; the message says why. Nothing follows for any alert."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an alert is told: an address, and the shape that is understood there."""

    kind: str  # "webhook" | "alertmanager" | "slack"
    url: str


@dataclass(frozen=True, slots=True)
class Monitor:
    """A saved question."""

    id: str
    name: str
    source: str  # whose question it is: "query" | "slo" | "incidents"
    question: str  # a tag query, or the JSON of a ``Promise`` or an ``IncidentFilter``
    every_ns: int
    for_ns: int  # how long it must hold, evaluation after evaluation, before an alert fires
    targets: tuple[Target, ...]
    silent_until_ns: int = 0
    created_ns: int = 0
    evaluated_ns: int = 0
    problem: str | None = None  # why the last evaluation failed


@dataclass(frozen=True, slots=True)
class Alert:
    """That a monitor's question held for somebody, from when to when."""

    id: str
    monitor: str
    entity: Entity
    state: str  # "pending" | "firing" | "resolved"
    since_ns: int  # it has held from here on
    held_ns: int  # the last evaluation at which it held
    fired_ns: int | None = None
    resolved_ns: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    told: str | None = None  # the last state that was told: "firing" | "resolved"
    told_ns: int = 0

    @property
    def group(self) -> Group:
        return Group(self.entity.type, self.entity.id)


@dataclass(frozen=True, slots=True)
class Notice:
    """That an alert's state is to be told to a target, with the alert as it was then."""

    id: str
    monitor: Monitor
    alert: Alert
    target: Target
    created_ns: int
    tries: int = 0


def alert_id(monitor: str, group: Group, since_ns: int) -> str:
    """The same for the same alert, however often it is judged: 16 hex digits."""
    text = "\0".join((monitor, *group, str(since_ns)))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
