"""The signal catalogue as the table ``signal``, so that SQL can ask what kind of figure a reading is."""

from __future__ import annotations

import duckdb

from layerline.signals import SIGNALS


def write_catalogue(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``signal`` anew: one row per signal of the catalogue.

    ``additive`` says over what a counter of time adds up (``cpus``, ``tasks``, ``union``; empty for other figures);
    ``is_limit`` that of several levels the tightest binds, where others add up; ``is_fine`` that it is sent when it
    changes instead of on a beat.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE signal (signal VARCHAR, entity_type VARCHAR, kind VARCHAR, unit VARCHAR,"
        " additive VARCHAR, is_limit BOOLEAN, is_fine BOOLEAN)"
    ).fetchall()
    connection.executemany(
        "INSERT INTO signal VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (each.name, each.entity, str(each.kind), each.unit, each.additive, each.name.endswith(".limit"), each.stall)
            for each in SIGNALS
        ],
    ).fetchall()
