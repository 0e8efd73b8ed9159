"""What there is: ``GET /api/v1/entities``."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Paged, Tagged, Window, one_of
from layerline_api.shared import Shared
from layerline_correlator.questions.entities import EntityItem, EntityQuery
from layerline_correlator.questions.paging import Page

EntityType = Annotated[str, one_of(("process", "container", "host", "service"))]


class EntityParameters(Paged, Tagged, Window):
    """Which entities: those that lived in the window."""

    type: Annotated[EntityType | None, Field(description="all types unless said")] = None


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/entities``."""
    blueprint = Blueprint("entities", __name__, url_prefix="/api/v1")

    @blueprint.get("/entities")
    @declared(Page[EntityItem], EntityParameters, operation_id="inventory.entities")
    def entities(asked: EntityParameters) -> Page[EntityItem]:
        """Processes, containers, hosts and services that lived in a window, the dead included."""
        from_ns, to_ns = asked.window()
        return shared.questions.inventory(EntityQuery(from_ns, to_ns, asked.type, asked.tag, asked.limit, asked.cursor))

    return blueprint
