"""Incidents over HTTP: ``GET /api/v1/incidents``, ``/api/v1/incidents/<id>`` and ``/api/v1/incidents/<id>/bundle``."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from layerline_api.answers import as_json
from layerline_api.parameters import WINDOW, check, request_query
from layerline_api.problems import Problem
from layerline_correlator.incidents.bundle import NothingLeft
from layerline_correlator.incidents.model import IncidentQuery, IncidentQuestions
from layerline_correlator.query import BadCursor

FILTERS = ("state", "service", "operation", "cause", "limit", "cursor")
STATES = ("open", "ended")
_ID = re.compile(r"[0-9a-f]{12}")


def incidents(questions: IncidentQuestions) -> Blueprint:
    """The list of incidents, and each of them."""
    blueprint = Blueprint("incidents", __name__, url_prefix="/api/v1/incidents")

    @blueprint.get("")
    def all_incidents() -> Response:
        check(request.args, (*WINDOW, *FILTERS))
        state = request.args.get("state")
        if state is not None and state not in STATES:
            raise Problem(400, f"state is {state[:80]!r}; expected one of {', '.join(STATES)}", "state")
        cause = request.args.get("cause")
        if cause == "":
            raise Problem(400, "cause is empty", "cause")
        asked = request_query(request.args)
        query = IncidentQuery(
            asked.from_ns, asked.to_ns, state, asked.service, asked.operation, cause, asked.limit, asked.cursor
        )
        try:
            return as_json(questions.list(query))
        except BadCursor:
            raise Problem(400, "cursor is not one that this list handed out", "cursor") from None

    @blueprint.get("/<incident>")
    def one_incident(incident: str) -> Response:
        check(request.args, ())
        found = questions.one(identifier(incident))
        if found is None:
            raise Problem(404, f"there is no incident {incident}")
        return as_json(found)

    @blueprint.get("/<incident>/bundle")
    def bundle(incident: str) -> Response:
        check(request.args, ())
        try:
            found = questions.bundle(identifier(incident))
        except NothingLeft as problem:
            raise Problem(404, str(problem)) from None
        if found is None:
            raise Problem(404, f"there is no incident {incident}")
        name = f"incident-{incident}.layerline.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(found, content_type="application/zip", headers=headers)

    return blueprint


def identifier(text: str, name: str = "incident") -> str:
    """The id of an incident (or of what ``name`` says) as asked for. 400 unless it is 12 lower-case hex digits."""
    if not _ID.fullmatch(text):
        raise Problem(400, f"the {name}'s id is {text[:80]!r}; expected 12 lower-case hex digits", name)
    return text
