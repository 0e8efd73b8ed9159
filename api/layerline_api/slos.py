"""Service level objectives over HTTP: ``GET`` and ``POST /api/v1/slos``, ``DELETE /api/v1/slos/<id>``."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from layerline_api.answers import as_json
from layerline_api.incidents import identifier
from layerline_api.parameters import check
from layerline_api.problems import Problem
from layerline_correlator.incidents.model import IncidentQuestions
from layerline_correlator.incidents.slo import BadSlo, parse
from layerline_correlator.query import Page

#: How long the body of a POST may be.
BODY_BYTES = 16 << 10


def slos(questions: IncidentQuestions) -> Blueprint:
    """What is promised, and how its budget stands."""
    blueprint = Blueprint("slos", __name__, url_prefix="/api/v1/slos")

    @blueprint.get("")
    def all_slos() -> Response:
        check(request.args, ())
        found = questions.slos()
        return as_json(Page(found, reason=None if found else "no SLO was set; POST one here or name LAYERLINE_SLOS"))

    @blueprint.post("")
    def set_slo() -> Response:
        check(request.args, ())
        request.max_content_length = BODY_BYTES
        try:
            given = request.get_json(force=True, silent=True)
        except RequestEntityTooLarge:
            raise Problem(413, f"an SLO has at most {BODY_BYTES:,} bytes") from None
        if not isinstance(given, dict):
            raise Problem(400, 'the body is not a JSON object such as {"service": "web", "objective": 0.99}')
        try:
            answer = as_json(questions.set_slo(parse(given)))
        except BadSlo as problem:
            raise Problem(400, str(problem), problem.field) from None
        answer.status_code = 201
        return answer

    @blueprint.delete("/<slo>")
    def remove_slo(slo: str) -> Response:
        check(request.args, ())
        if not questions.remove_slo(identifier(slo, "slo")):
            raise Problem(404, f"there is no SLO {slo}")
        return Response(status=204)

    return blueprint
