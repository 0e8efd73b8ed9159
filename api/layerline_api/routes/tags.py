"""What to complete a tag query with: ``GET /api/v1/tags`` and ``/api/v1/tags/<key>``."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import declared
from layerline_api.parameters import LIMIT, AnyText, Limit, Parameters
from layerline_api.shared import Shared
from layerline_correlator.questions.paging import Page
from layerline_correlator.questions.tags import TagKey, TagValue


class Begun(Parameters):
    """What is to be completed."""

    prefix: Annotated[AnyText, Field(description="what it begins with")] = ""
    limit: Annotated[Limit, Field(description="how many at most")] = LIMIT


class BegunValue(Begun):
    """What is to be completed, of which key."""

    key: AnyText


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/tags`` and ``/api/v1/tags/<key>``."""
    blueprint = Blueprint("tags", __name__, url_prefix="/api/v1")

    @blueprint.get("/tags")
    @declared(Page[TagKey], Begun)
    def keys(asked: Begun) -> Page[TagKey]:
        """The keys of tags: what a query can ask by."""
        found = shared.questions.tag_keys(asked.prefix, asked.limit)
        return Page(found, reason=None if found else "nothing that was received carries a tag that begins so")

    @blueprint.get("/tags/<path:key>")
    @declared(Page[TagValue], BegunValue, problems=(404,))  # a key with a line break is no address
    def values(asked: BegunValue) -> Page[TagValue]:
        """The values of a key."""
        found = shared.questions.tag_values(asked.key, asked.prefix, asked.limit)
        return Page(found, reason=None if found else f"nothing that was received carries a tag {asked.key[:80]}")

    return blueprint
