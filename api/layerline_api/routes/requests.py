"""The questions over HTTP: GET under ``/api/v1`` (design, section 7.2)."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import as_json as as_json
from layerline_api.declared import declared
from layerline_api.parameters import RANKS, Parameters, Rank, RequestParameters, SpanId, TraceId, VerdictParameters
from layerline_api.problems import Problem
from layerline_correlator.questions.causes import CauseItem
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.requests import RequestItem
from layerline_correlator.questions.trace import Trace
from layerline_correlator.verdict.model import Verdict


class OneTrace(Parameters):
    """One trace."""

    trace_id: TraceId


class OneRequest(OneTrace):
    """One request, and how it is judged."""

    span_id: Annotated[SpanId | None, Field(description="of another entry span than the root's")] = None
    rank: Annotated[Rank, Field(description="rank by excess over usual, or by what was lost")] = RANKS[0]


def answers(questions: Questions) -> Blueprint:
    """Requests, verdicts, traces and causes, as JSON."""
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

    @blueprint.get("/requests")
    @declared(Page[RequestItem], RequestParameters)
    def requests(asked: RequestParameters) -> Page[RequestItem]:
        """Slow requests of a window, or those that took at least ``min_duration``."""
        return questions.requests(asked.query())

    @blueprint.get("/requests/<trace_id>")
    @declared(Verdict, OneRequest, problems=(404,))
    def one_request(asked: OneRequest) -> Verdict:
        """Why a request took as long as it did: the verdict of the trace's root request."""
        verdict = questions.verdict(asked.trace_id, asked.span_id, absolute=asked.rank == "lost")
        if verdict is None:
            span_id, trace_id = asked.span_id, asked.trace_id
            which = f"with trace id {trace_id}" if span_id is None else f"of span {span_id} in trace {trace_id}"
            raise Problem(404, f"there is no request {which}")
        return verdict

    @blueprint.get("/verdicts")
    @declared(Page[Verdict], VerdictParameters)
    def verdicts(asked: VerdictParameters) -> Page[Verdict]:
        """One verdict per service and operation that was slow in a window, most excess first."""
        return questions.verdicts(asked.query())

    @blueprint.get("/traces/<trace_id>")
    @declared(Trace, OneTrace, problems=(404,))
    def trace(asked: OneTrace) -> dict[str, Any]:
        """A trace's spans, and the segments of its root request's critical path."""
        found = questions.trace(asked.trace_id)
        if found is None:
            raise Problem(404, f"there is no trace {asked.trace_id}")
        return found

    @blueprint.get("/causes")
    @declared(Page[CauseItem])
    def causes() -> Page[CauseItem]:
        """What Layerline can blame, with what it means and what to try."""
        return Page(questions.causes())

    return blueprint
