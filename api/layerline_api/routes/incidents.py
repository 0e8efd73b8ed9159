"""Incidents over HTTP: ``GET /api/v1/incidents``, ``/api/v1/incidents/<id>`` and ``/api/v1/incidents/<id>/bundle``."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import IncidentId, Paged, Parameters, Text, Window, one_of
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.incidents.bundle import NothingLeft
from layerline_correlator.incidents.model import Incident, IncidentItem
from layerline_correlator.questions.incidents import IncidentQuery
from layerline_correlator.questions.paging import Page

ZIP = "application/zip"


class IncidentParameters(Paged, Window):
    """Which incidents."""

    state: Annotated[Annotated[str, one_of(("open", "ended"))] | None, Field(description="both unless said")] = None
    service: Annotated[Text | None, Field(description="service.name")] = None
    operation: Annotated[Text | None, Field(description="the entry span's name")] = None
    cause: Annotated[Text | None, Field(description="a cause, such as app.cpu_busy (`layerline docs causes`)")] = None


class OneIncident(Parameters):
    """One incident."""

    incident: IncidentId


def blueprint(shared: Shared) -> Blueprint:
    """The list of incidents, and each of them."""
    questions = shared.questions.incidents
    blueprint = Blueprint("incidents", __name__, url_prefix="/api/v1/incidents")

    @blueprint.get("")
    @declared(Page[IncidentItem], IncidentParameters)
    def all_incidents(asked: IncidentParameters) -> Page[dict[str, Any]]:
        """What was found without being asked: stretches of time in which operations were slower than usual."""
        query = IncidentQuery(
            *asked.window(), asked.state, asked.service, asked.operation, asked.cause, asked.limit, asked.cursor
        )
        return questions.list(query)

    @blueprint.get("/<incident>")
    @declared(Incident, OneIncident, problems=(404,))
    def one_incident(asked: OneIncident) -> dict[str, Any]:
        """One incident: its verdict, first signs, changes near its start, and who was hit."""
        found = questions.one(asked.incident)
        if found is None:
            raise Problem(404, f"there is no incident {asked.incident}")
        return found

    @blueprint.get("/<incident>/bundle")
    @declared(None, OneIncident, problems=(404,), answers_in=(ZIP,))
    def bundle(asked: OneIncident) -> Response:
        """One incident as a file that `layerline replay` turns into the same verdict elsewhere."""
        try:
            found = questions.bundle(asked.incident)
        except NothingLeft as problem:
            raise Problem(404, str(problem)) from None
        if found is None:
            raise Problem(404, f"there is no incident {asked.incident}")
        name = f"incident-{asked.incident}.layerline.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(found, content_type=ZIP, headers=headers)

    return blueprint
