"""What can be asked: ``GET /openapi.json``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app

from layerline_api.declared import declared
from layerline_api.openapi import document
from layerline_api.shared import Shared


def blueprint(_: Shared) -> Blueprint:
    """``/openapi.json``."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    @declared(dict[str, Any], operation_id="openapi")
    def openapi() -> dict[str, Any]:
        """This document."""
        return document(current_app)

    return blueprint
