"""The questions over HTTP: GET under ``/api/v1`` (design, section 7.2)."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, request

from layerline_api.parameters import FILTERS, RANKS, WINDOW, check, identifier, request_query
from layerline_api.problems import Problem
from layerline_correlator.query import BadCursor, Page, Questions, plain


def answers(questions: Questions) -> Blueprint:
    """Requests, verdicts, traces, causes and services, as JSON."""
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")

    @blueprint.get("/requests")
    def requests() -> Response:
        check(request.args, (*WINDOW, *FILTERS))
        try:
            return as_json(questions.requests(request_query(request.args)))
        except BadCursor:
            raise _bad_cursor() from None

    @blueprint.get("/requests/<trace_id>")
    def one_request(trace_id: str) -> Response:
        check(request.args, ("span_id", "rank"))
        identifier("trace_id", trace_id)
        span_id = request.args.get("span_id")
        if span_id is not None:
            identifier("span_id", span_id)
        rank = request.args.get("rank", RANKS[0])
        if rank not in RANKS:
            raise Problem(400, f"rank is {rank[:80]!r}; expected one of {', '.join(RANKS)}", "rank")
        verdict = questions.verdict(trace_id, span_id, absolute=rank == "lost")
        if verdict is None:
            which = f"with trace id {trace_id}" if span_id is None else f"of span {span_id} in trace {trace_id}"
            raise Problem(404, f"there is no request {which}")
        return as_json(verdict)

    @blueprint.get("/verdicts")
    def verdicts() -> Response:
        check(request.args, (*WINDOW, *FILTERS, "rank"))
        try:
            return as_json(questions.verdicts(request_query(request.args)))
        except BadCursor:
            raise _bad_cursor() from None

    @blueprint.get("/traces/<trace_id>")
    def trace(trace_id: str) -> Response:
        check(request.args, ())
        found = questions.trace(identifier("trace_id", trace_id))
        if found is None:
            raise Problem(404, f"there is no trace {trace_id}")
        return as_json(found)

    @blueprint.get("/causes")
    def causes() -> Response:
        check(request.args, ())
        return as_json(Page(questions.causes()))

    @blueprint.get("/services")
    def services() -> Response:
        check(request.args, ())
        found = questions.services()
        return as_json(Page(found, reason=None if found else "no span was received yet"))

    return blueprint


def as_json(answer: Any) -> Response:
    """A dataclass of ``query`` as its JSON."""
    body = json.dumps(plain(answer), ensure_ascii=False)
    return Response(body.encode("utf-8", "replace") + b"\n", content_type="application/json")


def _bad_cursor() -> Problem:
    return Problem(400, "cursor is not one that this list handed out", "cursor")
