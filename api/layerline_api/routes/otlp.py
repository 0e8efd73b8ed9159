"""OTLP over HTTP: ``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``.

A request is answered with 200 only when what it brought is durable. What cannot be read is the sender's to drop (400,
413, 415); what cannot be taken now is the sender's to repeat (503 with ``Retry-After``). Source: OTLP specification
1.x, "OTLP/HTTP".
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flask import Blueprint, Request, Response, request
from google.protobuf.json_format import MessageToJson
from werkzeug.exceptions import RequestEntityTooLarge

from layerline_api.declared import Declared, declared
from layerline_api.doors.otlp import DECODERS
from layerline_api.guard import bound_tags
from layerline_api.problems import Problem
from layerline_api.shared import Shared

PROTOBUF, JSON = BOTH = "application/x-protobuf", "application/json"


def is_otlp(path: str) -> bool:
    """Whether errors on this path take OTLP's form."""
    return path.startswith("/v1/")


def speaks_json(asked: Request) -> bool:
    """Whether the sender speaks OTLP/JSON; protobuf otherwise."""
    return asked.mimetype == JSON


def blueprint(shared: Shared) -> Blueprint:
    """The three OTLP paths, storing through the intake that gRPC stores through too."""
    intake, settings = shared.intake, shared.settings
    blueprint = Blueprint("otlp", __name__)
    room = threading.BoundedSemaphore(settings.receive_at_once)

    def receive(signal: str) -> Response:
        protocol = "http/json" if speaks_json(request) else "http/protobuf"
        with intake.measures.refusals(protocol):
            if request.mimetype not in (PROTOBUF, JSON):
                raise Problem(415, f"Content-Type is {request.mimetype[:80]!r}; expected {PROTOBUF} or {JSON}")
            if not room.acquire(blocking=False):  # the other threads are for those who ask
                raise Problem(503, f"{settings.receive_at_once} requests are being stored; send this one again later")
            try:
                return take(signal, protocol)
            finally:
                room.release()

    def take(signal: str, protocol: str) -> Response:
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity", ""):
            raise Problem(415, f"Content-Encoding is {encoding[:80]!r}; expected gzip or identity")
        request.max_content_length = settings.body_limit_bytes
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise Problem(413, f"the body is more than {settings.body_limit_bytes:,} bytes long") from None
        is_json = speaks_json(request)
        answer = intake.take(signal, body, protocol, packed=encoding == "gzip", is_json=is_json, tags=bound_tags())
        if is_json:
            return Response(MessageToJson(answer, indent=None), content_type=JSON)
        return Response(answer.SerializeToString(), content_type=PROTOBUF)

    for signal in DECODERS:
        blueprint.add_url_rule(
            f"/v1/{signal}", signal, _bound(receive, signal), methods=["POST"], provide_automatic_options=False
        )
    return blueprint


def _bound(receive: Callable[[str], Response], signal: str) -> Declared:
    @declared(None, None, problems=(400, 413, 415, 503), answers_in=BOTH, problems_in=BOTH, body_in=BOTH)
    def store() -> Response:
        """OTLP: answered when what was sent is durable."""
        return receive(signal)

    return store
