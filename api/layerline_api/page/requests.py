"""Slow requests of a window, or those of at least some duration; and one request: what failed in it, where its time
went beside the usual, what is blamed, what was not measured.

Below, its spans as a waterfall in which each span's own time is split by cause, on the same axis the readings of its
containers and machines, then its logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, render_template
from pydantic import Field

from layerline_api.declared import PROBLEM, declared
from layerline_api.page.form import HTML, Entry, Form, answer
from layerline_api.page.picture import Picture, pictured
from layerline_api.page.timeline import ask
from layerline_api.page.vendored import serve
from layerline_api.page.waterfall import drawn
from layerline_api.parameters import ORDERS, AnyText, Parameters, RequestParameters, SpanId, TraceId
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.amounts import human
from layerline_api.words.clean import brief, clean, titles_of
from layerline_api.words.look_alikes import look_alikes
from layerline_api.words.samples import samples
from layerline_api.words.times import ns_of
from layerline_api.words.traces import tell as tell_trace
from layerline_api.words.verdicts import Story, tell
from layerline_correlator.plain import plain
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.timeline import TimelineQuery
from layerline_correlator.store.patience import TooBusy

MENU = Entry(5, "/requests", "Requests")
_ORDERS = {"excess": "most too slow", "duration": "longest", "start": "latest"}


class RequestsForm(Form):
    """Which requests are listed."""

    min_duration: Annotated[AnyText, Field(description="at least this long, instead of slow")] = ""
    order: Annotated[AnyText, Field(description="what comes first: excess, duration or start")] = ""
    cursor: Annotated[AnyText, Field(description="`next` of the page before")] = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A request in the list."""

    start: str
    service: str
    operation: str
    took: str
    usual: str
    excess: str
    cause: str
    layer: str
    failed: bool
    link: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part's place in the ledger's bar, in thousandths of what is shown; shades tell parts of one layer apart."""

    layer: str
    title: str
    lost: str
    x: float
    width: float
    shade: int = 0


class OnePage(Parameters):
    """One request, or what is below one of its spans."""

    trace_id: TraceId
    span_id: SpanId | None = None
    under: SpanId | None = None


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/requests`` and ``/requests/<trace_id>``."""

    blueprint.add_app_template_filter(brief)
    serve(blueprint)

    @blueprint.get(MENU.path)
    @declared(None, RequestsForm, answers_in=(HTML,), problems_in=(PROBLEM, HTML))
    def requests_page(asked: RequestsForm) -> Response:
        """The page of slow requests."""
        first = asked.model_copy(update={"cursor": ""})  # another time begins with its first
        return answer("requests_list.html", first, shared.questions, lambda: _listed(asked, first, shared.questions))

    @blueprint.get("/requests/<trace_id>")
    @declared(None, OnePage, problems=(404,), answers_in=(HTML,))
    def one_request(asked: OnePage) -> str:
        """The page of one request: its ledger and its waterfall."""
        trace_id, questions = asked.trace_id, shared.questions
        verdict = questions.verdict(trace_id, asked.span_id)
        if verdict is None:
            raise Problem(404, f"there is no request with trace id {trace_id}")
        causes = questions.causes()
        titles = titles_of(causes)
        judged = plain(verdict)
        story = tell(judged, causes)
        fall = _waterfall(questions, asked)
        trace = questions.trace(trace_id) if fall is None else {**fall, "spans": []}
        picture, missing = (None, "") if fall is None else _readings(questions, fall, titles)
        ledger, usual = bars(story)
        return render_template(
            "requests.html",
            story=story,
            pieces=ledger,
            usual_pieces=usual,
            alikes=look_alikes(judged, causes),
            fall=None if fall is None else drawn(fall, titles),
            has_samples=fall is not None and any(samples(row["span"]) for row in fall["rows"]),
            picture=picture,
            missing=missing,
            trace=tell_trace(trace) if trace else None,
            trace_id=trace_id,
            span_id=verdict.span_id or "",
        )


