"""What is seen and what is not: spans that are tied to containers, readings, what is blind, and what to enable.

Below, containers that nobody read, what was lost or cut, and what the store itself takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.routes.coverage import CoverageParameters
from layerline_api.shared import Shared
from layerline_api.words.amounts import amount, human
from layerline_api.words.clean import clean, titles_of
from layerline_api.words.times import when
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions

Json = Mapping[str, Any]

MENU = Entry(9, "/coverage", "Coverage")
#: Services and blind causes listed, at most.
ROWS = 200


@dataclass(frozen=True, slots=True)
class Share:
    """How much of something was seen: percent of a bar, and words."""

    percent: float
    words: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service's spans."""

    name: str
    requests: str
    spans: str
    container: Share | None
    host: Share | None
    account: Share | None
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Layer:
    """The readings of one layer."""

    name: str
    entities: str
    readings: str
    every: str
    gaps: str
    reason: str
    enable: str


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/coverage``."""

    @blueprint.get(MENU.path)
    @declared(None, Form, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def coverage_page(asked: Form) -> Response:
        """The page of coverage: what is seen, what is not, and the one thing to enable."""
        return answer("coverage.html", asked, shared.questions, lambda: _found(asked, shared.questions))


def _found(form: Form, questions: Questions) -> dict[str, Any]:
    asked = form.parameters(CoverageParameters)
    body = plain(questions.coverage(*asked.window(), asked.service))
    titles = titles_of(questions.causes())
    return {
        "reason": clean(body["reason"] or ""),
        "steps_to_take": list(_steps(body, titles)),
        "of_services": [_service(one) for one in body["services"][:ROWS]],
        "of_layers": [_layer(one) for one in body["layers"]],
        "blind": [
            (
                titles.get(one["cause"], clean(one["cause"])),
                clean(one["layer"]),
                f"{one['share']:.0%}".replace("%", " %"),
                ", ".join(clean(name) for name in one["services"][:5]),
                clean(one["reason"]),
                clean(one["enable"]),
            )
            for one in body["blind"][:ROWS]
        ],
        "lives": body["containers"],
        "unseen": [(clean(one["name"]), when(one["ended"])) for one in body["containers"]["named"]],
        "lost": list(_lost(body)),
        "stored": _stored(body["stored"]),
        "json": "/api/v1/coverage?"
        + urlencode(form.window() | ({"service": asked.service} if asked.service is not None else {})),
    }


def _steps(body: Json, titles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What to do, that which shows most requests more first; and what it shows."""
    shows: dict[str, tuple[int, list[str]]] = {}
    for one in body["blind"]:
        requests, names = shows.setdefault(clean(one["enable"]), (0, []))
        names.append(titles.get(one["cause"], clean(one["cause"])))
        shows[clean(one["enable"])] = max(requests, one["requests"]), names
    for enable, (_, names) in sorted(shows.items(), key=lambda item: (-item[1][0], -len(item[1][1]), item[0])):
        yield enable, "; ".join(dict.fromkeys(names))


def _share(joined: Json) -> Share | None:
    """None where there was nothing to be tied to."""
    if joined["share"] is None:
        return None
    return Share(round(joined["share"] * 100, 1), f"{joined['share'] * 100:.0f} %")


def _service(one: Json) -> Service:
    notes = [
        f"no {what} for {why['spans']:,} span{'' if why['spans'] == 1 else 's'}: {clean(why['what'])}"
        for what, joined in (("container", "container"), ("machine", "host"), ("account", "account"))
        for why in one[joined]["missing"]
    ]
    if one["orphans"]:
        notes.append(f"{one['orphans']:,} of its requests name a caller whose span was never received")
    if one["left_out"]:
        notes.append(f"{one['left_out']:,} ordinary requests have no ledger of their own (LAYERLINE_BUDGET)")
    if one["refused"]:
        notes.append(f"{one['refused']:,} of its requests are unexplained: their parts did not add up")
    if one["sampling"]["sampled"]:
        notes.append(f"sampled at the source: {clean(one['sampling']['sign'])}")
    return Service(
        name=clean(one["service"]) or "(no name)",
        requests=f"{one['requests']:,}",
        spans=f"{one['spans']:,}",
        container=_share(one["container"]),
        host=_share(one["host"]),
        account=_share(one["account"]),
        notes=notes,
    )


def _layer(one: Json) -> Layer:
    gaps = f"{one['gaps']:,}"
    if one["gaps"] and one["longest_gap_ns"] is not None:
        at = f" at {clean(one['longest_gap_at']['name'])}" if one["longest_gap_at"] else ""
        gaps += f", the longest {human(one['longest_gap_ns'])}{at}"
    return Layer(
        name=clean(one["layer"]),
        entities=f"{one['entities']:,}",
        readings=f"{one['readings']:,}",
        every="–" if one["interval_ns"] is None else human(one["interval_ns"]),
        gaps=gaps if one["interval_ns"] is not None else "–",
        reason=clean(one["reason"] or ""),
        enable=clean(one["enable"] or ""),
    )


def _lost(body: Json) -> Iterator[str]:
    """What was lost on the way, what was beyond a cap, clocks that were set."""
    for one in body["dropped"]:
        yield (
            f"{one['points']:,} readings of {clean(one['host'])} were lost, {when(one['from'])} to {when(one['to'])}:"
            f" {clean(one['reason'])}"
        )
    for one in body["exceeded"]:
        name = clean(one["name"]) or "too many to name"
        yield f"{one['items']:,} items of {name} are beyond the cap of {clean(one['cap'])}: {clean(one['enable'])}"
    for one in body["clock_steps"]:
        yield f"the clock of {clean(one['host'])} was set by {human(one['step_ns'])} at {when(one['at'])}"
    for one in body["cardinality"]:
        by = f" by {clean(one['attribute'])}" if one["attribute"] else ""
        yield f"{clean(one['name'])} fell apart into {one['number']:,} {clean(one['what'])}{by}"


def _stored(stored: Json | None) -> list[tuple[str, str]]:
    """What the product itself costs: nothing before it was measured."""
    if stored is None:
        return []
    figures = [("the store", amount(stored["bytes"], "By"))]
    if stored["span_bytes"] is not None:
        figures.append(("a span, with its ledger", amount(stored["span_bytes"], "By")))
    if stored["container_day_bytes"] is not None:
        figures.append(("a container read for a day", amount(stored["container_day_bytes"], "By")))
    if stored["oldest"] is not None:
        figures.append(("reaches back to", f"{when(stored['oldest'])[:19]} UTC"))
    return figures
