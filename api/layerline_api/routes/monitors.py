"""Monitors over HTTP: save, list, silence, try on the past, delete (design, section 7.2)."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from flask import Blueprint, Response
from pydantic import Discriminator, Field, Tag

from layerline_api.alerts.notify import Kind, summary, why_not
from layerline_api.declared import Body, as_json, declared
from layerline_api.parameters import AnyText, Instant, Parameters, Read, between, query_of, words
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.entity import Entity
from layerline_correlator.incidents.slo import Promise
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import Alert, CannotEvaluate, Monitor, Target
from layerline_correlator.monitors.sources import IncidentFilter
from layerline_correlator.questions.paging import Page
from layerline_correlator.times import rfc3339

#: Monitors of one server, targets of one monitor, and alerts of its history that are listed, at most.
MOST, MOST_TARGETS, MOST_ALERTS = 200, 10, 100
SECOND, DAY = 10**9, 86_400 * 10**9
#: The longest past that is tried, and the longest query, in characters.
PAST_NS, LONGEST = 7 * DAY, 2_000

#: How long a try may take, in seconds.
PATIENCE_S = 50.0


# ---- what is sent


class TargetBody(Body):
    """Who is told, and the shape that is understood there."""

    kind: Kind
    url: Annotated[str, Field(min_length=1, max_length=2_000)]


class MonitorBody(Body):
    """What every monitor may say."""

    source: ClassVar[str]  # the field that holds its question

    name: Annotated[
        Annotated[str, words(200)] | None,
        Field(description="what people read; the question itself unless said otherwise"),
    ] = None
    every: Annotated[int, between(5 * SECOND, DAY)] = Field(
        default="30s", validate_default=True, description="how often it is asked"
    )
    for_: Annotated[int, between(0, 7 * DAY)] = Field(
        default="0s", validate_default=True, description="how long it must hold before the alert fires"
    )
    targets: list[TargetBody] = Field(default_factory=list, max_length=MOST_TARGETS, description="who is told")


def _query(name: str, text: str) -> str:
    if len(text) > LONGEST:
        raise Problem(400, f"{name} is {len(text):,} characters long; expected at most {LONGEST:,}", name)
    query_of(name, text)
    return text


class QueryMonitor(MonitorBody):
    """A tag query (`layerline docs query`): an alert for each container for which it holds."""

    source: ClassVar[str] = "query"
    query: Annotated[
        str, Read(_query, {"type": "string", "maxLength": LONGEST, "examples": ["memory.working_set > 1GiB over 5m"]})
    ]


class SloMonitor(MonitorBody):
    """An SLO: an alert while its error budget burns; `*` for service or operation: for each that has requests."""

    source: ClassVar[str] = "slo"
    slo: Promise


class IncidentsMonitor(MonitorBody):
    """Incidents: an alert for each, from when it was noticed to its end."""

    source: ClassVar[str] = "incidents"
    incidents: IncidentFilter


class Past(Body):
    """Which past."""

    since: Annotated[int, between(60 * SECOND, PAST_NS)] = Field(
        default="24h", validate_default=True, description="that long until `to`"
    )
    to: Annotated[Instant | None, Field(description="now unless said otherwise")] = None


class QueryPreview(Past, QueryMonitor):
    """What a monitor of a tag query would have done."""


class SloPreview(Past, SloMonitor):
    """What a monitor of an SLO would have done."""


class IncidentsPreview(Past, IncidentsMonitor):
    """What a monitor of incidents would have done."""


class Until(Body):
    """Silence until a time; null ends it."""

    until: Instant | None


class For(Body):
    """Silence from now on, for so long."""

    for_: Annotated[int, between(SECOND, 365 * DAY)]


def _exactly_one(*names: str) -> Discriminator:
    """Which of the shapes it is: the one whose field is there. In parentheses: it is no field of what was sent."""

    def shape(sent: Any) -> str:
        if not isinstance(sent, dict):
            raise Problem(400, f"the body is {json.dumps(sent)[:80]}; expected an object with {' or '.join(names)}")
        given = [name for name in names if name in sent]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise Problem(400, f"expected exactly one of {', '.join(names)}; found {found}", (given[1:] or names)[0])
        return f"({given[0]})"

    return Discriminator(shape)


_SOURCE = _exactly_one("query", "slo", "incidents")
AnyMonitor = Annotated[
    Annotated[QueryMonitor, Tag("(query)")]
    | Annotated[SloMonitor, Tag("(slo)")]
    | Annotated[IncidentsMonitor, Tag("(incidents)")],
    _SOURCE,
]
AnyPreview = Annotated[
    Annotated[QueryPreview, Tag("(query)")]
    | Annotated[SloPreview, Tag("(slo)")]
    | Annotated[IncidentsPreview, Tag("(incidents)")],
    _SOURCE,
]
AnySilence = Annotated[Annotated[Until, Tag("(until)")] | Annotated[For, Tag("(for)")], _exactly_one("until", "for")]


# ---- what is said


@dataclass(frozen=True, slots=True)
class ShownTarget:
    """Who is told. Of the address only the host is shown: the rest is a secret."""

    kind: str
    url: str


@dataclass(frozen=True, slots=True)
class MonitorItem:
    """A monitor with its state: the worst of its alerts. The question stands in ``query``, ``slo`` or ``incidents``."""

    id: str
    name: str
    source: str
    query: str | None
    slo: dict[str, Any] | None
    incidents: dict[str, Any] | None
    every_ns: int
    for_ns: int
    targets: list[ShownTarget]
    state: str  # "ok" | "pending" | "firing" | "unknown"
    firing: int
    pending: int
    silent_until: str | None
    created: str
    evaluated: str | None
    problem: str | None  # why the last evaluation failed
    untold: int
    untold_problem: str | None


@dataclass(frozen=True, slots=True)
class AlertItem:
    """That a monitor's question held for somebody, from when to when."""

    id: str
    entity: Entity
    state: str  # "pending" | "firing" | "resolved"
    summary: str
    since: str
    fired: str | None
    resolved: str | None
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class MonitorWithAlerts(MonitorItem):
    """A monitor and its alerts: the open ones, then what is over."""

    alerts: list[AlertItem]


