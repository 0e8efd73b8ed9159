"""OTLP over HTTP: ``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``.

A request is answered with 200 only when what it brought is durable. What cannot be read is the sender's to drop (400,
413, 415); what cannot be taken now is the sender's to repeat (503 with ``Retry-After``). Source: OTLP specification
1.x, "OTLP/HTTP".
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from flask import Blueprint, Request, Response, request
from google.protobuf.json_format import MessageToJson
from werkzeug.exceptions import RequestEntityTooLarge

from layerline_api.declared import Declared, declared
from layerline_api.inflate import inflate
from layerline_api.otlp import DECODERS, Decoded, Malformed, TooLarge, decode
from layerline_api.problems import Problem
from layerline_api.settings import ServerSettings
from layerline_correlator.query import Overloaded, Questions

log = logging.getLogger(__name__)

PROTOBUF, JSON = BOTH = "application/x-protobuf", "application/json"
#: Bodies beyond this are decoded one at a time, so that the largest ones do not add up in memory.
LARGE_BYTES = 2**20
#: How long a large body waits for its turn before its sender is told to come back.
TURN_S = 10.0


def is_otlp(path: str) -> bool:
    """Whether errors on this path take OTLP's form."""
    return path.startswith("/v1/")


def speaks_json(asked: Request) -> bool:
    """Whether the sender speaks OTLP/JSON; protobuf otherwise."""
    return asked.mimetype == JSON


def receiver(questions: Questions, settings: ServerSettings) -> Blueprint:
    """The three OTLP paths, storing through ``questions``."""
    blueprint = Blueprint("otlp", __name__)
    room = threading.BoundedSemaphore(settings.receive_at_once)
    turns = threading.BoundedSemaphore(1)

    def receive(signal: str) -> Response:
        if request.mimetype not in (PROTOBUF, JSON):
            raise Problem(415, f"Content-Type is {request.mimetype[:80]!r}; expected {PROTOBUF} or {JSON}")
        if not room.acquire(blocking=False):  # the other threads are for those who ask
            raise Problem(503, f"{settings.receive_at_once} requests are being stored; send this one again later")
        try:
            return store(signal)
        finally:
            room.release()

    def store(signal: str) -> Response:
        decoded = _read(signal, settings, turns)
        batch = decoded.batch
        if batch.spans or batch.points or batch.events:
            try:
                questions.append(batch)
            except Overloaded as overloaded:
                raise Problem(503, f"the store cannot take more now: {overloaded}") from None
            except Exception:
                log.exception("the store did not take a batch")
                raise Problem(503, "the store did not take the batch; nothing of it is acknowledged") from None
        if speaks_json(request):
            return Response(MessageToJson(decoded.answer, indent=None), content_type=JSON)
        return Response(decoded.answer.SerializeToString(), content_type=PROTOBUF)

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


def _read(signal: str, settings: ServerSettings, turns: threading.BoundedSemaphore) -> Decoded:
    """The request's rows; ``Problem`` where there are none to be had."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity", ""):
        raise Problem(415, f"Content-Encoding is {encoding[:80]!r}; expected gzip or identity")
    request.max_content_length = settings.body_limit_bytes
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise Problem(413, f"the body is more than {settings.body_limit_bytes:,} bytes long") from None
    waiting = True
    with ExitStack() as turn:

        def grown(size: int) -> None:
            nonlocal waiting
            if size > LARGE_BYTES and waiting:
                waiting = False
                if not turns.acquire(timeout=TURN_S):
                    raise Problem(503, "other large bodies are being read; send this one again later")
                turn.callback(turns.release)

        grown(len(body))
        try:
            if encoding == "gzip":
                body = inflate(body, settings.inflated_limit_bytes, grown)
            return decode(signal, body, is_json=speaks_json(request))
        except Malformed as problem:
            raise Problem(400, str(problem)) from None
        except TooLarge as problem:
            raise Problem(413, str(problem)) from None
