"""The page: slow requests of the last minutes, and one request's ledger. Nothing is loaded from elsewhere."""

from __future__ import annotations

from flask import Blueprint

from layerline_correlator.query import Questions


def page(questions: Questions) -> Blueprint:
    """``/`` and ``/requests/<trace_id>``."""
    return Blueprint("page", __name__)
