"""The Flask app: OTLP in, answers and page out, every failure in one shape."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import urlencode

import duckdb
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from layerline_api import page, routes
from layerline_api.doors.intake import Intake
from layerline_api.guard import CLOCK_PATH, guard
from layerline_api.jaeger import problems as jaeger
from layerline_api.measures import Measures
from layerline_api.problems import Problem, otlp_status, problem_json
from layerline_api.prometheus import problems as prometheus
from layerline_api.routes.otlp import is_otlp, speaks_json
from layerline_api.settings import ServerSettings
from layerline_api.shared import Shared
from layerline_correlator.questions.questions import Questions
from layerline_correlator.store.disk import disk_problem
from layerline_correlator.store.patience import TooBusy, TooHeavy, client_has_left
from layerline_correlator.store.store import Overloaded

log = logging.getLogger(__name__)
#: When to ask again, in seconds, where a question could not be answered because others, or other programs, are at work.
_BUSY_S = 5

#: How many seconds our agent may wait with its readings while nobody asks (``layerline_agent/outbox.py``). Ledgers wait
#: for readings for ten.
_AT_REST_S = 5

#: Who answers as another tool does says so in its words, too.
_FORMS: dict[str, Callable[[Problem, str], Response]] = {
    jaeger.BELOW: jaeger.as_jaeger,
    prometheus.BELOW: prometheus.as_prometheus,
}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none, a browser hides from where a form was sent
    "Cache-Control": "no-store",
}


def create_app(questions: Questions, settings: ServerSettings | None = None, intake: Intake | None = None) -> Flask:
    """The app that answers from ``questions``. It holds no state of its own; ``intake`` is shared with other doors."""
    settings = settings or ServerSettings()
    intake = intake or Intake(questions, settings, Measures(questions))
    app = Flask(__name__, static_folder=None)
    app.before_request(_note_the_time)
    app.before_request(guard(settings))
    app.before_request(_watch_the_client)
    shared = Shared(questions, settings, intake)
    for blueprint in routes.blueprints(shared):
        app.register_blueprint(blueprint)
    app.register_blueprint(page.blueprint(shared))

    @app.errorhandler(Exception)
    def failed(problem: Exception) -> Response:
        headers: list[tuple[str, str]] = []
        retry_after_s = 1
        if isinstance(problem, HTTPException):
            allowed = getattr(problem, "valid_methods", None)
            if allowed:
                headers.append(("Allow", ", ".join(sorted(allowed))))
            problem = Problem(problem.code or 500, _detail(problem))
        elif isinstance(problem, TooHeavy):
            narrower = "ask for a shorter window, one service or one operation"
            problem = Problem(400, f"{problem}; {narrower}")
        elif isinstance(problem, TooBusy):
            problem, retry_after_s = Problem(503, f"{problem}; ask again later"), _BUSY_S
        elif not isinstance(problem, Problem) and (now := _not_now(problem)) is not None:
            problem = Problem(503, now)
        elif not isinstance(problem, Problem):
            log.exception("%s %s failed", request.method, request.path, exc_info=problem)
            problem = Problem(500, "the server failed to answer; its log says why")
        form = next((form for below, form in _FORMS.items() if request.path.startswith(below)), None)
        if form is not None:
            response = form(problem, request.path)
        elif is_otlp(request.path):
            response = otlp_status(problem, is_json=speaks_json(request))
        elif _is_for_a_browser() and problem.status == 401:
            response = Response(status=303)
            response.headers["Location"] = "/login?" + urlencode({"next": request.full_path.rstrip("?")})
        elif _is_for_a_browser():
            response = page.problem_page(problem)
        else:
            response = problem_json(problem)
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if problem.status == 503:
            response.headers["Retry-After"] = str(retry_after_s)
        response.headers.extend(headers)
        return response

    @app.after_request
    def with_headers(response: Response) -> Response:
        if (is_otlp(request.path) or request.path == CLOCK_PATH) and "began_ns" in g:
            response.headers["Layerline-Clock"] = f"{g.began_ns};{time.time_ns()}"
        if is_otlp(request.path) and response.status_code == 200 and not questions.is_asked():
            response.headers["Layerline-Send-Every"] = str(_AT_REST_S)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def _is_for_a_browser() -> bool:
    """Whether somebody looks at it: programs take JSON, or anything."""
    accepts = request.accept_mimetypes
    return not request.path.startswith(("/api/", "/v1/")) and "text/html" in [kind for kind, _ in accepts]


def _not_now(problem: Exception) -> str | None:
    """Why this cannot be done now and may be later; None where it is a fault of ours."""
    if isinstance(problem, Overloaded):
        return f"the store cannot take or answer more now: {problem}"
    if isinstance(problem, duckdb.InterruptException):
        return "the question was cut off: the server is ending"
    if (said := disk_problem(problem)) is not None:
        return f"nothing can be written to the store's folder: {said}"
    return None


def _note_the_time() -> None:
    """Senders measure by it how far their clock is from this one (``layerline_agent/offset.py``)."""
    g.began_ns = time.time_ns()


def _watch_the_client() -> None:
    """What nobody waits for any more is not worked out. The server says so where it can (waitress can)."""
    client_has_left.set(request.environ.get("waitress.client_disconnected"))


def _detail(problem: HTTPException) -> str:
    if problem.code == 404:
        return f"there is nothing at {request.path[:200]}"
    if problem.code == 405:
        return f"{request.method} is not possible at {request.path[:200]}"
    return problem.description or problem.name
