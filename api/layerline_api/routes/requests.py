"""Requests over HTTP: ``GET /api/v1/requests``, and the verdict of one of them."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import RANKS, OneTrace, Rank, RequestParameters, SpanId
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.requests import RequestItem
from layerline_correlator.verdict.model import Verdict


class OneRequest(OneTrace):
    """One request, and how it is judged."""

    span_id: Annotated[SpanId | None, Field(description="of another entry span than the root's")] = None
    rank: Annotated[Rank, Field(description="rank by excess over usual, or by what was lost")] = RANKS[0]


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/requests`` and ``/api/v1/requests/<trace_id>``."""
    blueprint = Blueprint("requests", __name__, url_prefix="/api/v1")

    @blueprint.get("/requests")
    @declared(Page[RequestItem], RequestParameters, operation_id="api.requests", repeats=shared.questions)
    def requests(asked: RequestParameters) -> Page[RequestItem]:
        """Slow requests of a window, or those that took at least ``min_duration``."""
        return shared.questions.requests(asked.query())

    @blueprint.get("/requests/<trace_id>")
    @declared(Verdict, OneRequest, problems=(404,), operation_id="api.one_request")
    def one_request(asked: OneRequest) -> Verdict:
        """Why a request took as long as it did: the verdict of the trace's root request."""
        verdict = shared.questions.verdict(asked.trace_id, asked.span_id, absolute=asked.rank == "lost")
        if verdict is None:
            span_id, trace_id = asked.span_id, asked.trace_id
            which = f"with trace id {trace_id}" if span_id is None else f"of span {span_id} in trace {trace_id}"
            raise Problem(404, f"there is no request {which}")
        return verdict

    return blueprint
