"""A trace as it was received: ``GET /api/v1/traces/<trace_id>``."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import OneTrace, SpanId
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_api.words.samples import speedscope
from layerline_correlator.questions.trace import Trace
from layerline_correlator.questions.waterfall import Waterfall


class WaterfallParameters(OneTrace):
    """Which request of a trace."""

    span_id: Annotated[SpanId | None, Field(description="its entry span; the root request's unless said otherwise")] = (
        None
    )
    under: Annotated[SpanId | None, Field(description="only what is below this span, its children not folded")] = None


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/traces/<trace_id>``."""
    blueprint = Blueprint("traces", __name__, url_prefix="/api/v1")

    @blueprint.get("/traces/<trace_id>")
    @declared(Trace, OneTrace, problems=(404,), operation_id="api.trace", repeats=shared.questions)
    def trace(asked: OneTrace) -> dict[str, Any]:
        """A trace's spans, and the segments of its root request's critical path."""
        found = shared.questions.trace(asked.trace_id)
        if found is None:
            raise Problem(404, f"there is no trace {asked.trace_id}")
        return found

    @blueprint.get("/traces/<trace_id>/waterfall")
    @declared(Waterfall, WaterfallParameters, problems=(404,), repeats=shared.questions)
    def waterfall(asked: WaterfallParameters) -> Waterfall:
        """One request's spans as rows, at most 500, each span's own time split by cause; what is folded is counted."""
        found = shared.questions.waterfall(asked.trace_id, asked.span_id, asked.under)
        if found is None:
            of = f" with a span {asked.under or asked.span_id}" if asked.under or asked.span_id else ""
            raise Problem(404, f"there is no request of trace {asked.trace_id}{of}")
        return found

    @blueprint.get("/traces/<trace_id>/speedscope")
    @declared(dict[str, Any], OneTrace, problems=(404,), repeats=shared.questions)
    def sampled_frames(asked: OneTrace) -> dict[str, Any]:
        """The sampled frames of a trace's spans as a file for https://www.speedscope.app."""
        found = shared.questions.trace(asked.trace_id)
        if found is None:
            raise Problem(404, f"there is no trace {asked.trace_id}")
        return speedscope(found)

    return blueprint
