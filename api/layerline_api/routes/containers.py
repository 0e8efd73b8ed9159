"""The tag query over HTTP, and what to complete it with (design, section 7.5)."""

from __future__ import annotations

import time
from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import LIMIT, AnyText, Instant, Limit, Paged, Parameters, Read
from layerline_api.problems import Problem
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.questions import Questions
from layerline_correlator.questions.tags import TagKey, TagValue
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.model import BadQuery, Query
from layerline_correlator.tagquery.parse import parse


def query_of(name: str, text: str) -> Query:
    """The query that the parameter or field ``name`` says. ``Problem`` 400 names it and the column."""
    try:
        return parse(text)
    except BadQuery as problem:
        raise Problem(400, f"{problem.detail} (column {problem.column})", name, problem.column) from None


class ContainersParameters(Paged):
    """Which containers."""

    q: Annotated[
        Annotated[Query, Read(query_of, {"type": "string"})],
        Field(default="", validate_default=True, description="tags, comparisons and a window (`layerline docs query`)"),
    ]
    to: Annotated[Instant | None, Field(description="the window's end; now unless said otherwise")] = None


class Begun(Parameters):
    """What is to be completed."""

    prefix: Annotated[AnyText, Field(description="what it begins with")] = ""
    limit: Annotated[Limit, Field(description="how many at most")] = LIMIT


class BegunValue(Begun):
    """What is to be completed, of which key."""

    key: AnyText


def tags(questions: Questions) -> Blueprint:
    """``/api/v1/containers``, ``/api/v1/tags`` and ``/api/v1/tags/<key>``."""
    blueprint = Blueprint("tags", __name__, url_prefix="/api/v1")

    @blueprint.get("/containers")
    @declared(Containers, ContainersParameters)
    def containers(asked: ContainersParameters) -> Containers:
        """The containers that a tag query holds for, the dead included, and how slow their requests were."""
        to_ns = time.time_ns() + 1 if asked.to is None else asked.to
        try:
            return questions.containers(asked.q, to_ns, asked.limit, asked.cursor)
        except TooHeavy as problem:
            raise Problem(400, f"{problem}; ask about a shorter time (over), or fewer containers", "q") from None

    @blueprint.get("/tags")
    @declared(Page[TagKey], Begun)
    def keys(asked: Begun) -> Page[TagKey]:
        """The keys of tags: what a query can ask by."""
        found = questions.tag_keys(asked.prefix, asked.limit)
        return Page(found, reason=None if found else "nothing that was received carries a tag that begins so")

    @blueprint.get("/tags/<path:key>")
    @declared(Page[TagValue], BegunValue, problems=(404,))  # a key with a line break is no address
    def values(asked: BegunValue) -> Page[TagValue]:
        """The values of a key."""
        found = questions.tag_values(asked.key, asked.prefix, asked.limit)
        return Page(found, reason=None if found else f"nothing that was received carries a tag {asked.key[:80]}")

    return blueprint
