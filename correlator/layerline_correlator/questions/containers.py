"""Containers that a tag query holds for, in pages. What the query says, and the answer, is ``tagquery``'s."""

from __future__ import annotations

from dataclasses import replace

import duckdb

from layerline_correlator.entity import Naming
from layerline_correlator.questions.paging import BadCursor, read_cursor, write_cursor
from layerline_correlator.tagquery.answer import Containers
from layerline_correlator.tagquery.evaluate import evaluate
from layerline_correlator.tagquery.model import Query


def read_containers(
    reading: duckdb.DuckDBPyConnection, query: Query, to_ns: int, name: Naming, limit: int, cursor: str | None
) -> Containers:
    """What the query holds for in the window that ends at ``to_ns``, the worst first. ``BadCursor``.

    A cursor keeps the window of the page that it came with.
    """
    first = 0
    if cursor is not None:
        first, until_ns = read_cursor(cursor, "containers", int, int)
        if first < 0 or until_ns < 0:
            raise BadCursor("expected a cursor from this list's `next`")
        to_ns = min(until_ns, to_ns)
    answer = evaluate(reading, query, to_ns, name, first, limit)
    return answer if answer.next is None else replace(answer, next=write_cursor("containers", int(answer.next), to_ns))
