"""Incidents (`layerline docs incidents`) of a day or of any time; and one of them: what and since when, what changed
near its start, what to do, a picture.

Below: the first sign in each layer in order of time, what would be without it, whom it hits, the ledger, what was not
measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, render_template
from pydantic import Field

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.page.picture import Beside, Picture, excess_of, link_of, pictured
from layerline_api.page.requests import pieces
from layerline_api.page.timeline import ask
from layerline_api.parameters import AnyText
from layerline_api.problems import Problem
from layerline_api.routes.incidents import IncidentParameters, OneIncident
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.entities import whole
from layerline_api.words.incidents import between, commands, failed
from layerline_api.words.look_alikes import look_alikes
from layerline_api.words.times import apart, ns_of, when
from layerline_api.words.verdicts import tell
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.times import rfc3339

MENU = Entry(2, "/incidents", "Incidents")

Json = Mapping[str, Any]


class IncidentsForm(Form):
    """Which incidents are listed."""

    default: ClassVar[str] = "24h"

    state: Annotated[AnyText, Field(description="open or ended; both unless said")] = ""
    cursor: Annotated[AnyText, Field(description="`next` of the page before")] = ""


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident in a list."""

    summary: str
    since: str
    took: str  # "" while it is ongoing
    affected: str
    change: str
    link: str
    layer: str


