"""A route's one declaration: what it may be asked with, what it answers, what else may come.

``@declared(Answer, Parameters)`` below a blueprint's ``@get`` or ``@post`` reads the request as declared, hands it to
the view and makes its answer JSON; ``openapi.py`` makes the document from the same declarations.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from flask import Request, Response, request
from pydantic import TypeAdapter, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from layerline_api.parameters import Parameters, Window, read
from layerline_api.problems import Problem
from layerline_correlator.plain import plain
from layerline_correlator.questions.paging import BadCursor
from layerline_correlator.questions.questions import Questions
from layerline_correlator.written import Written, refusal

JSON, PROBLEM = "application/json", "application/problem+json"
#: A body that says what a query string says otherwise (``body_in``).
FORM = "application/x-www-form-urlencoded"
#: How long a body may be that is no OTLP.
BODY_LIMIT_BYTES = 2**20


class Body(Written):
    """A request's body in JSON. What it does not name is a 400."""


class Declared:
    """A view with its declaration. Flask calls it; ``openapi.py`` reads it."""

    __name__: str

    def __init__(
        self,
        view: Callable[..., Any],
        answer: Any,
        parameters: type[Parameters] | None,
        body: Any,
        problems: tuple[int, ...],
        status: int,
        answers_in: tuple[str, ...],
        problems_in: tuple[str, ...],
        body_in: tuple[str, ...],
        operation_id: str | None,
        repeats: Questions | None,
        own_form: bool,
    ) -> None:
        functools.update_wrapper(self, view)
        self.view = view
        self.answer = answer
        self.parameters = parameters
        self.body = body
        self.problems = problems
        self.status = status
        self.answers_in = answers_in
        self.problems_in = problems_in
        self.body_in = body_in
        self.operation_id = operation_id
        self.repeats = repeats
        self._form_asks = FORM in body_in and not own_form
        self._body: TypeAdapter[Any] | None = None if body is None else TypeAdapter(body)

    def __call__(self, **path: str) -> Response:
        given: dict[str, Any] = {}
        if self.parameters is not None:
            sent = request.values if self._form_asks else request.args
            asked = read(self.parameters, sent, path)
            if self.parameters.model_fields:
                given["asked"] = asked
        if self._body is not None:
            given["body"] = _read_body(request, self._body)
        generation = self._generation(given.get("asked"))
        tag = None if generation is None else _tag(generation, request.full_path)
        if tag is not None and request.if_none_match.contains(tag):
            return _kept(Response(status=304), tag)
        try:
            found = self.view(**given)
        except BadCursor:
            raise Problem(400, "cursor is not one that this list handed out", "cursor") from None
        if isinstance(found, str):
            return Response(found, content_type=self.answers_in[0])
        if isinstance(found, Response):
            return found
        answer = as_json(found)
        answer.status_code = self.status
        if tag is not None and self._generation(given["asked"]) == generation:
            return _kept(answer, tag)
        return answer

    def _generation(self, asked: Parameters | None) -> str | None:
        """What is stored, in a word, where the answer depends on nothing else: on no clock, in particular."""
        if self.repeats is None or asked is None:
            return None
        if isinstance(asked, Window) and (asked.from_ is None or asked.to is None or asked.to > time.time_ns()):
            return None
        return self.repeats.generation()


def declared(
    answer: Any = None,
    parameters: type[Parameters] | None = Parameters,
    *,
    body: Any = None,
    problems: tuple[int, ...] = (),
    status: int = 200,
    answers_in: tuple[str, ...] = (JSON,),
    problems_in: tuple[str, ...] = (PROBLEM,),
    body_in: tuple[str, ...] = (),
    operation_id: str | None = None,
    repeats: Questions | None = None,
    own_form: bool = False,
) -> Callable[[Callable[..., Any]], Declared]:
    """Declare a view. Its docstring's first line becomes the route's summary, the rest its description.

    ``answer``: the type of its JSON (a dataclass, a TypedDict; None where it is no JSON of ours). ``parameters``: the
    view gets them as ``asked``, where there are any; None: the query string is not looked at. ``body``: the type that
    reads the JSON body, which the view gets as ``body``. ``problems``: statuses beyond 400, 401, 403 (and 413, 415
    with a body) that may come. ``status``: of its answer, where that is no 200. ``body_in``: the content types of a
    body that the view reads by itself; the fields of a form are parameters, except with ``own_form``: they must not
    stand in an address, then. ``operation_id``: its name in the document where that is not the endpoint's:
    clients are made from it, so it stays when a view moves to another file. ``repeats``: where the store's state is
    asked, if the answer follows from that and from what was asked: then it has an ETag, and who has it already gets a
    304. A window has one where it is over and both of its ends are given.
    """
    return lambda view: Declared(
        view,
        answer,
        parameters,
        body,
        problems,
        status,
        answers_in,
        problems_in,
        body_in or (() if body is None else (JSON,)),
        operation_id,
        repeats,
        own_form,
    )


def as_json(answer: Any) -> Response:
    """A dataclass of ``query`` as its JSON."""
    body = json.dumps(plain(answer), ensure_ascii=False)
    return Response(body.encode("utf-8", "replace") + b"\n", content_type=JSON)


def _tag(generation: str, path: str) -> str:
    return hashlib.blake2b(f"{generation} {path}".encode(), digest_size=16).hexdigest()


def _kept(answer: Response, tag: str) -> Response:
    """Who asked may keep it, and is to ask each time whether it still holds."""
    answer.set_etag(tag)
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _read_body(asked: Request, adapter: TypeAdapter[Any]) -> Any:
    if asked.mimetype != JSON:
        raise Problem(415, f"Content-Type is {asked.mimetype[:80]!r}; expected {JSON}")
    asked.max_content_length = BODY_LIMIT_BYTES
    try:
        text = asked.get_data()
    except RequestEntityTooLarge:
        raise Problem(413, f"the body is more than {BODY_LIMIT_BYTES:,} bytes long") from None
    try:
        return adapter.validate_json(text)
    except ValidationError as wrong:
        field, detail = refusal(wrong, "the body")
        raise Problem(400, detail, field or None) from None
