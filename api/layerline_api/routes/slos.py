"""Service level objectives over HTTP: ``GET`` and ``POST /api/v1/slos``, ``DELETE /api/v1/slos/<id>``."""

from __future__ import annotations

from flask import Blueprint, Response

from layerline_api.declared import declared
from layerline_api.parameters import IncidentId, Parameters
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.incidents.slo import Promise, SloState
from layerline_correlator.questions.paging import Page


class OneSlo(Parameters):
    """One SLO."""

    slo: IncidentId


def blueprint(shared: Shared) -> Blueprint:
    """What is promised, and how its budget stands."""
    questions = shared.questions.incidents
    blueprint = Blueprint("slos", __name__, url_prefix="/api/v1/slos")

    @blueprint.get("")
    @declared(Page[SloState])
    def all_slos() -> Page[SloState]:
        """What is promised of services, and how much of each budget is left."""
        found = questions.slos()
        return Page(found, reason=None if found else "no SLO was set; POST one here or name LAYERLINE_SLOS")

    @blueprint.post("")
    @declared(SloState, status=201, body=Promise)
    def set_slo(body: Promise) -> SloState:
        """Promise something of a service, or of one of its operations: `{"service": "web", "objective": 0.99}`."""
        return questions.set_slo(body.slo())

    @blueprint.delete("/<slo>")
    @declared(None, OneSlo, status=204, answers_in=(), problems=(404,))
    def remove_slo(asked: OneSlo) -> Response:
        """Take back what was promised."""
        if not questions.remove_slo(asked.slo):
            raise Problem(404, f"there is no SLO {asked.slo}")
        return Response(status=204)

    return blueprint
