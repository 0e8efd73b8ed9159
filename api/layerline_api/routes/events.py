"""Events over HTTP: what happened, and changes that are told from outside (deploys)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.doors.bounds import shown
from layerline_api.doors.events import AnyMarker, Ignored, Marker
from layerline_api.guard import bound_tags
from layerline_api.parameters import Paged, Parameters, Tagged, Text, Window
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.entity import Entity
from layerline_correlator.questions.events import EventItem, EventQuery
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.questions import Questions
from layerline_correlator.store.model import Batch, EventRow, ResourceRow, resource_key
from layerline_correlator.store.store import Overloaded
from layerline_correlator.times import rfc3339


class EventParameters(Paged, Tagged, Window):
    """Which events."""

    name: Annotated[Text | None, Field(description="its name; `*` stands for anything, as in `container.*`")] = None
    service: Annotated[Text | None, Field(description="service.name")] = None


class MarkerParameters(Parameters):
    """What a webhook's URL can add to what its sender says."""

    service: Annotated[Text | None, Field(description="service.name, where the body does not say it")] = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The event as it was stored; null where what was sent is no change, and then why."""

    event: EventItem | None
    ignored: str | None = None


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/events``."""
    blueprint = Blueprint("events", __name__, url_prefix="/api/v1")

    @blueprint.get("/events")
    @declared(Page[EventItem], EventParameters, operation_id="changes.events")
    def events(asked: EventParameters) -> Page[EventItem]:
        """What happened in a window, newest first: to containers, and deploys."""
        from_ns, to_ns = asked.window()
        return shared.questions.events(
            EventQuery(from_ns, to_ns, asked.name, asked.service, asked.tag, asked.limit, asked.cursor)
        )

    @blueprint.post("/events")
    @declared(Taken, MarkerParameters, body=AnyMarker, problems=(503,), operation_id="changes.tell")
    def tell(asked: MarkerParameters, body: AnyMarker) -> Taken:
        """Tell of a change: our own shape, or what GitHub and Argo CD send.

        Told twice with the same time it counts once.
        """
        try:
            marker = body.marker()
        except Ignored as reason:
            return Taken(None, str(reason))
        if (why := shared.intake.bounds().wrong_time(marker.time_ns)) is not None:
            raise Problem(400, f"time is {shown(marker.time_ns)}: {why}", "time")
        if asked.service is not None:
            marker = replace(marker, attributes={"service.name": asked.service} | marker.attributes)
        marker = replace(marker, attributes={**marker.attributes, **bound_tags()})
        _store(shared.questions, marker)
        service = marker.attributes.get("service.name")
        entity = None if service is None else Entity("service", service, service)
        return Taken(EventItem(rfc3339(marker.time_ns), marker.name, marker.body, marker.attributes, entity))

    return blueprint


def _store(questions: Questions, marker: Marker) -> None:
    """Return when it is durable. Who tells is nobody's process: its resource has no attributes."""
    nobody = ResourceRow(resource_key({}), {})
    row = EventRow(nobody.resource, marker.time_ns, marker.name, marker.body, marker.attributes)
    try:
        questions.append(Batch(resources=[nobody], events=[row]))
    except Overloaded as overloaded:
        raise Problem(503, f"the store cannot take more now: {overloaded}") from None
