"""Ties senders to containers and machines: ``join_plain.sql``, and ``join.sql`` where there is more to judge."""

from __future__ import annotations

import duckdb

from layerline_correlator.store.statements import run


def join(cursor: duckdb.DuckDBPyConnection) -> None:
    """From ``moment`` and ``called_at`` to ``tie``. Nearly all spans are plain, and then the rules cost nothing."""
    run(cursor, "facts/join_plain.sql")
    left = cursor.execute("SELECT count(*) FROM moment").fetchone()
    if left and left[0]:
        run(cursor, "facts/join.sql")