def _listed(form: RequestsForm, first: RequestsForm, questions: Questions) -> dict[str, Any]:
    asked = form.parameters(RequestParameters)
    titles = titles_of(questions.causes())
    found = questions.requests(asked.query())
    given = first.choice() | first.window()
    return {
        "rows": [
            Item(
                start=clean(one.start),
                service=clean(one.service),
                operation=clean(one.operation),
                took=human(one.duration_ns),
                usual="" if one.usual_ns is None else human(one.usual_ns),
                excess="" if one.excess_ns is None else human(max(0, one.excess_ns)),
                cause=clean(titles.get(one.cause, one.cause)) if one.cause else "",
                layer=clean(one.cause or "").partition(".")[0],
                failed=one.status == "error",
                link=f"{MENU.path}/{quote(one.trace_id)}?span_id={quote(one.span_id)}",
            )
            for one in found.items
        ],
        "reason": clean(found.reason or "no request was slow"),
        "more": "" if found.next is None else f"{MENU.path}?" + urlencode(given | {"cursor": found.next}),
        "order": asked.order,
        "orders": [(one, _ORDERS[one], f"{MENU.path}?" + urlencode({**given, "order": one})) for one in ORDERS],
        "json": f"/api/v1{MENU.path}?" + urlencode(first.of_api() | first.window()),
    }


def _waterfall(questions: Questions, asked: OnePage) -> dict[str, Any] | None:
    """The waterfall's JSON; None where it cannot be worked out now: the spans are shown as a tree then."""
    try:
        found = questions.waterfall(asked.trace_id, asked.span_id, asked.under)
    except TooBusy:
        return None
    if found is None and asked.under is not None:
        raise Problem(404, f"there is no span {asked.under} in trace {asked.trace_id}", "under")
    body: dict[str, Any] | None = plain(found)
    return body


def _readings(questions: Questions, fall: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[Picture | None, str]:
    """What was read of its containers and machines at that time, cut to the waterfall's axis; and why there is none."""
    start_ns = ns_of(fall["start"])
    from_ns, to_ns = start_ns + fall["from_ns"], start_ns + fall["to_ns"]
    try:
        body = ask(questions, TimelineQuery(from_ns=from_ns, to_ns=to_ns, trace_id=fall["trace_id"]))
    except (Problem, TooBusy) as problem:
        return None, problem.detail if isinstance(problem, Problem) else str(problem)
    body = {**body, "series": [one for one in body["series"] if one["about"] == "readings"], "incidents": []}
    return pictured(body, titles, shown_ns=(from_ns, to_ns)), ""


def pieces(story: Story) -> list[Piece]:
    """The bar of a story's ledger."""
    return _bar([(line.layer, line.title, line.lost, line.share) for line in story.lines])


def bars(story: Story) -> tuple[list[Piece], list[Piece]]:
    """The ledger and its usual on one scale, each cause in one shade; the second is empty where there is no usual."""
    usual_share = sum(line.usual_share for line in story.lines)
    if not any(line.usual for line in story.lines):
        return pieces(story), []
    scale = 1 / max(1.0, usual_share)
    ledger = _bar([(line.layer, line.title, line.lost, line.share * scale) for line in story.lines])
    usual = _bar([(line.layer, line.title, line.usual, line.usual_share * scale) for line in story.lines])
    return ledger, usual


def _bar(parts: list[tuple[str, str, str, float]]) -> list[Piece]:
    found: list[Piece] = []
    x = 0.0
    for layer, title, lost, share in parts:
        width = round(share * 1000, 2)
        known = list(dict.fromkeys(piece.title for piece in found if piece.layer == layer and layer))
        shade = known.index(title) if title in known else len(known) if layer else 2 * (title != "unexplained")
        found.append(Piece(layer, title, lost, round(x, 2), width, shade % 4))
        x += width
    return found
