"""What is in the store and was never settled: after a restart, or after recorded data was imported.

It may be millions of traces. They wait in a table, which DuckDB may put on disk, and are handed out oldest first,
because the usual of a request is made of those before it.
"""

from __future__ import annotations

import duckdb

from layerline_correlator.store.statements import first_row, run
from layerline_correlator.store.store import Extent


class Backlog:
    """The traces that wait, as one list in time. Not safe for threads: the worker alone asks it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, settle_ns: int) -> None:
        """Look for them in the store of ``cursor``, which keeps the list."""
        self._cursor = cursor
        run(cursor, "store/backlog.sql", {"settle_ns": settle_ns})
        ((size,),) = cursor.execute("SELECT count(*) FROM backlog").fetchall()
        self._size: int = size
        self._taken = 0

    @property
    def left(self) -> int:
        """How many have yet to be handed out."""
        return self._size - self._taken

    def next(self, most: int, alongside_ns: int, most_spans: int = 2**62) -> dict[str, Extent]:
        """The next traces; they begin within ``alongside_ns``, and have so many spans together unless it is one."""
        if not self.left:
            return {}
        rows = self._cursor.execute(
            "SELECT trace_id, from_ns, to_ns, spans FROM backlog WHERE place > $taken AND place <= $taken + $most"
            " QUALIFY from_ns <= min(from_ns) OVER () + $alongside_ns"
            " AND (place = $taken + 1 OR sum(spans) OVER (ORDER BY place) <= $most_spans)",
            {"taken": self._taken, "most": most, "alongside_ns": alongside_ns, "most_spans": most_spans},
        ).fetchall()
        self._taken += len(rows)
        return {trace_id: Extent(*known) for trace_id, *known in rows}

    def next_ns(self) -> int | None:
        """When the next trace began; None where none is left."""
        found = first_row(
            self._cursor.execute("SELECT from_ns FROM backlog WHERE place = $taken + 1", {"taken": self._taken})
        )
        return found[0] if found else None
