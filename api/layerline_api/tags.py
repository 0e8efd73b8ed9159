"""The tag query over HTTP, and what to complete it with (design, section 7.5)."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Blueprint, Response, request

from layerline_api.answers import as_json
from layerline_api.parameters import Arguments, check, instant_ns, limit_of
from layerline_api.problems import Problem
from layerline_correlator.query import BadCursor, Page, Questions, TooHeavy
from layerline_correlator.tagquery.model import BadQuery, Query
from layerline_correlator.tagquery.parse import parse


def tags(questions: Questions) -> Blueprint:
    """``/api/v1/containers``, ``/api/v1/tags`` and ``/api/v1/tags/<key>``."""
    blueprint = Blueprint("tags", __name__, url_prefix="/api/v1")

    @blueprint.get("/containers")
    def containers() -> Response:
        check(request.args, ("q", "to", "limit", "cursor"))
        try:
            return as_json(questions.containers(*_asked(request.args)))
        except BadCursor:
            raise Problem(400, "cursor is not one that this list handed out", "cursor") from None
        except TooHeavy as problem:
            raise Problem(400, f"{problem}; ask about a shorter time (over), or fewer containers", "q") from None

    @blueprint.get("/tags")
    def keys() -> Response:
        check(request.args, ("prefix", "limit"))
        found = questions.tag_keys(*_begun(request.args))
        return as_json(Page(found, reason=None if found else "nothing that was received carries a tag that begins so"))

    @blueprint.get("/tags/<path:key>")
    def values(key: str) -> Response:
        check(request.args, ("prefix", "limit"))
        found = questions.tag_values(key, *_begun(request.args))
        return as_json(Page(found, reason=None if found else f"nothing that was received carries a tag {key[:80]}"))

    return blueprint


def _asked(arguments: Arguments, now_ns: Callable[[], int] = time.time_ns) -> tuple[Query, int, int, str | None]:
    """The query, the end of its window (now unless ``to`` says otherwise), ``limit`` and ``cursor``."""
    end = arguments.get("to")
    to_ns = now_ns() + 1 if end is None else instant_ns("to", end)
    return query_of("q", arguments.get("q", "")), to_ns, limit_of(arguments.get("limit")), arguments.get("cursor")


def query_of(name: str, text: str) -> Query:
    """The query that the parameter or field ``name`` says. ``Problem`` 400 names it and the column."""
    try:
        return parse(text)
    except BadQuery as problem:
        raise Problem(400, f"{problem.detail} (column {problem.column})", name, problem.column) from None


def _begun(arguments: Arguments) -> tuple[str, int]:
    """What names to complete begin with, and how many of them are wanted."""
    return arguments.get("prefix", ""), limit_of(arguments.get("limit"))
