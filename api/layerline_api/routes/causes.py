"""What can be blamed: ``GET /api/v1/causes``."""

from __future__ import annotations

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.shared import Shared
from layerline_correlator.questions.causes import CauseItem
from layerline_correlator.questions.paging import Page


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/causes``."""
    blueprint = Blueprint("causes", __name__, url_prefix="/api/v1")

    @blueprint.get("/causes")
    @declared(Page[CauseItem], operation_id="api.causes")
    def causes() -> Page[CauseItem]:
        """What Layerline can blame, with what it means and what to try."""
        return Page(shared.questions.causes())

    return blueprint
