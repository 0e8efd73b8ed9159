"""What some requests have in common over HTTP (``GET /api/v1/shares``)."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Duration, Instant, Tagged, Text, Window
from layerline_api.shared import Shared
from layerline_correlator.questions.requests import RequestQuery
from layerline_correlator.questions.shares import Picked, Shares


class SharesParameters(Tagged, Window):
    """Which requests, and which of them are compared with the others."""

    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None
    picked_from: Annotated[Instant | None, Field(description="the picked ones began at this time or later")] = None
    picked_to: Annotated[Instant | None, Field(description="the picked ones began before this time")] = None
    min_duration: Annotated[Duration | None, Field(description="the picked ones took at least so long")] = None
    max_duration: Annotated[Duration | None, Field(description="the picked ones took less")] = None

    def query(self) -> RequestQuery:
        """What the correlator is asked. ``Problem`` 400 when the window is none."""
        from_ns, to_ns = self.window()
        return RequestQuery(from_ns, to_ns, self.service, self.operation, self.tag)

    def picked(self) -> Picked:
        """Those that are compared with the others."""
        return Picked(self.picked_from, self.picked_to, self.min_duration, self.max_duration)


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/shares``."""
    blueprint = Blueprint("shares", __name__, url_prefix="/api/v1")

    @blueprint.get("/shares")
    @declared(Shares, SharesParameters, operation_id="curious.shares", repeats=shared.questions)
    def shares(asked: SharesParameters) -> Shares:
        """The tags and attributes that some requests of a window have clearly more often than the others."""
        return shared.questions.shares(asked.query(), asked.picked())

    return blueprint
