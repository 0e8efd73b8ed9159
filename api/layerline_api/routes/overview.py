"""The overview over HTTP (``GET /api/v1/overview``): a row per service, and slow requests in groups."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import AnyText, Limit, Tagged, Text, Window
from layerline_api.shared import Shared
from layerline_correlator.questions.overview import Overview
from layerline_correlator.questions.requests import RequestQuery


class OverviewParameters(Tagged, Window):
    """Which requests, and which services."""

    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None
    search: Annotated[AnyText, Field(description="part of a service's name")] = ""
    limit: Annotated[Limit, Field(description="how many services at most")] = 50

    def query(self) -> RequestQuery:
        """What the correlator is asked. ``Problem`` 400 when the window is none."""
        from_ns, to_ns = self.window()
        return RequestQuery(from_ns, to_ns, self.service, self.operation, self.tag, limit=self.limit)


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/overview``."""
    blueprint = Blueprint("overview", __name__, url_prefix="/api/v1")

    @blueprint.get("/overview")
    @declared(Overview, OverviewParameters, operation_id="inventory.overview", repeats=shared.questions)
    def overview(asked: OverviewParameters) -> Overview:
        """Each service's requests over a window and where their time went; slow requests by operation and cause."""
        return shared.questions.overview(asked.query(), asked.search)

    return blueprint
