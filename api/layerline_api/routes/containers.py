"""The tag query over HTTP: ``GET /api/v1/containers`` (`layerline docs query`)."""

from __future__ import annotations

import time
from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import Instant, Paged, TagQuery
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.store.patience import TooHeavy
from layerline_correlator.tagquery.answer import Containers


class ContainersParameters(Paged):
    """Which containers."""

    q: Annotated[
        TagQuery,
        Field(default="", validate_default=True, description="tags, comparisons and a window (`layerline docs query`)"),
    ]
    to: Annotated[Instant | None, Field(description="the window's end; now unless said otherwise")] = None


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/containers``."""
    blueprint = Blueprint("containers", __name__, url_prefix="/api/v1")

    @blueprint.get("/containers")
    @declared(Containers, ContainersParameters, operation_id="tags.containers")
    def containers(asked: ContainersParameters) -> Containers:
        """The containers that a tag query holds for, the dead included, and how slow their requests were."""
        to_ns = time.time_ns() + 1 if asked.to is None else asked.to
        try:
            return shared.questions.containers(asked.q, to_ns, asked.limit, asked.cursor)
        except TooHeavy as problem:
            raise Problem(400, f"{problem}; ask about a shorter time (over), or fewer containers", "q") from None

    return blueprint
