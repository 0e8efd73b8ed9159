"""Monitors over HTTP: save, list, silence, try on the past, delete (design, section 7.2)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from layerline_api.declared import JSON, as_json, declared
from layerline_api.notify import KINDS, summary, why_not
from layerline_api.parameters import AnyText, Parameters, instant_ns
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from layerline_api.tags import query_of
from layerline_correlator.judge import rfc3339
from layerline_correlator.monitors.keeper import Monitors
from layerline_correlator.monitors.model import Alert, CannotEvaluate, Monitor, Target
from layerline_correlator.query import Page
from layerline_correlator.settings import duration_ns

#: Monitors of one server, targets of one monitor, and alerts of its history that are listed, at most.
MOST, MOST_TARGETS, MOST_ALERTS = 200, 10, 100
SECOND, DAY = 10**9, 86_400 * 10**9
#: The longest past that is tried.
PAST_NS = 7 * DAY

#: How long a try may take, in seconds.
PATIENCE_S = 50.0

Json = dict[str, Any]
Clock = Callable[[], int]


class OneMonitor(Parameters):
    """One monitor."""

    monitor_id: AnyText


def monitors(kept: Callable[[], Monitors], settings: ServerSettings, clock: Clock = time.time_ns) -> Blueprint:
    """``/api/v1/monitors`` and what is below it; ``kept`` is asked for the monitors by each request."""
    blueprint = Blueprint("monitors", __name__, url_prefix="/api/v1/monitors")

    @blueprint.get("")
    @declared(Page[dict[str, Any]])
    def all_monitors() -> Page[Json]:
        """Every monitor with its state."""
        keeper = kept()
        found = [_item(keeper, monitor) for monitor in keeper.all()]
        return Page(found, reason=None if found else "no monitor was saved yet")

    @blueprint.post("")
    @declared(dict[str, Any], status=201, problems=(409,), body_in=(JSON,))
    def save() -> Response:
        """Save a monitor: a tag query that is asked on schedule."""
        keeper = kept()
        monitor = _monitor(_body(("name", "query", "for", "every", "targets")), settings, clock())
        if len(keeper.all()) >= MOST:
            raise Problem(409, f"there are {MOST} monitors already; delete one first")
        keeper.save(monitor)
        answer = as_json(_item(keeper, monitor))
        answer.status_code = 201
        answer.headers["Location"] = f"/api/v1/monitors/{monitor.id}"
        return answer

    @blueprint.post("/preview")
    @declared(dict[str, Any], body_in=(JSON,))
    def preview() -> Response:
        """What a monitor would have done in the past."""
        body = _body(("name", "query", "for", "every", "targets", "since", "to"))
        now_ns = clock()
        to_ns = now_ns if "to" not in body else instant_ns("to", _text(body, "to"))
        since_ns = _duration(body, "since", "24h", 60 * SECOND, PAST_NS)
        monitor = _monitor({**body, "targets": []}, settings, now_ns)
        end = time.monotonic() + PATIENCE_S
        try:
            found = kept().preview(monitor, max(0, to_ns - since_ns), to_ns, lambda: time.monotonic() > end)
        except CannotEvaluate as problem:
            raise Problem(400, f"{problem}; a shorter past (since) or a shorter window (over) helps", "since") from None
        return as_json(
            {
                "items": [_alert(alert) for alert in found.alerts],
                "next": None,
                "reason": None if found.alerts else "it would not have fired",
                "evaluations": found.evaluations,
                "every_ns": found.every_ns,
                "from": rfc3339(max(0, to_ns - since_ns)),
                "to": rfc3339(to_ns),
            }
        )

    @blueprint.get("/<monitor_id>")
    @declared(dict[str, Any], OneMonitor, problems=(404,))
    def one_monitor(asked: OneMonitor) -> Response:
        """A monitor and its alerts."""
        keeper = kept()
        monitor = _known(keeper, asked.monitor_id)
        past = keeper.history(monitor.id, MOST_ALERTS)
        alerts = keeper.open_alerts(monitor.id) + [alert for alert in past if alert.state == "resolved"]
        return as_json({**_item(keeper, monitor), "alerts": [_alert(alert) for alert in alerts]})

    @blueprint.delete("/<monitor_id>")
    @declared(None, OneMonitor, status=204, answers_in=(), problems=(404,))
    def delete(asked: OneMonitor) -> Response:
        """Forget a monitor; what fires is over then."""
        keeper = kept()
        keeper.delete(_known(keeper, asked.monitor_id), clock())
        return Response(status=204)

    @blueprint.post("/<monitor_id>/silence")
    @declared(dict[str, Any], OneMonitor, problems=(404,), body_in=(JSON,))
    def silence(asked: OneMonitor) -> Response:
        """Tell nothing of a monitor for a while."""
        keeper = kept()
        monitor = _known(keeper, asked.monitor_id)
        body = _body(("until", "for"))
        if ("until" in body) == ("for" in body):
            raise Problem(
                400, "expected either until (a time, or null to end the silence) or for (such as 2h)", "until"
            )
        if "for" in body:
            until_ns = clock() + _duration(body, "for", "", SECOND, 365 * DAY)
        else:
            until_ns = 0 if body["until"] is None else instant_ns("until", _text(body, "until"))
        return as_json(_item(keeper, keeper.silence(monitor, until_ns)))

    return blueprint


def _known(keeper: Monitors, monitor_id: str) -> Monitor:
    monitor = keeper.get(monitor_id)
    if monitor is None:
        raise Problem(404, f"there is no monitor {monitor_id[:80]}")
    return monitor


# ---- what is said


def _item(keeper: Monitors, monitor: Monitor) -> Json:
    """A monitor with its state: the worst of its alerts. Of addresses only the host is shown: the rest is a secret."""
    states = [alert.state for alert in keeper.open_alerts(monitor.id)]
    waiting, problem = keeper.untold(monitor.id)
    return {
        "id": monitor.id,
        "name": monitor.name,
        "query": monitor.question if monitor.source == "query" else None,
        "source": monitor.source,
        "every_ns": monitor.every_ns,
        "for_ns": monitor.for_ns,
        "targets": [{"kind": target.kind, "url": _masked(target.url)} for target in monitor.targets],
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


def _alert(alert: Alert) -> Json:
    return {
        "id": alert.id,
        "entity": alert.entity,
        "state": alert.state,
        "summary": summary(alert),
        "since": rfc3339(alert.since_ns),
        "fired": None if alert.fired_ns is None else rfc3339(alert.fired_ns),
        "resolved": None if alert.resolved_ns is None else rfc3339(alert.resolved_ns),
        "figures": alert.figures,
    }


def _masked(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


# ---- what is asked


def _body(known: tuple[str, ...]) -> Json:
    """The JSON object that was sent. It must be declared as JSON: a page of somebody else's cannot send that here."""
    if request.mimetype != "application/json":
        raise Problem(415, f"Content-Type is {request.mimetype[:80]!r}; expected application/json")
    request.max_content_length = 64 * 1024
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise Problem(400, f"the body is not a JSON object with any of {', '.join(known)}")
    for name in body:
        if name not in known:
            raise Problem(400, f"there is no field {name[:80]!r} here; there are: {', '.join(known)}", name[:80])
    return body


