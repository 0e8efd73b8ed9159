"""``GET /api/v1/coverage``: what of a window was seen and what was not."""

from __future__ import annotations

from flask import Blueprint, Response, request

from layerline_api.answers import as_json
from layerline_api.parameters import WINDOW, check, request_query
from layerline_correlator.query import Questions


def coverage(questions: Questions) -> Blueprint:
    """Joins, readings, blind causes and unseen containers of a window, as JSON."""
    blueprint = Blueprint("coverage", __name__, url_prefix="/api/v1")

    @blueprint.get("/coverage")
    def covered() -> Response:
        check(request.args, (*WINDOW, "service"))
        asked = request_query(request.args)
        return as_json(questions.coverage(asked.from_ns, asked.to_ns, asked.service))

    return blueprint
