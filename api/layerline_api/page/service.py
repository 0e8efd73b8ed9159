"""All services; and one of them, or one operation of it: a heatmap of latency, requests, errors and where the time went
over time with deployments marked, who calls and who is called, its operations, containers and versions, how it failed.

In the heatmap one draws a rectangle, or fills in a form, and comes to what these requests have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, ServicesForm, answer
from layerline_api.page.heat import heat
from layerline_api.page.picture import pictured
from layerline_api.page.rows import rate, service_rows, share
from layerline_api.parameters import VerdictParameters
from layerline_api.routes.overview import OverviewParameters
from layerline_api.routes.service import ServiceParameters
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.times import ns_of
from layerline_api.words.verdicts import tell
from layerline_correlator.plain import plain
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.store.patience import TooHeavy

MENU = Entry(3, "/services", "Services")
#: Services, neighbours and stories shown at most.
_SERVICES, _NEIGHBOURS, _STORIES = 200, 50, 2

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """An operation, container or version in a list."""

    name: str
    link: str
    rate: str
    errors: str
    slow: str
    p50: str
    p95: str
    first: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who calls, or is called."""

    name: str
    link: str
    rate: str
    errors: str
    p50: str
    p95: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests that failed in the same way."""

    what: str
    where: str
    requests: str
    message: str
    link: str


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/services`` and ``/service``."""

    @blueprint.get(MENU.path)
    @declared(None, ServicesForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def services_page(asked: ServicesForm) -> Response:
        """The page of all services."""
        return answer("services.html", asked, shared.questions, lambda: _all(asked, shared.questions))

    @blueprint.get("/service")
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def service_page(asked: Form) -> Response:
        """The page of one service, or one operation of it."""
        return answer("service.html", asked, shared.questions, lambda: _one(asked, shared.questions))


def _all(form: ServicesForm, questions: Questions) -> dict[str, Any]:
    asked = form.parameters(OverviewParameters).model_copy(update={"limit": _SERVICES})
    query = asked.query()
    found = plain(questions.overview(query, asked.search))
    ongoing = questions.incidents.list(IncidentQuery(query.from_ns, query.to_ns, "open", query.service)).items
    return {
        "rows": list(service_rows(found, query.to_ns - query.from_ns, form.window(), ongoing, ())),
        "left_out": found["left_out"],
        "why_no_service": clean(found["reason"] or ""),
        "json": _json("overview", form, OverviewParameters),
    }


def _one(form: Form, questions: Questions) -> dict[str, Any]:
    query = form.parameters(ServiceParameters).query()
    body = plain(questions.service(query))
    length_ns = query.to_ns - query.from_ns
    if body["reason"]:
        return {"reason": clean(body["reason"])}
    titles = titles_of(questions.causes())
    changed = questions.verdicts(form.parameters(VerdictParameters).query())
    stories = [tell(plain(one), questions.causes()) for one in changed.items[:_STORIES]]
    picture, missing = None, ""
    try:
        timeline = questions.timeline(
            TimelineQuery(
                ns_of(body["origin"]),
                query.to_ns,
                service=query.service,
                operation=query.operation,
                step_ns=body["step_ns"],
                signals=(),
            )
        )
        newer = sorted(ns_of(one["first"]) for one in body["versions"])[1:]
        picture = pictured(plain(timeline), titles, moments_ns=newer) if timeline is not None else None
    except TooHeavy as problem:
        missing = str(problem)
    edges = plain(questions.service_map(query.from_ns, query.to_ns))["edges"]
    window = form.window()
    return {
        "reason": "",
        "service": clean(body["service"]),
        "operation": clean(body["operation"] or ""),
        "whole": {"service": body["service"], **window},
        "figures": f"{rate(body['requests'], length_ns)}, {body['requests']:,} requests,"
        f" {share(body['errors'], body['requests'])} failed",
        "stories": [story for story in stories if not story.is_quiet],
        "drawn": heat(body),
        "picture": picture,
        "missing": clean(missing),
        "operations": [
            _part(one, length_ns, _link({"service": body["service"], "operation": one["name"], **window}))
            for one in body["operations"]
        ],
        "containers": [
            _part(one, length_ns, "/timeline?" + urlencode({"entity": f"container:{one['entity']['id']}", **window}))
            for one in body["containers"]
        ],
        "versions": [_part(one, length_ns, "") for one in body["versions"]],
        "callers": [
            _neighbour(one, "caller", length_ns, window)
            for one in edges
            if one["callee_type"] == "service" and one["callee"] == body["service"]
        ][:_NEIGHBOURS],
        "callees": [_neighbour(one, "callee", length_ns, window) for one in edges if one["caller"] == body["service"]][
            :_NEIGHBOURS
        ],
        "failures": [_failed(one) for one in body["failures"]],
        "json": _json("service", form, ServiceParameters),
    }


def _json(route: str, form: Form, model: type[OverviewParameters | ServiceParameters]) -> str:
    """The address of the answer as the API gives it."""
    known = {name.rstrip("_") for name in model.model_fields}
    given = form.of_api()
    return f"/api/v1/{route}?" + urlencode(
        {name: text for name, text in (given | form.window()).items() if name in known}
    )


def _link(query: Mapping[str, str]) -> str:
    return "/service?" + urlencode(query)


def _part(one: Json, length_ns: int, link: str) -> Part:
    return Part(
        name=clean(one["name"]) or "(no name)",
        link=link,
        rate=rate(one["requests"], length_ns),
        errors=share(one["errors"], one["requests"]),
        slow=share(one["slow"], one["requests"]),
        p50=human(one["p50_ns"]),
        p95=human(one["p95_ns"]),
        first=clean(one["first"]),
    )


def _neighbour(one: Json, which: str, length_ns: int, window: Mapping[str, str]) -> Neighbour:
    is_service = which == "caller" or one["callee_type"] == "service"
    return Neighbour(
        name=clean(one[which]) or "(no name)",
        link=_link({"service": one[which], **window}) if is_service and one[which] else "",
        rate=rate(one["calls"], length_ns),
        errors=share(one["errors"], one["calls"]),
        p50=human(one["p50_ns"]),
        p95=human(one["p95_ns"]),
    )


def _failed(one: Json) -> Failed:
    return Failed(
        what=clean(one["type"] or one["status_code"] or "failed, and nothing says how"),
        where=clean(one["service"] or ""),
        requests=f"{one['requests']:,}",
        message=clean(one["message"] or ""),
        link=f"/requests/{one['example']}",
    )