def _monitor(body: Json, settings: ServerSettings, now_ns: int) -> Monitor:
    question = _text(body, "query", 2_000)
    query_of("query", question)
    return Monitor(
        id=secrets.token_hex(8),
        name=_text(body, "name") if "name" in body else question[:200],
        source="query",
        question=question,
        every_ns=_duration(body, "every", "30s", 5 * SECOND, DAY),
        for_ns=_duration(body, "for", "0s", 0, 7 * DAY),
        targets=_targets(body.get("targets", []), settings),
        created_ns=now_ns,
    )


def _targets(given: Any, settings: ServerSettings) -> tuple[Target, ...]:
    if not isinstance(given, list) or len(given) > MOST_TARGETS:
        raise Problem(400, f"targets is not a list of at most {MOST_TARGETS} of {{kind, url}}", "targets")
    targets = []
    for number, one in enumerate(given):
        field = f"targets.{number}"
        if not isinstance(one, dict) or set(one) != {"kind", "url"} or one["kind"] not in KINDS:
            raise Problem(400, f"{field}: expected kind (one of {', '.join(KINDS)}) and url", field)
        if not isinstance(one["url"], str) or (reason := why_not(one["url"], settings)) is not None:
            said = "expected text" if not isinstance(one["url"], str) else reason
            raise Problem(400, f"{field}.url: {said}", f"{field}.url")
        targets.append(Target(one["kind"], one["url"]))
    return tuple(dict.fromkeys(targets))


def _text(body: Json, name: str, longest: int = 200) -> str:
    text = body.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > longest:
        raise Problem(400, f"{name}: expected text of 1 to {longest} characters", name)
    return text


def _duration(body: Json, name: str, default: str, least_ns: int, most_ns: int) -> int:
    given = body.get(name, default)
    try:
        found = duration_ns(given[:40]) if isinstance(given, str) else -1
    except (ValueError, OverflowError):
        found = -1
    if not least_ns <= found <= most_ns:
        between = f"{least_ns // SECOND}s to {most_ns // SECOND}s"
        raise Problem(400, f"{name} is {str(given)[:80]!r}; expected a duration such as 30s or 2m, {between}", name)
    return found
