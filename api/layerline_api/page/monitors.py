"""Monitors and SLOs: what is watched, what fires, what is left of a budget; queries tried on the past before saving.

One monitor has its history, how to silence it, and its question to be tried on the last day.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, render_template

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.parameters import Window, query_of
from layerline_api.problems import Problem
from layerline_api.routes.monitors import MOST_ALERTS, PAST_NS, OneMonitor, alert_item, known_monitor, monitor_fields
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean
from layerline_api.words.entities import whole
from layerline_api.words.times import ns_of, when
from layerline_correlator.monitors.model import CannotEvaluate, Monitor
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions
from layerline_correlator.times import rfc3339

Json = Mapping[str, Any]

MENU = Entry(8, "/monitors", "Monitors")
#: How long a question may be tried on the past by a page, in seconds.
PATIENCE_S = 5.0
_EVERY_NS = 30 * 10**9
_STATES = {"firing": "fires", "pending": "holds, not for long enough yet", "ok": "quiet", "unknown": "cannot be asked"}


@dataclass(frozen=True, slots=True)
class Row:
    """A monitor."""

    id: str
    name: str
    question: str
    state: str
    words: str
    firing: int
    every: str
    silent: str
    problem: str
    targets: str


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert."""

    who: str
    what: str
    state: str
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Past:
    """What a question would have done: alerts, and when they would have fired, in thousandths of the time."""

    said: str
    stretch: str
    alerts: list[AlertRow]
    marks: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Budget:
    """An SLO and what is left of its budget."""

    what: str
    promise: str
    requests: str
    left: float | None
    words: str
    is_burning: bool


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/monitors`` and ``/monitors/<monitor_id>``."""

    @blueprint.get(MENU.path)
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def monitors_page(asked: Form) -> Response:
        """The page of monitors and SLOs; with a query, what a monitor of it would have done."""
        return answer("monitors.html", asked, shared.questions, lambda: _found(asked, shared.questions))

    @blueprint.get("/monitors/<monitor_id>")
    @declared(None, OneMonitor, problems=(404,), answers_in=(HTML,))
    def monitor_page(asked: OneMonitor) -> str:
        """The page of one monitor: its alerts, and how to silence it."""
        keeper = shared.questions.monitors
        monitor = known_monitor(keeper, asked.monitor_id)
        over = [alert for alert in keeper.history(monitor.id, MOST_ALERTS) if alert.state == "resolved"]
        alerts = [plain(alert_item(alert)) for alert in (*keeper.open_alerts(monitor.id), *over)]
        return render_template(
            "monitor.html",
            monitor=_row(monitor_fields(keeper, monitor)),
            alerts=[_alert(one) for one in alerts],
            past=f"{MENU.path}?{urlencode({'q': monitor.question, 'since': '24h'})}"
            if monitor.source == "query"
            else "",
        )


def _found(form: Form, questions: Questions) -> dict[str, Any]:
    keeper = questions.monitors
    rows = [_row(monitor_fields(keeper, monitor)) for monitor in keeper.all()]
    order = list(_STATES)
    found: dict[str, Any] = {
        "monitors": sorted(rows, key=lambda row: (order.index(row.state), row.name)),
        "slos": [_budget(plain(slo)) for slo in questions.incidents.slos()],
    }
    if (text := form.fields().get("q")) is not None:
        query_of("q", text)
        from_ns, to_ns = form.parameters(Window).window()
        from_ns = max(from_ns, to_ns - PAST_NS)
        tried = Monitor("", text, "query", text, _EVERY_NS, 0, (), time.time_ns())
        try:
            found["past"] = _past(questions, tried, from_ns, to_ns)
        except CannotEvaluate as problem:
            raise Problem(400, f"{problem}; a shorter time, or a shorter window (over), helps", "q") from None
        body = json.dumps({"query": text})
        found["save"] = "curl -X POST -H 'Content-Type: application/json' --data '{}' \"$LAYERLINE_SERVER\"{}".format(
            body.replace("'", "'\\''"), "/api/v1/monitors"
        )
    return found


def _past(questions: Questions, monitor: Monitor, from_ns: int, to_ns: int) -> Past:
    """What it would have done in that time. ``CannotEvaluate``, also where that takes too long."""
    end = time.monotonic() + PATIENCE_S
    found = questions.monitors.preview(monitor, from_ns, to_ns, lambda: time.monotonic() > end)
    alerts = [plain(alert_item(alert)) for alert in found.alerts]
    said = (
        f"It would have fired {len(alerts):,} time{'' if len(alerts) == 1 else 's'}"
        if alerts
        else ("It would not have fired")
    )
    return Past(
        said=f"{said}; looked {found.evaluations:,} times, every {human(found.every_ns)}.",
        stretch=f"{when(rfc3339(from_ns))[:19]} to {when(rfc3339(to_ns))[:19]} UTC",
        alerts=[_alert(one) for one in alerts],
        marks=list(_marks(alerts, from_ns, to_ns)),
    )


def _marks(alerts: Sequence[Json], from_ns: int, to_ns: int) -> Iterator[tuple[float, float]]:
    for one in alerts:
        begin_ns = ns_of(one["fired"] or one["since"])
        end_ns = to_ns if one["resolved"] is None else ns_of(one["resolved"])
        x = (begin_ns - from_ns) / (to_ns - from_ns) * 1_000
        yield round(max(0.0, x), 2), round(max(2.0, (end_ns - begin_ns) / (to_ns - from_ns) * 1_000), 2)


def _row(fields: Json) -> Row:
    question = fields["query"] or json.dumps(fields[fields["source"]], ensure_ascii=False)
    silent_ns = 0 if fields["silent_until"] is None else ns_of(fields["silent_until"])
    return Row(
        id=quote(str(fields["id"])),
        name=clean(fields["name"]),
        question=clean(question),
        state=str(fields["state"]),
        words=_STATES[str(fields["state"])],
        firing=int(fields["firing"]),
        every=human(fields["every_ns"]),
        silent=f"{when(fields['silent_until'])[:19]} UTC" if silent_ns > time.time_ns() else "",
        problem=clean(fields["problem"] or ""),
        targets=", ".join(f"{clean(target.kind)} {clean(target.url)}" for target in fields["targets"]),
    )


def _alert(one: Json) -> AlertRow:
    return AlertRow(
        who=whole(one["entity"]),
        what=clean(one["summary"]),
        state=clean(one["state"]),
        since=when(one["fired"] or one["since"])[:19],
        until="" if one["resolved"] is None else when(one["resolved"])[:19],
    )


def _budget(slo: Json) -> Budget:
    left = slo["budget_left_ratio"]
    quick = "" if slo["threshold_ns"] is None else f" within {human(slo['threshold_ns'])}"
    return Budget(
        what=f"{clean(slo['service'])} {clean(slo['operation'] or '')}".strip(),
        promise=f"{slo['objective'] * 100:g} % of requests succeed{quick}",
        requests=f"{slo['bad']:,} of {slo['requests']:,} did not",
        left=None if left is None else round(max(0.0, min(1.0, left)) * 100, 1),
        words="no requests yet" if left is None else f"{left * 100:.0f} % of the budget left",
        is_burning=bool(slo["burning"]),
    )
