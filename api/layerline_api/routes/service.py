"""One service over HTTP (``GET /api/v1/service``): how long its requests took when, and which they were."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Tagged, Text, Window
from layerline_api.shared import Shared
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.questions.service import Service


class ServiceParameters(Tagged, Window):
    """Which service, and of it which operation."""

    service: Annotated[Text, Field(description="service.name")]
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None

    def query(self) -> RequestQuery:
        """What the correlator is asked. ``Problem`` 400 when the window is none."""
        from_ns, to_ns = self.window()
        return RequestQuery(from_ns, to_ns, self.service, self.operation, self.tag)


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/service``."""
    blueprint = Blueprint("service", __name__, url_prefix="/api/v1")

    @blueprint.get("/service")
    @declared(Service, ServiceParameters, operation_id="inventory.service", repeats=shared.questions)
    def service(asked: ServiceParameters) -> Service:
        """How long a service's requests took when, by operation, container and version; how they failed."""
        return shared.questions.service(asked.query())

    return blueprint
