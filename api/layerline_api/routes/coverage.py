"""``GET /api/v1/coverage``: what of a window was seen and what was not."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Text, Window
from layerline_api.shared import Shared
from layerline_correlator.questions.coverage import Coverage


class CoverageParameters(Window):
    """Which spans."""

    service: Annotated[Text | None, Field(description="service.name")] = None


def blueprint(shared: Shared) -> Blueprint:
    """Joins, readings, blind causes and unseen containers of a window, as JSON."""
    blueprint = Blueprint("coverage", __name__, url_prefix="/api/v1")

    @blueprint.get("/coverage")
    @declared(Coverage, CoverageParameters)
    def covered(asked: CoverageParameters) -> Any:
        """What of a window was seen, what was not, why, and the one thing to enable."""
        return shared.questions.coverage(*asked.window(), asked.service)

    return blueprint
