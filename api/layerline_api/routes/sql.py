"""SQL over HTTP: ``POST /api/v1/sql``, off unless the server has a token."""

from __future__ import annotations

import threading
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import Field

from layerline_api.declared import JSON, Body, declared
from layerline_api.problems import Problem
from layerline_api.shared import Shared
from layerline_correlator.questions.sql import BadSql, Table
from layerline_correlator.store.patience import TooHeavy

#: Queries at a time; each may use every core.
AT_ONCE = 2
#: Rows of an answer in JSON, and of one in Arrow.
MOST, MOST_ARROW = 10_000, 1_000_000
ARROW = "application/vnd.apache.arrow.stream"


class Query(Body):
    """One SELECT over the views of `layerline docs sql`."""

    sql: Annotated[str, Field(min_length=1, max_length=100_000)]
    limit: Annotated[int, Field(ge=1, le=MOST_ARROW, description=f"how many rows at most; of JSON up to {MOST:,}")] = (
        1000
    )


def blueprint(shared: Shared) -> Blueprint:
    """``/api/v1/sql``."""
    blueprint = Blueprint("sql", __name__, url_prefix="/api/v1")
    room = threading.BoundedSemaphore(AT_ONCE)

    @blueprint.post("/sql")
    @declared(Table, body=Query, problems=(422, 503), answers_in=(JSON, ARROW), operation_id="curious.sql")
    def sql(body: Query) -> Table | Response:
        """Ask with one SELECT over the views of `layerline docs sql`: read-only, with row and time limits.

        Off (403) unless the server has a token. With `Accept: application/vnd.apache.arrow.stream` an Arrow IPC stream.
        """
        if not shared.settings.all_tokens:
            raise Problem(
                403, "SQL is off: start the server with a token (LAYERLINE_TOKEN, or `layerline serve --token`)"
            )
        as_arrow = request.accept_mimetypes.best_match([JSON, ARROW], default=JSON) == ARROW
        if not as_arrow and body.limit > MOST:
            raise Problem(
                400, f"limit is {body.limit:,}; expected at most {MOST:,}, or more of Arrow ({ARROW})", "limit"
            )
        if not room.acquire(blocking=False):
            raise Problem(503, f"{AT_ONCE} queries are being answered; ask again later")
        try:
            if as_arrow:
                return Response(shared.questions.arrow(body.sql, body.limit), content_type=ARROW)
            return shared.questions.sql(body.sql, body.limit)
        except BadSql as problem:
            raise Problem(400, str(problem), "sql") from None
        except TooHeavy as problem:
            raise Problem(422, str(problem), "sql") from None
        finally:
            room.release()

    return blueprint
