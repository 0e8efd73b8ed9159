"""Services over HTTP: who called whom, how often, how slow (``GET /api/v1/services``)."""

from __future__ import annotations

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.parameters import Window
from layerline_api.shared import Shared
from layerline_correlator.questions.services import ServiceMap


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/services``."""
    blueprint = Blueprint("services", __name__, url_prefix="/api/v1")

    @blueprint.get("/services")
    @declared(ServiceMap, Window, operation_id="inventory.services", repeats=shared.questions)
    def services(asked: Window) -> ServiceMap:
        """The services that answered requests in a window, and who called whom: how often, how slow."""
        return shared.questions.service_map(*asked.window())

    return blueprint
