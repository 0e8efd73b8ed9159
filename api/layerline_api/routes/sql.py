"""SQL over HTTP: ``POST /api/v1/sql``, off unless the server has a token."""

from __future__ import annotations

import threading
from typing import Annotated

from flask import Blueprint
from pydantic import Field

from layerline_api.declared import Body, declared
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.sql import BadSql, Table
from layerline_correlator.store.patience import TooHeavy

#: Queries at a time; each may use every core.
AT_ONCE = 2


class Query(Body):
    """One SELECT over the views of `layerline docs sql`."""

    sql: Annotated[str, Field(min_length=1, max_length=100_000)]
    limit: Annotated[int, Field(ge=1, le=10_000, description="how many rows at most")] = 1000


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/sql``."""
    blueprint = Blueprint("sql", __name__, url_prefix="/api/v1")
    room = threading.BoundedSemaphore(AT_ONCE)

    @blueprint.post("/sql")
    @declared(Table, body=Query, problems=(422, 503), operation_id="curious.sql")
    def sql(body: Query) -> Table:
        """Ask with one SELECT over the views of `layerline docs sql`: read-only, with row and time limits.

        Off (403) unless the server has a token.
        """
        if not shared.settings.has_token:
            raise Problem(
                403, "SQL is off: start the server with a token (LAYERLINE_TOKEN, or `layerline serve --token`)"
            )
        if not room.acquire(blocking=False):
            raise Problem(503, f"{AT_ONCE} queries are being answered; ask again later")
        try:
            return shared.questions.sql(body.sql, body.limit)
        except BadSql as problem:
            raise Problem(400, str(problem), "sql") from None
        except TooHeavy as problem:
            raise Problem(422, str(problem), "sql") from None
        finally:
            room.release()

    return blueprint
