"""Service level objectives over HTTP: ``GET`` and ``POST /api/v1/slos``, ``DELETE /api/v1/slos/<id>``."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from layerline_api.declared import JSON, as_json, declared
from layerline_api.incidents import ID_PATTERN, identifier
from layerline_api.parameters import Parameters, Read
from layerline_api.problems import Problem
from layerline_correlator.incidents.model import IncidentQuestions
from layerline_correlator.incidents.slo import BadSlo, SloState, parse
from layerline_correlator.query import Page

#: How long the body of a POST may be.
BODY_BYTES = 16 << 10


class OneSlo(Parameters):
    """One SLO."""

    slo: Annotated[str, Read(identifier, {"type": "string", "pattern": ID_PATTERN})]


def slos(questions: IncidentQuestions) -> Blueprint:
    """What is promised, and how its budget stands."""
    blueprint = Blueprint("slos", __name__, url_prefix="/api/v1/slos")

    @blueprint.get("")
    @declared(Page[SloState])
    def all_slos() -> Page[SloState]:
        """What is promised of services, and how much of each budget is left."""
        found = questions.slos()
        return Page(found, reason=None if found else "no SLO was set; POST one here or name LAYERLINE_SLOS")

    @blueprint.post("")
    @declared(SloState, status=201, body_in=(JSON,))
    def set_slo() -> Response:
        """Promise something of a service, or of one of its operations: `{"service": "web", "objective": 0.99}`."""
        if request.mimetype != JSON:  # and no page of a stranger in a browser can send that
            raise Problem(415, f"Content-Type is {request.mimetype[:80]!r}; expected {JSON}")
        request.max_content_length = BODY_BYTES
        try:
            given: Any = request.get_json(silent=True)
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
    @declared(None, OneSlo, status=204, answers_in=(), problems=(404,))
    def remove_slo(asked: OneSlo) -> Response:
        """Take back what was promised."""
        if not questions.remove_slo(asked.slo):
            raise Problem(404, f"there is no SLO {asked.slo}")
        return Response(status=204)

    return blueprint
