"""A trace as it was received: ``GET /api/v1/traces/<trace_id>``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from layerline_api.declared import declared
from layerline_api.parameters import OneTrace
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.trace import Trace


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/traces/<trace_id>``."""
    blueprint = Blueprint("traces", __name__, url_prefix="/api/v1")

    @blueprint.get("/traces/<trace_id>")
    @declared(Trace, OneTrace, problems=(404,), operation_id="api.trace", repeats=shared.questions)
    def trace(asked: OneTrace) -> dict[str, Any]:
        """A trace's spans, and the segments of its root request's critical path."""
        found = shared.questions.trace(asked.trace_id)
        if found is None:
            raise Problem(404, f"there is no trace {asked.trace_id}")
        return found

    return blueprint
