"""What the server says about itself: ``GET /metrics``."""

from __future__ import annotations

from flask import Blueprint, Response

from layerline_api.declared import declared
from layerline_api.measures import CONTENT_TYPE
from layerline_api.shared import Shared


def blueprint(shared: Shared) -> Blueprint:
    """``/metrics``."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    @declared(parameters=None, answers_in=(CONTENT_TYPE,), operation_id="metrics")
    def metrics() -> Response:
        """What the server tells about itself, for Prometheus."""
        return Response(shared.intake.measures.text(), content_type=CONTENT_TYPE)

    return blueprint
