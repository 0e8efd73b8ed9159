"""Now: ongoing incidents, each with since when and what changed; a row per service with its rate, errors, latency and
where its time goes beside the time before; what changed; slow requests grouped by operation and cause; in one line what
is not seen.

Where there are none it says why: nothing received, nothing changed, nothing slow, no usual yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, ServicesForm, answer
from layerline_api.page.incidents import row_of
from layerline_api.page.rows import service_rows
from layerline_api.parameters import VerdictParameters
from layerline_api.routes.incidents import IncidentParameters
from layerline_api.routes.overview import OverviewParameters
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.entities import whole
from layerline_api.words.verdicts import Story, tell
from layerline_correlator.plain import plain
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.questions import Questions

MENU = Entry(1, "/", "Now")
INCIDENTS, CHANGED = 20, 5
#: Incidents are shown of so long at least, unless exact times are asked for: who was woken asks about the night.
_INCIDENTS_NS = 24 * 3600 * 10**9
#: Of so many ongoing incidents the change that fits best is shown.
_WITH_CHANGE = 5

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One slow request."""

    start: str
    took: str
    usual: str
    link: str


@dataclass(frozen=True, slots=True)
class Group:
    """The slow requests of an operation with the same first cause."""

    service: str
    operation: str
    cause: str
    layer: str
    requests: str
    together: str
    longest: str
    link: str
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class Changed:
    """What changed in one operation, and a request that shows it ("" where there is none)."""

    story: Story
    link: str
    why: str
    """Where its text is, to be copied."""


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/``."""

    @blueprint.get(MENU.path)
    @declared(None, ServicesForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def slow_requests(asked: ServicesForm) -> Response:
        """The page: what is wrong now, and how every service is."""
        return answer("start.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: ServicesForm, questions: Questions) -> dict[str, Any]:
    titles = titles_of(questions.causes())
    asked = form.parameters(OverviewParameters)
    of = form.parameters(IncidentParameters)
    from_ns, to_ns = of.window()
    is_longer = not form.is_exact and to_ns - from_ns < _INCIDENTS_NS
    since_ns = to_ns - _INCIDENTS_NS if is_longer else from_ns
    listed: dict[str, list[dict[str, Any]]] = {}
    more, why_none = False, None
    for state in ("open", "ended"):
        query = IncidentQuery(since_ns, to_ns, state, of.service, of.operation, None, INCIDENTS)
        page = questions.incidents.list(query)
        listed[state] = page.items
        more = more or page.next is not None
        why_none = page.reason
    changed = questions.verdicts(replace(form.parameters(VerdictParameters).query(), limit=CHANGED))
    causes = questions.causes()
    told = [(one, tell(one, causes)) for one in map(plain, changed.items)]
    stories = [(one, story) for one, story in told if not story.is_quiet]
    found = plain(questions.overview(asked.query(), asked.search))
    window = form.window()
    why = window | {name: text for name, text in form.of_api().items() if name != "search"}
    return {
        "ongoing": [
            row_of(one, _change(questions, one["id"]) if place < _WITH_CHANGE else "")
            for place, one in enumerate(listed["open"])
        ],
        "ended": [row_of(one) for one in listed["ended"]],
        "incidents_of": "of the last 24 hours" if is_longer else form.stretch,
        "more_incidents": more,
        "why_no_incidents": clean(why_none or "no operation was in trouble"),
        "changed": [
            Changed(
                story,
                f"/requests/{quote(story.examples[0])}" if story.examples else "",
                "/why?" + urlencode({**why, "service": one["service"], "operation": one["operation"]}),
            )
            for one, story in stories
        ],
        "why_no_change": clean(changed.reason or "nothing changed: every operation takes what it took before"),
        "rows": list(service_rows(found, to_ns - from_ns, window, listed["open"], [story for _, story in stories])),
        "left_out": found["left_out"],
        "why_no_service": clean(found["reason"] or ""),
        "groups": [_group(one, titles, window) for one in found["slow"]],
        "more_groups": found["slow_left_out"],
        "reason": clean(found["slow_reason"] or "no request was slow"),
        "why": "/why?" + urlencode(why),
        "seen": _seen(plain(questions.coverage(from_ns, to_ns, asked.service))),
        "json": "/api/v1/overview?" + urlencode(form.window()),
    }


def _change(questions: Questions, incident: str) -> str:
    """What changed near the beginning of an incident and fits its cause; "" where nothing does."""
    known = questions.incidents.one(incident) or {}
    fitting = [one for one in known.get("changes", ()) if one["likely"]]
    if not fitting:
        return ""
    what, entity = clean(fitting[0]["what"]), fitting[0]["entity"]
    return what if entity is None or clean(entity["name"]) in what else f"{what}, {whole(entity)}"


def _group(one: Json, titles: Mapping[str, str], window: Mapping[str, str]) -> Group:
    cause = one["cause"]
    return Group(
        service=clean(one["service"]),
        operation=clean(one["operation"]),
        cause=clean(titles.get(cause, cause)) if cause else "no single cause",
        layer=clean(cause or "").partition(".")[0],
        requests=f"{one['requests']:,} slow" if one["requests"] > 1 else "1 slow",
        together=human(one["excess_ns"]),
        longest=human(one["longest_ns"]),
        link="/service?" + urlencode({"service": one["service"], "operation": one["operation"], **window}),
        examples=[
            Example(
                start=clean(each["start"]),
                took=human(each["duration_ns"]),
                usual="" if each["usual_ns"] is None else human(each["usual_ns"]),
                link=f"/requests/{quote(each['trace_id'])}?span_id={quote(each['span_id'])}",
            )
            for each in one["examples"]
        ],
    )


def _seen(coverage: Json) -> tuple[str, str]:
    """What is seen of the window, in one sentence, and the one thing to do to see more ("" where there is nothing)."""
    if coverage["reason"]:
        return clean(coverage["reason"]), ""
    spans = sum(one["spans"] for one in coverage["services"])
    told = [f"{len(coverage['services']):,} services"]
    for name, word in (("host", "on a known machine"), ("account", "with their thread's time")):
        tied = [one[name] for one in coverage["services"]]
        of = sum(one["of"] for one in tied)
        if of:
            told.append(f"{100 * sum(one['spans'] for one in tied) / of:.0f} % of spans {word}")
    todo = [one for one in coverage["layers"] if one["enable"]] or coverage["blind"]
    if not todo:
        return f"{', '.join(told)}; every cause could be seen", ""
    what = todo[0].get("cause") or f"readings of the layer {todo[0]['layer']}"
    return f"{', '.join(told)} ({spans:,} spans); not seen: {clean(what)}", clean(todo[0]["enable"])