@dataclass(frozen=True, slots=True)
class Tried:
    """What would have fired, in order of time, and how closely that was looked at."""

    items: list[AlertItem]
    next: str | None
    reason: str | None
    evaluations: int
    every_ns: int  # the step between them: the monitor's own, or more
    from_: str
    to: str


class OneMonitor(Parameters):
    """One monitor."""

    monitor_id: AnyText


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/monitors`` and what is below it."""
    blueprint = Blueprint("monitors", __name__, url_prefix="/api/v1/monitors")

    @blueprint.get("")
    @declared(Page[MonitorItem])
    def all_monitors() -> Page[MonitorItem]:
        """Every monitor with its state."""
        keeper = shared.questions.monitors
        found = [MonitorItem(**monitor_fields(keeper, monitor)) for monitor in keeper.all()]
        return Page(found, reason=None if found else "no monitor was saved yet")

    @blueprint.post("")
    @declared(MonitorItem, status=201, problems=(409,), body=AnyMonitor)
    def save(body: MonitorBody) -> Response:
        """Save a monitor: a tag query, an SLO or incidents, asked on schedule."""
        keeper = shared.questions.monitors
        for number, target in enumerate(body.targets):
            if (reason := why_not(target.url, shared.settings)) is not None:
                raise Problem(400, f"targets.{number}.url: {reason}", f"targets.{number}.url")
        monitor = _monitor(body, time.time_ns())
        if len(keeper.all()) >= MOST:
            raise Problem(409, f"there are {MOST} monitors already; delete one first")
        keeper.save(monitor)
        answer = as_json(MonitorItem(**monitor_fields(keeper, monitor)))
        answer.status_code = 201
        answer.headers["Location"] = f"/api/v1/monitors/{monitor.id}"
        return answer

    @blueprint.post("/preview")
    @declared(Tried, body=AnyPreview)
    def preview(body: QueryPreview | SloPreview | IncidentsPreview) -> Tried:
        """What a monitor would have done in the past."""
        now_ns = time.time_ns()
        to_ns = now_ns if body.to is None else body.to
        from_ns = max(0, to_ns - body.since)
        keeper, end = shared.questions.monitors, time.monotonic() + PATIENCE_S
        try:
            found = keeper.preview(_monitor(body, now_ns), from_ns, to_ns, lambda: time.monotonic() > end)
        except CannotEvaluate as problem:
            raise Problem(400, f"{problem}; a shorter past (since) or a shorter window (over) helps", "since") from None
        return Tried(
            items=[alert_item(alert) for alert in found.alerts],
            next=None,
            reason=None if found.alerts else "it would not have fired",
            evaluations=found.evaluations,
            every_ns=found.every_ns,
            from_=rfc3339(from_ns),
            to=rfc3339(to_ns),
        )

    @blueprint.get("/<monitor_id>")
    @declared(MonitorWithAlerts, OneMonitor, problems=(404,))
    def one_monitor(asked: OneMonitor) -> MonitorWithAlerts:
        """A monitor and its alerts."""
        keeper = shared.questions.monitors
        monitor = known_monitor(keeper, asked.monitor_id)
        past = keeper.history(monitor.id, MOST_ALERTS)
        alerts = keeper.open_alerts(monitor.id) + [alert for alert in past if alert.state == "resolved"]
        return MonitorWithAlerts(**monitor_fields(keeper, monitor), alerts=[alert_item(alert) for alert in alerts])

    @blueprint.delete("/<monitor_id>")
    @declared(None, OneMonitor, status=204, answers_in=(), problems=(404,))
    def delete(asked: OneMonitor) -> Response:
        """Forget a monitor; what fires is over then."""
        keeper = shared.questions.monitors
        keeper.delete(known_monitor(keeper, asked.monitor_id), time.time_ns())
        return Response(status=204)

    @blueprint.post("/<monitor_id>/silence")
    @declared(MonitorItem, OneMonitor, problems=(404,), body=AnySilence)
    def silence(asked: OneMonitor, body: Until | For) -> MonitorItem:
        """Tell nothing of a monitor for a while."""
        keeper = shared.questions.monitors
        monitor = known_monitor(keeper, asked.monitor_id)
        until_ns = time.time_ns() + body.for_ if isinstance(body, For) else body.until or 0
        return MonitorItem(**monitor_fields(keeper, keeper.silence(monitor, until_ns)))

    return blueprint


def known_monitor(keeper: Monitors, monitor_id: str) -> Monitor:
    """The monitor of that id. ``Problem`` 404 where there is none."""
    monitor = keeper.get(monitor_id)
    if monitor is None:
        raise Problem(404, f"there is no monitor {monitor_id[:80]}")
    return monitor


def _monitor(body: MonitorBody, now_ns: int) -> Monitor:
    question = getattr(body, body.source)
    return Monitor(
        id=secrets.token_hex(8),
        name=body.name or str(question)[:200],
        source=body.source,
        question=question if isinstance(question, str) else question.model_dump_json(exclude_none=True),
        every_ns=body.every,
        for_ns=body.for_,
        targets=tuple(dict.fromkeys(Target(target.kind, target.url) for target in body.targets)),
        created_ns=now_ns,
    )


def monitor_fields(keeper: Monitors, monitor: Monitor) -> dict[str, Any]:
    """A monitor as ``MonitorItem`` has it."""
    states = [alert.state for alert in keeper.open_alerts(monitor.id)]
    waiting, problem = keeper.untold(monitor.id)
    asked = monitor.question if monitor.source == "query" else json.loads(monitor.question)
    return {
        "id": monitor.id,
        "name": monitor.name,
        "source": monitor.source,
        "query": None,
        "slo": None,
        "incidents": None,
        monitor.source: asked,
        "every_ns": monitor.every_ns,
        "for_ns": monitor.for_ns,
        "targets": [ShownTarget(target.kind, _masked(target.url)) for target in monitor.targets],
        "state": "unknown"
        if monitor.problem or not monitor.evaluated_ns
        else next((state for state in ("firing", "pending") if state in states), "ok"),
        "firing": states.count("firing"),
        "pending": states.count("pending"),
        "silent_until": rfc3339(monitor.silent_until_ns) if monitor.silent_until_ns else None,
        "created": rfc3339(monitor.created_ns),
        "evaluated": rfc3339(monitor.evaluated_ns) if monitor.evaluated_ns else None,
        "problem": monitor.problem,
        "untold": waiting,
        "untold_problem": problem,
    }


def alert_item(alert: Alert) -> AlertItem:
    """An alert as JSON has it."""
    return AlertItem(
        id=alert.id,
        entity=alert.entity,
        state=alert.state,
        summary=summary(alert),
        since=rfc3339(alert.since_ns),
        fired=None if alert.fired_ns is None else rfc3339(alert.fired_ns),
        resolved=None if alert.resolved_ns is None else rfc3339(alert.resolved_ns),
        figures=alert.figures,
    )


def _masked(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"
