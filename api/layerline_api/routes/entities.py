"""What there is: entities and services over HTTP."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Paged, Tagged, Window, one_of
from layerline_correlator.questions.entities import EntityItem, EntityQuery
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.services import ServiceMap

EntityType = Annotated[str, one_of(("process", "container", "host", "service"))]


class EntityParameters(Paged, Tagged, Window):
    """Which entities: those that lived in the window."""

    type: Annotated[EntityType | None, Field(description="all types unless said")] = None


def inventory(questions: Questions) -> Blueprint:
    """``/api/v1/entities`` and ``/api/v1/services``."""
    blueprint = Blueprint("inventory", __name__, url_prefix="/api/v1")

    @blueprint.get("/entities")
    @declared(Page[EntityItem], EntityParameters)
    def entities(asked: EntityParameters) -> Page[EntityItem]:
        """Processes, containers, hosts and services that lived in a window, the dead included."""
        from_ns, to_ns = asked.window()
        return questions.inventory(EntityQuery(from_ns, to_ns, asked.type, asked.tag, asked.limit, asked.cursor))

    @blueprint.get("/services")
    @declared(ServiceMap, Window)
    def services(asked: Window) -> ServiceMap:
        """The services that answered requests in a window, and who called whom: how often, how slow."""
        return questions.service_map(*asked.window())

    return blueprint
