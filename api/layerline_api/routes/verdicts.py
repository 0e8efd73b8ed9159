"""Verdicts over a window: ``GET /api/v1/verdicts``. That of one request is at ``/api/v1/requests/<trace_id>``."""

from __future__ import annotations

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.parameters import VerdictParameters
from layerline_api.shared import Shared
from layerline_correlator.questions.paging import Page
from layerline_correlator.verdict.model import Verdict


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/verdicts``."""
    blueprint = Blueprint("verdicts", __name__, url_prefix="/api/v1")

    @blueprint.get("/verdicts")
    @declared(Page[Verdict], VerdictParameters, operation_id="api.verdicts")
    def verdicts(asked: VerdictParameters) -> Page[Verdict]:
        """What changed in a window: one verdict per service and operation that changed, failed or had slow requests."""
        return shared.questions.verdicts(asked.query())

    return blueprint
