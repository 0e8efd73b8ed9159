"""What is stored and what it takes: ``GET /api/v1/store``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.shared import Shared
from layerline_correlator.store.sizes import StoreSize


def blueprint(shared: Shared) -> Blueprint:
    """Rows and bytes of every table, as JSON."""
    blueprint = Blueprint("store", __name__, url_prefix="/api/v1")

    @blueprint.get("/store")
    @declared(StoreSize, parameters=None)
    def stored() -> Any:
        """How many rows and bytes each table of the store has, and what a span and a container-day take."""
        return shared.questions.sizes()

    return blueprint