def row_of(one: Json, change: str = "") -> IncidentRow:
    """An incident of the API's list, and what changed right before it, where that is known."""
    return IncidentRow(
        summary=clean(one["summary"]),
        since=clean(one["start"]),
        took="" if one["state"] == "open" else human(one["duration_ns"]),
        affected=f"{one['affected']:,} of {one['requests']:,}",
        change=change,
        link=f"/incidents/{quote(one['id'])}",
        layer=clean(one["cause"] or "").partition(".")[0],
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """An operation that was hit."""

    name: str
    since: str
    affected: str
    errors: str
    p50: str
    usual_p50: str
    p95: str
    usual: str
    link: str


@dataclass(frozen=True, slots=True)
class Sign:
    """A layer's first."""

    layer: str
    when: str
    what: str
    who: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed near the start."""

    when: str
    what: str
    who: str
    why: str
    is_likely: bool
    link: str


@dataclass(frozen=True, slots=True)
class Told:
    """An incident as its page has it."""

    summary: str
    is_open: bool
    since: str
    until: str
    took: str
    noticed: str
    affected: str
    failed: list[str]
    between: list[str]
    is_of_errors: bool
    changes: list[Change]
    signs: list[Sign]
    hits: list[Hit]
    without: list[str]
    spread: list[str]
    radius: str
    common: list[tuple[str, str, str, float, float]]
    """A tag or attribute, its share of the affected and of the others, in words and in percent."""
    advice: list[str]
    commands: list[str]
    examples: list[str]


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/incidents`` and ``/incidents/<incident>``."""

    @blueprint.get(MENU.path)
    @declared(None, IncidentsForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def incidents_page(asked: IncidentsForm) -> Response:
        """The page of all incidents of a time."""
        first = asked.model_copy(update={"cursor": ""})  # another time begins with its first
        return answer("incidents_list.html", first, shared.questions, lambda: _listed(asked, first, shared.questions))

    @blueprint.get("/incidents/<incident>")
    @declared(None, OneIncident, problems=(404,), answers_in=(HTML,))
    def incident_page(asked: OneIncident) -> str:
        """The page of one incident."""
        found = shared.questions.incidents.one(asked.incident)
        if found is None:
            raise Problem(404, f"there is no incident {asked.incident}")
        causes = shared.questions.causes()
        titles = titles_of(causes)
        story = None if found["verdict"] is None else tell(found["verdict"], causes)
        picture, missing = _picture(found, shared.questions, titles)
        return render_template(
            "incidents.html",
            incident=told(found, titles),
            id=found["id"],
            story=story,
            pieces=[] if story is None else pieces(story),
            alikes=[] if story is None else look_alikes(found["verdict"], causes),
            picture=picture,
            missing=missing,
            timeline=_timeline(found),
        )


def _listed(form: IncidentsForm, first: IncidentsForm, questions: Questions) -> dict[str, Any]:
    asked = form.parameters(IncidentParameters)
    found = questions.incidents.list(
        IncidentQuery(*asked.window(), asked.state, asked.service, asked.operation, None, asked.limit, asked.cursor)
    )
    given = first.choice() | first.window()
    return {
        "rows": [row_of(one) for one in found.items],
        "reason": clean(found.reason or "no operation was in trouble"),
        "more": "" if found.next is None else f"{MENU.path}?" + urlencode(given | {"cursor": found.next}),
        "states": {
            state: f"{MENU.path}?" + urlencode({**given, "state": state} if state else _without(given, "state"))
            for state in ("", "open", "ended")
        },
        "json": f"/api/v1{MENU.path}?" + urlencode(_without(given, "q")),
    }


def _without(given: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: text for key, text in given.items() if key != name}


def told(incident: Json, titles: Mapping[str, str]) -> Told:
    """The document in words."""
    is_open = incident["state"] == "open"

    def title(of: Json) -> str:
        return titles.get(str(of["cause"]), clean(of["cause"]))

    return Told(
        summary=clean(incident["summary"]),
        is_open=is_open,
        since=when(incident["start"])[:19],
        until="" if is_open else when(incident["end"])[:19],
        took="" if is_open else human(incident["duration_ns"]),
        noticed=when(incident["noticed"])[:19],
        affected=f"{incident['affected']:,} of {incident['requests']:,}",
        failed=list(failed(incident)),
        between=list(between(incident)),
        is_of_errors=incident.get("kind") == "errors",
        changes=[
            Change(
                when=_offset(one["offset_ns"]),
                what=clean(one["what"]),
                who="" if one["entity"] is None else whole(one["entity"]),
                why=clean(one["why"]),
                is_likely=bool(one["likely"]),
                link=link_of(one["entity"], _window(incident)),
            )
            for one in sorted(incident["changes"], key=lambda one: not one["likely"])
        ],
        signs=[
            Sign(
                layer=clean(one["layer"]),
                when=f"{when(one['at'])[11:19]}, {_offset(one['offset_ns'])}",
                what=title(one),
                who=whole(one["entity"]),
            )
            for one in incident["first_signs"]
        ],
        hits=[_hit(one, incident) for one in incident["hit"]],
        without=[
            f"Without “{title(one)}” of {whole(one['entity'])}: p95 {'at least ' if one['at_least'] else ''}"
            f"{human(one['p95_without_ns'])} instead of {human(one['p95_ns'])}, median "
            f"{human(one['p50_without_ns'])} instead of {human(one['p50_ns'])}."
            + (
                " May take over: " + "; ".join(titles.get(name, clean(name)) for name in one["takes_over"]) + "."
                if one["takes_over"]
                else ""
            )
            for one in incident["without"]
        ],
        spread=[
            f"{one['share']:.0%} of what {clean(one['service'])} lost was lost in {clean(one['by'])}.".replace(
                "%", " %", 1
            )
            for one in incident["propagation"]
            if one["service"] != one["by"]
        ],
        radius=clean(incident["radius"]["sentence"]),
        common=[
            (
                f"{clean(one['key'])} {clean(one['value'])}",
                f"{one['affected_ratio'] * 100:.0f} %",
                f"{one['others_ratio'] * 100:.0f} %",
                round(100 * one["affected_ratio"], 1),
                round(100 * one["others_ratio"], 1),
            )
            for one in (*incident["radius"]["tags"], *incident["common"])
        ],
        advice=[clean(one) for one in incident["try"]],
        commands=commands(incident),
        examples=[clean(one) for one in incident["examples"]],
    )


def _hit(one: Json, incident: Json) -> Hit:
    fields = {"service": one["service"], "operation": one["operation"], **_window(incident)}
    return Hit(
        name=f"{clean(one['service'])} {clean(one['operation'])}",
        since=when(one["start"])[11:19],
        affected=f"{one['affected']:,} of {one['requests']:,}",
        errors=f"{one['errors']:,}",
        p50=human(one["p50_ns"]),
        usual_p50="" if one["usual_p50_ns"] is None else human(one["usual_p50_ns"]),
        p95=human(one["p95_ns"]),
        usual="" if one["usual_p95_ns"] is None else human(one["usual_p95_ns"]),
        link="/timeline?" + urlencode(fields),
    )


def _offset(offset_ns: int) -> str:
    """``1.2 s before``, ``at once``."""
    if offset_ns == 0:
        return "at once"
    return f"{apart(offset_ns)} {'before' if offset_ns < 0 else 'after'}"


def _outermost(incident: Json) -> dict[str, str]:
    """The operation whose latency is shown: the verdict's, else the first that was hit."""
    of = incident["verdict"] or next(iter(incident["hit"]), None)
    return {} if of is None else {"service": of["service"], "operation": of["operation"]}


def _window(incident: Json) -> dict[str, str]:
    """The time of its series: the incident and a little around it."""
    excess = incident["excess"]
    if excess is None:
        return {"from": incident["start"], "to": incident["end"] or incident["noticed"]}
    length_ns = excess["step_ns"] * len(excess["requests"])
    return {"from": excess["start"], "to": rfc3339(ns_of(excess["start"]) + length_ns)}


def _timeline(incident: Json) -> str:
    return "/timeline?" + urlencode(_outermost(incident) | _window(incident))


def _picture(incident: Json, questions: Questions, titles: Mapping[str, str]) -> tuple[Picture | None, str]:
    """Its excess, and at the same steps latency, the readings of whom it concerns, and events; and what is missing.

    The excess is kept with the incident: it can be shown when the store has forgotten the rest, or is too busy.
    """
    excess = incident["excess"]
    if excess is None:
        return None, "its series are not known"
    window, of, missing = _window(incident), _outermost(incident), ""
    query = TimelineQuery(
        from_ns=ns_of(window["from"]),
        to_ns=ns_of(window["to"]),
        service=of.get("service"),
        operation=of.get("operation"),
        step_ns=excess["step_ns"],
    )
    try:
        body = ask(questions, query)
    except Problem as problem:
        missing = problem.detail
        body = {**window, "step_ns": excess["step_ns"], "points": len(excess["requests"]), "left_out": {}}
        body |= {"series": [], "events": [], "incidents": []}
    changes_ns = [ns_of(one["at"]) for one in incident["changes"]]
    within_ns = [at_ns for at_ns in changes_ns if at_ns >= ns_of(window["from"])]
    excess_stack, concerned = excess_of(incident, titles), _concerned(incident)
    return pictured(body, titles, excess_stack, concerned, within_ns, beside=_beside(incident, titles)), missing


def _beside(incident: Json, titles: Mapping[str, str]) -> Beside:
    """What its picture shows besides its series: first signs, and what would have been without what is blamed first."""

    def named(of: Json) -> str:
        return f"{titles.get(str(of['cause']), clean(of['cause']))}, {whole(of['entity'])}"

    without = None
    if (first := next(iter(incident["without"]), None)) is not None:
        times = ns_of(incident["start"]), ns_of(incident["end"] or incident["noticed"])
        without = *times, int(first["p95_without_ns"]), f"p95 without “{named(first)}”"
    signs = [
        (ns_of(one["at"]), clean(one["layer"]), f"{clean(one['layer'])}: {named(one)}, {_offset(one['offset_ns'])}")
        for one in incident["first_signs"]
    ]
    return Beside(str(incident["id"]), signs, without)


def _concerned(incident: Json) -> frozenset[str]:
    """Who is blamed, who is named as a neighbour, and who changed."""
    named = [one["entity"] for one in (*incident["changes"], *incident["first_signs"]) if one["entity"] is not None]
    if (verdict := incident["verdict"]) is not None:
        named += [one["entity"] for one in verdict["culprits"]]
        named += [by["entity"] for part in verdict["parts"] for by in part["by"]]
    return frozenset(str(one["id"]) for one in named)
