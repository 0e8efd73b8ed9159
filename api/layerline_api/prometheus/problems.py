"""Why there is no answer, as Prometheus says it (HTTP API, "Format overview")."""

from __future__ import annotations

import json

from flask import Response

from layerline_api.problems import Problem

BELOW = "/prometheus/"
_TYPES = {400: "bad_data", 401: "unauthorized", 403: "unauthorized", 404: "not_found", 422: "execution", 503: "timeout"}


class BadData(Problem):
    """A query that cannot be read, or asks for what is not there; ``field`` is the parameter that says it."""

    def __init__(self, detail: str, field: str = "query") -> None:
        super().__init__(400, detail, field)


def as_prometheus(problem: Problem, _: str) -> Response:
    """``{"status": "error", "errorType": …, "error": …}``."""
    kind = _TYPES.get(problem.status, "internal" if problem.status >= 500 else "bad_data")
    body = {"status": "error", "errorType": kind, "error": problem.detail}
    if problem.field is not None:
        body["field"] = problem.field
    return Response(json.dumps(body), problem.status, content_type="application/json")
