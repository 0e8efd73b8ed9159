"""The Flask app: OTLP in, answers and page out, every failure in one shape."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, request
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException

from layerline_api.declared import declared
from layerline_api.doors.intake import Intake
from layerline_api.doors.receive import is_otlp, receiver, speaks_json
from layerline_api.guard import guard
from layerline_api.openapi import document
from layerline_api.page import page
from layerline_api.problems import Problem, otlp_status, problem_json
from layerline_api.routes.containers import tags
from layerline_api.routes.coverage import coverage
from layerline_api.routes.entities import inventory
from layerline_api.routes.events import changes
from layerline_api.routes.incidents import incidents
from layerline_api.routes.metrics import CONTENT_TYPE, Measures
from layerline_api.routes.monitors import monitors
from layerline_api.routes.requests import answers
from layerline_api.routes.slos import slos
from layerline_api.routes.sql import curious
from layerline_api.routes.timeline import timeline
from layerline_api.settings import ServerSettings
from layerline_correlator.questions.questions import Questions

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Status(TypedDict):
    """One word on how the server is."""

    status: str


def create_app(questions: Questions, settings: ServerSettings | None = None, intake: Intake | None = None) -> Flask:
    """The app that answers from ``questions``. It holds no state of its own; ``intake`` is shared with other doors."""
    settings = settings or ServerSettings()
    intake = intake or Intake(questions, settings, Measures(questions))
    app = Flask(__name__, static_folder=None)
    app.before_request(guard(settings))
    app.register_blueprint(receiver(intake, settings))
    app.register_blueprint(answers(questions))
    app.register_blueprint(inventory(questions))
    app.register_blueprint(changes(questions))
    app.register_blueprint(curious(questions, settings))
    app.register_blueprint(coverage(questions))
    app.register_blueprint(tags(questions))
    app.register_blueprint(timeline(questions))
    app.register_blueprint(monitors(lambda: questions.monitors, settings))
    app.register_blueprint(incidents(questions.incidents))
    app.register_blueprint(slos(questions.incidents))
    app.register_blueprint(page(questions))

    @app.get("/healthz")
    @declared(Status, None)
    def healthz() -> Status:
        """Whether the server runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    @declared(Status, None, problems=(503,))
    def readyz() -> Status:
        """Whether data can be taken and questions answered."""
        if not questions.ready():
            raise Problem(503, "the store is not ready")
        return {"status": "ready"}

    @app.get("/openapi.json")
    @declared(dict[str, Any])
    def openapi() -> dict[str, Any]:
        """This document."""
        return document(app)

    @app.get("/metrics")
    @declared(parameters=None, answers_in=(CONTENT_TYPE,))
    def metrics() -> Response:
        """What the server tells about itself, for Prometheus."""
        return Response(intake.measures.text(), content_type=CONTENT_TYPE)

    @app.errorhandler(Exception)
    def failed(problem: Exception) -> Response:
        headers: list[tuple[str, str]] = []
        if isinstance(problem, HTTPException):
            allowed = getattr(problem, "valid_methods", None)
            if allowed:
                headers.append(("Allow", ", ".join(sorted(allowed))))
            problem = Problem(problem.code or 500, _detail(problem))
        elif not isinstance(problem, Problem):
            log.exception("%s %s failed", request.method, request.path, exc_info=problem)
            problem = Problem(500, "the server failed to answer; its log says why")
        if is_otlp(request.path):
            response = otlp_status(problem, is_json=speaks_json(request))
        else:
            response = problem_json(problem)
        if problem.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if problem.status == 503:
            response.headers["Retry-After"] = "1"
        response.headers.extend(headers)
        return response

    @app.after_request
    def with_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _detail(problem: HTTPException) -> str:
    if problem.code == 404:
        return f"there is nothing at {request.path[:200]}"
    if problem.code == 405:
        return f"{request.method} is not possible at {request.path[:200]}"
    return problem.description or problem.name
