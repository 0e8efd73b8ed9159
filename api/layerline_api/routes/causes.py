"""What can be blamed: ``GET /api/v1/causes``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.shared import Shared
from layerline_correlator.questions.model import CauseItem, Page


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/causes``."""
    blueprint = Blueprint("causes", __name__, url_prefix="/api/v1")

    @blueprint.get("/causes")
    @declared(Page[CauseItem], operation_id="api.causes")
    def causes() -> Page[dict[str, Any]]:
        """What Layerline can blame, with what it means and what to try."""
        return Page(shared.questions.causes())

    return blueprint
