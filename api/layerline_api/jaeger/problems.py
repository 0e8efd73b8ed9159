"""Why there is no answer, as Jaeger says it."""

from __future__ import annotations

import json

from flask import Response

from layerline_api.problems import Problem

#: Below which addresses problems take these forms: of version 3, else of the older API.
BELOW, VERSION_3 = "/jaeger/", "/jaeger/api/v3/"


def as_jaeger(problem: Problem, path: str) -> Response:
    """In the form of version 3 or of the older API, by the address that was asked."""
    if path.startswith(VERSION_3):
        body = {"error": {"httpCode": problem.status, "message": problem.detail, **_field(problem)}}
    else:
        error = {"code": problem.status, "msg": problem.detail, **_field(problem)}
        body = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [error]}  # type: ignore[dict-item]
    return Response(json.dumps(body), problem.status, content_type="application/json")


def _field(problem: Problem) -> dict[str, str]:
    return {} if problem.field is None else {"field": problem.field}
