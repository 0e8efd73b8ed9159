"""One request: what failed in it, where its time went, what is blamed, what was not measured; its spans and logs."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template

from layerline_api.declared import declared
from layerline_api.page.form import HTML
from layerline_api.parameters import Parameters, SpanId, TraceId
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.traces import tell as tell_trace
from layerline_api.words.verdicts import Story, tell
from layerline_correlator.plain import plain


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


def add(blueprint: Blueprint, shared: Shared) -> None:
    """``/requests/<trace_id>``."""

    @blueprint.get("/requests/<trace_id>")
    @declared(None, OnePage, problems=(404,), answers_in=(HTML,))
    def one_request(asked: OnePage) -> str:
        """The page of one request: its ledger."""
        trace_id = asked.trace_id
        verdict = shared.questions.verdict(trace_id, asked.span_id)
        if verdict is None:
            raise Problem(404, f"there is no request with trace id {trace_id}")
        story = tell(plain(verdict), shared.questions.causes())
        trace = shared.questions.trace(trace_id)
        return render_template(
            "requests.html",
            story=story,
            pieces=pieces(story),
            trace=tell_trace(trace) if trace else None,
            trace_id=trace_id,
            span_id=verdict.span_id or "",
        )


def pieces(story: Story) -> list[Piece]:
    """The bar of a story's ledger."""
    found, x = [], 0.0
    for line in story.lines:
        width = round(line.share * 1000, 2)
        found.append(Piece(line.layer, line.title, line.lost, round(x, 2), width))
        x += width
    return found
