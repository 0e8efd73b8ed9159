"""What the API says when it does not answer: RFC 9457 for the questions, google.rpc.Status for OTLP."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import Response
from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # its stubs come without py.typed

#: gRPC's codes (google/rpc/code.proto) for the HTTP statuses we answer with.
_GRPC_CODE = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    413: 8,  # RESOURCE_EXHAUSTED
    415: 3,
    503: 14,  # UNAVAILABLE
}
_INTERNAL = 13


def grpc_code(status: int) -> int:
    """gRPC's code for an HTTP status."""
    return _GRPC_CODE.get(status, _INTERNAL)


class Problem(Exception):
    """An answer that is not the one asked for. ``field`` names the parameter to blame, where one is.

    ``column`` is where in its text, from 1, for a parameter that is a query.
    """

    def __init__(self, status: int, detail: str, field: str | None = None, column: int | None = None) -> None:
        detail = detail.encode("utf-8", "replace").decode()  # it may quote half a surrogate pair
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.column = column


def problem_json(problem: Problem) -> Response:
    """RFC 9457. ``about:blank`` as type: the title is the status's own phrase, the detail says the rest."""
    body: dict[str, str | int] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.field is not None:
        body["field"] = problem.field
    if problem.column is not None:
        body["column"] = problem.column
    return Response(json.dumps(body), problem.status, content_type="application/problem+json")


def otlp_status(problem: Problem, *, is_json: bool) -> Response:
    """OTLP's form, in the encoding of the request (OTLP specification, "Failures")."""
    status = Status(code=grpc_code(problem.status), message=problem.detail)
    if is_json:
        return Response(MessageToJson(status, indent=None), problem.status, content_type="application/json")
    return Response(status.SerializeToString(), problem.status, content_type="application/x-protobuf")
