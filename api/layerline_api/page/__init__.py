"""The page: slow requests of the last minutes, and one request's ledger. Nothing is loaded from elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, render_template

from layerline_api.declared import declared
from layerline_api.names import clean
from layerline_api.parameters import Parameters, SpanId, TraceId
from layerline_api.problems import Problem
from layerline_api.story import human, tell
from layerline_correlator.query import Questions, RequestItem, RequestQuery, plain

WINDOW_NS = 15 * 60 * 10**9
ROWS = 100
HTML = "text/html; charset=utf-8"
_STYLE = Path(__file__).with_name("style.css")


@dataclass(frozen=True, slots=True)
class Row:
    """A slow request in the list. Widths are in hundredths of the longest."""

    service: str
    operation: str
    cause: str
    layer: str
    took: str
    usual: str
    width: float
    usual_width: float
    start: str
    link: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part's place in the ledger's bar, in thousandths of the duration."""

    layer: str
    title: str
    lost: str
    x: float
    width: float


class OnePage(Parameters):
    """One request."""

    trace_id: TraceId
    span_id: SpanId | None = None


def page(questions: Questions) -> Blueprint:
    """``/``, ``/requests/<trace_id>`` and the style sheet."""
    blueprint = Blueprint("page", __name__, template_folder=".")
    style = _STYLE.read_text(encoding="utf-8")

    @blueprint.get("/style.css")
    @declared(parameters=None, answers_in=("text/css; charset=utf-8",))
    def style_sheet() -> Response:
        """The page's style sheet."""
        return Response(style, content_type="text/css; charset=utf-8", headers={"Cache-Control": "max-age=3600"})

    @blueprint.get("/")
    @declared(answers_in=(HTML,))
    def slow_requests() -> str:
        """The page: slow requests of the last minutes."""
        now_ns = time.time_ns()
        found = questions.requests(RequestQuery(from_ns=now_ns - WINDOW_NS, to_ns=now_ns + 1, limit=ROWS))
        titles = {cause["cause"]: str(cause["title"]) for cause in questions.causes()}
        longest_ns = max((item.duration_ns for item in found.items), default=0) or 1
        return render_template(
            "requests.html",
            rows=[_row(item, titles, longest_ns) for item in found.items],
            reason=found.reason or "No request was slow.",
            services=", ".join(clean(service) for service in questions.services()[:50]),
        )

    @blueprint.get("/requests/<trace_id>")
    @declared(None, OnePage, problems=(404,), answers_in=(HTML,))
    def one_request(asked: OnePage) -> str:
        """The page of one request: its ledger."""
        trace_id = asked.trace_id
        verdict = questions.verdict(trace_id, asked.span_id)
        if verdict is None:
            raise Problem(404, f"there is no request with trace id {trace_id}")
        story = tell(plain(verdict), questions.causes())
        pieces, x = [], 0.0
        for line in story.lines:
            width = round(line.share * 1000, 2)
            pieces.append(Piece(line.layer, line.title, line.lost, round(x, 2), width))
            x += width
        return render_template(
            "request.html", story=story, pieces=pieces, trace_id=trace_id, span_id=verdict.span_id or ""
        )

    return blueprint


def _row(item: RequestItem, titles: dict[str, str], longest_ns: int) -> Row:
    return Row(
        service=clean(item.service),
        operation=clean(item.operation),
        cause=clean(titles.get(item.cause or "", item.cause or "no single cause")),
        layer=(item.cause or "").partition(".")[0],
        took=human(item.duration_ns),
        usual="" if item.usual_ns is None else human(item.usual_ns),
        width=round(100 * item.duration_ns / longest_ns, 1),
        usual_width=round(100 * min(item.usual_ns or 0, item.duration_ns) / longest_ns, 1),
        start=clean(item.start).replace("T", " ")[:19],
        link=f"/requests/{quote(item.trace_id)}?span_id={quote(item.span_id)}",
    )
